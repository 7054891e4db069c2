package energy_test

import (
	"fmt"
	"math"
	"testing"

	"wattline/meter/energy"
)

// TestHoles: no power is read for 17 and 60 s, with a request inside, before, and across either end. Each request is within
// its error bar, or has no value; the ones before and after are as always.
func TestHoles(t *testing.T) {
	polled := profile{"polled power alone", energy.Config{Shape: energy.ShapeSamples, NoCounter: true}, (*sensors).polled}
	for _, p := range append(profiles(), polled) {
		for _, seconds := range []float64{17, 60} {
			for _, where := range []string{"inside", "before", "at its start", "at its end"} {
				t.Run(fmt.Sprintf("%s/%g s/%s", p.name, seconds, where), func(t *testing.T) { hole(t, p, seconds, where) })
			}
		}
	}
}

// polled is power read every 100 ms, over 25 ms.
func (n *sensors) polled() {
	for t := 0.1; t < n.seconds(); t += 0.1 {
		ns, mw := int64(t*1e9), int64((n.joules(t)-n.joules(t-0.1))/0.1*1000)
		n.add(t, func(l *energy.Ledger) { l.Power(ns, mw) })
	}
}

func hole(t *testing.T, p profile, seconds float64, where string) {
	s := newScene(7, false)
	s.idle(64)
	j := s.job(0, 2000, 300)
	s.play(j)
	s.idle(64)
	after := s.job(0, 2000, 300)
	s.play(after)
	s.idle(6)
	h0 := map[string]float64{
		"inside": j.start - 5, "before": j.end + 1, "at its start": (j.start+j.end)/2 - seconds, "at its end": (j.start + j.end) / 2,
	}[where]
	h1 := h0 + seconds
	feed := p.feed
	p.feed = func(n *sensors) {
		feed(n)
		kept := n.facts[:0]
		for _, f := range n.facts {
			if at := float64(f.at) / 1e9; at <= h0 || at >= h1 {
				kept = append(kept, f)
			}
		}
		n.facts = kept
	}
	got, _ := play(4, s.server, p)
	x := got[j.key]
	if x.Quality != energy.Unavailable {
		off, sigma := math.Abs(float64(x.TotalUJ)/1e6-j.trueJ()), float64(x.SigmaUJ)/1e6
		if off > 1.96*sigma+0.02*j.trueJ() {
			t.Errorf("%.1f ± %.1f J %v, truth %.1f", float64(x.TotalUJ)/1e6, sigma, x.Quality, j.trueJ())
		}
	} else if !p.cfg.NoCounter || where != "inside" {
		t.Errorf("no value, though some was measured")
	}
	if where == "before" {
		near(t, "the one before", x.TotalUJ, j.trueJ(), 0.05)
	}
	if q := got[after.key].Quality; q != energy.Measured {
		t.Errorf("the one after is %v", q)
	}
	near(t, "the one after", got[after.key].TotalUJ, after.trueJ(), 0.05)
}
