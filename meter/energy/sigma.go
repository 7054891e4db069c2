package energy

import "math"

// standardErrors returns the standard errors of a request's active and total energy. Four things add up in
// squares:
//
//   - edges: the time at which a prefill begins or ends during decoding is uncertain, and the power before
//     and after differs;
//   - sampling: the sensor's accuracy, and what it missed if it measures only a part of the time;
//   - the idle draw's error, over the time for which it was charged;
//   - the model's relative error, times the contested joules: those that another request could have caused.
//     When several decode, that is everything; in a prefill, which is charged with the remainder, it is what
//     the others' work could hide. The variance of the coefficients is added, which is large while the
//     traffic cannot tell them apart.
func (l *Ledger) standardErrors(r *request, res *Result) (active, total int64) {
	idle := &l.allocator.idle
	relError := max(r.group.model.decode.relError(), minRelError)
	if r.shared && r.slot < 0 && r.group.sharing == splitCaches {
		relError = max(relError, 0.05)
	}
	contested := r.contested + float64(max(0, r.decodeUJ-r.aloneUJ))
	var quiet float64
	if base := idle.mw(); base > 0 {
		quiet = float64(res.IdleUJ) * max(idle.SigmaMW, 0.003*base) / base
	}
	accuracy := l.src.accuracy()
	square := func(x float64) float64 { return x * x }
	model := r.edgeVar + r.modelVar + square(relError*contested)
	if !r.shared {
		model += r.sampleVar
	}
	model += square(doubtRel * idle.doubt() * float64(res.IdleUJ))
	if r.contended {
		model += square(contendedRel * float64(res.ActiveUJ))
	}
	model += square(doubtRel*r.doubtUJ) + square(takenRel*r.takenUJ) + l.unseenVariance(r)
	model += square(r.unseenUJ) + square(shapelessRel*min(r.shapelessUJ, float64(res.TotalUJ)))
	active = int64(math.Ceil(math.Sqrt(model + square(quiet) + square(accuracy*float64(res.ActiveUJ)))))
	if !r.shared {
		quiet = 0 // a lone request is charged with both, so the sum does not depend on their division
	}
	total = int64(math.Ceil(math.Sqrt(model + square(quiet) + square(accuracy*float64(res.TotalUJ)))))
	return active, total
}

// shapelessRel is the standard deviation of a request's joules of which only the device's sum over seconds was measured,
// relative to them.
const shapelessRel = 0.25

const (
	doubtRel = 0.65 // standard deviation of what hangs on whether somebody decoded, relative to it
	takenRel = 0.3  // the same of joules that nobody else explains

	contendedRel = 0.1 // of what is charged beside another process, which is the modelled cost
)

// unseenVariance is the variance of what a request may have cost that was not seen at work: its client left before it had
// a slot, or nothing is known of its phases.
func (l *Ledger) unseenVariance(r *request) float64 {
	if !r.counts.Cancelled || r.counts.Refused || r.start > 0 && !r.assumed {
		return 0
	}
	m := &r.group.model
	tokens := min(r.guess, unseenTokens)
	uj := dot(promptTerms(tokens, 0), m.prefill.coef)
	rel := unseenRel
	if r.assumed {
		uj += float64(r.counts.MaxTokens) * (m.decode.coef[coefStep] + m.decode.coef[coefDecoded])
		rel = doubtRel
	}
	e := max(rel*uj, doubtRel*(uj-r.takenUJ))
	return e * e
}

const (
	unseenTokens = 4096 // a server notices after a batch, at most so long, that nobody waits for the prompt
	unseenRel    = 0.25
)

// duringPrefillRel is the relative standard deviation of a decode step's cost while a request prefills, around its
// cost without: it may be cheaper or dearer, and cannot be measured apart from the prefill.
const duringPrefillRel = 0.25

// accuracy is the relative error of the source's scale over a request. Power samples without a counter have
// nothing to be scaled to.
func (s *source) accuracy() float64 {
	if s.cfg.NoCounter {
		return 0.012
	}
	return 0.004
}

// edgeError is the standard error, in ns, of the time of a change of power.
func (s *source) edgeError() float64 {
	base := 4e6
	switch s.cfg.Shape {
	case ShapeCounter:
		base = 10e6
	case ShapeAverage:
		base = 10e6
	}
	return math.Hypot(base, s.unseenTime())
}

// unseenTime is the part of that error, in ns, that comes from a sensor that measures only a part of each period.
func (s *source) unseenTime() float64 {
	const period = 100e6
	return (1 - s.cfg.Duty) * period / math.Sqrt(12)
}

// edgeVariance adds the variance of the edges of a window in which some prefill and others decode. prompt is
// the prefill energy expected in it and sd its standard deviation, which bounds what an edge can move.
func (l *Ledger) edgeVariance(w *window, prompt, sd float64) (edge2 float64) {
	alloc := &l.allocator
	p := &alloc.pools[alloc.pool]
	edges := l.poolEdges(w)
	if edges == 0 {
		return 0
	}
	e := l.src.edgeError() * prompt / float64(w.t1-w.t0)
	edge2 = edges * e * e
	v := edge2
	if sd > 0 {
		v = edge2 * sd * sd / (edge2 + sd*sd)
	}
	p.edgeVar += v
	alloc.sums.edgeVar += v / float64(alloc.decoding*alloc.decoding)
	return edge2
}

// addUnseenEdges adds the variance of the edges of prefills while none decodes: no energy can be charged to
// another request, but a sensor that measures only a part of the time may have missed it.
func (l *Ledger) addUnseenEdges(w *window) {
	e := l.src.unseenTime() * l.allocator.prefillMW() * 1e-6
	l.allocator.pools[l.allocator.pool].edgeVar += l.poolEdges(w) * e * e
}

// poolEdges counts which ends of the window are ends of the open pool's time.
func (l *Ledger) poolEdges(w *window) (n float64) {
	if l.allocator.pools[l.allocator.pool].opened == w.t0 {
		n++
	}
	if s := &l.segmenter.prefillSpans[w.prefillSpan%maxPrefillSpans]; s.t1 == w.t1 {
		n++
	}
	return n
}

// addStartEdge adds the variance of the edge at which a request begins. Right after another request's end it is
// both requests' edge.
func (l *Ledger) addStartEdge(r *request, now int64) {
	alloc := &l.allocator
	const near = 150e6 // a tick of the slowest sources, and half another
	if now-alloc.lastWork >= near {
		return
	}
	e := l.src.edgeError() * alloc.prefillMW() * 1e-6
	r.sampleVar += e * e
	if n := alloc.recentlyEnded.len(); n > 0 {
		l.req(*alloc.recentlyEnded.at(n - 1)).sampleVar += e * e
	} else if n := len(alloc.tailOwners); n > 0 {
		l.req(alloc.tailOwners[n-1]).sampleVar += e * e / float64(n*n)
	}
}
