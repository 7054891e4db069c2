package gpu

import (
	"math/rand/v2"
	"testing"
)

// steppedCounter is a counter that steps every period at 300 W, at phase after every multiple.
type steppedCounter struct{ period, phase int64 }

// lastStep returns the step that a read at t sees.
func (c steppedCounter) lastStep(t int64) int64 {
	return (t-c.phase)/c.period*c.period + c.phase
}

// read reads at t for cost nanoseconds; the value is taken somewhere in between.
func (c steppedCounter) read(r *rand.Rand, t, cost int64) (Tick, int64) {
	step := c.lastStep(t + r.Int64N(cost))
	return Tick{Before: t, After: t + cost, Uj: step / 1e6 * 300, OK: true}, step
}

// TestEdgeTracker: whatever the period and the cost of a read, every step lies where the tracker says,
// and once the period is learnt the tracker is sharp with one read a second.
func TestEdgeTracker(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := steppedCounter{period: 20e6 + r.Int64N(180e6), phase: r.Int64N(100e6)}
		cost := func() int64 { return 1e5 + r.Int64N(5e6) }
		var e edgeTracker
		now := int64(1e12)
		var probe []Tick
		for range 400 {
			tick, _ := c.read(r, now, cost())
			probe = append(probe, tick)
			now = tick.After + 5e5
		}
		e.setPeriod(span{c.period - r.Int64N(c.period/16), c.period + 1 + r.Int64N(c.period/16)}) // as well as a probe knows it
		for i := range probe {
			e.observe(&probe[i])
		}
		var sharp, reads int
		for range 300 {
			now = max(now, e.next(now, now+1e9, extraReads{true, true}))
			tick, step := c.read(r, now, cost())
			e.observe(&tick)
			if step <= tick.Lo-1 || step > tick.Hi {
				t.Fatalf("seed %d: step at %d, tracker says (%d, %d], period %d in %+v", seed, step, tick.Lo, tick.Hi, c.period, e.period)
			}
			now = tick.After
			if e.firstOfPair { // the first of a pair is there to be wide
				continue
			}
			reads++
			if tick.Hi-tick.Lo < c.period/4+10e6 {
				sharp++
			}
		}
		if sharp < reads*9/10 {
			t.Errorf("seed %d: period %d: only %d of %d reads are sharp", seed, c.period, sharp, reads)
		}
	}
}

// TestEdgeTrackerNoPeriod: a counter that moves all the time is placed at the read itself.
func TestEdgeTrackerNoPeriod(t *testing.T) {
	var reads []Tick
	for i := range int64(50) {
		reads = append(reads, Tick{Before: i * 5e6, After: i*5e6 + 1e5, Uj: i * 1000, OK: true})
	}
	var e edgeTracker
	first := reads[2]
	if e.observe(&first); first.Lo > first.Before-1e9 {
		t.Errorf("a first read says that the counter moved within %d ns before it", first.Before-first.Lo)
	}
	tick := reads[3]
	e.observe(&tick)
	if tick.Lo != first.Before || tick.Hi != tick.After {
		t.Errorf("step placed in (%d, %d], read in [%d, %d]", tick.Lo, tick.Hi, tick.Before, tick.After)
	}
}

// TestEdgeTrackerFrozenCounter: the tracker knows for how long a counter has not moved.
func TestEdgeTrackerFrozenCounter(t *testing.T) {
	var e edgeTracker
	e.setPeriod(span{99e6, 101e6})
	for i := range int64(50) {
		tick := Tick{Before: i * 50e6, After: i*50e6 + 1e6, Uj: min(i, 10), OK: true}
		e.observe(&tick)
		if want := max(0, (i-10)*50e6-1e6); i > 10 && e.stillNs() != want {
			t.Fatalf("read %d: still for %d, want %d", i, e.stillNs(), want)
		}
	}
	if next := e.next(3e9, 4e9, extraReads{true, true}); next != 4e9 {
		t.Errorf("next read at %d: a frozen counter needs no extra reads", next)
	}
}
