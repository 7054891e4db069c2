package gpu_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
)

// TestBoundAfterStart: a healthy card that is idle, busy, and busy now and then. From ten seconds after the start
// an idle second is known within 5 %, although the counter is then read every 4 s only, and no second is marked.
func TestBoundAfterStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, f := gpu.NewClock(), sim.Healthy()
		f.EnergyCall = 3500 * time.Microsecond
		src := sim.New(sim.Config{Clock: clock, Faults: &f})
		list, err := src.List()
		if err != nil {
			t.Fatal(err)
		}
		var rows []gpu.Row
		s, err := gpu.Start(gpu.Config{Clock: clock, Targets: []gpu.Target{{Source: src, Info: list[0]}}, Handle: func(b *gpu.Batch) { rows = append(rows, b.Rows...) }})
		if err != nil {
			t.Fatal(err)
		}
		tell := func(id uint64, p meter.Phase) {
			e := gpu.Event{At: clock.Now(), Request: id, Phase: p}
			s.Observe(e)
			src.Observe(e)
		}
		const rest = 120
		time.Sleep(rest * time.Second)
		for id := range uint64(10) {
			tell(1+id, meter.PhaseDecode)
			time.Sleep(1500 * time.Millisecond)
			tell(1+id, meter.PhaseDone)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		s.Stop()
		if len(rows) < rest+60 {
			t.Fatalf("%d rows", len(rows))
		}
		for rows[len(rows)-1].Marked == "stopped" { // no sample had come yet
			rows = rows[:len(rows)-1]
		}
		for i, r := range rows[1 : len(rows)-1] { // the first and the last are not whole
			if r.Marked != "" {
				t.Errorf("second %d is marked %q", i+1, r.Marked)
			}
			if i >= 10 && i < rest-2 && r.ErrorUj.V > r.EnergyUj.V/20 {
				t.Errorf("second %d: %d ± %d uJ", i+1, r.EnergyUj.V, r.ErrorUj.V)
			}
		}
	})
}
