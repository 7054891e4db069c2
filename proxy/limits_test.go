package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// idleCases are clients that fall silent, and how long after the last byte each is let go.
func idleCases(cfg *Config) []idleCase {
	return []idleCase{
		{"half a head", "GET /echo HTTP/1.1\r\nHos", 408, cfg.HeaderIdle},
		{"half a sized body", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 408, cfg.BodyIdle + smallBodyGrace},
		{"half a large body", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc", 408, cfg.BodyIdle},
		{"no chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 408, cfg.BodyIdle + min(cfg.BodyIdle, firstChunkGrace)},
		{"half a chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 408, cfg.BodyIdle},
		{"a continue that is not used", "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 408, cfg.BodyIdle},
	}
}

type idleCase struct {
	name, raw string
	status    int
	after     time.Duration
}

// play says the case's part and waits for the refusal.
func (c idleCase) play(t *testing.T, nc net.Conn) (took time.Duration) {
	t.Helper()
	began := time.Now()
	send(t, nc, c.raw)
	br := bufio.NewReader(nc)
	resp, _ := readReply(t, br, http.MethodPost)
	for resp.StatusCode == 100 {
		resp, _ = readReply(t, br, http.MethodPost)
	}
	took = time.Since(began)
	if resp.StatusCode != c.status || !resp.Close {
		t.Errorf("%s: %s, close %v", c.name, resp.Status, resp.Close)
	}
	_ = nc.Close()
	return took
}

func areRefusals(t *testing.T, recs []*meter.Record) {
	t.Helper()
	for _, rec := range recs {
		if rec.Outcome != meter.Rejected || rec.Status != meter.Some(408) || rec.Error == "" {
			t.Errorf("row: %s %+v %q", rec.Outcome, rec.Status, rec.Error)
		}
	}
}

// TestIdleDeadlines: connections that are silent for too long are closed, each with its status and row.
func TestIdleDeadlines(t *testing.T) {
	up := startScripted(t, listen(t))
	const idle = 150 * time.Millisecond
	var cfg Config
	f := startFront(t, up.url(), func(c *Config) {
		c.HeaderIdle, c.BodyIdle = idle, idle
		cfg = *c
	})
	cases := idleCases(&cfg)
	for _, c := range cases {
		if took := c.play(t, dial(t, f.addr)); took < c.after {
			t.Errorf("%s: let go after %v", c.name, took)
		}
	}
	areRefusals(t, f.rows.awaitN(t, len(cases)))
}

// TestExactIdleDeadlines: in a bubble each deadline holds to the nanosecond, and is an idle one: a byte
// just before it, again and again, is enough.
func TestExactIdleDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cfg Config
		f, dial := bubbleFront(t, func(ln net.Listener) { startScripted(t, ln) }, func(c *Config) {
			c.HeaderIdle, c.BodyIdle, c.KeepAliveIdle = 10*time.Second, 20*time.Second, 30*time.Second
			cfg = *c
		})
		cases := idleCases(&cfg)
		for _, c := range cases {
			if took := c.play(t, dial()); took != c.after {
				t.Errorf("%s: let go after %v, not %v", c.name, took, c.after)
			}
		}
		areRefusals(t, f.rows.awaitN(t, len(cases)))

		nc := dial()
		for i, b := range []byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc") {
			time.Sleep(map[bool]time.Duration{true: cfg.KeepAliveIdle, false: cfg.HeaderIdle}[i == 0] - time.Nanosecond)
			send(t, nc, string(b))
		}
		br := bufio.NewReader(nc)
		if resp, body := readReply(t, br, http.MethodPost); resp.StatusCode != 200 || body != "POST abc" {
			t.Errorf("a byte now and then: %s %q", resp.Status, body)
		}
		kept := time.Now()
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil || time.Since(kept) != cfg.KeepAliveIdle {
			t.Errorf("kept alive in vain: %q, %v after %v", rest, err, time.Since(kept))
		}
	})
}

// TestSilentUpstream: before a head it is a 504, within a reply the stream ends broken; both when the
// upstream has been silent for just so long, however long the exchange is.
func TestSilentUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 3 * time.Minute
		up := stub.New(stub.Config{FirstToken: 2 * time.Minute, PingInterval: -1, TokenGap: 2 * time.Minute})
		f, dial := bubbleFront(t, stubOn(t, up), func(c *Config) { c.UpstreamIdle = idle })
		nc := dial()
		began := time.Now()
		send(t, nc, strings.Replace(postOf("/completion", "hang", chat(3, "")), "\r\n", "\r\nX-Stub-Fault: hang\r\n", 1))
		resp, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
		if resp.StatusCode != 504 || !strings.Contains(body, "http://upstream") || time.Since(began) != idle {
			t.Errorf("%s %s after %v", resp.Status, body, time.Since(began))
		}
		if rec := f.rows.row(t, "hang"); rec.Outcome != meter.UpstreamError || !strings.Contains(rec.Error, "sent nothing") {
			t.Errorf("row: %s %q", rec.Outcome, rec.Error)
		}
		nc = dial()
		began = time.Now()
		send(t, nc, strings.Replace(postOf("/completion", "stall", chat(9, "")), "\r\n", "\r\nX-Stub-Fault: stall:3\r\n", 1))
		got, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(got.Body)
		if took := time.Since(began); err == nil || took != 6*time.Minute+idle {
			t.Errorf("the stream ended with %v after %v", err, took)
		}
		if rec := f.rows.row(t, "stall"); rec.Outcome != meter.Truncated || !strings.Contains(rec.Error, "sent nothing") || rec.OutputEvents != meter.Some(3) {
			t.Errorf("row: %s %q, %+v events", rec.Outcome, rec.Error, rec.OutputEvents)
		}
	})
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
	if grown := memory(t, "VmHWM") - before; grown > shadow*30<<20 {
		t.Errorf("grew by %d MB", grown>>20)
	}

	// A slow reader is never cut off. A run in which this test itself stalled, and so read nothing for a while, is
	// no slow reader's and says nothing.
	const runs = 3
	slow := 0
	for i := range runs {
		stall, err := readSlowly(t, f, fmt.Sprint("slow", i), idle, size)
		if stall < idle/3 {
			slow++
			if err != nil {
				t.Errorf("run %d, without a pause longer than %v: %v", i, stall, err)
			}
		} else {
			t.Logf("run %d, in which the test stalled for %v: %v", i, stall, err)
		}
	}
	if slow == 0 {
		t.Errorf("the test stalled in all %d runs", runs)
	}
}

// readSlowly reads at 1 MB/s for five times the idle deadline, so that the kernels' buffers take longer
// than it to drain, and the rest at full speed. stall is the longest time between two reads.
func readSlowly(t *testing.T, f *front, id string, idle time.Duration, size int64) (stall time.Duration, err error) {
	t.Helper()
	nc := dial(t, f.addr)
	defer nc.Close()
	send(t, nc, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: "+id+"\r\nConnection: close\r\n\r\n")
	tick := time.NewTicker(idle / 20)
	defer tick.Stop()
	buf := make([]byte, 32<<10)
	taken, last := int64(0), time.Now()
	for range 100 {
		<-tick.C
		stall, last = max(stall, time.Since(last)), time.Now()
		n, err := nc.Read(buf)
		if err != nil {
			return stall, fmt.Errorf("the slow reader was cut off: %w", err)
		}
		taken += int64(n)
	}
	n, err := io.Copy(io.Discard, nc)
	if err != nil || taken+n < size {
		return stall, fmt.Errorf("the slow reader got %d bytes, %w", taken+n, err)
	}
	if rec := f.rows.row(t, id); rec.Outcome != meter.OK {
		return stall, fmt.Errorf("row of the slow reader: %s %q", rec.Outcome, rec.Error)
	}
	return stall, nil
}

// TestIdleConnectionMemory: a thousand connections that have sent half a head, or half a body, or wait for
// a silent upstream, hold a few kB each.
func TestIdleConnectionMemory(t *testing.T) {
	const n = 1000
	for _, c := range []struct{ name, raw string }{
		{"half a head", "GET /echo HTTP/1.1\r\nHost: x\r\nX-Slow: " + strings.Repeat("l", 1000)},
		{"half a body", postOf("/echo", "x", strings.Repeat("l", 20000))[:10000]},
		{"silent upstream", strings.Replace(postOf("/completion", "x", chat(9, "")), "\r\n", "\r\nX-Stub-Fault: hang\r\n", 1)},
		{"stalled stream", strings.Replace(postOf("/completion", "x", chat(9, "")), "\r\n", "\r\nX-Stub-Fault: stall:3\r\n", 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url := startStub(t, stub.Config{Slots: n, FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
			f := startFront(t, url)
			settled(t, f)
			before := resetPeak(t)
			conns := make([]net.Conn, n)
			for i := range conns {
				conns[i] = dial(t, f.addr)
				send(t, conns[i], c.raw)
			}
			eventually(t, func() bool {
				if c.name == "half a head" {
					return f.Conns() == n
				}
				told := f.Inflight()
				return len(told) == n && !slices.ContainsFunc(told, func(i Inflight) bool {
					return c.name == "silent upstream" && i.Phase != "waiting" || c.name == "stalled stream" && i.Events < 3
				})
			}, func() string { return fmt.Sprintf("%d connections, %d requests", f.Conns(), f.Live()) })
			each := (memory(t, "VmHWM") - before) / n
			t.Logf("%d bytes a connection, the test's and the stub's own part included", each)
			if each > shadow*160<<10 {
				t.Errorf("%d bytes a connection", each)
			}
			for _, nc := range conns {
				_ = nc.Close()
			}
		})
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

}

// TestPanicInMetering: metering that fails costs the row its figures and the traffic nothing.
func TestPanicInMetering(t *testing.T) {
	up := startScripted(t, listen(t))
	var log logged
	f := startFront(t, up.url(), func(c *Config) { c.Tracer, c.Log = panickyTracer{}, textLog(&log) })
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	for i := range 3 { // on one connection, and on one of the upstream's
		id := fmt.Sprint("unmetered", i)
		send(t, nc, postOf("/echo", id, "body"))
		if resp, body := readReply(t, br, "POST"); resp.StatusCode != 200 || body != "POST body" || resp.Close {
			t.Errorf("%s %q, close %v", resp.Status, body, resp.Close)
		}
		if rec := f.rows.row(t, id); rec.Outcome != meter.OK || rec.Error != "metering failed" || rec.RequestBytes != meter.Some(4) {
			t.Errorf("row: %s %q, %+v bytes", rec.Outcome, rec.Error, rec.RequestBytes)
		}
	}
	if text := log.String(); strings.Count(text, "metering failed") != 3 || strings.Contains(text, "X-Request-Id") {
		t.Errorf("log: %s", text)
	}
}

// panickyTracer fails where an exchange's metering is first asked.
type panickyTracer struct{}

func (panickyTracer) Trace(uint64, func(string) []byte) (traceparent, traceID string) {
	panic("asked for by the test")
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
	if e.Step == RequestArrived {
		p.at("arrived")
	}
}

func (p *panicky) Done(uint64, int64, *meter.Record) { p.at("done") }
