package energy

import (
	"math/rand/v2"
	"testing"
)

func TestCPUConservation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var p CPUSplit
	var in int64
	var want float64
	for range 10_000 {
		uj := r.Int64N(2_000_000)
		all := r.Float64() * 4
		server := all * r.Float64()
		p.Add(uj, server, all)
		in += uj
		if all > 0 {
			want += float64(uj) * server / all
		}
	}
	if p.Server+p.Host != in {
		t.Errorf("%d uJ went in, %d came out", in, p.Server+p.Host)
	}
	if d := float64(p.Server) - want; d > 2 || d < -2 {
		t.Errorf("the server has %d uJ, want %.0f", p.Server, want)
	}
	p.Add(1000, 0, 0)
	if p.Server+p.Host != in+1000 {
		t.Error("joules without CPU time got lost")
	}
}
