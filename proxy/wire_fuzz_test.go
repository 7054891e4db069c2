package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"wattline/meter"
	"wattline/meter/metertest"
	"wattline/replay"
	"wattline/replay/client"
)

// wireCodings are content codings that a server may use; "" is none.
var wireCodings = []string{"", "gzip", "deflate", "br", "zstd", "bare", "X-GZip", "gzip, br", "zstd, deflate", "br, zstd, gzip"}

// wireFramings say how a body ends.
const (
	wireSized = iota
	wireChunked
	wireUntilClose
	wireHTTP10
	wireFramings
)

// wireReply is a reply on the wire: its head, its framed body and the body's coded bytes. It is made from the seed alone.
func wireReply(r metertest.Reply, seed uint64, codings string, framing int) (wire, coded []byte) {
	rng := rand.New(rand.NewPCG(seed, 23)) //nolint:gosec // no secret
	coded = []byte(r.Body)
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + r.ContentType + "\r\n"
	if codings != "" {
		var b bytes.Buffer
		z := compressWith(codings, &b)
		for rest := r.Body; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(300))
			_, _ = io.WriteString(z, rest[:n])
			if rest = rest[n:]; rng.IntN(2) == 0 {
				_ = z.Flush()
			}
		}
		_ = z.Close()
		coded = b.Bytes()
		name := strings.ReplaceAll(codings, "bare", "deflate")
		if first, last, several := strings.Cut(name, ", "); several && rng.IntN(2) == 0 { // a list may have several lines
			head += "Content-Encoding: " + first + "\r\n"
			name = last
		}
		head += "Content-Encoding: " + name + "\r\n"
	}
	switch framing {
	case wireSized:
		wire = fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n%s", head, len(coded), coded)
	case wireChunked:
		wire = append(wire, head+"Transfer-Encoding: chunked\r\n\r\n"...)
		for piece := range slices.Chunk(coded, 1+rng.IntN(500)) {
			wire = fmt.Appendf(wire, "%s%x%s\r\n%s\r\n", strings.Repeat("0", rng.IntN(3)), len(piece), []string{"", ";a=b", " "}[rng.IntN(3)], piece)
		}
		wire = append(wire, []string{"0\r\n\r\n", "0\r\nTrailer: x\r\n\r\n"}[rng.IntN(2)]...)
	case wireUntilClose:
		wire = append([]byte(head+"Connection: close\r\n\r\n"), coded...)
	default:
		wire = append([]byte(strings.Replace(head, "1.1", "1.0", 1)+"\r\n"), coded...)
	}
	return wire, coded
}

// wireAnswer is what the upstream writes, in writes of a size.
type wireAnswer struct {
	wire   []byte
	pieces int
	closes bool
}

// wireRows hands on each row.
type wireRows struct {
	NopObserver
	rows chan *meter.Record
}

func (w wireRows) Done(_ uint64, _ int64, rec *meter.Record) { w.rows <- rec }

// FuzzWire: in every dialect, coding, stack of codings and framing, cut into writes anywhere, the client gets the server's
// bytes; and the row, and the client of replay where it asked for this, say of the reply what the second reader says.
func FuzzWire(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, byte(seed%14), byte(seed), byte(seed/3), byte(37*seed))
	}
	var answer atomic.Pointer[wireAnswer]
	url := rawUpstream(f, func(nc *net.TCPConn, br *bufio.Reader) {
		for closes := false; !closes; {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			a := answer.Load()
			for piece := range slices.Chunk(a.wire, a.pieces) {
				_, _ = nc.Write(piece)
			}
			closes = a.closes
		}
	})
	seen := wireRows{rows: make(chan *meter.Record, 4)}
	front := startFront(f, url, func(c *Config) { c.Observer = seen })
	replayed, err := client.New(client.Config{Endpoint: front.url(), RunID: "fuzz"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, seed uint64, events, coding, framing, cut byte) {
		r := metertest.Generate(seed, int(events%40))
		codings := wireCodings[int(coding)%len(wireCodings)]
		wire, coded := wireReply(r, seed, codings, int(framing)%wireFramings)
		answer.Store(&wireAnswer{wire, 1 + int(cut)*16, int(framing)%wireFramings >= wireUntilClose})
		want := metertest.Reference(r)
		want.First, want.Answer, want.Last = 0, 0, 0

		nc := dial(t, front.addr)
		defer nc.Close()
		send(t, nc, "POST "+r.Path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") // asks for an unknown number of completions
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !bytes.Equal(got, coded) {
			t.Fatalf("%s, framing %d: %s, %d of %d bytes came, %v", codings, framing%wireFramings, resp.Status, len(got), len(coded), err)
		}
		if got := rowFacts(<-seen.rows); got != want {
			t.Errorf("%s %q, %s, framing %d\nthe row:       %+v\nthe reference: %+v", r.Path, r.Body, codings, framing%wireFramings, got, want)
		}
		if r.Path != metertest.Chat {
			return
		}
		ex := replayed.Send(t.Context(), &replay.Request{Prompt: "x"})
		<-seen.rows // its request asks for one completion, of which the second reader does not know
		want.Prompt, want.Cached, want.Notices = meter.Int{}, meter.Int{}, 0
		if got := clientFacts(ex); codings == "" && got != want {
			t.Errorf("%q, framing %d\nreplay:        %+v %q\nthe reference: %+v", r.Body, framing%wireFramings, got, ex.Error, want)
		} else if codings != "" && len(coded) > 0 && !strings.Contains(ex.Error, "compressed") {
			t.Errorf("replay says of a reply that is compressed with %s: %q", codings, ex.Error)
		}
	})
}

// rowFacts is what a row says, times left out.
func rowFacts(rec *meter.Record) metertest.Facts {
	f := metertest.Facts{
		Outcome: rec.Outcome, Outputs: rec.OutputEvents.V, Finish: rec.FinishReason, Prompt: rec.PromptTokens, Cached: rec.CachedTokens, Output: rec.OutputTokens,
	}
	if rec.Details != nil {
		f.Notices = rec.Details.Notices.V
	}
	return f
}

// clientFacts is what replay's client says.
func clientFacts(ex *replay.Exchange) metertest.Facts {
	f := metertest.Facts{Outcome: meter.OK, Outputs: int64(ex.Events), Finish: ex.FinishReason, Output: ex.OutputTokens}
	if strings.HasPrefix(ex.Error, "an error in the stream: ") {
		f.Outcome = meter.UpstreamError
	} else if ex.Error != "" {
		f.Outcome = meter.Truncated
	}
	return f
}
