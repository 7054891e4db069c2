package console

import (
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestLiveRowDoesNotWait: rows come from clients' connections, and do not wait while a page's past is read or encoded.
func TestLiveRowDoesNotWait(t *testing.T) {
	l := NewLive()
	l.open.Store(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		o := l.Observer(sink.NopObserver{})
		o.Offered(&meter.Record{ID: "a"})
		o.Settled(&meter.Record{ID: "a"})
		o.Power(&sink.Power{})
		l.Config(&sink.ServerConfig{})
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a row waits for the pages")
	}
	if rows, seconds, changed := l.take(); len(rows) != 2 || len(seconds) != 1 || len(changed) != 1 {
		t.Error(len(rows), len(seconds), len(changed))
	}
}
