package energy

import "testing"

// TestTheIdleDrawMoves: a baseline of another day, or of a model that is no longer loaded, is given up for
// what quiet windows show, sooner where that is less; a short or unsteady stray is not believed.
func TestTheIdleDrawMoves(t *testing.T) {
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
		i := newIdle(Baseline{BaseMW: 120e3, RefC: 40, SigmaMW: 500, Windows: 1000}, false)
		i.temperature(40)
		for k := range c.windows {
			i.window(c.mw(k), 0.25, false)
			i.quiet(c.mw(k))
		}
		if got := i.mw(); got < 0.98*c.want || got > 1.02*c.want {
			t.Errorf("%s: the idle draw is taken as %.0f W, want %.0f", name, got/1e3, c.want/1e3)
		}
	}
}
