package energy

// align learns by cross-correlation how far the samples' clock runs ahead of the counter's ticks: for
// each of a row of offsets it keeps the squared difference between the counter's step and the samples'
// integral over the same, shifted span, and takes the offset with the least.
type align struct {
	sse   [alignSteps]float64
	ticks float64
}

const (
	alignSteps = 9
	alignStep  = 10e6 // ns; offsets from -40 ms to +40 ms
	alignMin   = 50   // ticks before an offset is believed
	alignFade  = 0.9995
)

// learn shows the ticks 0..i, all of which the samples cover.
func (a *align) learn(s *source, i int) {
	if s.cfg.FixedLag || s.cfg.Frozen {
		return
	}
	prev := s.anchor
	for k := range i + 1 {
		t := *s.ticks.at(k)
		if d := t.at - prev.at; d < 2*tickGuess {
			for o := range alignSteps {
				off := int64((float64(o) - alignSteps/2) * alignStep)
				drawn, _ := s.integral(prev.at+off, t.at+off)
				e := drawn*1e-12 - float64(t.uj-prev.uj)*1e-6
				a.sse[o] = alignFade*a.sse[o] + e*e
			}
			a.ticks = alignFade*a.ticks + 1
		}
		prev = t
	}
}

// offset is what to add to a tick's time to get the samples' time, in ns.
func (a *align) offset() float64 {
	if a.ticks < alignMin {
		return 0
	}
	best := 0
	for o := range a.sse {
		if a.sse[o] < a.sse[best] {
			best = o
		}
	}
	x := float64(best) - alignSteps/2
	if best > 0 && best < alignSteps-1 {
		l, m, r := a.sse[best-1], a.sse[best], a.sse[best+1]
		if c := l - 2*m + r; c > 0 {
			x += 0.5 * (l - r) / c
		}
	}
	return x * alignStep
}
