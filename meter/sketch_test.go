package meter_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"wattline/meter"
)

// TestSketchError holds the sketch to its stated error on gaps of several shapes.
func TestSketchError(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	shapes := map[string]func() int64{
		"steady":     func() int64 { return 20e6 + rng.Int64N(1e6) },
		"wide":       func() int64 { return int64(math.Exp(rng.Float64()*16) * 1e3) },
		"two speeds": func() int64 { return []int64{300e3, 90e6}[rng.IntN(2)] + rng.Int64N(1e4) },
		"bursts":     func() int64 { return []int64{0, 0, 0, 45e6}[rng.IntN(4)] },
	}
	for name, draw := range shapes {
		s := meter.NewSketch()
		var all []int64
		for range 5000 {
			v := draw()
			all = append(all, v)
			s.Add(v)
		}
		slices.Sort(all)
		if s.Count() != 5000 || s.Max() != all[4999] {
			t.Errorf("%s: %d gaps, longest %d, want 5000, %d", name, s.Count(), s.Max(), all[4999])
		}
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			exact := float64(all[int(q*4999)])
			if got := float64(s.Quantile(q).V); math.Abs(got-exact) > meter.GapAccuracy*exact+1 {
				t.Errorf("%s: quantile %v is %v, exactly %v: off by more than %v", name, q, got, exact, meter.GapAccuracy)
			}
		}
		above := int64(0)
		for _, v := range all {
			if v > 50e6 {
				above++
			}
		}
		if got := s.Above(50e6); math.Abs(float64(got-above)) > 50 { // those within 1 % of the limit
			t.Errorf("%s: %d above 50 ms, want %d", name, got, above)
		}
	}
}

func TestSketchEdges(t *testing.T) {
	s := meter.NewSketch()
	if s.Quantile(0.5).Valid || s.Count() != 0 || s.Max() != 0 {
		t.Error("an empty sketch has values")
	}
	for _, v := range []int64{-5, 0, 1, math.MaxInt64} {
		s.Add(v)
	}
	if s.Count() != 4 || s.Max() != math.MaxInt64 || s.Quantile(0) != meter.Some(0) {
		t.Errorf("%d values, longest %d, shortest %v", s.Count(), s.Max(), s.Quantile(0))
	}
	s.Reset()
	s.Add(1e6)
	if got := s.Quantile(1).V; got < 990_000 || got > 1_000_000 {
		t.Errorf("after Reset: %d", got)
	}
}

func TestSketchDoesNotAllocate(t *testing.T) {
	s, v := meter.NewSketch(), int64(1)
	if n := testing.AllocsPerRun(2000, func() {
		v = v*7 + 3
		s.Add(v & (1<<43 - 1))
		if v%5 == 0 {
			s.Reset()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
