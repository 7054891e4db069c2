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
)

// FuzzRequestHead: what is accepted goes upstream as lines of the client's own, means the same when it
// is parsed again, and means the same to another parser, which is what request smuggling needs not to.
func FuzzRequestHead(f *testing.F) {
	for _, c := range ambiguous {
		f.Add([]byte(c.raw))
	}
	for _, c := range conformances() {
		f.Add([]byte(strings.Join(c.say, "")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end, ok := headEnd(b, 0)
		if end < 0 || !ok {
			return
		}
		if whole, wholeOK := headEndInPieces(b[:end]); whole != end || wholeOK != ok {
			t.Fatalf("found at %d, %v whole and at %d, %v in pieces", end, ok, whole, wholeOK)
		}
		var h head
		h.raw = append(h.raw, b[:end]...)
		if err := h.parseRequest(); err != nil {
			var why *refusal
			if !errors.As(err, &why) || why.status < 400 || why.status > 599 || why.reason == "" {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		_ = h.path()
		_ = h.get("x-request-id")
		out := append(h.appendEndToEnd(nil, ""), "\r\n"...)
		received := bytes.SplitAfter(h.raw, []byte("\r\n"))
		for _, line := range bytes.SplitAfter(out, []byte("\r\n")) {
			if !slices.ContainsFunc(received, func(r []byte) bool { return bytes.Equal(r, line) }) {
				t.Fatalf("the line %q was made up", line)
			}
		}
		again := head{raw: out}
		if err := again.parseRequest(); err != nil || again.body != h.body || again.length != h.length {
			t.Fatalf("%q is read as %+v, %v the second time", out, again, err)
		}
		sameToNetHTTP(t, &h, out)
	})
}

// headEndInPieces finds the end as if the bytes came one by one.
func headEndInPieces(b []byte) (end int, ok bool) {
	searched := 0
	for n := 1; n <= len(b); n++ {
		if end, ok = headEnd(b[:n], searched); end >= 0 || !ok {
			return end, ok
		}
		searched = n
	}
	return -1, true
}

// sameToNetHTTP compares with Go's own parser, where that takes the request at all.
func sameToNetHTTP(t *testing.T, h *head, raw []byte) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return
	}
	if req.Method != string(h.method()) || req.RequestURI != string(h.target()) {
		t.Fatalf("method %q, target %q; net/http reads %q, %q", h.method(), h.target(), req.Method, req.RequestURI)
	}
	var framing string
	switch {
	case len(req.TransferEncoding) > 0:
		framing = "chunked"
	case req.ContentLength > 0:
		framing = strconv.FormatInt(req.ContentLength, 10)
	}
	ours := map[bool]string{true: "chunked"}[h.body == chunked]
	if h.body == sized {
		ours = strconv.FormatInt(h.length, 10)
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
		end, ok := headEnd(b, 0)
		if end < 0 || !ok {
			return
		}
		var h head
		h.raw = append(h.raw, b[:end]...)
		err := h.parseReply()
		if err == nil {
			err = h.replyFraming([]byte(method))
		}
		if err != nil {
			var why *refusal
			if !errors.As(err, &why) || why.status != 502 {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		if h.length < 0 || (h.body == sized && h.length == 0) {
			t.Fatalf("framing %d, length %d", h.body, h.length)
		}
		received := bytes.SplitAfter(h.raw, []byte("\r\n"))
		for _, line := range bytes.SplitAfter(h.appendEndToEnd(nil, ""), []byte("\r\n")) {
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
		var s chunkScanner
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
	var s chunkScanner
	for n < len(b) && !s.done() {
		piece := b[n:min(n+step, len(b))]
		for len(piece) > 0 && !s.done() {
			k, p, err := s.next(piece)
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
func complete(s *chunkScanner, b []byte) bool {
	for len(b) > 0 && !s.done() {
		n, _, err := s.next(b)
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return s.done()
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
