package otlp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter/metertest"
	"wattline/proxy"
	"wattline/sink/otlp"
)

// load is an A-B-A-B run: A is a proxy without tracing, B one that traces every request to a collector
// that does not take them. There is one A more than rounds, so that each B lies between two.
type load struct {
	rate    int           // requests a second, open loop: their times do not depend on the replies
	phase   time.Duration // length of one A or B
	rounds  int           // of A and B
	workers int           // connections
}

// A collector that hangs, or is away, costs the traffic nothing: p99 with tracing differs from p99 without
// by no more than p99 without differs from itself, memory is bounded, and every trace that was lost is
// counted.
//
// `make test` runs a short version that only notices gross harm; `make soak` (WATTLINE_SOAK=1) runs 5
// minutes at 2,000 requests a second, or at as many as this machine holds without tracing, and says so.
// On a machine that is busy, `go test -exec 'chrt -r 1'` (real-time priority) keeps the others' noise out.
func TestSoakDeadCollectorCostsNothing(t *testing.T) {
	l, strict := load{rate: 400, phase: 500 * time.Millisecond, rounds: 2, workers: 16}, false
	if os.Getenv("WATTLINE_SOAK") != "" {
		l, strict = load{rate: 2000, phase: 2 * time.Second, rounds: 37, workers: 64}, true
	}
	for _, c := range []struct {
		name     string
		endpoint func(*testing.T) string
		protocol otlp.Protocol
	}{{"hangs", hanging, otlp.GRPC}, {"is away", away, otlp.HTTP}} {
		t.Run(c.name, func(t *testing.T) { l.compare(t, c.endpoint(t), c.protocol, strict) })
	}
}

// hanging is a collector that accepts connections and never says a word.
func hanging(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var held []net.Conn
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			held = append(held, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range held {
			_ = c.Close()
		}
	})
	return "http://" + ln.Addr().String()
}

// away is an address without a listener.
func away(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	return "http://" + ln.Addr().String()
}

func (l load) compare(t *testing.T, endpoint string, protocol otlp.Protocol, strict bool) {
	began := time.Now()
	up := newEchoing(t)
	up.forget = true
	e, err := otlp.ParseEndpoint(endpoint, protocol)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	client, err := e.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg := otlp.Config{Upload: client, Ratio: 1, Log: slog.New(slog.NewTextHandler(&log, nil))}
	plain := startTraced(t, up.ln.Addr().String(), cfg, func(c *proxy.Config) { c.Tracer, c.Observer = otlp.PassthroughTracer{}, proxy.NopObserver{} })
	traced := startTraced(t, up.ln.Addr().String(), cfg, nil)

	l.hold(t, plain.addr, strict)
	sent := l.run(t, traced.addr, l.phase/4).n // warm up
	a, b := []summary{l.run(t, plain.addr, l.phase)}, []summary(nil)
	before := heap()
	for i := 0; i < l.rounds || !strict && i < mostRounds && !holds(a, b); i++ {
		b = append(b, l.run(t, traced.addr, l.phase))
		sent += b[len(b)-1].n
		a = append(a, l.run(t, plain.addr, l.phase))
	}
	grown := heap() - before
	t.Logf("%d requests/s, %v a phase, %d rounds, the collector %s", l.rate, l.phase, len(b), t.Name()[strings.LastIndexByte(t.Name(), '/')+1:])
	for i := range b {
		t.Logf("A (off) %v   B (traced) %v", a[i], b[i])
	}
	t.Logf("A (off) %v; live heap grew by %.1f MB over the run", a[len(b)], float64(grown)/(1<<20))
	judge(t, a, b, strict)
	if grown > 48<<20 {
		t.Errorf("the live heap grew by %d bytes", grown)
	}

	for deadline := time.Now().Add(testTimeout); traced.requests.Load() < int64(sent) && time.Now().Before(deadline); {
		<-time.After(time.Millisecond) // a request is over a little behind its reply
	}
	s := traced.trace.Stats()
	if s.Sent != 0 || s.Waiting == 0 || s.Dropped+s.Failed+uint64(s.Waiting) != uint64(sent) {
		t.Errorf("of %d traces the counters know %+v", sent, s)
	}
	stopping, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	start := time.Now()
	err = traced.trace.Stop(stopping)
	if took := time.Since(start); err == nil || took > time.Minute { // it was given a second; without an end it would take minutes
		t.Errorf("Stop took %v and says %v", took, err)
	}
	if s := traced.trace.Stats(); s.Waiting != 0 || s.Dropped+s.Failed != uint64(sent) {
		t.Errorf("after the stop, of %d traces the counters know %+v", sent, s)
	}
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 30+int(time.Since(began)/(10*time.Second)) {
		t.Errorf("the log has %d lines", n)
	}
	stopping2, stop2 := context.WithTimeout(context.Background(), time.Second)
	defer stop2()
	_ = plain.trace.Stop(stopping2)
	_ = client.Stop(stopping2)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// summary is one phase.
type summary struct {
	n        int
	p50, p99 time.Duration
	cpu      time.Duration // of this process a request, client and upstream included
}

func (s summary) String() string {
	return fmt.Sprintf("%d requests, p50 %v, p99 %v, CPU %v each", s.n, s.p50.Round(time.Microsecond), s.p99.Round(time.Microsecond), s.cpu.Round(time.Microsecond))
}

const loadBody = `{"model":"m","stream":true,"messages":[]}`

// run sends requests at their times for a while. A latency counts from when its request was due, so
// that a server which makes the clients wait cannot hide it.
func (l load) run(t *testing.T, addr string, d time.Duration) summary {
	t.Helper()
	total := int(float64(l.rate) * d.Seconds())
	latencies := make([]time.Duration, total)
	var next atomic.Int64
	start, cpu := time.Now(), metertest.CPUTime()
	var wg sync.WaitGroup
	for range l.workers {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			timer := time.NewTimer(0)
			defer timer.Stop()
			<-timer.C
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				due := start.Add(time.Duration(i) * time.Second / time.Duration(l.rate))
				if wait := time.Until(due); wait > 0 {
					timer.Reset(wait)
					<-timer.C
				}
				if err := exchange(c, r); err != nil {
					t.Error(err)
					return
				}
				latencies[i] = time.Since(due)
			}
		})
	}
	wg.Wait()
	cpu = metertest.CPUTime() - cpu
	slices.Sort(latencies)
	return summary{total, latencies[total/2], latencies[total*99/100], cpu / time.Duration(total)}
}

// exchange sends one request on a kept connection and reads its reply.
func exchange(c net.Conn, r *bufio.Reader) error {
	_, err := fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(loadBody), loadBody)
	if err != nil {
		return err
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
	}
	_, err = io.CopyN(io.Discard, r, int64(len(chatReply)))
	return err
}
