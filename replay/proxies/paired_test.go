package proxies

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPairedOnTwoLevels: a server with a speed that jumps by 30 % from run to run, as an H100's single stream does, and a
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
		"if at all":      {Median: 0.4, Lo: -0.3, Hi: 1.1, Pairs: 50},
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

// TestH100Series: what `wattline bench` measured on the card of results/2026-11-28-proxies.md, two series at each concurrency, and the series
// together. Through wattline with everything on, tokens came slower by less than half a percent, if at all.
func TestH100Series(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "h100-2026-11-28.json"))
	if err != nil {
		t.Fatal(err)
	}
	var series map[int][]*Pair
	if err := json.Unmarshal(text, &series); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 4, 16} {
		var all Pair
		for i, p := range series[n] {
			if p.Concurrency != n || len(p.Direct) != len(p.Proxied) {
				t.Fatalf("series %d at %d is not whole", i, n)
			}
			was := p.Rate // of unrounded numbers
			p.compare()
			if p.Rate.Pairs != was.Pairs || math.Abs(float64(p.Rate.Median-was.Median)) > 0.02 || math.Abs(float64(p.Rate.Lo-was.Lo)) > 0.02 || math.Abs(float64(p.Rate.Hi-was.Hi)) > 0.02 {
				t.Errorf("%d at a time: %s, printed there: %s", n, p.Rate, was)
			}
			t.Logf("%d at a time, series %d, %d pairs: %s %%", n, i+1, p.Rate.Pairs, p.Rate)
			for _, w := range append(p.Direct, p.Proxied...) {
				if w.Failures > 0 || w.Tokens != 64*n {
					t.Errorf("%d at a time: %d failures, %d tokens", n, w.Failures, w.Tokens)
				}
			}
			all.Direct, all.Proxied = append(all.Direct, p.Direct...), append(all.Proxied, p.Proxied...)
		}
		all.compare()
		t.Logf("%d at a time, both, %d pairs: %s %%: %s", n, all.Rate.Pairs, all.Rate, all.Rate.Verdict())
		if all.Rate.Lo <= -apart {
			t.Errorf("%d at a time: it is not shown that tokens come slower by less than %v %%: %s", n, apart, all.Rate)
		}
	}
}
