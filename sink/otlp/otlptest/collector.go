// Package otlptest runs a real OTLP receiver for tests: the OpenTelemetry collector's own, from the
// module in sink/otlp/collectortest, as a process of its own on loopback ports, and says what it received.
package otlptest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// testTimeout bounds a test's wait for an expected export.
const testTimeout = 5 * time.Minute

// Collector is a running receiver. It ends with the test that started it.
type Collector struct {
	GRPC, HTTP string // HOST:PORT

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	spans   []Span
	jaeger  []JaegerSpan
	metrics map[string]Metric
	err     error
}

// Start starts a receiver; the test fails if it cannot.
func Start(tb testing.TB) *Collector {
	tb.Helper()
	path, err := binary(func(s string) { tb.Log(s) })
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(path) //nolint:gosec,noctx // built above; it ends when stdin closes
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	first, err := lines.ReadBytes('\n')
	c := &Collector{changed: make(chan struct{}), metrics: map[string]Metric{}}
	var at struct{ GRPC, HTTP string }
	if err == nil {
		err = json.Unmarshal(first, &at)
	}
	if err != nil {
		_ = stdin.Close()
		tb.Fatalf("the receiver did not start: %v, %v", err, cmd.Wait())
	}
	c.GRPC, c.HTTP = at.GRPC, at.HTTP
	read := make(chan struct{})
	go func() { // ends with the process
		defer close(read)
		c.read(lines)
	}()
	tb.Cleanup(func() {
		_ = stdin.Close()
		<-read
		_ = cmd.Wait()
	})
	return c
}

func (c *Collector) read(r *bufio.Reader) {
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if err != io.EOF { //nolint:errorlint // ReadBytes returns it as it is
				c.note(func() { c.err = err })
			}
			return
		}
		var got struct {
			Traces  *tracesJSON
			Jaeger  []jaegerBatch
			Metrics *metricsJSON
		}
		err = json.Unmarshal(line, &got)
		c.note(func() {
			switch {
			case err != nil:
				c.err = err
			case got.Traces != nil:
				c.spans = append(c.spans, got.Traces.spans()...)
			case got.Jaeger != nil:
				for _, b := range got.Jaeger {
					c.jaeger = append(c.jaeger, b.Spans...)
				}
			case got.Metrics != nil:
				for _, m := range got.Metrics.metrics() {
					c.metrics[m.Name] = m
				}
			}
		})
	}
}

func (c *Collector) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until done says so under the lock.
func (c *Collector) await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	for {
		c.mu.Lock()
		ready, err, changed := done(), c.err, c.changed
		c.mu.Unlock()
		if err != nil {
			tb.Fatalf("what the receiver wrote cannot be read: %v", err)
		}
		if ready {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			tb.Fatalf("the receiver did not get %s in %v", what, testTimeout)
		}
	}
}

// Spans waits until n spans have arrived and returns all there are.
func (c *Collector) Spans(tb testing.TB, n int) []Span {
	tb.Helper()
	c.await(tb, "the spans", func() bool { return len(c.spans) >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Jaeger waits until n spans have arrived and returns them as the collector hands them to Jaeger.
func (c *Collector) Jaeger(tb testing.TB, n int) []JaegerSpan {
	tb.Helper()
	c.await(tb, "the spans", func() bool { return len(c.jaeger) >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]JaegerSpan(nil), c.jaeger...)
}

// Metric waits until the metric has arrived and returns its latest state.
func (c *Collector) Metric(tb testing.TB, name string) Metric {
	tb.Helper()
	c.await(tb, "metric "+name, func() bool { return c.metrics[name].Name != "" })
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.metrics[name]
}
