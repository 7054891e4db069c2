package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
)

// TestLimits: each limit has its status, closes the connection and leaves a row.
func TestLimits(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url(), func(c *Config) { c.MaxHeaderBytes, c.MaxBodyBytes = 8<<10, 1<<20 })
	big := strings.Repeat("x", 64<<10)
	head := "POST /echo HTTP/1.1\r\nHost: x\r\n"
	for _, c := range []struct {
		name, raw string
		status    int
		upstream  bool // may have seen a part
	}{
		{"header of the limit's size", "GET /echo HTTP/1.1\r\nX: " + strings.Repeat("a", 8<<10-27) + "\r\n\r\n", 200, true},
		{"header one byte larger", "GET /echo HTTP/1.1\r\nX: " + strings.Repeat("a", 8<<10-26) + "\r\n\r\n", 431, false},
		{"header without an end", "GET /echo HTTP/1.1\r\nX: " + big, 431, false},
		{"target without an end", "GET /" + big, 431, false},
		{"body of the limit's size", head + "Content-Length: 1048576\r\n\r\n" + strings.Repeat(big, 16), 200, true},
		{"body one byte larger", head + "Content-Length: 1048577\r\n\r\n" + strings.Repeat(big, 16), 413, false},
		{"chunked body that grows too large", head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+big+"\r\n", 17) + "0\r\n\r\n", 413, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			up.received()
			nc := dial(t, f.addr)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = io.WriteString(nc, c.raw)
			}()
			resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
			if resp.StatusCode != c.status || resp.Close != (c.status != 200) {
				t.Errorf("%s, close %v: %s", resp.Status, resp.Close, short(body))
			}
			_ = nc.Close()
			<-sent
			if got := up.received(); got != "" && !c.upstream {
				t.Errorf("the upstream received %s", short(got))
			}
			f.rows.await(t, func(r *meter.Record) bool {
				return r.Status == meter.Some(int64(c.status)) && (r.Outcome == meter.Rejected) == (c.status != 200)
			})
		})
	}
}

// TestTooManyRequests: above the limit a request gets 503 with Retry-After at once, and the limit frees
// itself.
func TestTooManyRequests(t *testing.T) {
	_, url := startStub(t, stub.Config{Slots: 100, FirstToken: 10 * time.Millisecond})
	f := startFront(t, url, func(c *Config) { c.MaxRequests = 3 })
	var held []net.Conn
	for i := range 3 {
		nc := dial(t, f.addr)
		send(t, nc, postOf("/completion", fmt.Sprint("held", i), `{"prompt":"x","stream":true,"n_predict":100000}`))
		untilMarker(t, nc, "tokens_predicted")
		held = append(held, nc)
	}
	nc := dial(t, f.addr)
	send(t, nc, postOf("/completion", "over", `{"prompt":"x"}`))
	resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"error"`) {
		t.Errorf("%s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
	if rec := f.rows.row(t, "over"); rec.Outcome != meter.Rejected {
		t.Errorf("row: %s", rec.Outcome)
	}
	_ = held[0].Close()
	f.rows.row(t, "held0")
	nc = dial(t, f.addr)
	send(t, nc, postOf("/completion", "again", `{"prompt":"x","n_predict":1}`))
	if resp, _ := readReply(t, bufio.NewReader(nc), http.MethodPost); resp.StatusCode != 200 {
		t.Errorf("behind a free place: %s", resp.Status)
	}
}

// TestTooManyConnections: above the limit a connection is told so and closed, whether or not it says
// anything or reads; the others are served meanwhile.
func TestTooManyConnections(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url(), func(c *Config) { c.MaxConns = 10 })
	inside := make([]*bufio.ReadWriter, 10)
	for i := range inside {
		nc := dial(t, f.addr)
		inside[i] = bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc))
		send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		readReply(t, inside[i].Reader, "GET")
	}
	for range 200 { // silent ones, more than are answered at once
		dial(t, f.addr)
	}
	told := 0
	for range 20 {
		nc := dial(t, f.addr)
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		if resp, err := http.ReadResponse(bufio.NewReader(nc), nil); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
			}
			told++
		}
		_ = nc.Close()
	}
	for i, c := range inside {
		_, _ = c.WriteString("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = c.Flush()
		if resp, _ := readReply(t, c.Reader, "GET"); resp.StatusCode != 200 {
			t.Errorf("connection %d within the limit: %s", i, resp.Status)
		}
	}
	t.Logf("%d of 20 were told, the rest closed", told)
	f.rows.await(t, func(r *meter.Record) bool { return r.Status == meter.Some(503) && r.Outcome == meter.Rejected })
}

// TestIdleDeadlines: whoever is silent for too long is let go, each with its status and row.
func TestIdleDeadlines(t *testing.T) {
	up := startScripted(t, listen(t))
	const idle = 150 * time.Millisecond
	f := startFront(t, up.url(), func(c *Config) { c.HeaderIdle, c.BodyIdle, c.KeepAliveIdle = idle, idle, idle })
	for _, c := range []struct {
		name, raw string
		status    int
	}{
		{"half a head", "GET /echo HTTP/1.1\r\nHos", 408},
		{"half a sized body", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 408},
		{"no chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 408},
		{"half a chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 408},
		{"a continue that is not used", "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 408},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc := dial(t, f.addr)
			began := time.Now()
			send(t, nc, c.raw)
			br := bufio.NewReader(nc)
			resp, _ := readReply(t, br, http.MethodPost)
			for resp.StatusCode == 100 {
				resp, _ = readReply(t, br, http.MethodPost)
			}
			if resp.StatusCode != c.status || !resp.Close {
				t.Errorf("%s, close %v", resp.Status, resp.Close)
			}
			if d := time.Since(began); d < idle || d > 20*idle {
				t.Errorf("after %v", d)
			}
			_ = nc.Close()
		})
	}
	for _, rec := range f.rows.awaitN(t, 5) {
		if rec.Outcome != meter.Rejected || rec.Status != meter.Some(408) {
			t.Errorf("row: %s %+v %q", rec.Outcome, rec.Status, rec.Error)
		}
	}

	t.Run("never total", func(t *testing.T) { // a byte now and then is enough
		nc := dial(t, f.addr)
		tick := time.NewTicker(idle / 3)
		defer tick.Stop()
		for _, b := range []byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc") {
			_, _ = nc.Write([]byte{b})
			<-tick.C
		}
		if resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost); resp.StatusCode != 200 || body != "POST abc" {
			t.Errorf("%s %q", resp.Status, body)
		}
	})
	t.Run("kept alive in vain", func(t *testing.T) {
		nc := dial(t, f.addr)
		br := bufio.NewReader(nc)
		send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		readReply(t, br, "GET")
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// TestSilentUpstream: before a head it is a 504, within a reply the stream ends broken.
func TestSilentUpstream(t *testing.T) {
	_, url := startStub(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	f := startFront(t, url, func(c *Config) { c.UpstreamIdle = 200 * time.Millisecond })
	nc := dial(t, f.addr)
	send(t, nc, strings.Replace(postOf("/completion", "hang", chat(3, "")), "\r\n", "\r\nX-Stub-Fault: hang\r\n", 1))
	resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
	if resp.StatusCode != 504 || !strings.Contains(body, url) {
		t.Errorf("%s %s", resp.Status, body)
	}
	if rec := f.rows.row(t, "hang"); rec.Outcome != meter.UpstreamError || !strings.Contains(rec.Error, "said nothing") {
		t.Errorf("row: %s %q", rec.Outcome, rec.Error)
	}
	nc = dial(t, f.addr)
	send(t, nc, strings.Replace(postOf("/completion", "stall", chat(9, "")), "\r\n", "\r\nX-Stub-Fault: stall:3\r\n", 1))
	got, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(got.Body); err == nil {
		t.Error("the stream ended politely")
	}
	if rec := f.rows.row(t, "stall"); rec.Outcome != meter.Truncated || !strings.Contains(rec.Error, "said nothing") || rec.OutputEvents != meter.Some(3) {
		t.Errorf("row: %s %q, %+v events", rec.Outcome, rec.Error, rec.OutputEvents)
	}
}

// TestSlowReader: a client that reads nothing holds the upstream back, costs no memory, and is let go;
// one that reads slowly is not.
func TestSlowReader(t *testing.T) {
	const size = 64 << 20
	ln := listen(t)
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<16)
		for range size / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	const idle = 600 * time.Millisecond
	f := startFront(t, "http://"+ln.Addr().String(), func(c *Config) { c.WriteIdle = idle })

	before := resetPeak(t)
	nc := dial(t, f.addr)
	began := time.Now()
	send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: none\r\n\r\n")
	rec := f.rows.row(t, "none")
	if rec.Outcome != meter.Cancelled || !strings.Contains(rec.Error, "read nothing") || time.Since(began) < idle {
		t.Errorf("row: %s %q after %v", rec.Outcome, rec.Error, time.Since(began))
	}
	if rec.WriteBlockedUs.V < idle.Microseconds()/2 {
		t.Errorf("write_blocked_us is %+v", rec.WriteBlockedUs)
	}
	if grown := memory(t, "VmHWM") - before; grown > 30<<20 {
		t.Errorf("grew by %d MB", grown>>20)
	}

	nc = dial(t, f.addr)
	send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: slow\r\nConnection: close\r\n\r\n")
	tick := time.NewTicker(idle / 20)
	defer tick.Stop()
	buf := make([]byte, 32<<10) // 1 MB/s: the kernels' buffers take longer than idle to drain
	taken := int64(0)
	for range 100 { // 5 x idle
		<-tick.C
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatalf("the slow reader was cut off: %v", err)
		}
		taken += int64(n)
	}
	if rows := f.rows.list(); len(rows) != 1 {
		t.Errorf("row: %s %s", rows[1].Outcome, rows[1].Error)
	}
	n, err := io.Copy(io.Discard, nc) // the rest at full speed
	if err != nil || taken+n < size {
		t.Errorf("%d bytes, %v", taken+n, err)
	}
	if rec := f.rows.row(t, "slow"); rec.Outcome != meter.OK {
		t.Errorf("row: %s %q", rec.Outcome, rec.Error)
	}
}

// TestSlowHeadsCostLittle: a thousand connections that have sent half a head hold a few kB each.
func TestSlowHeadsCostLittle(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	const n = 1000
	before := resetPeak(t)
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = dial(t, f.addr)
		send(t, conns[i], "GET /echo HTTP/1.1\r\nHost: x\r\nX-Slow: "+strings.Repeat("l", 1000))
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for f.Conns() < n {
		<-tick.C
	}
	each := (memory(t, "VmHWM") - before) / n
	t.Logf("%d bytes a connection, the test's own half included", each)
	if each > 64<<10 {
		t.Errorf("%d bytes a connection", each)
	}
}

// TestPanics: what fails in one request ends that request at most.
func TestPanics(t *testing.T) {
	up := startScripted(t, listen(t))
	var log logged
	var o panicky
	f := startFront(t, up.url(), func(c *Config) { c.Observer, c.Log = &o, textLog(&log) })
	get := func(what string) (int, string) {
		t.Helper()
		o.set(what)
		nc := dial(t, f.addr)
		defer nc.Close()
		send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer do-not-log-me\r\n\r\n")
		resp, body := readReply(t, bufio.NewReader(nc), "GET")
		eventually(t, func() bool { return f.Server.rows.Load() == 0 }, func() string { return "the row is not handed over" })
		return resp.StatusCode, body
	}
	if status, _ := get("arrived"); status != 500 {
		t.Errorf("panic before anything was sent: %d", status)
	}
	if status, body := get("done"); status != 200 || body != "GET " {
		t.Errorf("panic with the row: %d %q", status, body)
	}
	if status, body := get(""); status != 200 || body != "GET " {
		t.Errorf("afterwards: %d %q", status, body)
	}
	if f.Live() != 0 {
		t.Errorf("%d requests are still live", f.Live())
	}
	if text := log.String(); strings.Count(text, "panic=") != 2 || strings.Contains(text, "do-not-log-me") {
		t.Errorf("log: %s", text)
	}

	x := &exchange{srv: f.Server, rec: &meter.Record{}}
	x.metered(func() { panic("metering") })
	ran := false
	x.metered(func() { ran = true })
	if ran || !x.deaf.Load() {
		t.Error("metering goes on behind a panic")
	}
}

// panicky is an Observer that panics on demand.
type panicky struct {
	mu   sync.Mutex // guards what
	what string
}

func (p *panicky) set(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

func (p *panicky) at(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.what == what {
		panic("asked for at " + what)
	}
}

func (p *panicky) Observe(e Event) {
	if e.Phase == Arrived {
		p.at("arrived")
	}
}

func (p *panicky) Done(uint64, int64, *meter.Record) { p.at("done") }
