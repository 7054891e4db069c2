package meter

import "testing"

// TestEnergyGrade: grades by the standard error of whichever joules the row has; none without an error.
func TestEnergyGrade(t *testing.T) {
	s := Some
	for _, c := range []struct {
		grade string
		slot  int64
		r     Record
	}{
		{"A", 100, Record{GPUUj: s(100), GPUSigmaUj: s(3)}},
		{"B", 60, Record{GPUUj: s(100), GPUSigmaUj: s(4), GPUIdleWaitingUj: s(40)}},
		{"B", 100, Record{GPUUj: s(100), GPUSigmaUj: s(10)}},
		{"C", 100, Record{GPUUj: s(100), GPUSigmaUj: s(11)}},
		{"C", 0, Record{GPUEstimateUj: s(100), GPUSigmaUj: s(90)}},
		{"A", 50, Record{CPUUj: s(50), CPUSigmaUj: s(1), EnergySource: "rapl/counter"}},
		{"", 50, Record{CPUUj: s(50), EnergySource: "rapl/counter"}},
		{"", 0, Record{}},
	} {
		if got := c.r.EnergyGrade(); got != c.grade || c.r.SlotUj().V != c.slot {
			t.Errorf("%+v: grade %q of %d uJ, want %q of %d", c.r, got, c.r.SlotUj().V, c.grade, c.slot)
		}
	}
}
