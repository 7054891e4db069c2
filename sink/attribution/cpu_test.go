package attribution

import (
	"testing"

	"wattline/gpu"
)

// TestCPUShare: the upstream gets the joules of its part of the CPU time, and before anything listens
// none.
func TestCPUShare(t *testing.T) {
	var pids processes
	theirs, all := 0.0, 100.0
	c := cpuShare{processes: &pids, cpuTime: func(got []int) (float64, float64, bool) {
		if len(got) == 0 {
			return 0, all, true
		}
		return theirs, all, true
	}}
	b := &gpu.Batch{Info: gpu.Info{Source: "rapl"}, At: 1}
	divide := func(at, uj int64) int64 {
		return c.divide(b, gpu.Tick{Before: at, After: at, Uj: uj, OK: true}).Ticks[0].UJ
	}
	if got := divide(1, 5000); got != 0 {
		t.Errorf("the first reading gives %d uJ; there is nothing to compare it with", got)
	}
	all = 104
	if got := divide(2, 9000); got != 0 || c.split.Host != 4000 {
		t.Errorf("nothing listens, so the machine has all: %+v", c.split)
	}
	pids = processes{7}
	theirs, all = 3, 108 // 3 of 4 CPU seconds
	if got := divide(3, 13_000); got != 3000 || c.split.Host != 5000 {
		t.Errorf("%d uJ: %+v", got, c.split)
	}
	theirs, all = 4, 109
	if got := divide(4, 12_000); got != 3000 {
		t.Errorf("a counter that goes back gave joules: %d", got)
	}
	theirs, all = 5, 110
	if got := divide(5, 12_500); got != 3500 || c.split.Server+c.split.Host != 8500 {
		t.Errorf("after that: %+v", c.split)
	}
}

// TestRemoteUpstreamNoCPUEnergy: an upstream with unknown processes has no CPU energy either.
func TestRemoteUpstreamNoCPUEnergy(t *testing.T) {
	cpu := func([]int) (float64, float64, bool) { return 0, 0, true }
	p := &Pipeline{cfg: Config{CPUTime: cpu}, devices: []*sampledDevice{{target: gpu.Target{Info: gpu.Info{Kind: gpu.KindCPU, UUID: "RAPL"}}}}}
	if r := p.newRoute(0, &Route{Name: "a"}); r.share != nil {
		t.Error("an upstream without known processes has a part of the processors")
	}
	if r := p.newRoute(1, &Route{Name: "b", Local: true, Processes: processes{7}}); r.share == nil || r.share.ledger != 2 {
		t.Errorf("the part of an upstream on this machine: %+v", r.share)
	}
}
