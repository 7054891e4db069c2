package energy

import (
	"math/rand/v2"
	"testing"
)

// Two devices with one upstream on both and one on the second only.
func TestFleetSumsDevices(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tl := randomTimeline(r, 20)
	f := NewFleet(New(Config{}), New(Config{Shape: ShapeCounter}))
	both := f.AddUpstream([]int{0, 1}, nil, false)
	second := f.AddUpstream([]int{1}, []Coefficients{{}}, true)
	if both != 0 || second != 1 {
		t.Fatalf("upstreams %d and %d", both, second)
	}
	for i, e := range tl.events {
		if e.Request > 0 {
			f.Event(e)
		}
		if i%3 == 0 {
			f.Advance(e.At)
		}
	}
	for d := range 2 {
		for _, c := range tl.counter {
			f.Device(d).Counter(c[0], c[1], c[2]*int64(d+1))
		}
	}
	for _, p := range tl.power {
		f.Device(0).Power(p[0], p[1])
	}
	f.Close(tl.end)
	var sums [2]int64
	n := 0
	for j, ok := f.Next(); ok; j, ok = f.Next() {
		n++
		var total int64
		for k, d := range j.Devices {
			sums[d] += j.Parts[k].TotalUJ
			total += j.Parts[k].TotalUJ
			if j.Parts[k].Request != j.Request {
				t.Errorf("part %d of request %d belongs to %d", k, j.Request, j.Parts[k].Request)
			}
		}
		if s := j.Sum(); s.TotalUJ != total || s.Request != j.Request {
			t.Errorf("request %d sums to %d, want %d", j.Request, s.TotalUJ, total)
		}
		f.Done(j)
	}
	if want := len(tl.requests()); n != want {
		t.Errorf("%d results of %d requests", n, want)
	}
	for d := range sums {
		b := f.Device(d).Balance()
		checkBalance(t, b)
		if sums[d] != b.Phase || sums[d] == 0 {
			t.Errorf("device %d: parts sum to %d, its account says %d", d, sums[d], b.Phase)
		}
	}
	if got := len(f.Coefficients(both)); got != 2 {
		t.Errorf("coefficients of %d devices, want 2", got)
	}
}

func TestProcessorLosesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var p Processor
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
