package energy

import (
	"math"
	"time"
)

// decodeRun is a stretch of windows in which the same requests decode and none prefills. The decode
// coefficients are learnt from runs. A run ends at a phase change, because a stretch of fixed length would
// mix the end of a prefill into the first tokens and bias every coefficient.
type decodeRun struct {
	x               [sharings][unknowns]float64 // regressors, under every assumption about sharing
	distinguishable bool                        // the assumptions can be compared: one request decodes, or all slots are known
	uj              float64
	charged         float64 // of uj, what the decoders were charged
	ns              int64
	steps           float64
}

const (
	maxRun      = 2 * int64(time.Second)
	minRunSteps = 8 // of fewer steps, too large a part may lie across an end of the run
)

// addToRun adds a window to the run of the only group that decodes. Its decoders are charged with charged uJ of what was drawn.
func (l *Ledger) addToRun(w *window, drawn, charged int64) {
	alloc := &l.allocator
	var g *decodeGroup
	for _, o := range l.busyGroups {
		if o.members > 0 && g != nil || o.windowSteps > 0 && o.members == 0 {
			l.resetRuns()
			return
		}
		if o.members > 0 {
			g = o
		}
	}
	if g == nil || g.doubtful > 0 || len(alloc.orphans) > 0 || alloc.contended || w.estimated || !alloc.idle.learnt() || l.cfg.Frozen {
		l.resetRuns()
		return
	}
	n := &g.run
	for s := range sharings {
		x := g.termsIf(s)
		for i := range x {
			n.x[s][i] += x[i] * g.windowSteps
		}
	}
	n.distinguishable = g.members == 1 || g.allSlotsKnown()
	n.uj += float64(drawn)
	n.charged += float64(charged)
	n.ns += w.t1 - w.t0
	n.steps += g.windowSteps
	if n.ns >= maxRun {
		l.learnRun(g)
	}
}

// learnRuns learns from the runs so far; it is called before anybody changes phase.
func (l *Ledger) learnRuns() {
	for _, g := range l.busyGroups {
		l.learnRun(g)
	}
}

func (l *Ledger) learnRun(g *decodeGroup) {
	if g.run.ns == 0 {
		return // no window since the last change
	}
	n := g.run
	g.run = decodeRun{}
	if n.steps < minRunSteps || n.uj <= 0 {
		return
	}
	edge := l.src.edgeError() * l.allocator.prefillMW() * 1e-6
	rel := math.Hypot(0.7/n.steps, edge/n.uj)
	if fit := &g.model.decode; fit.learnt() {
		cost := dot(n.x[g.model.assumed], fit.coef)
		g.doubtDraw(n.charged-cost, math.Hypot(fit.relError()*cost, rel*n.uj))
	}
	g.model.learn(g, &n, rel)
	g.model.stepTime = approach(g.model.stepTime, float64(n.ns)/n.steps, 0.1)
}

// strange is how many standard deviations measured and modelled joules differ by where the difference may be another process's
// work, or another model's.
const strange = 3

// doubtDraw doubts what the members were charged beyond, or below, their modelled cost, unless chance explains it.
func (g *decodeGroup) doubtDraw(off, sd float64) {
	if off = math.Abs(off); off > strange*sd && g.members > 0 {
		g.doubt.own += off / float64(g.members)
		g.doubt.other += off / float64(g.members)
	}
}

func (l *Ledger) resetRuns() {
	for _, g := range l.busyGroups {
		if g.run.ns != 0 {
			g.run = decodeRun{}
		}
	}
}

// decodeMW is the active power expected while n requests decode.
func (alloc *allocator) decodeMW(n int) float64 {
	if alloc.usualDecodeMW == 0 {
		return max(alloc.idle.mw(), 1)
	}
	return alloc.usualDecodeMW * decodersPower(n)
}

// decodersPower is roughly how the power grows with the number of decoders. It is used only to divide a sample
// that straddles windows.
func decodersPower(n int) float64 { return 0.7 + 0.3*float64(min(n, 8)) }
