package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter"
)

// TestReuseAfterStreams: connections of an upstream that keeps them open after a chunked reply are used again
// once three have been watched; those of one that closes them, although its heads promise keep-alive, never,
// and no request fails. An upstream that begins to close is noticed.
func TestReuseAfterStreams(t *testing.T) {
	var conns atomic.Int64
	var closes atomic.Bool
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		conns.Add(1)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			last := closes.Load()
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
			if last {
				return
			}
		}
	})
	f := startFront(t, url)
	reuse := &f.pool.streams
	reuse.probeTime = 20 * time.Millisecond
	n := 0
	stream := func() {
		n++
		nc := dial(t, f.addr)
		send(t, nc, fmt.Sprintf("GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: s%d\r\n\r\n", n))
		if resp, body := readReply(t, bufio.NewReader(nc), http.MethodGet); resp.StatusCode != 200 || body != "hi" {
			t.Fatalf("%s %q", resp.Status, body)
		}
		if rec := f.rows.row(t, fmt.Sprint("s", n)); rec.Outcome != meter.OK {
			t.Fatalf("row: %s %s", rec.Outcome, rec.Error)
		}
		_ = nc.Close()
	}
	state := func() (open int, closed, probing bool) {
		reuse.mu.Lock()
		defer reuse.mu.Unlock()
		return reuse.open, !reuse.closedAt.IsZero(), reuse.probe != nil
	}
	probe := func() {
		stream()
		eventually(t, func() bool { _, _, probing := state(); return !probing }, func() string { return "the probe does not end" })
	}

	for i := range reuseProbes {
		if open, closed, _ := state(); open != i || closed {
			t.Fatalf("after %d streams: %d open, closed %v", i, open, closed)
		}
		probe()
	}
	if got := conns.Load(); got != reuseProbes {
		t.Fatalf("%d streams before it is known used %d connections", reuseProbes, got)
	}
	for range 10 {
		stream()
	}
	if got := conns.Load(); got != reuseProbes+1 {
		t.Errorf("10 streams after it is known used %d connections", got-reuseProbes)
	}

	closes.Store(true)
	stream() // on the kept connection, which the upstream then closes
	eventually(t, func() bool {
		f.pool.mu.Lock()
		defer f.pool.mu.Unlock()
		open, _ := f.pool.conns[0].raw.Idle()
		return !open
	}, func() string { return "the upstream does not close" })
	before := conns.Load()
	for range 10 {
		stream()
	}
	if open, closed, _ := state(); open != 0 || !closed || conns.Load() != before+10 {
		t.Errorf("after a close: %d open, closed %v; 10 streams used %d connections", open, closed, conns.Load()-before)
	}
}
