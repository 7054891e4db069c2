package gpu_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// TestSeveralDevices: two devices are sampled at once; a request that is bound to one makes only that
// one's sampling fast, and teaches only that one's lag.
func TestSeveralDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		src := sim.New(sim.Config{Clock: clock, Devices: 2})
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		var targets []gpu.Target
		for _, in := range list {
			targets = append(targets, gpu.Target{Source: src, Info: in})
		}
		s, err := gpu.Start(gpu.Config{Clock: clock, Targets: targets})
		if err != nil {
			t.Fatal(err)
		}
		second := gpu.Activities{src, s.Activity(1)}
		for _, e := range schedule(rand.New(rand.NewPCG(3, 4)), clock.Now()+2e9, 90) {
			time.Sleep(time.Duration(e.At - clock.Now()))
			second.Observe(e)
		}
		states := s.States()
		s.Stop()
		idle, busy := states[0], states[1]
		if idle.Info.UUID != "SIM-0" || busy.Info.UUID != "SIM-1" {
			t.Fatalf("%s and %s", idle.Info.UUID, busy.Info.UUID)
		}
		if idle.Channels[gpu.ChannelBuffer].LagLearnt || !busy.Channels[gpu.ChannelBuffer].LagLearnt {
			t.Errorf("lags learnt: idle %v, busy %v", idle.Channels[gpu.ChannelBuffer].LagLearnt, busy.Channels[gpu.ChannelBuffer].LagLearnt)
		}
		if 2*idle.Calls["energy"].Count > 3*busy.Calls["energy"].Count {
			t.Errorf("reads of the counter: idle %d, busy %d", idle.Calls["energy"].Count, busy.Calls["energy"].Count)
		}
	})
}

// TestLostDeviceLog: a device that is lost for ten minutes is reported when it goes and when it is back,
// not at every attempt.
func TestLostDeviceLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		src := sim.New(sim.Config{Clock: clock})
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		now := clock.Now()
		src.SetFaults(func(f *sim.Faults) { f.LostFrom, f.LostTo = now+30e9, now+630e9 })
		var out bytes.Buffer
		s, err := gpu.Start(gpu.Config{Clock: clock, Targets: []gpu.Target{{Source: src, Info: list[0]}}, Log: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Minute)
		s.Stop()
		if lines := strings.Count(out.String(), "\n"); lines != 2 || !strings.Contains(out.String(), "device is lost") || !strings.Contains(out.String(), "device is read again") {
			t.Errorf("%d lines:\n%s", lines, out.String())
		}
	})
}

// TestConfig: what makes no sense is refused with a sentence.
func TestConfig(t *testing.T) {
	for name, c := range map[string]gpu.Config{
		"no source":        {Targets: []gpu.Target{{}}},
		"too few recorder": {Targets: make([]gpu.Target, 2), Recorders: make([]*gpu.Recorder, 1)},
		"budget":           {Budget: 2},
	} {
		if s, err := gpu.Start(c); err == nil {
			s.Stop()
			t.Errorf("%s: no error", name)
		}
	}
}

// BenchmarkSimulated is the cost of asking the simulated card for a busy second: what --gpu sim adds.
func BenchmarkSimulated(b *testing.B) {
	clock := gpu.NewClock()
	src := sim.New(sim.Config{Clock: clock})
	src.Observe(gpu.Event{At: clock.Now(), Request: 1, Phase: meter.PhaseDecode})
	d, err := src.Open("SIM-0")
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	var r gpu.Reading
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if err := d.Read(gpu.MetricEnergy|gpu.MetricBuffer|gpu.MetricPower|gpu.MetricStatus, &r); err != nil {
			b.Fatal(err)
		}
	}
}

// TestNeighbourIsSeenSoon: another process that computes for a while is seen within half a second while a request is in
// flight, and at once when one comes.
func TestNeighbourIsSeenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sim.Config{})
		ours, other := gpu.Process{PID: 1}, gpu.Process{PID: 2}
		w.source.SetProcs(ours)
		time.Sleep(20 * time.Second)
		seen := func(from int64) time.Duration { // how long after from the other process was seen; an hour: never
			synctest.Wait()
			for _, b := range w.batches {
				if b.At >= from && b.Contention == gpu.ContentionOther {
					return time.Duration(b.At - from)
				}
			}
			return time.Hour
		}
		for k := range 5 {
			for _, seconds := range []int{1, 2, 5, 16} {
				request := gpu.Event{At: w.clock.Now(), Request: uint64(k + 1), Phase: meter.PhaseDecode}
				w.sampler.Observe(request)
				time.Sleep(time.Duration(k) * 153 * time.Millisecond)
				began := w.clock.Now()
				w.source.SetProcs(ours, other)
				time.Sleep(time.Duration(seconds) * time.Second)
				w.source.SetProcs(ours)
				if late := seen(began); late > 510*time.Millisecond {
					t.Errorf("a neighbour of %d s was seen after %v", seconds, late)
				}
				request.At, request.Phase = w.clock.Now(), meter.PhaseDone
				w.sampler.Observe(request)
				time.Sleep(time.Duration(k) * 700 * time.Millisecond)
			}
		}
		time.Sleep(10*time.Second + 777*time.Millisecond) // nothing is in flight
		w.source.SetProcs(ours, other)
		time.Sleep(100 * time.Millisecond)
		began := w.clock.Now()
		w.sampler.Observe(gpu.Event{At: began, Request: 99, Phase: meter.PhasePrefill})
		time.Sleep(100 * time.Millisecond)
		if late := seen(began); late > 10*time.Millisecond {
			t.Errorf("a request came, and its neighbour was seen %v later", late)
		}
		w.sampler.Stop()
	})
}
