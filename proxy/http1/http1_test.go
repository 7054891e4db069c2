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
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Sized, 3, 0},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 03\r\n\r\n", 0, 0, 400},
		{"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", 0, 0, 400},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", Chunked, 0, 0},
		{"POST / HTTP/1.1\r\nContent-Length: 000000000000000000000003\r\n\r\n", Sized, 3, 0},
		{"POST / HTTP/1.1\r\nContent-Length: 1000000000000000000\r\n\r\n", 0, 0, 400},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Chunked, 0, 0},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 0, 0, 400},
		{"GET / / HTTP/1.1\r\n\r\n", 0, 0, 400},
		{"GET\t/ HTTP/1.1\r\n\r\n", 0, 0, 400},
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

// TestNormalisedHead: a request that says one thing in an odd way is forwarded in the usual way, and one whose
// framing RFC 9112 does not trust closes its connection.
func TestNormalisedHead(t *testing.T) {
	for _, c := range []struct {
		raw, want string
		closes    bool
	}{
		{" GET  /a   HTTP/1.1  \r\nA: b\r\n\r\n", "GET /a HTTP/1.1\r\nA: b\r\n", false},
		{"GET  / HTTP/1.0\r\nA: b\r\n\r\n", "GET / HTTP/1.0\r\nA: b\r\n", false},
		{"POST / HTTP/1.1\r\ncontent-length:\t003\r\nContent-Length: 003\r\nA: b\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length:\t3\r\nA: b\r\n", false},
		{"POST / HTTP/1.1\r\nContent-Length: 00\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 0\r\n", false},
		{"POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", true},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n", "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\nA: b\r\n", true},
		{"POST / HTTP/1.0\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n", true},
		{"GET / HTTP/1.1\r\nConnection: " + strings.Repeat("n,", 1000) + "X-Hop,Host\r\nhost: x\r\nx-hop: 1\r\nN: 1\r\nX-Stay: 2\r\n\r\n", "GET / HTTP/1.1\r\nhost: x\r\nX-Stay: 2\r\n", false},
	} {
		h := Head{Raw: []byte(c.raw)}
		if err := h.ParseRequest(); err != nil {
			t.Errorf("%.60q: %v", c.raw, err)
			continue
		}
		if got := string(h.AppendEndToEnd(nil, "")); got != c.want || h.Close != c.closes {
			t.Errorf("%.60q: %q, closes %v", c.raw, got, h.Close)
		}
	}
}

// TestFrameReply: a reply's framing depends on the request's method and its own status. What frames a body that
// there is not, or that another field frames, is not forwarded, and leaves the connection unused.
func TestFrameReply(t *testing.T) {
	const sized, none, te = "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"
	for _, c := range []struct {
		status, fields, method string
		want                   Framing
		forwarded              string
		closes                 bool
	}{
		{"200 OK", sized, "GET", Sized, sized, false},
		{"200 OK", sized + sized, "GET", Sized, sized, false},
		{"200 OK", "Content-Length: 0005\r\n", "GET", Sized, sized, false},
		{"200 OK", sized, "HEAD", NoBody, sized, false},
		{"304 Not Modified", sized, "GET", NoBody, sized, false},
		{"200 OK", te, "HEAD", NoBody, "", true},
		{"304 Not Modified", te, "GET", NoBody, "", true},
		{"204 No Content", te, "GET", NoBody, "", true},
		{"204 No Content", sized, "GET", NoBody, "", true},
		{"204 No Content", none, "GET", NoBody, none, false},
		{"204 No Content", none + none, "GET", NoBody, none, false},
		{"204 No Content", none + sized, "GET", NoBody, "", true},
		{"103 Early Hints", none + sized, "GET", NoBody, "", true},
		{"200 OK", none + sized, "CONNECT", NoBody, "", true},
		{"200 OK", sized + sized, "HEAD", NoBody, sized, false},
		{"200 OK", sized + none, "HEAD", NoBody, "", true},
		{"304 Not Modified", none + sized, "GET", NoBody, "", true},
		{"103 Early Hints", te, "GET", NoBody, "", true},
		{"101 Switching Protocols", te, "GET", NoBody, "", true},
		{"200 OK", te, "CONNECT", NoBody, "", true},
		{"200 OK", sized, "CONNECT", NoBody, "", true},
		{"404 Not Found", sized, "CONNECT", Sized, sized, false},
		{"200 OK", te + sized, "GET", Chunked, te, false},
		{"200 OK", "Transfer-Encoding: gzip, chunked\r\n", "GET", Chunked, "Transfer-Encoding: gzip, chunked\r\n", false},
		{"200 OK", "Transfer-Encoding: gzip\r\n" + te, "GET", Chunked, "Transfer-Encoding: gzip\r\n" + te, false},
		{"200 OK", "Transfer-Encoding: gzip\r\n" + sized, "GET", UntilClose, "Transfer-Encoding: gzip\r\n", false},
		{"200 OK", "Transfer-Encoding: identity\r\n" + sized, "GET", Sized, sized, false},
		{"200 OK", "odd line\r\n", "GET", UntilClose, "odd line\r\n", false},
	} {
		h := Head{Raw: []byte("HTTP/1.1 " + c.status + "\r\n" + c.fields + "\r\n")}
		if err := errors.Join(h.ParseReply(), h.FrameReply([]byte(c.method))); err != nil || h.Body != c.want || h.Close != c.closes {
			t.Errorf("%q to %s: framing %d, close %v, %v", h.Raw, c.method, h.Body, h.Close, err)
		}
		if got, want := string(h.AppendEndToEnd(nil, "")), "HTTP/1.1 "+c.status+"\r\n"+c.forwarded; got != want {
			t.Errorf("%q to %s: forwarded as %q", h.Raw, c.method, got)
		}
	}
	for _, fields := range []string{te + te, "Transfer-Encoding: chunked, identity, gzip\r\n", sized + "Content-Length: 6\r\n", "Content-Length: 5, 5\r\n", "Content-Length: +5\r\n"} {
		h := Head{Raw: []byte("HTTP/1.1 200 OK\r\n" + fields + "\r\n")}
		var refused *StatusError
		if err := errors.Join(h.ParseReply(), h.FrameReply([]byte("GET"))); !errors.As(err, &refused) || refused.Status != 502 {
			t.Errorf("%q: %v", h.Raw, err)
		}
	}
}

// TestChunkSize: leading zeros do not count, 15 digits and 16 KiB of extensions are taken, more are not.
func TestChunkSize(t *testing.T) {
	for in, ok := range map[string]bool{
		strings.Repeat("0", 1000) + "5\r\n": true, "fffffffffffffff\r\n": true, "1000000000000000\r\n": false,
		"0" + "fffffffffffffff\r\n": true, "5;" + strings.Repeat("x", MaxChunkLine-4) + "\r\n": true, "5;" + strings.Repeat("x", MaxChunkLine) + "\r\n": false,
		"5\n": false, "\r\n": false, "05 \t;a\r\n": true,
	} {
		var s ChunkScanner
		if n, _, err := s.Next([]byte(in)); (err == nil) != ok || ok && (n != len(in) || !s.SizeKnown()) {
			t.Errorf("%.40q: took %d bytes, %v", in, n, err)
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
