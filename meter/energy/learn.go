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
	n.uj += float64(active)
	n.ns += w.t1 - w.t0
	n.steps += g.inWindow
	if n.ns >= runMost {
		l.teach(g)
	}
}

// endRun teaches what the run so far has shown; called before the composition changes.
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
	g.model.decode.observe(n.x, n.uj, rel)
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
