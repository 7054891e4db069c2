package llama

import (
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter"
)

// TestPageOpens: a request that is alone, streamed or not, is polled for once somebody looks at it, and seldom again.
func TestPageOpens(t *testing.T) {
	for _, streams := range []bool{true, false} {
		var open atomic.Bool
		var now atomic.Int64
		now.Store(1)
		tr := &SlotTracker{
			cfg:  SlotTrackerConfig{Now: now.Load, Watched: open.Load},
			wake: make(chan struct{}, 1), reqs: map[uint64]*TrackedRequest{},
		}
		q := tr.RequestSent(1, 1, meter.Work{Streams: streams}, 10, nil)
		if streams {
			q.SlotStarted(1)
			q.OutputReceived(2, 1)
		}
		woken := func() bool {
			select {
			case <-tr.wake:
				return true
			default:
				return false
			}
		}
		if woken() {
			t.Error("polled for while nobody looks")
		}
		open.Store(true)
		for i, step := range []struct {
			after time.Duration
			want  bool
		}{{0, true}, {time.Second, false}, {lookGap, true}, {time.Second, false}} {
			now.Add(int64(step.after))
			if q.Look(); woken() != step.want {
				t.Errorf("streams %v, look %d: woken %v", streams, i, !step.want)
			}
		}
	}
}
