package http1

import (
	"errors"
	"strings"
	"testing"
)

// TestParseRequest: what is read from a request's head. The refused heads are tested over sockets in package
// proxy (harden_test.go), which also has the fuzz targets.
func TestParseRequest(t *testing.T) {
	for _, c := range []struct {
		raw    string
		body   Framing
		length int64
		status int // of the refusal; 0: none
	}{
		{"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", NoBody, 0, 0},
		{"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n", Sized, 12, 0},
		{"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", NoBody, 0, 0},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", Chunked, 0, 0},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 0, 0, 400},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 0, 0, 400},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, 400},
		{"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 0, 0, 400},
		{"GET / HTTP/3.0\r\n\r\n", 0, 0, 505},
		{"GET / HTTP/1.1\r\n" + strings.Repeat("a:\r\n", maxFields+1) + "\r\n", 0, 0, 431},
	} {
		h := Head{Raw: []byte(c.raw)}
		err := h.ParseRequest()
		var refused *StatusError
		if errors.As(err, &refused) != (c.status != 0) || refused != nil && refused.Status != c.status {
			t.Errorf("%.60q: %v, want status %d", c.raw, err, c.status)
		}
		if err == nil && (h.Body != c.body || h.Length != c.length || !h.HasMethod()) {
			t.Errorf("%.60q: body %d, length %d", c.raw, h.Body, h.Length)
		}
	}
}

// TestEndToEnd: hop-by-hop fields are left out, also those that Connection lists, except those that frame the
// body; all other lines stay as received.
func TestEndToEnd(t *testing.T) {
	h := Head{Raw: []byte("POST http://x/y HTTP/1.1\r\nhOST:  x \r\nConnection: close, X-Hop, Content-Length\r\nX-Hop: 1\r\nContent-Length: 2\r\nKeep-Alive: 5\r\ntraceparent: t\r\n\r\n")}
	if err := h.ParseRequest(); err != nil {
		t.Fatal(err)
	}
	want := "POST http://x/y HTTP/1.1\r\nhOST:  x \r\nContent-Length: 2\r\n"
	if got := string(h.AppendEndToEnd(nil, "traceparent")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !h.Close || h.KeepAlive || string(h.Path()) != "/y" || string(h.Get("host")) != "x" {
		t.Errorf("close %v, keep-alive %v, path %q, host %q", h.Close, h.KeepAlive, h.Path(), h.Get("host"))
	}
}

// TestFrameReply: a reply's framing depends on the request's method and its own status.
func TestFrameReply(t *testing.T) {
	for _, c := range []struct {
		raw, method string
		want        Framing
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", Sized},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", NoBody},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", NoBody},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "GET", Chunked},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "GET", UntilClose},
		{"HTTP/1.1 200 OK\r\n\r\n", "GET", UntilClose},
	} {
		h := Head{Raw: []byte(c.raw)}
		if err := errors.Join(h.ParseReply(), h.FrameReply([]byte(c.method))); err != nil || h.Body != c.want {
			t.Errorf("%q to %s: framing %d, %v", c.raw, c.method, h.Body, err)
		}
	}
}

// TestBodyTake: no byte after the end of the body is taken, and an error leaves what came before it.
func TestBodyTake(t *testing.T) {
	for _, c := range []struct {
		body     Body
		in, want string
		done, ok bool
	}{
		{Body{}, "GET", "", true, true},
		{Body{Framing: Sized, Left: 3}, "abcGET", "abc", true, true},
		{Body{Framing: Sized, Left: 3}, "ab", "ab", false, true},
		{Body{Framing: UntilClose}, "abc", "abc", false, true},
		{Body{Framing: Chunked}, "3\r\nabc\r\n0\r\nT: x\r\n\r\nGET", "3\r\nabc\r\n0\r\nT: x\r\n\r\n", true, true},
		{Body{Framing: Chunked}, "3\r\nabcX", "3\r\nabc", false, false},
	} {
		got, err := c.body.Take([]byte(c.in))
		if string(got) != c.want || (err == nil) != c.ok || c.body.Done() != c.done {
			t.Errorf("%q: %q, %v, done %v", c.in, got, err, c.body.Done())
		}
	}
}
