package gpu_test

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// schedule makes random traffic for about seconds from start: requests alone and together, pauses.
func schedule(r *rand.Rand, start int64, seconds float64) []gpu.Event {
	var out []gpu.Event
	at := start
	for id := uint64(1); float64(at-start) < seconds*1e9; id++ {
		slot := r.IntN(4)
		prefill := at + 20e6 + int64(r.ExpFloat64()*0.4e9)
		done := prefill + 50e6 + int64(r.ExpFloat64()*1.5e9)
		tokens := 200 + r.IntN(8000)
		out = append(out,
			gpu.Event{At: at, Request: id, Phase: meter.PhasePrefill, Slot: slot, Tokens: tokens},
			gpu.Event{At: prefill, Request: id, Phase: meter.PhaseDecode, Slot: slot, Tokens: tokens},
			gpu.Event{At: done, Request: id, Phase: meter.PhaseDone, Slot: slot})
		switch r.IntN(3) {
		case 0:
			at = done + int64(r.ExpFloat64()*1.5e9)
		default:
			at += int64(r.ExpFloat64() * 1e9)
		}
	}
	slices.SortStableFunc(out, func(a, b gpu.Event) int { return cmp.Compare(a.At, b.At) })
	return out
}

// world is a sampler on a simulated device in a synctest bubble.
type world struct {
	clock   gpu.Clock
	source  *sim.Source
	sampler *gpu.Sampler
	trace   *gpu.Trace
	batches []gpu.Batch // without their slices
	rows    []gpu.Row
}

// newWorld starts a sampler. Its handler keeps a trace of an hour.
func newWorld(t *testing.T, cfg sim.Config) *world {
	t.Helper()
	w := &world{clock: gpu.NewClock(), trace: gpu.NewTrace(time.Hour)}
	cfg.Clock = w.clock
	w.source = sim.New(cfg)
	infos, err := w.source.List()
	if err != nil {
		t.Fatal(err)
	}
	var targets []gpu.Target
	for _, in := range infos {
		targets = append(targets, gpu.Target{Source: w.source, Info: in, IsUpstreamProcess: func(pid int) bool { return pid == 1 }})
	}
	w.sampler, err = gpu.Start(gpu.Config{Clock: w.clock, Targets: targets, Handle: w.handle})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) handle(b *gpu.Batch) {
	w.rows = append(w.rows, b.Rows...)
	if b.Ended == "" {
		w.trace.Add(b)
	}
	flat := *b
	flat.Ticks, flat.Samples, flat.Rows = nil, nil, nil
	w.batches = append(w.batches, flat)
}

// play lets events happen to the device and tells the sampler.
func (w *world) play(events []gpu.Event) {
	for _, e := range events {
		time.Sleep(time.Duration(e.At - w.clock.Now()))
		w.source.Observe(e)
		w.sampler.Observe(e)
	}
}

// TestEnergyOnHealthySensors: with an H100's sensors, energies are right, and the bound is tight.
func TestEnergyOnHealthySensors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := sim.Healthy()
		f.EnergyCall = 3500 * time.Microsecond
		w := newWorld(t, sim.Config{Faults: &f})
		start := w.clock.Now()
		w.play(schedule(rand.New(rand.NewPCG(1, 1)), start+2e9, 60))
		time.Sleep(5 * time.Second)
		w.sampler.Stop()
		st := w.sampler.States()[0]
		e := w.trace.Energy(start+3e9, start+60e9)
		truth := w.source.TruthUj(start+3e9, start+60e9)
		t.Logf("%s lag %d, counter lag %d; 57 s: %.3f %% off, bound %.3f %%, marked %q", st.Profile, st.Channels[st.Profile].LagNs, st.Channels[gpu.ChannelCounter].LagNs,
			100*(float64(e.Uj)/truth-1), 100*float64(e.ErrorUj)/truth, e.Marked)
		if !e.OK || e.Marked != "" || math.Abs(float64(e.Uj)/truth-1) > 0.002 || float64(e.ErrorUj) > 0.02*truth {
			t.Errorf("%+v, truth %.0f", e, truth)
		}
		var worst, sum float64
		for from := start + 5e9; from < start+58e9; from += 700e6 {
			e, truth := w.trace.Energy(from, from+1e9), w.source.TruthUj(from, from+1e9)
			off := math.Abs(float64(e.Uj) - truth)
			worst, sum = max(worst, off/truth), sum+float64(e.ErrorUj)/truth
			if off > float64(e.ErrorUj) {
				t.Errorf("second from %d: off by %.2f J, bound %.2f J", from-start, off/1e6, float64(e.ErrorUj)/1e6)
			}
		}
		t.Logf("single seconds: worst %.2f %%, mean bound %.2f %%", 100*worst, 100*sum/76)
		if worst > 0.05 {
			t.Errorf("a second is off by %.2f %%", 100*worst)
		}
	})
}

// faulty returns a card with random sensors and what is wrong with it.
func faulty(r *rand.Rand) (sim.Faults, string) {
	f := sim.Healthy()
	ms := time.Millisecond
	f.EnergyCall = time.Duration(r.IntN(5000)) * time.Microsecond
	f.Counter.Phase = time.Duration(r.IntN(100)) * ms
	f.Buffer.Phase = time.Duration(r.IntN(20)) * ms
	what := "none"
	kind := r.IntN(12)
	switch kind {
	case 1:
		what = "counter period"
		f.Counter.Period = time.Duration(20+r.IntN(500)) * ms
	case 2:
		what = "sample period and partial coverage"
		f.Buffer.Period = time.Duration(20+r.IntN(180)) * ms
		f.Buffer.Window = time.Duration(float64(f.Buffer.Period) * (0.2 + 0.8*r.Float64()))
	case 3:
		what = "averaging window"
		f.Buffer.Off = true
		f.Instant.Window = time.Duration(100+r.IntN(1500)) * ms
	case 4:
		what = "lag"
		f.Buffer.Lag = time.Duration(r.IntN(400)) * ms
		f.Counter.Lag = time.Duration(r.IntN(100)) * ms
	case 5:
		what = "power gain"
		f.Buffer.Gain = 0.5 + r.Float64()
	case 6:
		what = "noise"
		f.Buffer.NoiseMw = 30e3 * r.Float64()
	case 7:
		what = "quantisation"
		f.Buffer.QuantumMw = 1 + r.Int64N(30e3)
		f.Counter.QuantumMw = 1 + r.Int64N(20e3)
	case 8:
		what = "no counter"
		f.Counter.Off = true
		f.Buffer.Off = r.IntN(2) == 0
	case 9:
		what = "counter alone"
		f.Buffer.Off, f.Instant.Off, f.Average.Denied = true, true, true
	case 10:
		what = "only a 1 s average"
		f.Buffer.Off, f.Instant.Off, f.Counter.Denied = true, true, true
		f.Average.Window = time.Duration(500+r.IntN(1000)) * ms
	case 11:
		what = "only a coarse average beside the counter"
		f.Buffer.Off, f.Instant.Off = true, true
		f.Average.Period = time.Duration(100+r.IntN(900)) * ms
		f.Average.Window = f.Average.Period + time.Duration(r.IntN(1000))*ms
	}
	return f, what
}

// cards is how many random cards TestNeverSilentlyWrong samples; three thousand take four minutes.
var cards = flag.Int("cards", 150, "random cards to sample")

// tally is how one kind of fault fared.
type tally struct {
	n, unknown, marked, wrong, rows, rowsWrong int
	off, bound, rowBound                       float64
}

// TestNeverSilentlyWrong: for random power curves on random sensors, every energy that is reported is
// within its bound or says why that cannot be promised.
func TestNeverSilentlyWrong(t *testing.T) {
	tallies := map[string]*tally{}
	for seed := range uint64(*cards) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			neverWrong(t, seed, tallies, true)
		})
	}
	rows, rowsWrong := 0, 0
	for what, k := range tallies {
		n := float64(max(1, k.n-k.unknown))
		t.Logf("%-42s %5d energies, %4d unknown, %5d marked, %3d wrong; mean error %.2f %%, mean bound %.2f %%; %5d unmarked rows, %3d wrong, mean bound %.2f %%",
			what, k.n, k.unknown, k.marked, k.wrong, 100*k.off/n, 100*k.bound/n, k.rows, k.rowsWrong, 100*k.rowBound/float64(max(1, k.rows)))
		rows, rowsWrong = rows+k.rows, rowsWrong+k.rowsWrong
		if what == "none" && k.rowsWrong*1000 > k.rows {
			t.Errorf("%d of %d rows of healthy cards are outside their bounds", k.rowsWrong, k.rows)
		}
	}
	if rowsWrong*200 > rows { // see SAMPLING.md, Bounds
		t.Errorf("%d of %d unmarked rows are outside their bounds", rowsWrong, rows)
	}
}

// TestScoresOfCards prints the figures of random cards that TestSoakAblation compares: energies and rows outside their
// bounds, the mean bound in percent, and the rows of a card with a frozen counter that are outside their bounds.
func TestScoresOfCards(t *testing.T) {
	tallies := map[string]*tally{}
	for seed := range uint64(100) {
		neverWrong(t, seed, tallies, false)
	}
	var sum tally
	for _, k := range tallies {
		if k.marked > 0 {
			continue
		}
		sum.n, sum.wrong, sum.rowsWrong, sum.bound = sum.n+k.n, sum.wrong+k.wrong, sum.rowsWrong+k.rowsWrong, sum.bound+k.bound
	}
	t.Logf("score cards/wrong %d", sum.wrong)
	t.Logf("score cards/rows %d", sum.rowsWrong)
	t.Logf("score cards/bound %.2f", 100*sum.bound/float64(sum.n))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sim.Config{})
		start := w.clock.Now()
		w.source.SetFaults(func(f *sim.Faults) { f.CounterFrozenFrom = start + 20e9 })
		w.play(schedule(rand.New(rand.NewPCG(6, 1)), start+1e9, 60))
		time.Sleep(5 * time.Second)
		w.sampler.Stop()
		wrong := 0
		for _, row := range w.rows {
			truth := w.source.TruthUj(row.From, row.From+row.DurationNs)
			if row.EnergyUj.Valid && row.Marked == "" && abs(float64(row.EnergyUj.V)-truth) > float64(row.ErrorUj.V) {
				wrong++
			}
		}
		t.Logf("score frozen/rows %d", wrong)
	})
}

// neverWrong samples one random card under one random load and compares 25 intervals with the truth.
func neverWrong(t *testing.T, seed uint64, tallies map[string]*tally, strict bool) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 7))
		f, what := faulty(r)
		w := newWorld(t, sim.Config{Faults: &f, Seed: seed})
		start := w.clock.Now()
		w.play(schedule(r, start+1e9, 40))
		time.Sleep(5 * time.Second)
		end := w.clock.Now() - 4e9
		w.sampler.Stop()
		k := tallies[what]
		if k == nil {
			k = &tally{}
			tallies[what] = k
		}
		for range 25 {
			from := start + 1e9 + r.Int64N(end-start-4e9)
			to := min(end, from+100e6+int64(r.ExpFloat64()*5e9))
			e, truth := w.trace.Energy(from, to), w.source.TruthUj(from, to)
			k.n++
			switch off := math.Abs(float64(e.Uj) - truth); {
			case !e.OK:
				k.unknown++
			case off > float64(e.ErrorUj) && e.Marked == "":
				k.wrong++
				report := t.Logf
				if strict {
					report = t.Errorf
				}
				report("seed %d, %s: [%.3f, %.3f] s: %.1f J, truth %.1f J, bound %.1f J", seed, what,
					float64(from-start)/1e9, float64(to-start)/1e9, float64(e.Uj)/1e6, truth/1e6, float64(e.ErrorUj)/1e6)
			default:
				if e.Marked != "" {
					k.marked++
				}
				k.off += off / truth
				k.bound += float64(e.ErrorUj) / truth
			}
		}
		// Rows are estimated as the seconds go by, from what is known by then.
		for _, row := range w.rows {
			if !row.EnergyUj.Valid || row.Marked != "" {
				continue
			}
			k.rows++
			truth := w.source.TruthUj(row.From, row.From+row.DurationNs)
			k.rowBound += float64(row.ErrorUj.V) / truth
			if off := math.Abs(float64(row.EnergyUj.V) - truth); off > float64(row.ErrorUj.V) {
				k.rowsWrong++
				t.Logf("seed %d, %s: second %d: %.1f J, truth %.1f J, bound %.1f J", seed, what,
					(row.From-start)/1e9, float64(row.EnergyUj.V)/1e6, truth/1e6, float64(row.ErrorUj.V)/1e6)
			}
		}
	})
}
