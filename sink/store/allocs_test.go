package store

import (
	"testing"

	"wattline/meter"
	"wattline/sink"
)

// TestAllocationsOfARow guards what a row allocates from the queue to the commit: the SQLite driver takes each
// value as an interface and copies each text.
func TestAllocationsOfARow(t *testing.T) {
	const rows, runs, maxPerRow = 1000, 5, 100
	s := tempStore(t)
	q := sink.New(sink.Config{Store: s, Capacity: 4 * rows, Log: quiet()})
	defer func() { must(t, q.Stop(t.Context())) }()
	for _, settled := range []bool{false, true} {
		all := make([]*meter.Record, 0, (runs+1)*rows)
		for i := range cap(all) {
			rec := whole(i)
			rec.EnergyQuality = meter.EnergyPending
			rec.GPUDevices, rec.GPUUjByDevice = []string{"GPU-0", "GPU-1"}, []int64{1, 2}
			all = append(all, rec)
		}
		n := 0
		perRun := testing.AllocsPerRun(runs, func() {
			for _, rec := range all[n : n+rows] {
				if settled {
					rec.EnergyQuality = meter.EnergyShared
					q.Settle(rec)
				} else {
					q.Offer(rec)
				}
			}
			n += rows
			must(t, q.Flush(t.Context()))
		})
		st := q.Stats()
		t.Logf("settled %v: %.3f allocations a row", settled, perRun/rows)
		if perRun > maxPerRow*rows {
			t.Errorf("settled %v: %.0f allocations for %d rows", settled, perRun, rows)
		}
		if written := st.Requests.Written + st.Settled.Written; written != uint64(n) && !settled || settled && st.Settled.Written != uint64(n) {
			t.Errorf("not all were written: %+v", st)
		}
	}
}
