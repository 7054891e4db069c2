package energy

import "math"

// lagLearner learns by how much the counter trails the load, from requests that decode alone and are followed by
// rest. The energy from a moment before such an end until the draw has settled, divided by the power before
// it, is how long the work seems to last. The lag is the excess over the true time.
type lagLearner struct {
	recent fifo[energySlice] // of the last lagMemory
	alone  int64             // since when one request has decoded alone, 0 if none does
	start  int64             // of the request that ended
	end    int64             // the end to be measured, 0 none
	n      float64           // ends that taught
}

const (
	lagSteady  = 600e6  // ns that a request must decode alone
	lagBefore  = 150e6  // the measurement begins so long before the end
	lagPower   = 350e6  // the power before it is the mean of so long
	lagAfter   = 250e6  // and it ends so long after it
	lagCalm    = 100e6  // then so long must be calm:
	lagCalmRel = 0.15   // at most so much of the power before is still drawn, else another process works
	lagOutlier = 60e6   // an end that says more than this tells of something else
	lagMost    = 150e6  // the longest lag believed
	lagMemory  = 1500e6 // longer than the spans above and two ticks
)

// add keeps a piece for the measurement.
func (g *lagLearner) add(p energySlice) {
	g.recent.push(p)
	for g.recent.len() > 0 && g.recent.at(0).t1 < p.t1-lagMemory {
		g.recent.pop()
	}
}

// window follows which requests work, and reports by how much the lag is larger than assumed once an end can be measured.
func (g *lagLearner) window(w *window, idleMW float64) (more float64, ok bool) {
	switch {
	case w.prefills == 0 && w.decoders == 1:
		if g.alone == 0 {
			g.alone = w.t0
		}
		g.end = 0
	case w.prefills+w.decoders > 0:
		g.alone, g.end = 0, 0
	case g.alone > 0:
		if w.t0-g.alone >= lagSteady {
			g.start, g.end = g.alone, w.t0
		}
		g.alone = 0
	}
	if g.end == 0 || w.t1 < g.end+lagAfter+lagCalm {
		return 0, false
	}
	more, ok = g.measure(idleMW)
	g.end = 0
	return more, ok
}

// measure looks at the energy around the end.
func (g *lagLearner) measure(idleMW float64) (more float64, ok bool) {
	var from int64
	for k := range g.recent.len() {
		if p := g.recent.at(k); p.t0 <= g.end-lagBefore {
			from = p.t0
		}
	}
	var after, before, span, later, calm float64
	for k := range g.recent.len() {
		p := g.recent.at(k)
		active := float64(p.uj) - idleMW*float64(p.t1-p.t0)*1e-6
		switch {
		case p.gap:
			return 0, false
		case p.t0 >= from && p.t0 < g.end+lagAfter:
			after += active
		case p.t0 >= g.end+lagAfter:
			later += active
			calm += float64(p.t1 - p.t0)
		case p.t1 <= from && p.t0 >= max(from-lagPower, g.start+100e6):
			before += active
			span += float64(p.t1 - p.t0)
		}
	}
	if span < lagPower/2 || before <= 0 || calm == 0 || later/calm > lagCalmRel*before/span {
		return 0, false
	}
	more = after/(before/span) - float64(g.end-from)
	return more, math.Abs(more) <= lagOutlier
}

// learnLag moves the lag by a share of what the end of a request showed.
func (l *Ledger) learnLag(w *window) {
	if !l.src.lagLearnt {
		return
	}
	g := &l.allocator.lag
	if more, ok := g.window(w, l.allocator.idle.mw()); ok && l.allocator.idle.learnt() {
		const prior = 4 // the usual value weighs as much as so many ends
		g.n++
		l.src.lag = min(max(l.src.lag+more/min(g.n+prior, 20), 0), lagMost)
	}
}
