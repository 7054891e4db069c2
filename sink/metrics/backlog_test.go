package metrics

import (
	"sync"
	"sync/atomic"
	"testing"

	"wattline/meter"
)

// However slow recording is, no row that was handed over is lost, and no more than the cap ever waits.
func TestBacklogBound(t *testing.T) {
	var recorded atomic.Int64
	entered, gate := make(chan struct{}), make(chan struct{})
	var hung atomic.Bool
	b := newBacklog(func(waiting) {
		if hung.CompareAndSwap(false, true) {
			close(entered)
			<-gate // the goroutine hangs on its first row
		}
		recorded.Add(1)
	})
	b.add(waiting{rec: &meter.Record{}})
	<-entered
	const each, adders = 5000, 4
	var wg sync.WaitGroup
	for range adders {
		wg.Go(func() {
			for range each {
				b.add(waiting{rec: &meter.Record{}})
				b.mu.Lock()
				if len(b.rows) > maxBacklog {
					t.Errorf("%d rows wait", len(b.rows))
				}
				b.mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got, overflow := recorded.Load(), int64(each*adders-maxBacklog); got != overflow {
		t.Errorf("%d rows were recorded by callers that found the backlog full, not %d", got, overflow)
	}
	close(gate)
	b.stop()
	if got := recorded.Load(); got != each*adders+1 {
		t.Errorf("%d rows were recorded of %d", got, each*adders+1)
	}
}

// A flush covers every row that was handed over before it, also those that another flush is recording.
func TestBacklogFlush(t *testing.T) {
	var recorded atomic.Int64
	b := newBacklog(func(waiting) { recorded.Add(1) })
	defer b.stop()
	for i := range int64(2000) {
		b.add(waiting{rec: &meter.Record{}})
		b.flush()
		if got := recorded.Load(); got != i+1 {
			t.Fatalf("after %d rows and a flush %d are recorded", i+1, got)
		}
	}
}
