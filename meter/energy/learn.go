package energy

import (
	"math"
	"time"
)

// run is a stretch of windows in which the same requests decode and nobody prefills: what the decode
// coefficients are learnt from. Cutting it at phase changes matters: windows of fixed length mix the
// end of a prefill into the first tokens and bias every coefficient.
type run struct {
	x     [sharings][unknowns]float64 // under every assumption
	clear bool                        // and it can be told apart: one decodes, or the slots are known
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
	for _, o := range l.busy {
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
	for s := range sharings {
		x := g.termsIf(s)
		for i := range x {
			n.x[s][i] += x[i] * g.inWindow
		}
	}
	n.clear = g.n == 1 || g.placed()
	n.uj += float64(active)
	n.ns += w.t1 - w.t0
	n.steps += g.inWindow
	if n.ns >= runMost {
		l.teach(g)
	}
}

// endRuns teaches what the run so far has shown; called before the composition changes.
func (l *Ledger) endRuns() {
	for _, g := range l.busy {
		l.teach(g)
	}
}

func (l *Ledger) teach(g *group) {
	if g.run.ns == 0 {
		return // nothing since the last change
	}
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
	for _, g := range l.busy {
		if g.run.ns != 0 {
			g.run = run{}
		}
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

// rival is the decode model under another assumption about what the slots share. All learn from every
// window; where a rival predicts something else than the model in use their errors are compared, and the
// better one takes over.
type rival struct {
	fit
	own, other float64 // faded mean squares of the relative errors, of the present model and of the rival
	compared   int
}

const (
	rivalMin    = 4   // windows in which the two disagree before one can replace the other
	rivalBetter = 1.5 // by how much its squared error must be smaller
	rivalPlain  = 0.1 // difference of the sums of squared errors after which rivalSoon windows are enough
	rivalSoon   = 2
	rivalApart  = 0.02 // relative difference of predictions that counts as disagreement
)

// weigh shows all models a run and changes over to a rival that has proved better.
func (m *model) weigh(g *group, n *run, rel float64) {
	now := n.x[m.assumed]
	for s := range sharings {
		if s == m.assumed {
			continue
		}
		r := &m.rivals[s]
		told := s != sharedCache || n.x[s] != n.x[sharedRead] // only cells that were left tell of a shared cache
		if n.clear && told && m.decode.learnt() && r.learnt() {
			r.compare(dot(now, m.decode.theta), dot(n.x[s], r.theta), n.uj, rel)
		}
		r.observe(n.x[s], n.uj, rel)
	}
	m.decode.observe(now, n.uj, rel)
	for s := range sharings {
		r := &m.rivals[s]
		if s != m.assumed && r.proved() {
			m.rivals[m.assumed].fit = m.decode
			m.decode, m.assumed, g.sharing = r.fit, s, s
			for k := range m.rivals {
				m.rivals[k].own, m.rivals[k].other, m.rivals[k].compared = 0, 0, 0
			}
			return
		}
	}
}

// proved reports whether the rival is the better model.
func (r *rival) proved() bool {
	if r.own <= rivalBetter*r.other {
		return false
	}
	return r.compared >= rivalMin || r.compared >= rivalSoon && r.own-r.other > rivalPlain
}

// compare notes how far off the present model and the rival were in a window known to a relative error of rel.
func (r *rival) compare(own, other, uj, rel float64) {
	if math.Abs(own-other) < max(rivalApart, 2*rel)*uj {
		return
	}
	square := func(v float64) float64 {
		e := (uj - v) / uj
		return min(e*e, 0.25)
	}
	r.own = 0.9*r.own + square(own)
	r.other = 0.9*r.other + square(other)
	r.compared++
}
