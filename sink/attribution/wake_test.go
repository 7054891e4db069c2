package attribution

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
)

// TestPassesFollowReadings: how often the buffer is looked at depends on what is read and how much has come,
// not on the clock.
func TestPassesFollowReadings(t *testing.T) {
	for name, x := range map[string]struct {
		readings, events int // a second
		least, most      int64
	}{
		"nothing at all":             {0, 0, 0, 0},
		"events that nothing reads":  {0, 100, 0, 1},
		"one stream, a ring":         {1, 100, 10, 11},
		"ring and counter":           {2, 100, 20, 21},
		"a counter read often":       {50, 100, 30, 42},
		"five hundred streams":       {1, 5000, 24, 36},
		"a card with nothing to do ": {1, 0, 10, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var passes atomic.Int64
				epoch := time.Now()
				s := newSettler(settlerConfig{
					Rows: &kept{settled: map[string]*meter.Record{}}, Wall: func(ns int64) time.Time { return epoch.Add(time.Duration(ns)) },
					Now: func() int64 { passes.Add(1); return int64(time.Since(epoch)) + 1 },
				}, "GPU-0")
				u := s.ledgers(0, 0)
				const step = time.Millisecond
				at := func(n, a int) int { return n * a / 1000 }
				for i := 1; i <= 10_000; i++ {
					time.Sleep(step)
					now := int64(time.Since(epoch))
					for range at(i, x.events) - at(i-1, x.events) {
						u.Observe(energy.Event{Kind: energy.Decode, Request: 1, At: now, Tokens: 1})
					}
					for range at(i, x.readings) - at(i-1, x.readings) {
						s.add(0, &reading{Source: "test", At: now, Ticks: []tick{{Before: now, After: now, UJ: now / 10}}})
					}
				}
				time.Sleep(defaultPace)
				synctest.Wait()
				if n := passes.Load(); n < x.least || n > x.most {
					t.Errorf("%d passes in 10 s, want %d to %d", n, x.least, x.most)
				}
				if err := s.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
