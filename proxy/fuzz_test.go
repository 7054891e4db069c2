package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wattline/proxy/http1"
)

// FuzzRequestHead: what is accepted goes upstream as lines of the client's own, means the same when it
// is parsed again, and means the same to another parser: request smuggling needs a difference.
func FuzzRequestHead(f *testing.F) {
	for _, c := range ambiguous {
		f.Add([]byte(c.raw))
	}
	for _, c := range conformances() {
		f.Add([]byte(strings.Join(c.say, "")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end, ok := http1.HeadEnd(b, 0)
		if end < 0 || !ok {
			return
		}
		if whole, wholeOK := headEndInPieces(b[:end]); whole != end || wholeOK != ok {
			t.Fatalf("found at %d, %v whole and at %d, %v in pieces", end, ok, whole, wholeOK)
		}
		var h http1.Head
		h.Raw = append(h.Raw, b[:end]...)
		if err := h.ParseRequest(); err != nil {
			var refused *http1.StatusError
			if !errors.As(err, &refused) || refused.Status < 400 || refused.Status > 599 || refused.Reason == "" {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		_ = h.Path()
		_ = h.Get("x-request-id")
		out := append(h.AppendEndToEnd(nil, ""), "\r\n"...)
		received := bytes.SplitAfter(h.Raw, []byte("\r\n"))
		for _, line := range bytes.SplitAfter(out, []byte("\r\n")) {
			if !slices.ContainsFunc(received, func(r []byte) bool { return bytes.Equal(r, line) }) {
				t.Fatalf("the line %q was made up", line)
			}
		}
		again := http1.Head{Raw: out}
		if err := again.ParseRequest(); err != nil || again.Body != h.Body || again.Length != h.Length {
			t.Fatalf("%q is read as %+v, %v the second time", out, again, err)
		}
		sameToNetHTTP(t, &h, out)
	})
}

// headEndInPieces finds the end as if the bytes came one by one.
func headEndInPieces(b []byte) (end int, ok bool) {
	searched := 0
	for n := 1; n <= len(b); n++ {
		if end, ok = http1.HeadEnd(b[:n], searched); end >= 0 || !ok {
			return end, ok
		}
		searched = n
	}
	return -1, true
}

// sameToNetHTTP compares with Go's own parser, where that takes the request at all.
func sameToNetHTTP(t *testing.T, h *http1.Head, raw []byte) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return
	}
	if req.Method != string(h.Method()) || req.RequestURI != string(h.Target()) {
		t.Fatalf("method %q, target %q; net/http reads %q, %q", h.Method(), h.Target(), req.Method, req.RequestURI)
	}
	var framing string
	switch {
	case len(req.TransferEncoding) > 0:
		framing = "chunked"
	case req.ContentLength > 0:
		framing = strconv.FormatInt(req.ContentLength, 10)
	}
	ours := map[bool]string{true: "chunked"}[h.Body == http1.Chunked]
	if h.Body == http1.Sized {
		ours = strconv.FormatInt(h.Length, 10)
	}
	if framing != ours {
		t.Fatalf("the body is %q; net/http reads %q of %q", ours, framing, raw)
	}
}

// FuzzReplyHead: no reply breaks the parser, and what is passed on is lines of the upstream's.
func FuzzReplyHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nodd name: x\r\n\r\n", "HTTP/1.0 200\r\n\r\n", "HTTP/1.1 99 X\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 204 \r\nConnection: a, b,, c\r\nA: 1\r\nB: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
	} {
		f.Add([]byte(s), "GET")
	}
	f.Fuzz(func(t *testing.T, b []byte, method string) {
		end, ok := http1.HeadEnd(b, 0)
		if end < 0 || !ok {
			return
		}
		var h http1.Head
		h.Raw = append(h.Raw, b[:end]...)
		err := h.ParseReply()
		if err == nil {
			err = h.FrameReply([]byte(method))
		}
		if err != nil {
			var refused *http1.StatusError
			if !errors.As(err, &refused) || refused.Status != 502 {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		if h.Length < 0 || (h.Body == http1.Sized && h.Length == 0) {
			t.Fatalf("framing %d, length %d", h.Body, h.Length)
		}
		received := bytes.SplitAfter(h.Raw, []byte("\r\n"))
		for _, line := range bytes.SplitAfter(h.AppendEndToEnd(nil, ""), []byte("\r\n")) {
			if len(line) > 0 && !slices.ContainsFunc(received, func(r []byte) bool { return bytes.Equal(r, line) }) {
				t.Fatalf("the line %q was made up", line)
			}
		}
	})
}

// FuzzChunks: the scanner says the same of any split of a body, never takes a byte beyond its end, and
// finds the payload that Go's own reader finds.
func FuzzChunks(f *testing.F) {
	for _, s := range append([]string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n000\r\nT: x\r\nU: y\r\n\r\nGET / HTTP/1.1\r\n", "0\r\n\r\n", "A \t\r\n0123456789\r\n0;x\r\n\r\n",
		"1\r\na\r\n1\r\nb\r\n0\r\nT: x\n\r\n", "0\r\n T: x\r\n\r\n", "3\r\nabcX\r\n", "1\r\na\r\n0\r\n" + strings.Repeat("T: x\r\n", 5000) + "\r\n",
	}, badChunks...) {
		f.Add([]byte(s), uint16(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint16) {
		wholeN, whole, wholeErr := scan(b, len(b)+1)
		n, payload, err := scan(b, int(step%64)+1)
		if n != wholeN || !bytes.Equal(payload, whole) || (err == nil) != (wholeErr == nil) {
			t.Fatalf("whole: %d %q %v; in pieces of %d: %d %q %v", wholeN, whole, wholeErr, step%64+1, n, payload, err)
		}
		var s http1.ChunkScanner
		if wholeErr != nil || !complete(&s, b) {
			return
		}
		read, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		if err == nil && !bytes.Equal(read, whole) {
			t.Fatalf("payload %q; net/http reads %q", whole, read)
		}
	})
}

// scan feeds b in pieces and returns how much was taken of it, its payload, and the error.
func scan(b []byte, step int) (n int, payload []byte, err error) {
	var s http1.ChunkScanner
	for n < len(b) && !s.Done() {
		piece := b[n:min(n+step, len(b))]
		for len(piece) > 0 && !s.Done() {
			k, p, err := s.Next(piece)
			n += k
			payload = append(payload, p...)
			if err != nil {
				return n, payload, err
			}
			piece = piece[k:]
		}
	}
	return n, payload, nil
}

// complete reports whether the body is complete within b.
func complete(s *http1.ChunkScanner, b []byte) bool {
	for len(b) > 0 && !s.Done() {
		n, _, err := s.Next(b)
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return s.Done()
}

// FuzzParseUpstream: what is accepted can be dialled, and says of itself what was given.
func FuzzParseUpstream(f *testing.F) {
	for _, s := range []string{"http://x", "https://[::1]:5", "unix:///a", "127.0.0.1:8080", "http://u:p@x/", "http://x:0", "http://%zz", "HTTP://X:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		up, err := ParseUpstream(s)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		if up.addr == "" || up.network != "tcp" && up.network != "unix" || up.String() == "" {
			t.Fatalf("%q became %+v", s, up)
		}
		if again, err := ParseUpstream(up.String()); err != nil || again.addr != up.addr || again.network != up.network {
			t.Fatalf("%q says it is %q, which is %+v, %v", s, up.String(), again, err)
		}
	})
}
