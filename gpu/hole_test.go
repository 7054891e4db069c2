package gpu_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
)

// TestStoppedSampler: nothing is read for 17 s and for 60 s while requests run, as when the process is stopped. No channel
// is given up, no second has a false energy, and the seconds before and after are as always.
func TestStoppedSampler(t *testing.T) {
	for _, stop := range []time.Duration{3 * time.Second, 17 * time.Second, 60 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := sim.Healthy()
			f.EnergyCall = 3 * time.Millisecond
			w := newWorld(t, sim.Config{Faults: &f})
			start := w.clock.Now()
			go func() {
				time.Sleep(20 * time.Second)
				w.source.SetFaults(func(f *sim.Faults) { f.EnergyCall = stop })
				time.Sleep(stop / 2)
				w.source.SetFaults(func(f *sim.Faults) { f.EnergyCall = 3 * time.Millisecond })
			}()
			w.play(schedule(rand.New(rand.NewPCG(3, 1)), start+2e9, 70+stop.Seconds()))
			time.Sleep(10 * time.Second)
			w.sampler.Stop()
			st := w.sampler.States()[0]
			if st.Profile != gpu.ChannelBuffer || st.Demotions != 0 || st.Epoch != 1 {
				t.Errorf("%v: profile %s, demoted %v, epoch %d", stop, st.Profile, st.Demoted, st.Epoch)
			}
			null := 0
			for _, r := range w.rows {
				if !r.EnergyUj.Valid {
					null++
					continue
				}
				truth := w.source.TruthUj(r.From, r.From+r.DurationNs)
				if off := math.Abs(float64(r.EnergyUj.V) - truth); off > float64(r.ErrorUj.V) && r.Marked == "" {
					t.Errorf("%v: second %.0f: %.1f ± %.1f J, truth %.1f", stop, float64(r.From-start)/1e9, float64(r.EnergyUj.V)/1e6, float64(r.ErrorUj.V)/1e6, truth/1e6)
				}
				if r.Marked == gpu.MarkNoCounter || r.Marked == gpu.MarkCounter {
					t.Errorf("%v: second %.0f: %s", stop, float64(r.From-start)/1e9, r.Marked)
				}
			}
			if most := int(stop.Seconds()) + 6; null > most || len(w.rows) < 70+int(stop.Seconds()) {
				t.Errorf("%v: %d of %d seconds without energy", stop, null, len(w.rows))
			}
		})
	}
}
