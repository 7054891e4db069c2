package energy

import (
	"math"
	"time"
)

// run is a stretch of windows in which the same requests decode and nobody prefills: what the decode
// coefficients are learnt from. Cutting it at phase changes matters: windows of fixed length mix the
// end of a prefill into the first tokens and bias every coefficient.
type run struct {
	x     [unknowns]float64
	rival float64 // weight reads if slots shared their cache the other way
	uj    float64
	ns    int64
	steps float64
}

const (
	runMost  = 2 * int64(time.Second)
	runSteps = 8 // fewer steps teach little: one of them may lie across an end of the run
)

// learnRun adds a window to the run of the only group that decodes.
func (l *Ledger) learnRun(w *window, active int64) {
	b := &l.back
	var g *group
	for _, o := range l.groups {
		if o.n > 0 && g != nil || o.inWindow > 0 && o.n == 0 {
			l.resetRuns()
			return
		}
		if o.n > 0 {
			g = o
		}
	}
	if g == nil || b.contended || w.estimated || !b.idle.learnt() || l.cfg.Frozen {
		l.resetRuns()
		return
	}
	n := &g.run
	x := g.terms()
	for i := range x {
		n.x[i] += x[i] * g.inWindow
	}
	n.rival += g.rivalReads() * g.inWindow
	n.uj += float64(active)
	n.ns += w.t1 - w.t0
	n.steps += g.inWindow
	if n.ns >= runMost {
		l.teach(g)
	}
}

// endRuns teaches what the run so far has shown; called before the composition changes.
func (l *Ledger) endRuns() {
	for _, g := range l.groups {
		l.teach(g)
	}
}

func (l *Ledger) teach(g *group) {
	n := g.run
	g.run = run{}
	if n.steps < runSteps || n.uj <= 0 {
		return
	}
	edge := l.src.edge() * l.back.prefillMW() * 1e-6
	rel := math.Hypot(0.7/n.steps, edge/n.uj)
	g.model.weigh(g, &n, rel)
	g.model.stepTime = towards(g.model.stepTime, float64(n.ns)/n.steps, 0.1)
}

func (l *Ledger) resetRuns() {
	for _, g := range l.groups {
		g.run = run{}
	}
}

// decodeMW is the active power expected while n requests decode.
func (b *back) decodeMW(n int) float64 {
	if b.decodeAv == 0 {
		return max(b.idle.mw(), 1)
	}
	return b.decodeAv * decodersPower(n)
}

// decodersPower is roughly how the draw grows with the number of decoders; it only shapes straddled
// samples.
func decodersPower(n int) float64 { return 0.7 + 0.3*float64(min(n, 8)) }

// rival is the decode model under the other assumption about the slots' caches: that all decoders share
// one read of the weights (--kv-unified) where the present one says a read per run of adjacent slots, or
// the reverse. Both learn from every window; where they disagree about the reads, their errors are
// compared, and the better one takes over.
type rival struct {
	fit
	own, other float64 // faded mean squares of the relative errors, of the present model and of the rival
	compared   int
}

const (
	rivalMin    = 6   // windows in which the two disagree before one can replace the other
	rivalBetter = 1.5 // by how much its squared error must be smaller
)

// weigh shows both models a run and changes over if the rival has proved better.
func (m *model) weigh(g *group, n *run, rel float64) {
	x := n.x
	x[0] = n.rival
	r := &m.rival
	if n.rival != n.x[0] && m.decode.learnt() && r.learnt() {
		square := func(theta, x [unknowns]float64) float64 {
			e := (n.uj - dot(x, theta)) / n.uj
			return min(e*e, 0.25)
		}
		r.own = 0.9*r.own + square(m.decode.theta, n.x)
		r.other = 0.9*r.other + square(r.theta, x)
		r.compared++
	}
	m.decode.observe(n.x, n.uj, rel)
	r.observe(x, n.uj, rel)
	if r.compared >= rivalMin && r.own > rivalBetter*r.other {
		m.decode, r.fit = r.fit, m.decode
		g.unified = !g.unified
		*r = rival{fit: r.fit}
	}
}
