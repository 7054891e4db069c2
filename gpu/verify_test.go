package gpu_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// bench is a loaded device on which sampling is verified: a real card (real_test.go) or
// the simulated one.
type bench struct {
	clock  gpu.Clock
	target gpu.Target

	// counter reads at the device's energy counter by a way of its own.
	counter func() (before, after, uj int64, err error)

	// mixed puts prompts and replies of several sizes on the device, alone and together, until ctx
	// ends. It tells what is in flight, and returns how many tokens were generated.
	mixed func(ctx context.Context, tell gpu.Activity) (tokens int64)

	// streams has n streams decode side by side until ctx ends, and tells when each of their tokens came.
	streams func(ctx context.Context, tell gpu.Activity, n int, token func(stream int, at int64))
}

// step reads of the counter until it moves, and returns when that was (the middle and half the width)
// and what it then showed.
func (b *bench) step(t *testing.T) (at, half, uj int64) {
	t.Helper()
	last := int64(-1)
	var since int64
	for {
		before, after, now, err := b.counter()
		if err != nil {
			t.Fatal(err)
		}
		if last >= 0 && now != last {
			return (since + after) / 2, (after - since) / 2, now
		}
		last, since = now, before
		time.Sleep(time.Millisecond) // between two reads of a real instrument; in a bubble without a card
	}
}

// verifyEnergy samples a mixed load and compares the sampler's energy with the counter's delta between
// two idle moments. It returns the sampler's last state.
func verifyEnergy(t *testing.T, b *bench, span time.Duration) (busy float64) {
	t.Helper()
	trace := gpu.NewTrace(span + time.Minute)
	var lag int64
	s, err := gpu.Start(gpu.Config{Clock: b.clock, Targets: []gpu.Target{b.target}, Handle: func(x *gpu.Batch) {
		if x.Ended == "" {
			trace.Add(x)
			lag = x.TickLagNs
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second) // past the probe
	from, half, begin := b.step(t)
	probed := s.States()[0]
	ctx, cancel := context.WithTimeout(t.Context(), span)
	tokens := b.mixed(ctx, s)
	cancel()
	worked := s.States()[0]
	time.Sleep(2 * time.Second)
	to, half2, end := b.step(t)
	time.Sleep(5 * time.Second)
	st := s.States()[0]
	s.Stop()
	e := trace.Energy(from-lag, to-lag)
	want := float64(end - begin)
	off := float64(e.Uj)/want - 1
	t.Logf("%.1f s, %d tokens: counter %.2f J, sampler %.2f J ± %.2f: %+.3f %% (the counter's steps are placed to %.1f and %.1f ms), marked %q",
		float64(to-from)/1e9, tokens, want/1e6, float64(e.Uj)/1e6, float64(e.ErrorUj)/1e6, 100*off, float64(half)/1e6, float64(half2)/1e6, e.Marked)
	busy = share(probed, worked)
	t.Logf("%s, %s; agreement %d ppm; %d missed, %d errors; sampling took %.3f %% of one core: %.3f %% in the first 10 s (%.0f ms), %.3f %% under load", st.Info.Name, st.Info.Driver, st.Agreement.V, st.Missed, st.Errors,
		share(gpu.State{}, st), share(gpu.State{}, probed), float64(probed.CPUNs)/1e6, busy)
	for name, c := range st.Calls {
		t.Logf("%-9s %6d calls, p50 %.3f ms, p99 %.3f ms, max %.3f ms", name, c.Count, float64(c.P50Ns)/1e6, float64(c.P99Ns)/1e6, float64(c.MaxNs)/1e6)
	}
	for name, c := range st.Channels {
		t.Logf("%-9s %+v", name, c)
	}
	if !e.OK || e.Marked != "" || math.Abs(off) > 0.005 {
		t.Errorf("the sampler's energy is %+.3f %% off the counter's, want within 0.5 %%", 100*off)
	}
	if st.Missed > 0 {
		t.Errorf("%d samples were missed", st.Missed)
	}
	return busy
}

// share is the part of a core that sampling took between two states, in percent.
func share(from, to gpu.State) float64 {
	return 100 * float64(to.CPUNs-from.CPUNs) / float64(to.WallNs-from.WallNs)
}

// TestVerification runs the verification of a real card on the simulated one.
func TestVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		f := sim.Healthy()
		f.EnergyCall = 3500 * time.Microsecond
		src := sim.New(sim.Config{Clock: clock, Faults: &f})
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		other, err := src.Open(list[0].UUID)
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{clock: clock, target: gpu.Target{Source: src, Info: list[0]}}
		b.counter = func() (before, after, uj int64, err error) {
			var r gpu.Reading
			err = other.Read(gpu.MetricEnergy, &r)
			return r.Energy.Before, r.Energy.After, r.Energy.Uj, err
		}
		play := func(prefill, decode, pause time.Duration) func(context.Context, gpu.Activity) int64 {
			return func(ctx context.Context, tell gpu.Activity) (tokens int64) {
				all := gpu.Activities{src}
				if tell != nil {
					all = append(all, tell)
				}
				for id := uint64(1); ctx.Err() == nil; id++ {
					all.Observe(gpu.Event{At: clock.Now(), Request: id, Phase: meter.PhasePrefill, Tokens: 1000})
					time.Sleep(prefill)
					all.Observe(gpu.Event{At: clock.Now(), Request: id, Phase: meter.PhaseDecode, Tokens: 1000})
					time.Sleep(decode)
					all.Observe(gpu.Event{At: clock.Now(), Request: id, Phase: meter.PhaseDone})
					time.Sleep(pause)
					tokens += int64(decode / (10 * time.Millisecond))
				}
				return tokens
			}
		}
		b.mixed = play(170*time.Millisecond, 1300*time.Millisecond, 230*time.Millisecond)
		verifyEnergy(t, b, time.Minute)
	})
}
