package gpu

import (
	"math/rand/v2"
	"testing"
	"time"
)

// probed is how a probe of a stepping counter went.
type probed struct {
	p     probe
	reads int
	cpu   int64
	took  int64
}

// probeCounter probes a counter whose reads take cost, on a machine on which late says by how much a read comes
// late.
func probeCounter(r *rand.Rand, c steppedCounter, expected int64, cost, late func() int64) (out probed) {
	out.p = newProbe(MetricEnergy|MetricBuffer, ChannelBuffer, expected)
	now := int64(1e12)
	began := now
	for !out.p.over(now) {
		w, next := out.p.want(MetricEnergy, now)
		if w == 0 {
			now = max(now, next) + late()
			continue
		}
		tick, _ := c.read(r, now, cost())
		now = tick.After
		out.reads++
		out.cpu += tick.After - tick.Before
		out.p.counterRead(tick, out.cpu < int64(probeCPU))
	}
	out.took = now - began
	return out
}

// TestProbeCost: the period of a counter is found with a couple of dozen reads, within its budget even where a
// read costs as much as on an H100, and it is the right one.
func TestProbeCost(t *testing.T) {
	for name, x := range map[string]struct {
		expected     int64
		cost         int64 // and up to twice that
		period, more int64
		mostReads    int
	}{
		"H100":            {100e6, 3e6, 100e6, 0, 20},
		"not as expected": {100e6, 1e6, 20e6, 500e6, probeReads},
		"cheap":           {0, 1e5, 20e6, 180e6, 35},
		"slow":            {0, 1e6, 500e6, 500e6, 45},
	} {
		t.Run(name, func(t *testing.T) {
			found, most := 0, probed{}
			const seeds = 500
			for seed := range uint64(seeds) {
				r := rand.New(rand.NewPCG(seed, 3))
				c := steppedCounter{period: x.period + r.Int64N(x.more+1), phase: r.Int64N(1e9)}
				out := probeCounter(r, c, x.expected, func() int64 { return x.cost + r.Int64N(x.cost) }, func() int64 { return r.Int64N(3e5) })
				most.reads, most.cpu, most.took = max(most.reads, out.reads), max(most.cpu, out.cpu), max(most.took, out.took)
				if !out.p.found() || out.p.failed {
					continue
				}
				found++
				if c.period < out.p.period.lo || c.period > out.p.period.hi {
					t.Errorf("seed %d: period %d, found %+v", seed, c.period, out.p.period)
				}
			}
			t.Logf("found %d of %d; at most %d reads, %.0f ms of CPU, %.2f s", found, seeds, most.reads, float64(most.cpu)/1e6, float64(most.took)/1e9)
			if most.reads > x.mostReads || found < seeds*95/100 || time.Duration(most.cpu) > probeCPU+2*time.Duration(x.cost) {
				t.Errorf("found %d of %d with up to %d reads, %d us of CPU", found, seeds, most.reads, most.cpu/1e3)
			}
		})
	}
}

// TestProbeOnABusyMachine: reads that come late never give a wrong period; they may give none.
func TestProbeOnABusyMachine(t *testing.T) {
	found := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 4))
		c := steppedCounter{period: 20e6 + r.Int64N(180e6), phase: r.Int64N(100e6)}
		out := probeCounter(r, c, 100e6, func() int64 { return 1e5 + r.Int64N(3e6) }, func() int64 {
			if r.IntN(3) == 0 {
				return r.Int64N(90e6) // the thread did not run
			}
			return r.Int64N(1e6)
		})
		if !out.p.found() || out.p.failed {
			continue
		}
		found++
		if c.period < out.p.period.lo || c.period > out.p.period.hi {
			t.Errorf("seed %d: period %d, found %+v", seed, c.period, out.p.period)
		}
	}
	t.Logf("found %d of 2000 periods", found)
}

// TestProbeWithoutPeriod: it is told after twenty reads; one that never moves or never answers is
// given up.
func TestProbeWithoutPeriod(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	none := func() int64 { return 0 }
	out := probeCounter(r, steppedCounter{period: 1e6}, 0, func() int64 { return 2e4 }, none)
	if !out.p.movesEveryRead() || out.p.found() || out.reads > 20 {
		t.Errorf("moved at every read: %d reads, found %+v", out.reads, out.p.period)
	}
	out = probeCounter(r, steppedCounter{period: 1e15}, 0, func() int64 { return 2e4 }, none)
	if out.p.movesEveryRead() || out.p.found() || out.reads > probeReads || out.took < probeMostNs {
		t.Errorf("never moved: %d reads in %d ms, found %+v", out.reads, out.took/1e6, out.p.period)
	}
	p := newProbe(MetricEnergy, ChannelBuffer, 100e6)
	asked := 0
	for now := int64(1e12); !p.over(now); now += 1e6 {
		if w, _ := p.want(MetricEnergy, now); w != 0 {
			asked++
		}
	}
	if asked > 2*probeReads+1 {
		t.Errorf("a counter that does not answer was asked %d times", asked)
	}
}
