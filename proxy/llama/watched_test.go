package llama

import (
	"sync/atomic"
	"testing"

	"wattline/meter"
)

// TestPageOpensDuringStream: a lone stream under way is polled for once somebody looks on.
func TestPageOpensDuringStream(t *testing.T) {
	var open atomic.Bool
	tr := &SlotTracker{
		cfg:  SlotTrackerConfig{Now: func() int64 { return 1 }, Watched: open.Load},
		wake: make(chan struct{}, 1), reqs: map[uint64]*TrackedRequest{},
	}
	q := tr.RequestSent(1, 1, meter.Work{Streams: true}, 10, nil)
	q.SlotStarted(1)
	woken := func() bool {
		select {
		case <-tr.wake:
			return true
		default:
			return false
		}
	}
	for i, step := range []struct{ open, want bool }{{false, false}, {true, true}, {true, false}, {false, false}, {true, true}} {
		open.Store(step.open)
		q.OutputReceived(2, 1)
		if got := woken(); got != step.want {
			t.Errorf("output %d, page open %v: woken %v", i, step.open, got)
		}
	}
}
