package serverconfig

import (
	"testing"

	"wattline/meter"
)

// TestStampAllocatesNothing: naming the configuration in a row allocates nothing, also when the answer is old; then the
// upstream is asked again.
func TestStampAllocatesNothing(t *testing.T) {
	tr := &Tracker{wake: make(chan struct{}, 1)}
	var rec meter.Record
	for _, a := range []*answer{{id: "x"}, {id: "x", old: true}} {
		if len(tr.wake) != 0 {
			t.Error("the upstream is asked again before the answer is old")
		}
		tr.current.Store(a)
		if n := testing.AllocsPerRun(100, func() { tr.Stamp(&rec) }); n != 0 || rec.ConfigID != "x" {
			t.Errorf("%v allocations, config_id %q", n, rec.ConfigID)
		}
	}
	if len(tr.wake) != 1 {
		t.Error("an old answer is not asked for again")
	}
}
