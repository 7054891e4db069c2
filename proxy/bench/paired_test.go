package bench

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestPairedOnTwoLevels: a server whose speed jumps by 30 % from run to run, as an H100's single stream does, and a
// proxy that costs a known part of it. A hundred pairs tell half a percent; a mean of runs could not.
func TestPairedOnTwoLevels(t *testing.T) {
	covered, sharp := 0, 0
	const tries = 60
	for seed := range uint64(tries) {
		r := rand.New(rand.NewPCG(seed, 9))
		cost := r.Float64() // percent
		level := func() float64 {
			v := 150.0
			if r.IntN(3) == 0 {
				v = 105
			}
			return v * (1 + 0.004*r.NormFloat64())
		}
		var pairs []float64
		for range 120 {
			direct, proxied := level(), level()*(1-cost/100)
			pairs = append(pairs, 100*(proxied/direct-1))
		}
		v := paired(pairs)
		if float64(v.Lo) <= -cost && -cost <= float64(v.Hi) {
			covered++
		}
		if v.Hi-v.Lo < 2*apart {
			sharp++
		}
	}
	t.Logf("%d of %d intervals hold the truth, %d are narrower than ± 0.5 %%", covered, tries, sharp)
	if covered < tries*9/10 || sharp < tries*9/10 {
		t.Errorf("%d of %d intervals hold the truth, %d are narrower than ± 0.5 %%", covered, tries, sharp)
	}
}

func TestVerdicts(t *testing.T) {
	for want, v := range map[string]Interval{
		"too few":        paired([]float64{1, 2}),
		"less than 0.5":  {Median: -0.1, Lo: -0.3, Hi: 0.1, Pairs: 50},
		"slower by more": {Median: -1, Lo: -1.4, Hi: -0.6, Pairs: 50},
		"faster by more": {Median: 1, Lo: 0.6, Hi: 1.4, Pairs: 50},
		"cannot be told": {Median: -0.2, Lo: -1.2, Hi: 0.8, Pairs: 50},
	} {
		if got := v.Verdict(); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if v := paired([]float64{1, math.NaN(), 2, 3}); v.Pairs != 3 || v.Median != 2 || v.Lo > v.Median || v.Hi < v.Median {
		t.Errorf("%+v", v)
	}
}
