package proxy

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
)

// TestUpstreamFaults: what ends early ends broken for the client too, and the row says so.
func TestUpstreamFaults(t *testing.T) {
	_, url := startStub(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	f := startFront(t, url)
	for _, c := range []struct {
		fault   string
		status  int
		broken  bool
		outcome meter.Outcome
		events  int64
	}{
		{"die:4", 200, true, meter.Truncated, 4},
		{"die:0", 200, true, meter.Truncated, 0},
		{"die-reset:4", 200, true, meter.Truncated, -1}, // a reset may overtake events
		{"half-chunk:4", 200, true, meter.Truncated, 4},
		{"error:4", 200, false, meter.UpstreamError, 4},
		{"until-end", 200, false, meter.OK, 9},
		{"close", 502, false, meter.UpstreamError, -1},
		{"reset", 502, false, meter.UpstreamError, -1},
		{"status:503", 503, false, meter.UpstreamError, -1},
	} {
		for _, path := range []string{"/v1/chat/completions", "/completion"} {
			t.Run(c.fault+" "+path, func(t *testing.T) {
				id := strings.NewReplacer(":", "-", "/", "-").Replace(c.fault + path)
				nc := dial(t, f.addr)
				msg := postOf(path, id, `{"prompt":"x","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":9}`)
				send(t, nc, strings.Replace(msg, "\r\n", "\r\nX-Stub-Fault: "+c.fault+"\r\n", 1))
				resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if resp.StatusCode != c.status || (err != nil) != c.broken {
					t.Errorf("%s, body ended with %v: %s", resp.Status, err, body)
				}
				if c.status == 502 {
					isOpenAIError(t, string(body), url)
				}
				rec := f.rows.row(t, id)
				if rec.Outcome != c.outcome || (rec.Error == "" && c.status == 200 && c.outcome != meter.OK) {
					t.Errorf("row: %s %q", rec.Outcome, rec.Error)
				}
				if c.events > 0 && rec.OutputEvents != meter.Some(c.events) {
					t.Errorf("%+v events", rec.OutputEvents)
				}
			})
		}
	}
}

// isOpenAIError checks an error's shape, and that it names the upstream.
func isOpenAIError(t *testing.T, body, upstream string) {
	t.Helper()
	var shape struct {
		Error struct {
			Message, Type string
			Code          int
		}
	}
	if err := json.Unmarshal([]byte(body), &shape); err != nil || shape.Error.Type != "upstream_error" || shape.Error.Code == 0 {
		t.Errorf("not an OpenAI-shaped error: %s (%v)", body, err)
	}
	if !strings.Contains(shape.Error.Message, upstream) {
		t.Errorf("the message does not name %s: %q", upstream, shape.Error.Message)
	}
}

// TestUnreachableUpstream: refused, unknown, silent at the handshake: 502 that names it.
func TestUnreachableUpstream(t *testing.T) {
	closed := listen(t)
	refused := "http://" + closed.Addr().String()
	_ = closed.Close()
	for _, upstream := range []string{refused, "http://no-such-host.invalid:1", "unix:///no/such/socket", strings.Replace(refused, "http", "https", 1)} {
		t.Run(upstream[:8], func(t *testing.T) {
			f := startFront(t, upstream)
			nc := dial(t, f.addr)
			send(t, nc, postOf("/v1/chat/completions", "x", chat(3, "")))
			resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
			if resp.StatusCode != 502 || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("%s: %s", resp.Status, body)
			}
			isOpenAIError(t, body, upstream)
			if rec := f.rows.row(t, "x"); rec.Outcome != meter.UpstreamError || rec.Status != meter.Some(502) || rec.Error == "" {
				t.Errorf("row: %s %+v %q", rec.Outcome, rec.Status, rec.Error)
			}
		})
	}
}

// rawUpstream answers each connection with one function.
func rawUpstream(t testing.TB, serve func(nc *net.TCPConn, br *bufio.Reader)) string {
	t.Helper()
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(patience))
				serve(nc.(*net.TCPConn), bufio.NewReader(nc))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return "http://" + ln.Addr().String()
}

// TestMalformedReplies: what an upstream says that is not HTTP becomes a 502, or breaks the stream if
// the head has gone out.
func TestMalformedReplies(t *testing.T) {
	reply := make(chan string, 1)
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(nc, <-reply)
		}
	})
	f := startFront(t, url)
	for _, c := range []struct {
		raw    string
		status int
		broken bool
	}{
		{"SSH-2.0-OpenSSH\r\n\r\n", 502, false},
		{"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", 502, false},
		{"HTTP/1.1 abc OK\r\n\r\n", 502, false},
		{"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 502, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 502, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", 502, false},
		{"HTTP/1.1 200 OK\r\nContent-Le", 502, false},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 300<<10), 502, false},
		{"HTTP/1.1 100 Continue\r\n\r\n", 502, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi", 200, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n", 200, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", 200, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhiX\r\n", 200, true},
		{"HTTP/1.1 200 OK\r\nodd name: x\r\nKeep-Alive: 5\r\nContent-Length: 2\r\n\r\nhi and bytes behind the end", 200, false},
	} {
		t.Run(fmt.Sprintf("%.40q", c.raw), func(t *testing.T) {
			reply <- c.raw
			nc := dial(t, f.addr)
			send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			br := bufio.NewReader(nc)
			resp, err := http.ReadResponse(br, nil)
			for err == nil && resp.StatusCode == 100 {
				resp, err = http.ReadResponse(br, nil)
			}
			if err != nil {
				if strings.Contains(c.raw, "odd name") { // net/http does not take it; that it came is enough
					return
				}
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || (err != nil) != c.broken {
				t.Errorf("%s, %v: %q", resp.Status, err, body)
			}
		})
	}
}

// TestBrokenUntilClose: a reply that runs until the close and is reset, or stalls beyond the deadline, must not
// look complete to the client.
func TestBrokenUntilClose(t *testing.T) {
	for _, how := range []string{"reset", "silent"} {
		t.Run(how, func(t *testing.T) { untilCloseBroken(t, how) })
	}
}

func untilCloseBroken(t *testing.T, how string) {
	seen := make(chan struct{})
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(nc, "HTTP/1.0 200 OK\r\n\r\nthe first half")
		<-seen
		if how == "silent" {
			_, _ = br.ReadByte() // until wattline has given up
		}
		_ = nc.SetLinger(0)
	})
	f := startFront(t, url)
	nc := dial(t, f.addr)
	send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: x\r\n\r\n")
	untilMarker(t, nc, "the first half")
	if how == "silent" { // the deadline of an hour comes now
		f.mu.Lock()
		for _, x := range f.live {
			x.mu.Lock()
			_ = x.up.SetReadDeadline(time.Unix(1, 0))
			x.mu.Unlock()
		}
		f.mu.Unlock()
	}
	close(seen)
	if _, err := io.ReadAll(nc); err == nil {
		t.Error("the reply looks complete")
	}
	if rec := f.rows.row(t, "x"); rec.Outcome != meter.Truncated || how == "silent" && !strings.Contains(rec.Error, "sent nothing for 1h0m0s") {
		t.Errorf("row: %s %q", rec.Outcome, rec.Error)
	}
}

// TestStalePooledConnections: a server that closes idle connections as it likes. No request reaches it
// twice, and a client is told of each that did not get through.
func TestStalePooledConnections(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	var closes atomic.Int64
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		for n := 0; ; n++ {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			id := req.Header.Get("X-Request-Id")
			mu.Lock()
			seen[id]++
			mu.Unlock()
			_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
			if len(id)%2 == 0 || n == 3 { // sometimes at once, sometimes later; never announced
				closes.Add(1)
				return
			}
		}
	})
	f := startFront(t, url)
	const n = 3000
	failed := 0
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	for i := range n {
		id := fmt.Sprint("r", i*7)
		send(t, nc, postOf("/x", id, "body"))
		resp, body := readReply(t, br, http.MethodPost)
		mu.Lock()
		times := seen[id]
		mu.Unlock()
		switch {
		case resp.StatusCode == 200 && body == id && times == 1:
		case resp.StatusCode == 502 && times <= 1:
			failed++
			_ = nc.Close()
			nc = dial(t, f.addr)
			br = bufio.NewReader(nc)
		default:
			t.Fatalf("request %s: %s %q, seen %d times", id, resp.Status, body, times)
		}
	}
	t.Logf("%d requests, %d unannounced closes, %d were told 502 (the close crossed the request)", n, closes.Load(), failed)
	if closes.Load() < n/8 || int64(failed) > closes.Load()/4 { // without a look before use nearly all would
		t.Errorf("%d closes, %d failures", closes.Load(), failed)
	}
}

// TestCloseAfterTheLastByte: thousands of clients that go the moment they have their reply, by
// FIN or reset, never spoil the next request on a pooled upstream connection.
func TestCloseAfterTheLastByte(t *testing.T) {
	var conns, requests atomic.Int64
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		conns.Add(1)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			requests.Add(1)
			id := req.Header.Get("X-Request-Id")
			if strings.HasPrefix(req.URL.Path, "/chunked") {
				_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(id), id)
				_, _ = io.WriteString(nc, "0\r\n\r\n")
			} else {
				_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
			}
		}
	})
	f := startFront(t, url)
	const workers, each = 16, 250
	var wg sync.WaitGroup
	var bad atomic.Int64
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("w%d-%d-%s", w, i, strings.Repeat("z", i%50))
				if err := hasty(f.addr, id, i); err != nil {
					bad.Add(1)
					t.Errorf("%s: %v", id, err)
					return
				}
			}
		})
	}
	wg.Wait()
	rows := f.rows.awaitN(t, workers*each)
	ok := 0
	for _, r := range rows {
		if r.Outcome == meter.OK {
			ok++
		}
	}
	t.Logf("%d requests over %d upstream connections, %d rows ok", requests.Load(), conns.Load(), ok)
	if ok != workers*each {
		t.Errorf("%d of %d rows are ok: a client that has all its bytes did not cancel", ok, workers*each)
	}
	if conns.Load() >= requests.Load() {
		t.Error("no upstream connection was used twice: nothing was tested")
	}
}

// hasty makes one request and closes the connection the moment the last byte is there.
func hasty(addr, id string, i int) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	path := "/sized"
	if i%3 == 0 {
		path = "/chunked"
	}
	if _, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n\r\n", path, id); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if i%2 == 0 {
		_ = nc.(*net.TCPConn).SetLinger(0)
	}
	_ = nc.Close()
	if string(body) != id {
		return errors.New("got the reply " + string(body))
	}
	return nil
}
