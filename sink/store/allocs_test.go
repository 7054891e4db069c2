package store

import (
	"testing"

	"wattline/meter"
	"wattline/sink"
)

// TestARowAllocatesNothing is the guard on the store's part of a request: from the queue to the commit, a row
// costs no allocation, neither when it is new nor when it is settled. What a transaction allocates is shared
// by its rows: less than one in ten.
func TestARowAllocatesNothing(t *testing.T) {
	const rows, runs = 1000, 5
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
		if perRun > rows/10 {
			t.Errorf("settled %v: %.0f allocations for %d rows", settled, perRun, rows)
		}
		if written := st.Requests.Written + st.Settled.Written; written != uint64(n) && !settled || settled && st.Settled.Written != uint64(n) {
			t.Errorf("not all were written: %+v", st)
		}
	}
}
