package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter"
)

// stormServer streams n events of its own words to each request; after cut of them it resets its connection.
func stormServer(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, n, cut := stormAsked(r.Header.Get)
		w.Header().Set("Content-Type", "text/event-stream")
		out := http.NewResponseController(w)
		for i := range n + 2 {
			if i == cut {
				nc, _, err := out.Hijack()
				if err == nil {
					_ = nc.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // net/http's own
					_ = nc.Close()
				}
				return
			}
			if _, err := io.WriteString(w, stormEvent(id, i, n)); err != nil || out.Flush() != nil {
				return
			}
		}
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String()
}

func stormAsked(get func(string) string) (id string, n, cut int) {
	n, _ = strconv.Atoi(get("X-Events"))
	cut, _ = strconv.Atoi(get("X-Cut"))
	return get("X-Request-Id"), n, cut
}

// stormEvent is event i of a stream of n outputs: those, the finish reason, the end.
func stormEvent(id string, i, n int) string {
	switch i {
	case n:
		return `data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":` + fmt.Sprint(n) + "}}\n\n"
	case n + 1:
		return "data: [DONE]\n\n"
	}
	return fmt.Sprintf("data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s %d %s\"}}]}\n\n", id, i, strings.Repeat("w", i%200))
}

// A stormRequest ends in one of these ways.
const (
	stormWhole  = iota // it reads all
	stormSlow          // it reads all, slowly and with a small buffer
	stormLeaves        // it closes after some bytes
	stormResets        // it resets
	stormCut           // the upstream resets
	stormKinds
)

// stormRequest sends request number i and checks each byte. It reports whether all came.
func stormRequest(t *testing.T, addr string, i int) (whole bool) {
	rng := rand.New(rand.NewPCG(16, uint64(i)))
	kind, n, cut := i%stormKinds, 5+rng.IntN(40), -1
	var nc net.Conn
	switch kind {
	case stormSlow:
		n = 300
		nc = dialSmall(t, addr)
	case stormCut:
		cut = 1 + rng.IntN(n)
		fallthrough
	default:
		nc = dial(t, addr)
	}
	defer nc.Close()
	id := fmt.Sprint("storm", i)
	send(t, nc, fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\nX-Events: %d\r\nX-Cut: %d\r\nContent-Length: %d\r\n\r\n%s",
		id, n, cut, len(askedBody), askedBody))
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		if kind != stormCut {
			t.Errorf("%s: %v", id, err)
		}
		return false
	}
	var want bytes.Buffer
	for e := range n + 2 {
		want.WriteString(stormEvent(id, e, n))
	}
	var body io.Reader = resp.Body
	if kind == stormLeaves || kind == stormResets {
		body = io.LimitReader(body, rng.Int64N(int64(want.Len())))
	}
	var got []byte
	for buf := make([]byte, 2048); err == nil; {
		var k int
		k, err = body.Read(buf)
		got = append(got, buf[:k]...)
		if kind == stormSlow {
			<-time.After(time.Millisecond)
		}
	}
	if !bytes.HasPrefix(want.Bytes(), got) {
		t.Errorf("%s: after %d bytes that are right came others", id, commonPrefix(want.Bytes(), got))
	}
	if kind == stormResets {
		_ = nc.(*net.TCPConn).SetLinger(0)
	}
	whole = len(got) == want.Len()
	if wholly := kind == stormWhole || kind == stormSlow; wholly != whole || wholly && err != io.EOF { //nolint:errorlint // io.Reader's
		t.Errorf("%s, kind %d: %d of %d bytes, %v", id, kind, len(got), want.Len(), err)
	}
	return whole
}

func commonPrefix(a, b []byte) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// TestStormSoak: streams of which clients leave or reset, read slowly, or lose their upstream, 100 at once. No byte is lost,
// doubled or another stream's; each request has one row, which says ok just where every byte was taken. 20,000 with
// WATTLINE_SOAK.
func TestStormSoak(t *testing.T) {
	n := 200
	if os.Getenv("WATTLINE_SOAK") != "" {
		n = 20_000
	}
	f := startFront(t, stormServer(t))
	began := time.Now()
	var next, whole atomic.Int64
	var wg sync.WaitGroup
	wholly := make([]bool, n)
	for range 100 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if wholly[i] = stormRequest(t, f.addr, i); wholly[i] {
					whole.Add(1)
				}
			}
		})
	}
	wg.Wait()
	rows := map[string]int{}
	ok, lost, doubled, wrong := 0, 0, 0, 0
	for _, rec := range f.rows.awaitN(t, n) {
		rows[rec.ClientRequestID]++
		i, err := strconv.Atoi(strings.TrimPrefix(rec.ClientRequestID, "storm"))
		if err != nil {
			t.Fatal(err)
		}
		events := 5 + rand.New(rand.NewPCG(16, uint64(i))).IntN(40)
		if i%stormKinds == stormSlow {
			events = 300
		}
		switch {
		case rec.Outcome == meter.OK:
			ok++
			// A client that left may have been sent all before it was noticed.
			if leaves := i%stormKinds == stormLeaves || i%stormKinds == stormResets; rec.OutputTokens != meter.Some(int64(events)) || rec.OutputEvents != meter.Some(int64(events)) || !wholly[i] && !leaves {
				wrong++
			}
		case wholly[i]:
			wrong++
		}
	}
	for i := range n {
		switch rows[fmt.Sprint("storm", i)] {
		case 0:
			lost++
		case 1:
		default:
			doubled++
		}
	}
	t.Logf("%d streams in %v: %d read whole, %d rows ok; %d rows lost, %d doubled, %d wrong", n, time.Since(began).Round(time.Second), whole.Load(), ok, lost, doubled, wrong)
	if lost+doubled+wrong > 0 || len(f.rows.list()) != n {
		t.Errorf("%d rows of %d requests", len(f.rows.list()), n)
	}
}
