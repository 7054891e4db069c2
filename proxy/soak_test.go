package proxy

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/proxy/stub"
)

// TestSoak: rounds of requests that end in every way. Behind each round nothing is live and
// the goroutines are as many as before; behind all of them so are descriptors, and memory has not grown.
// make soak plays 200 rounds of 500.
func TestSoak(t *testing.T) {
	rounds, each := 5, 100
	if os.Getenv("WATTLINE_SOAK") != "" {
		rounds, each = 200, 500
	}
	ln := listen(t)
	up := stub.New(stub.Config{Slots: each, HeaderDelay: time.Millisecond, FirstToken: 5 * time.Millisecond, TokenGap: time.Millisecond}) // keeps no record
	served := make(chan error, 1)
	go func() { served <- up.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(up.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	f := startFront(t, "http://"+ln.Addr().String(), func(c *Config) {
		c.Observer, c.UpstreamIdle, c.PoolIdle = NopObserver{}, time.Second, 200*time.Millisecond
	})
	var goroutines, files int
	var held int64
	for round := range rounds {
		var wg sync.WaitGroup
		for i := range each {
			wg.Go(func() { soakClient(t, f.addr, rand.New(rand.NewPCG(uint64(round), uint64(i)))) })
		}
		wg.Wait()
		eventually(t, func() bool { return f.Live() == 0 && f.Conns() == 0 && up.Conns() <= maxIdleUpstream }, func() string {
			return fmt.Sprintf("left: %d requests, %d client connections, %d upstream connections", f.Live(), f.Conns(), up.Conns())
		})
		if round == 1 {
			eventually(t, func() bool { return up.Conns() == 0 }, func() string { return "pooled connections do not expire" })
			goroutines, files, held = quietGoroutines(), openFiles(t), heap()
		}
	}
	eventually(t, func() bool { return up.Conns() == 0 }, func() string { return "pooled connections do not expire" })
	backTo(t, goroutines)
	grown := heap() - held
	t.Logf("%d requests; behind the second round and at the end: %d and %d goroutines, %d and %d descriptors; the heap grew by %d kB",
		rounds*each, goroutines, runtime.NumGoroutine(), files, openFiles(t), grown>>10)
	eventually(t, func() bool { return openFiles(t) <= files }, func() string { return fmt.Sprintf("%d descriptors, %d before", openFiles(t), files) })
	if grown > 2<<20 {
		t.Errorf("the heap grew by %d kB", grown>>10)
	}
}

// quietGoroutines counts once fasthttp has let its idle workers go.
func quietGoroutines() int {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	n := runtime.NumGoroutine()
	for same := 0; same < 45; same++ { // more than two of its 2 s sweeps
		<-tick.C
		if m := runtime.NumGoroutine(); m != n {
			n, same = m, 0
		}
	}
	return n
}

// heap is the memory held after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC() // pools keep their content for one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// soakClient makes one request that ends in one of many ways.
func soakClient(t *testing.T, addr string, rng *rand.Rand) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	fault := pick("", "", "", "die:3", "error:2", "close", "reset", "half-chunk:1", "status:503", "until-end", "hang", "die-reset:5")
	body := fmt.Sprintf(`{"prompt":"x","messages":[],"stream":%s,"max_tokens":%d}`, pick("true", "true", "false"), 1+rng.IntN(60))
	msg := postOf(pick("/v1/chat/completions", "/completion", "/health", "/nothing"), "soak", body)
	msg = strings.Replace(msg, "\r\n", "\r\nConnection: "+pick("close", "keep-alive")+"\r\nX-Stub-Fault: "+fault+"\r\n", 1)
	switch rng.IntN(8) {
	case 0:
		msg = msg[:rng.IntN(len(msg))] + "\x00"
	case 1:
		msg = strings.Replace(msg, "\r\n", "\r\nX-Conversation-Id: c\r\n", 1)
	}
	_, _ = io.WriteString(c, msg)
	if fault == "hang" || rng.IntN(3) == 0 { // leaves
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(40)) * time.Millisecond))
		_, _ = io.CopyN(io.Discard, c, rng.Int64N(3000))
		if rng.IntN(2) == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = io.Copy(io.Discard, c)
}
