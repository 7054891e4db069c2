package energy

import "math"

// sigma is the standard error of a request's active and total energy. Four things add up in squares:
//
//   - edges: where prefill begins or ends beside decoding, the moment of the change is known only so
//     well, and the draw on either side of it differs;
//   - sampling: the sensor's own accuracy, and what it did not look at if it looks only part of the time;
//   - the idle draw's error, over the time for which it was charged;
//   - rho, the model's relative error, on contested joules: those that somebody else could have caused.
//     Decoding together, that is everything; in prefill, it is what the others' work could hide, for the
//     prefill is charged with the remainder. To it comes the variance of the coefficients themselves,
//     which is large while the traffic cannot tell them apart.
func (l *Ledger) sigma(r *request, res *Result) (active, total int64) {
	idle := &l.back.idle
	rho := max(r.group.model.decode.rho(), floorRho)
	if r.shared && r.slot < 0 && r.group.sharing == splitCaches {
		rho = max(rho, 0.05)
	}
	contested := r.contested + float64(max(0, r.decodeUJ-r.aloneUJ))
	var quiet float64
	if base := idle.mw(); base > 0 {
		quiet = float64(res.IdleUJ) * max(idle.SigmaMW, 0.003*base) / base
	}
	accuracy := l.src.accuracy()
	square := func(x float64) float64 { return x * x }
	model := r.edge2 + r.model2 + square(rho*contested)
	if !r.shared {
		model += r.sample2
	}
	active = int64(math.Ceil(math.Sqrt(model + square(quiet) + square(accuracy*float64(res.ActiveUJ)))))
	if !r.shared {
		quiet = 0 // alone, what is not idle is active: the sum does not depend on where they part
	}
	total = int64(math.Ceil(math.Sqrt(model + square(quiet) + square(accuracy*float64(res.TotalUJ)))))
	return active, total
}

// besideRel is the relative standard deviation of what a decode step costs beside a prefill: it may be cheaper or
// dearer there than alone, and nothing measures it apart from the prefill.
const besideRel = 0.15

// accuracy is the relative error of the source's scale over a request. A counter is what we call the
// truth; a power reading has nothing to be scaled to.
func (s *source) accuracy() float64 {
	if s.cfg.NoCounter {
		return 0.012
	}
	return 0.004
}

// edge is how far, in ns, the time of a change of power may be off.
func (s *source) edge() float64 {
	base := 4e6
	switch s.cfg.Shape {
	case ShapeCounter:
		base = 10e6
	case ShapeAverage:
		base = 10e6
	}
	return math.Hypot(base, s.unseen())
}

// unseen is the time, in ns, by which a change may be misjudged because the sensor sleeps for a part of
// each of its periods.
func (s *source) unseen() float64 {
	const period = 100e6
	return (1 - s.cfg.Duty) * period / math.Sqrt(12)
}

// blur accounts for the edges of a window in which somebody prefills beside decoders. prompt is the
// prefill energy expected in it, sd how well that is known: what is known well cannot be blurred.
func (l *Ledger) blur(w *window, prompt, sd float64) (edge2 float64) {
	b := &l.back
	p := &b.pools[b.pool]
	edges := l.poolEdges(w)
	if edges == 0 {
		return 0
	}
	e := l.src.edge() * prompt / float64(w.t1-w.t0)
	edge2 = edges * e * e
	v := edge2
	if sd > 0 {
		v = edge2 * sd * sd / (edge2 + sd*sd)
	}
	p.edge2 += v
	b.sums.edge2 += v / float64(b.decoding*b.decoding)
	return edge2
}

// blurAlone accounts for the edges of prefills that nobody decodes beside: there is nobody to confuse them
// with, but a sensor that sleeps may still have missed them.
func (l *Ledger) blurAlone(w *window) {
	e := l.src.unseen() * l.back.prefillMW() * 1e-6
	l.back.pools[l.back.pool].edge2 += l.poolEdges(w) * e * e
}

// poolEdges counts the ends of the open pool's time that fall on the window's.
func (l *Ledger) poolEdges(w *window) (n float64) {
	if l.back.pools[l.back.pool].opened == w.t0 {
		n++
	}
	if s := &l.front.spans[w.prompts%maxSpans]; s.t1 == w.t1 {
		n++
	}
	return n
}

// succeed accounts for the edge at which a request begins alone: a sensor that sleeps may have missed it,
// and right behind another's end, which is the other's edge as much, it may be on the wrong side.
func (l *Ledger) succeed(r *request, now int64) {
	b := &l.back
	l.change(r, b.prefillMW())
	const near = 150e6 // a tick of the slowest sources, and half another
	if now-b.worked >= near {
		return
	}
	e := l.src.edge() * b.prefillMW() * 1e-6
	r.sample2 += e * e
	if n := b.enders.len(); n > 0 {
		l.req(*b.enders.at(n - 1)).sample2 += e * e
	} else if n := len(b.owners); n > 0 {
		l.req(b.owners[n-1]).sample2 += e * e / float64(n*n)
	}
}

// change accounts for a change of power at an edge of a request. It counts if the request was alone all
// the time; beside others the edges are the pools'.
func (l *Ledger) change(r *request, mw float64) {
	e := l.src.unseen() * mw * 1e-6
	r.sample2 += e * e
}
