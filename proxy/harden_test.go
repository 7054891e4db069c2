package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/http1"
)

// ambiguous are requests that two parsers may read differently, and their status.
//
//nolint:gochecknoglobals // a constant table, also the fuzz target's corpus
var ambiguous = []struct {
	name, raw string
	status    int
}{
	{"length and chunked", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked and length", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400},
	{"identity", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", 400},
	{"identity alone", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 400},
	{"gzip, chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked, chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked, identity", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked in quotes", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400},
	{"empty coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", 400},
	{"coding with a vertical tab", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", 400},
	{"space before the colon", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400},
	{"a list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nabcd", 400},
	{"signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd", 400},
	{"negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\nabcd", 400},
	{"hexadecimal length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x4\r\n\r\nabcd", 400},
	{"empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400},
	{"length beyond all numbers", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551620\r\n\r\nabcd", 400},
	{"folded header", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n", 400},
	{"folded with a tab", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n", 400},
	{"fold as the first line", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\x00c\r\n\r\n", 400},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nX\x00A: b\r\n\r\n", 400},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\rTransfer-Encoding: chunked\r\n\r\n", 400},
	{"bare CR before the end", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\r\n\r\n", 400},
	{"bare LF in the head", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"bare LF everywhere", "GET / HTTP/1.1\nHost: x\n\n", 400},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\x7f\r\n\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400},
	{"no name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400},
	{"space in a name", "GET / HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n", 400},
	{"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
	{"the same host twice", "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", 400},
	{"no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"two targets", "GET / / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"tab for a space", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"control character in the target", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"CR in the request line", "GET /\r HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"method that is no token", "G(ET / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"no version", "GET /\r\nHost: x\r\n\r\n", 400},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505},
	{"lower-case version", "GET / http/1.1\r\nHost: x\r\n\r\n", 505},
	{"TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
	{"too many header lines", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 2000) + "\r\n", 431},
}

// badChunks are first chunks of which no byte may reach the upstream.
//
//nolint:gochecknoglobals // a constant table, also the fuzz target's corpus
var badChunks = []string{
	"G\r\n", "-1\r\nx\r\n", "\r\n\r\n", "0x5\r\nhello\r\n", " 5\r\nhello\r\n", "5\nhello\n", "5\rhello\r\n", "5 5\r\nhello\r\n",
	"10000000000000000\r\nhello\r\n", "5;a\nb\r\nhello\r\n", "5;a\x00b\r\nhello\r\n", ";\r\n", "5,\r\nhello\r\n", "5\x00\r\nhello\r\n",
	"5;" + strings.Repeat("x", http1.MaxChunkLine) + "\r\nhello\r\n",
}

// logged is a log that a test can search.
type logged struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestAmbiguousRequests: one reply, the connection closed, nothing upstream, a row; and what
// is pipelined behind is not answered.
func TestAmbiguousRequests(t *testing.T) {
	up := startScripted(t, listen(t))
	var log logged
	f := startFront(t, up.url(), func(c *Config) { c.Log = textLog(&log) })
	secret := "Authorization: Bearer do-not-log-me\r\n"
	next := "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"

	check := func(t *testing.T, raw string, status int, write func(c io.Writer)) {
		t.Helper()
		nc := dial(t, f.addr)
		go write(nc)
		br := bufio.NewReader(nc)
		resp, body := readReply(t, br, http.MethodPost)
		var shape refusalBody
		if err := json.Unmarshal([]byte(body), &shape); err != nil || shape.Error.Code != status || shape.Error.Message == "" {
			t.Errorf("body %q: %v", body, err)
		}
		if resp.StatusCode != status || !resp.Close {
			t.Errorf("%s, close %v", resp.Status, resp.Close)
		}
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			t.Errorf("behind the reply: %q, %v", rest, err)
		}
		_ = nc.Close()
		if got := up.received(); got != "" {
			t.Errorf("the upstream received %q of %q", got, raw)
		}
	}
	whole := func(raw string) func(io.Writer) {
		return func(c io.Writer) { _, _ = io.WriteString(c, raw+next) }
	}
	bytewise := func(raw string) func(io.Writer) {
		return func(c io.Writer) {
			for i := range len(raw) {
				if _, err := io.WriteString(c, raw[i:i+1]); err != nil {
					return
				}
			}
		}
	}
	n := 0
	for _, c := range ambiguous {
		first, rest, _ := strings.Cut(c.raw, "\r\n")
		raw := c.raw
		if strings.HasPrefix(rest, "Host") {
			raw = first + "\r\n" + secret + rest
		}
		t.Run(c.name, func(t *testing.T) { check(t, raw, c.status, whole(raw)) })
		n++
		if len(raw) < 1000 {
			t.Run(c.name+", byte by byte", func(t *testing.T) { check(t, raw, c.status, bytewise(raw)) })
			n++
		}
	}
	for _, chunk := range badChunks {
		raw := "POST /chunked HTTP/1.1\r\nHost: x\r\n" + secret + "Transfer-Encoding: chunked\r\n\r\n" + chunk
		t.Run(fmt.Sprintf("chunk %.12q", chunk), func(t *testing.T) { check(t, raw, 400, whole(raw)) })
		n++
	}
	for _, rec := range f.rows.awaitN(t, n) {
		if rec.Outcome != meter.Rejected || rec.Error == "" || !rec.Status.Valid {
			t.Errorf("row: %s, %q, %+v", rec.Outcome, rec.Error, rec.Status)
		}
	}
	if strings.Contains(log.String(), "do-not-log-me") {
		t.Errorf("the log holds a header: %s", log.String())
	}
}

// TestBadChunkLater: what was good has gone upstream; the bad chunk has not, the upstream connection is
// closed, and the client is told.
func TestBadChunkLater(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	for _, bad := range append([]string{"5\r\nhelloX\r\n"}, badChunks...) {
		nc := dial(t, f.addr)
		send(t, nc, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		up.peek(t, "abc\r\n")
		send(t, nc, bad)
		br := bufio.NewReader(nc)
		resp, _ := readReply(t, br, http.MethodPost)
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", bad, resp.Status)
		}
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			t.Errorf("%q: behind the reply: %q, %v", bad, rest, err)
		}
		if got := up.received(); !strings.HasSuffix(got, "\r\n\r\n3\r\nabc\r\n") {
			t.Errorf("%q: the upstream received %q", bad, got)
		}
		_ = nc.Close()
	}
}

// peek waits until the upstream has received something that contains want, and returns all of it.
func (s *scripted) peek(t *testing.T, want string) string {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); time.Now().Before(until); <-tick.C {
		s.mu.Lock()
		got := s.got.String()
		s.mu.Unlock()
		if strings.Contains(got, want) {
			return got
		}
	}
	t.Fatalf("the upstream did not receive %q", want)
	return ""
}

// TestBadPipelinedRequest: of two pipelined requests the first is answered, the second refused.
func TestBadPipelinedRequest(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
	if resp, _ := readReply(t, br, "GET"); resp.StatusCode != 200 || resp.Close {
		t.Errorf("first: %s, close %v", resp.Status, resp.Close)
	}
	if resp, _ := readReply(t, br, "GET"); resp.StatusCode != 400 || !resp.Close {
		t.Errorf("second: %s, close %v", resp.Status, resp.Close)
	}
	if strings.Count(up.received(), "GET") != 1 {
		t.Error("the second reached the upstream")
	}
}

// TestToleratedRequests: what is odd and not ambiguous passes.
func TestToleratedRequests(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	for _, raw := range []string{
		"\r\nGET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /echo HTTP/1.1\r\nHost:x\r\nConnection: Content-Length, Host\r\n\r\n",
		"GET /echo HTTP/1.1\r\nHost: x\r\nX-A: \r\nX-A:\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0004\r\n\r\nab\n\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4 ;a=\"b\"\r\n\r\n\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\n \"a\":\n\"b\"\n}\n",
	} {
		nc := dial(t, f.addr)
		send(t, nc, raw)
		if resp, _ := readReply(t, bufio.NewReader(nc), "GET"); resp.StatusCode != 200 {
			t.Errorf("%q: %s", raw, resp.Status)
		}
		_ = nc.Close()
	}
}

func textLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
