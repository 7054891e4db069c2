package energy

import "math"

// lag learns how far the shape trails the load, from the ends of work that stand alone: one request
// decoding steadily for a while, then quiet. What the shape shows from a moment before the end until the
// draw has settled, divided by the power before it, is how long the work seemed to go on; what that
// exceeds the true time by is lag. It is the first moment of the cross-correlation between load and
// draw at one falling edge, and needs no search.
type lag struct {
	recent [lagPieces]piece
	n      int
	solo   int64 // since when one request has decoded alone, 0 if not so
	end    int64 // end to be looked at, 0 none
	since  int64
}

const (
	lagPieces = 256
	lagSteady = 600 * ms64 // decoding alone at least this long
	lagBefore = 150 * ms64 // where the look begins before the end
	lagPower  = 350 * ms64 // span that tells the power before it
	lagAfter  = 250 * ms64 // where the look ends
	lagCalm   = 0.15       // of the power before, at most, is still drawn behind that: else somebody else works
	lagMost   = 60e6       // ns; an end that says more than this is not one that stands alone
	ms64      = int64(1e6)
)

func (g *lag) add(p piece) {
	g.recent[g.n%lagPieces] = p
	g.n++
}

// compose is told of every change of who works.
func (g *lag) compose(now int64, prefilling, decoding int) {
	switch {
	case prefilling > 0 || decoding > 1:
		g.solo, g.end = 0, 0
	case decoding == 1:
		g.solo, g.end = now, 0
	case g.solo > 0 && now-g.solo >= lagSteady:
		g.end, g.since, g.solo = now, g.solo, 0
	default:
		g.solo = 0
	}
}

// look returns by how much the shape's lag is larger than assumed, once the end can be looked at.
func (g *lag) look(now int64, idleMW float64) (more float64, ok bool) {
	if g.end == 0 || now < g.end+lagAfter+100*ms64 {
		return 0, false
	}
	end := g.end
	g.end = 0
	var from int64
	for k := max(0, g.n-lagPieces); k < g.n; k++ {
		if p := &g.recent[k%lagPieces]; p.t0 <= end-lagBefore {
			from = p.t0
		}
	}
	var after, before, span, later, calm float64
	for k := max(0, g.n-lagPieces); k < g.n; k++ {
		p := &g.recent[k%lagPieces]
		active := float64(p.uj) - idleMW*float64(p.t1-p.t0)*1e-6
		switch {
		case p.gap:
			return 0, false
		case p.t0 >= from && p.t0 < end+lagAfter:
			after += active
		case p.t0 >= end+lagAfter:
			later += active
			calm += float64(p.t1 - p.t0)
		case p.t1 <= from && p.t0 >= max(from-lagPower, g.since+100*ms64):
			before += active
			span += float64(p.t1 - p.t0)
		}
	}
	if span < float64(lagPower/2) || before <= 0 || calm == 0 || later/calm > lagCalm*before/span {
		return 0, false
	}
	more = after/(before/span) - float64(end-from)
	return more, math.Abs(more) <= lagMost
}
