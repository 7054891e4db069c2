package energy

import (
	"math"
	"testing"
)

// TestIdleDrawChanges: a baseline from another day, or of a model that is no longer loaded, is replaced by what quiet
// windows show, sooner if that is less. A short or unsteady deviation changes nothing.
func TestIdleDrawChanges(t *testing.T) {
	for name, c := range map[string]struct {
		windows int
		mw      func(k int) float64
		want    float64
	}{
		"lower":           {30, func(int) float64 { return 75e3 }, 75e3},
		"lower, too few":  {15, func(int) float64 { return 75e3 }, 120e3},
		"higher":          {260, func(int) float64 { return 150e3 }, 150e3},
		"higher, too few": {200, func(int) float64 { return 150e3 }, 120e3},
		"unsteady":        {400, func(k int) float64 { return 150e3 + 20e3*float64(k%3) }, 120e3},
	} {
		i := newBaselineLearner(Baseline{BaseMW: 120e3, RefC: 40, SigmaMW: 500, Windows: 1000}, false)
		i.temperature(40)
		for k := range c.windows {
			i.window(c.mw(k), 0.25, false)
			i.quiet(c.mw(k), false)
		}
		if got := i.mw(); got < 0.98*c.want || got > 1.02*c.want {
			t.Errorf("%s: the idle draw is taken as %.0f W, want %.0f", name, got/1e3, c.want/1e3)
		}
	}
}

// A baseline learnt from another process's work, or before a model was loaded, is replaced.
func TestBaselineRelearnt(t *testing.T) {
	rest := func(i *baselineLearner, n int, mw float64, soon bool) {
		for range n {
			i.window(mw, 0.25, false)
			i.quiet(mw, soon)
		}
	}
	work := func(i *baselineLearner) { i.window(400_000, 1, true) }
	for name, c := range map[string]struct {
		play func(i *baselineLearner)
		want float64
	}{
		"somebody else worked at the start": {func(i *baselineLearner) { rest(i, 9, 215_000, false); rest(i, 4, 120_000, false) }, 120_000},
		"a model was loaded":                {func(i *baselineLearner) { rest(i, 99, 78_000, false); work(i); rest(i, 12, 120_000, true) }, 120_000},
		"a model was unloaded":              {func(i *baselineLearner) { work(i); rest(i, 99, 120_000, true); work(i); rest(i, 4, 78_000, true) }, 78_000},
		"somebody else works for a moment": {func(i *baselineLearner) {
			work(i)
			rest(i, 9, 120_000, true)
			rest(i, 8, 300_000, true)
			rest(i, 9, 120_000, true)
		}, 120_000},
		"somebody else works later": {func(i *baselineLearner) { work(i); rest(i, 9, 120_000, true); rest(i, 99, 300_000, false) }, 120_000},
		"the card goes to sleep":    {func(i *baselineLearner) { work(i); rest(i, 9, 120_000, true); rest(i, 99, 30_000, false) }, 120_000},
		"it slept before the first request": {func(i *baselineLearner) {
			rest(i, 99, 30_000, false)
			work(i)
			rest(i, 12, 120_000, true)
			rest(i, 99, 30_000, false)
		}, 120_000},
	} {
		t.Run(name, func(t *testing.T) {
			i := newBaselineLearner(Baseline{}, false)
			c.play(&i)
			if got := i.mw(); !i.learnt() || math.Abs(got-c.want) > 0.02*c.want {
				t.Errorf("%.1f W, want %.1f", got/1e3, c.want/1e3)
			}
		})
	}
}
