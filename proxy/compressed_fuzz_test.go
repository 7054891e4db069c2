package proxy

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/http1"
	"wattline/proxy/inflate"
)

// saidIn is what a server says in each dialect, as a stream or a document, and the path.
var saidIn = []struct{ path, kind, body string }{
	{"/v1/chat/completions", "text/event-stream", streamedReply},
	{"/v1/chat/completions", "application/json", wholeReply},
	{"/v1/messages", "text/event-stream", "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"served\",\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n" +
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
	{"/v1/responses", "text/event-stream", "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\r\n\r\n" +
		"data: {\"type\":\"response.completed\",\"response\":{\"model\":\"served\",\"status\":\"completed\",\"usage\":{\"input_tokens\":12,\"output_tokens\":3}}}\r\n\r\n"},
	{"/completion", "text/event-stream", "data: {\"content\":\"a\",\"stop\":false}\n\ndata: {\"content\":\"\",\"stop\":true,\"stop_type\":\"eos\",\"tokens_predicted\":3,\"tokens_evaluated\":12,\"model\":\"served\"}\n\n"},
	{"/v1/embeddings", "application/json", `{"model":"served","data":[{"embedding":[1,2]},{"embedding":[3,4]}],"usage":{"prompt_tokens":12}}`},
}

// FuzzCompressed: in every dialect, coding, stack of codings and framing, split anywhere, the meter reads from the relayed
// bytes what it reads from the plain ones.
func FuzzCompressed(f *testing.F) {
	for i := range saidIn {
		for stack := range byte(8) {
			f.Add(byte(i), stack<<3|stack, byte(7*stack), byte(3+stack), stack&1 == 0)
		}
	}
	names := []string{"gzip", "deflate", "br", "zstd", "bare", "X-GZip", "gzip, br", "zstd, deflate"}
	f.Fuzz(func(t *testing.T, which, stack, chunk, cut byte, flushed bool) {
		said := saidIn[int(which)%len(saidIn)]
		codings := names[stack&7]
		if stack&64 != 0 {
			codings += ", " + names[stack>>3&3]
		}
		var b bytes.Buffer
		z := compressWith(codings, &b)
		for event := range strings.SplitAfterSeq(said.body, "\n\n") {
			_, _ = io.WriteString(z, event)
			if flushed {
				_ = z.Flush()
			}
		}
		_ = z.Close()
		head := http1.Body{Framing: http1.Sized, Left: int64(b.Len())}
		wire := b.Bytes()
		if chunk > 0 {
			var framed bytes.Buffer
			for piece := range slices.Chunk(wire, int(chunk)) {
				fmt.Fprintf(&framed, "%x;a=b\r\n%s\r\n", len(piece), piece)
			}
			framed.WriteString("0\r\nTrailer: x\r\n\r\n")
			wire, head = framed.Bytes(), http1.Body{Framing: http1.Chunked}
		}
		header := strings.ReplaceAll(codings, "bare", "deflate")
		want := readBy(t, said.path, said.kind, "", http1.Body{Framing: http1.Sized, Left: int64(len(said.body))}, []byte(said.body), 255)
		if got := readBy(t, said.path, said.kind, header, head, wire, int(cut)+1); got != want || !strings.Contains(want, "served ") || !strings.Contains(want, " 12 ") {
			t.Fatalf("%s %s: %s\nplain: %s", said.path, codings, got, want)
		}
	})
}

// readBy shows a framed reply to a meter as the relay does, in reads of a size.
func readBy(t *testing.T, path, kind, codings string, body http1.Body, wire []byte, size int) string {
	t.Helper()
	var m meter.Meter
	rec := meter.Record{Outcome: meter.OK, Path: path}
	m.BeginRequest(meter.RequestHead{Method: "POST", Path: path})
	m.RequestBody([]byte(`{"model":"asked","stream":true}`))
	show := func(p []byte, read, written int64) { m.ReplyBody(p, read, written) }
	s, known := inflate.New([]byte(codings), show, nil)
	m.BeginReply(meter.ReplyHead{Status: 200, At: 5, Inflated: known, Header: func(name string) []byte {
		if name == "Content-Type" {
			return []byte(kind)
		}
		return nil
	}})
	at := int64(10)
	for rest := wire; len(rest) > 0; at += int64(time.Millisecond) {
		piece := rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		for len(piece) > 0 {
			n, payload, err := body.Next(piece)
			if err != nil || n == 0 {
				t.Fatalf("%d bytes do not fit the framing: %v", len(piece), err)
			}
			piece = piece[n:]
			switch {
			case len(payload) == 0:
			case s != nil:
				s.Write(payload, at, at+1)
			default:
				show(payload, at, at+1)
			}
		}
	}
	if s != nil {
		s.Close(true)
		if why := s.Wait(); why != "" {
			m.ReplyUnread(why)
		}
	}
	m.Fill(&rec, meter.Marks{P0: 1, P1: 2, H: 5, E: at}, true)
	return facts(&rec)[:strings.Index(facts(&rec), " gaps ")] + fmt.Sprint(" finish ", rec.FinishReason, " ", rec.Outcome, " error ", rec.Error, " unread ", rec.Unread())
}
