package gpu_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// ends returns why epochs ended.
func (w *world) ends() (out []string) {
	for _, b := range w.batches {
		if b.Ended != "" {
			out = append(out, b.Ended)
		}
	}
	return out
}

// TestLostDeviceReopened: a device that stops answering ends its epoch, is opened again when it is back, and
// says so once; the seconds in between have rows without energy, and none is missing.
func TestLostDeviceReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := sim.Healthy()
		w := newWorld(t, sim.Config{Faults: &f})
		start := w.clock.Now()
		lost, back := start+20e9, start+50e9
		w.source.SetFaults(func(f *sim.Faults) { f.LostFrom, f.LostTo = lost, back })
		w.play(schedule(rand.New(rand.NewPCG(5, 1)), start+1e9, 18))
		time.Sleep(time.Duration(start + 30e9 - w.clock.Now()))
		if st := w.sampler.States()[0]; st.Condition != gpu.Lost || !strings.Contains(st.Why, "does not answer") {
			t.Errorf("while it is gone: %s, %q", st.Condition, st.Why)
		}
		time.Sleep(time.Duration(start + 100e9 - w.clock.Now()))
		st := w.sampler.States()[0]
		if st.Condition != gpu.Live || st.Epoch != 2 || st.Reopens != 1 || st.Why != "" {
			t.Errorf("after it is back: %+v", st)
		}
		w.sampler.Stop()
		if got := w.ends(); len(got) != 2 || got[1] != "stopped" {
			t.Errorf("epochs ended with %q", got)
		}
		empty := 0
		for i, r := range w.rows {
			if i > 0 && r.From != w.rows[i-1].From+1e9 {
				t.Errorf("rows at %d and %d", w.rows[i-1].From, r.From)
			}
			during := r.From+1e9 > lost && r.From < back
			if during && r.EnergyUj.Valid {
				t.Errorf("the second from %d has energy while the device was gone", (r.From-start)/1e9)
			}
			if !r.EnergyUj.Valid {
				empty++
				if r.Marked == "" {
					t.Errorf("the second from %d has no energy and no reason", (r.From-start)/1e9)
				}
			}
		}
		// Thirty seconds gone, up to a back-off's length until it is noticed, and the edges.
		if len(w.rows) < 97 || empty < 30 || empty > 70 {
			t.Errorf("%d rows, %d without energy", len(w.rows), empty)
		}
		e := w.trace.Energy(start+80e9, start+95e9)
		if truth := w.source.TruthUj(start+80e9, start+95e9); !e.OK || abs(float64(e.Uj)-truth) > float64(e.ErrorUj) {
			t.Errorf("after the return: %+v, truth %.0f", e, truth)
		}
		if w.source.OpenDevices() != 0 {
			t.Errorf("%d devices are still open", w.source.OpenDevices())
		}
	})
}

func abs(x float64) float64 { return max(x, -x) }

// TestCounterBreaks: a counter that is reset or jumps begins a new epoch; one that freezes is demoted,
// with a sentence, and energies are marked from then on.
func TestCounterBreaks(t *testing.T) {
	for name, x := range map[string]struct {
		fault  func(f *sim.Faults, at int64)
		ends   string
		epochs int
	}{
		"reset":  {func(f *sim.Faults, at int64) { f.CounterResetAt = at }, "reset", 2},
		"jump":   {func(f *sim.Faults, at int64) { f.CounterJumpAt = at }, "jumped", 2},
		"frozen": {func(f *sim.Faults, at int64) { f.CounterFrozenFrom = at }, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sim.Config{})
				start := w.clock.Now()
				at := start + 20e9
				w.source.SetFaults(func(f *sim.Faults) { x.fault(f, at) })
				w.play(schedule(rand.New(rand.NewPCG(6, 1)), start+1e9, 60))
				time.Sleep(5 * time.Second)
				st := w.sampler.States()[0]
				w.sampler.Stop()
				ends := w.ends()
				if st.Epoch != x.epochs || (x.ends != "" && !strings.Contains(ends[0], x.ends)) {
					t.Errorf("epoch %d, ended with %q", st.Epoch, ends)
				}
				if name == "frozen" && (st.Demotions != 1 || st.Demoted[gpu.ChannelCounter] == "") {
					t.Errorf("a frozen counter was demoted %d times: %v", st.Demotions, st.Demoted)
				}
				r := rand.New(rand.NewPCG(6, 2))
				for range 200 {
					from := start + 2e9 + r.Int64N(50e9)
					to := from + 1e9 + r.Int64N(10e9)
					e, truth := w.trace.Energy(from, to), w.source.TruthUj(from, to)
					if e.OK && e.Marked == "" && abs(float64(e.Uj)-truth) > float64(e.ErrorUj) {
						t.Errorf("[%.1f, %.1f]: %.1f J ± %.1f, truth %.1f", float64(from-start)/1e9, float64(to-start)/1e9, float64(e.Uj)/1e6, float64(e.ErrorUj)/1e6, truth/1e6)
					}
				}
				for _, row := range w.rows {
					truth := w.source.TruthUj(row.From, row.From+1e9)
					if row.EnergyUj.Valid && row.Marked == "" && abs(float64(row.EnergyUj.V)-truth) > float64(row.ErrorUj.V) {
						t.Errorf("the second from %.0f: %d ± %d, truth %.0f", float64(row.From-start)/1e9, row.EnergyUj.V, row.ErrorUj.V, truth)
					}
				}
			})
		})
	}
}

// TestContention: another process that computes on the card is noticed, and its leaving too.
func TestContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sim.Config{})
		w.source.SetProcs(gpu.Process{PID: 1, MemB: meter.Some(5)})
		time.Sleep(40 * time.Second)
		if c := w.sampler.States()[0].Contention; c != gpu.ContentionNone {
			t.Errorf("alone: %v", c)
		}
		w.source.SetProcs(gpu.Process{PID: 1, MemB: meter.Some(5)}, gpu.Process{PID: 2})
		time.Sleep(40 * time.Second)
		st := w.sampler.States()[0]
		if st.Contention != gpu.ContentionOther || len(st.Procs) != 2 {
			t.Errorf("with another process: %v, %v", st.Contention, st.Procs)
		}
		w.source.SetProcs(gpu.Process{PID: 1, MemB: meter.Some(5)})
		time.Sleep(40 * time.Second)
		w.sampler.Stop()
		last := w.rows[len(w.rows)-10] // before what Stop cut short
		if last.Contention != gpu.ContentionNone || last.UpstreamMemB != meter.Some(5) {
			t.Errorf("alone again: %v, our memory %+v", last.Contention, last.UpstreamMemB)
		}
		seen := map[gpu.Contention]int{}
		for _, b := range w.batches {
			seen[b.Contention]++
		}
		if seen[gpu.ContentionOther] == 0 || seen[gpu.ContentionNone] == 0 {
			t.Errorf("batches told %v", seen)
		}
	})
}

// asleep is a source of a device with a PCI address.
type asleep struct {
	*sim.Source
	opens int
}

func (a *asleep) List() ([]gpu.Info, error) {
	list, err := a.Source.List()
	list[0].PCI = "0000:01:00.0"
	return list, err
}

func (a *asleep) Open(uuid string) (gpu.Device, error) {
	a.opens++
	return a.Source.Open(uuid)
}

// TestSleepingCard: a card that the kernel has powered down is not woken; it is read once it is awake,
// and left alone when it goes back to sleep.
func TestSleepingCard(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "bus/pci/devices/0000:01:00.0/power")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	power := func(status string) {
		if err := os.WriteFile(filepath.Join(dir, "runtime_status"), []byte(status+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	power("suspended")
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		src := &asleep{Source: sim.New(sim.Config{Clock: clock})}
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		s, err := gpu.Start(gpu.Config{Clock: clock, SysRoot: root, Targets: []gpu.Target{{Source: src, Info: list[0]}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if st := s.States()[0]; src.opens != 0 || st.Condition != gpu.Asleep {
			t.Errorf("opened %d times, %s", src.opens, st.Condition)
		}
		power("active")
		time.Sleep(2 * time.Minute)
		if st := s.States()[0]; src.opens != 1 || st.Condition != gpu.Live {
			t.Errorf("awake: opened %d times, %s (%s)", src.opens, st.Condition, st.Why)
		}
		power("suspended")
		time.Sleep(10 * time.Minute)
		if st := s.States()[0]; src.opens != 1 || st.Condition != gpu.Asleep || src.OpenDevices() != 0 {
			t.Errorf("asleep again: opened %d times, %d open, %s", src.opens, src.OpenDevices(), st.Condition)
		}
		s.Stop()
	})
}

// TestReopenLeaks: ten thousand reopenings leak no goroutine, file or device.
func TestReopenLeaks(t *testing.T) {
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before, filesBefore := runtime.NumGoroutine(), files()
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		src := sim.New(sim.Config{Clock: clock})
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		s, err := gpu.Start(gpu.Config{Clock: clock, Targets: []gpu.Target{{Source: src, Info: list[0]}}})
		if err != nil {
			t.Fatal(err)
		}
		const times = 10_000
		for i := range times {
			now := clock.Now()
			src.SetFaults(func(f *sim.Faults) { f.LostFrom, f.LostTo = now, now+1.9e9 })
			time.Sleep(8 * time.Second)
			if i == times-1 {
				time.Sleep(time.Minute)
			}
		}
		st := s.States()[0]
		if st.Reopens < times*9/10 || st.Condition != gpu.Live || src.OpenDevices() != 1 {
			t.Errorf("%d reopenings, %s, %d open", st.Reopens, st.Condition, src.OpenDevices())
		}
		s.Stop()
		if src.OpenDevices() != 0 {
			t.Errorf("%d devices left open", src.OpenDevices())
		}
	})
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		<-time.After(time.Millisecond) // the bubble's last may be about to end
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if after := files(); after > filesBefore {
		t.Errorf("%d open files, %d before", after, filesBefore)
	}
}
