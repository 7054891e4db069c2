package energy

import "math"

// settleWindow divides one window's energy: first the idle draw, then the decoders' modelled work, and the
// remainder among those in prefill. So no guess of a prefill's progress is needed, and a prefill that does
// nothing (kernels compile, its turn has not come) is not charged for holding a slot.
func (l *Ledger) settleWindow(w *window) {
	alloc := &l.allocator
	ns := w.t1 - w.t0
	mw := float64(w.uj) / float64(ns) * 1e6
	working := alloc.prefilling+alloc.decoding > 0
	if w.lost == 0 {
		alloc.idle.window(mw, float64(ns)*1e-9, working)
	}
	l.countWindow(w, ns)
	l.learnLag(w)

	for _, g := range l.busyGroups {
		g.windowSteps = w.steps[g.index]
		if g.members > 0 {
			g.stepped += g.windowSteps
		}
	}
	idle := min(w.uj, int64(math.Round(alloc.idle.mw()*float64(ns)*1e-6)))
	if !working {
		l.settleIdleWindow(w, idle, mw)
	} else {
		alloc.lastWork = w.t1
		l.settleBusyWindow(w, idle)
	}
	alloc.settled = w.t1
	l.expireLeftover(w.t1)
	l.releaseEnded(w.t1)
	l.dividePools(w.t1)
}

// countWindow adds a window to the running sums.
func (l *Ledger) countWindow(w *window, ns int64) {
	s := &l.allocator.sums
	s.deviceUJ += float64(w.uj)
	s.metered += w.covered
	if l.allocator.contended {
		s.contended += ns
	}
	if w.estimated {
		s.gap += ns
	}
	if w.covered*2 < ns {
		s.lost++
	}
	if w.lost > 0 {
		s.unseenUJ += (l.expectedMW(w) + l.allocator.idle.mw()) * float64(w.lost) * 1e-6
	}
	s.shapelessUJ += w.shapeless
	if l.allocator.slotHolders > 1 {
		s.shared += ns
	}
}

// settleIdleWindow settles a window without work: the tail of the last work, waiting, or quiet.
func (l *Ledger) settleIdleWindow(w *window, idle int64, mw float64) {
	alloc := &l.allocator
	more := w.uj - idle
	if !w.tail && mw > alloc.idle.mw()*1.05+3*alloc.idle.SigmaMW {
		more -= l.chargeOrphan(w, float64(more))
	}
	switch {
	case w.tail && more > 0 && !alloc.contended:
		more = l.chargeTail(more)
	case alloc.idle.learnt() && mw > alloc.idle.mw()*1.05+3*alloc.idle.SigmaMW:
		// another process's work, or cool-down
	default: // the idle draw's noise, or the idle draw is not known yet
		idle, more = w.uj, 0
	}
	alloc.residual(more)
	if alloc.inFlight > 0 {
		alloc.divideEqually(idle, w.uj, alloc.inFlight, alloc.slotHolders)
	} else {
		alloc.idleUJ += idle
	}
	wait := alloc.lastWork + settleQuiet
	if l.cfg.Shape == ShapeAverage {
		wait += int64(l.cfg.Average)
	}
	if alloc.inFlight == 0 && !alloc.contended && w.t0 >= wait && !w.estimated && w.covered == w.t1-w.t0 {
		alloc.idle.quiet(mw, w.t0 < wait+soonAfterWork)
	}
}

// settleBusyWindow settles a window in which requests prefill or decode.
func (l *Ledger) settleBusyWindow(w *window, idle int64) {
	alloc := &l.allocator
	active := w.uj - idle
	ns := w.t1 - w.t0
	alloc.divideEqually(idle, w.uj, alloc.inFlight, alloc.slotHolders)
	if alloc.slotHolders == 0 { // cannot happen; the account stays exact all the same
		alloc.residual(active)
		return
	}
	cost := l.decodeCost()
	if alloc.prefilling > 0 {
		decode := l.decodeDuringPrefill(w, active, cost)
		p := &alloc.pools[alloc.pool]
		p.decodeCost += cost
		p.guessed = p.guessed || w.lost > 0 || w.shapeless > 0
		if alloc.decoding > 0 {
			alloc.sums.duringPrefill += cost / float64(alloc.decoding)
		}
		l.chargePool(active-decode, decode, ns)
		l.chargeDecoders(decode, cost)
		l.resetRuns()
		return
	}
	drawn := active
	if len(alloc.orphans) > 0 && l.decodeLearnt() {
		noise := 2 * l.src.edgeError() * alloc.prefillMW() * 1e-6
		active -= l.chargeOrphan(w, float64(active)-orphanExcess*cost-noise)
	}
	active = l.boundDecoding(active, ns)
	l.addToRun(w, drawn, active)
	l.chargeDecoders(active, cost)
	if !l.cfg.Frozen && !w.estimated {
		one := float64(active) / float64(ns) * 1e6 / decodersPower(alloc.decoding)
		alloc.usualDecodeMW = approach(alloc.usualDecodeMW, one, min(1, float64(ns)/1e9))
	}
	if alloc.decoding == 1 {
		for _, g := range l.busyGroups {
			if g.members == 1 {
				l.req(g.memberXor).aloneUJ += active
			}
		}
	}
}

// orphanExcess is how many times the decoders' modelled cost may be drawn before a request that may run unseen pays.
const orphanExcess = 1.15

// decodeLearnt reports whether the cost of all that decodes is known.
func (l *Ledger) decodeLearnt() bool {
	for _, g := range l.busyGroups {
		if g.members > 0 && !g.model.decode.learnt() {
			return false
		}
	}
	return true
}

// decodeDuringPrefill is the decoders' part of a window in which others prefill. Their modelled cost is known
// well and the prefill's progress is not, so the difference between measured and modelled energy goes mostly
// to the prefill. Only a short prefill's work is known better than the window's edges. So the difference is
// divided in proportion to the variance of both estimates.
func (l *Ledger) decodeDuringPrefill(w *window, active int64, cost float64) int64 {
	alloc := &l.allocator
	if alloc.decoding == 0 {
		l.addUnseenEdges(w)
		return 0
	}
	prompt, sd := l.expectedPrompt(w)
	v := l.edgeVariance(w, prompt, sd)
	for _, g := range l.busyGroups {
		if g.members > 0 {
			e := g.model.decode.relError() * g.windowSteps * g.stepUJ()
			v += e * e
		}
	}
	decode := cost
	if v > 0 {
		decode += (float64(active) - cost - prompt) * v / (v + sd*sd)
	}
	return int64(min(max(decode, 0), float64(active)))
}

// decodeCost is the modelled cost of the steps in the window, of all groups.
func (l *Ledger) decodeCost() float64 {
	var sum float64
	for _, g := range l.busyGroups {
		if g.members > 0 {
			sum += g.windowSteps * g.stepUJ()
		}
	}
	return sum
}

// band is how many times its modelled cost work may draw before the rest counts as another process's, once
// the model has seen bandMin windows. It is wide: a read per slot instead of one for all, or a model that
// was swapped for a larger one, must not lose the difference to the residual.
const (
	band           = 3.0
	bandMinWindows = 20
)

// boundDecoding moves draw that decoding cannot explain to the residual: more than band times the modelled cost,
// or any beyond it while another process is known to compute.
func (l *Ledger) boundDecoding(active, ns int64) int64 {
	times := band
	if l.allocator.contended {
		times = 1
	}
	var most float64
	for _, g := range l.busyGroups {
		if g.members == 0 {
			continue
		}
		if g.model.decode.observed < bandMinWindows && !l.allocator.contended || !g.model.decode.learnt() || g.model.stepTime == 0 {
			return active
		}
		steps := g.windowSteps
		if !l.allocator.contended {
			steps = max(steps, float64(ns)/g.model.stepTime)
		}
		most += times * steps * g.stepUJ()
	}
	if float64(active) > most {
		l.allocator.residual(active - int64(most))
		return int64(most)
	}
	return active
}

// chargeDecoders divides uj among the groups, and within each among its members, by modelled cost.
func (l *Ledger) chargeDecoders(uj int64, cost float64) {
	left := uj
	var last *decodeGroup
	for _, g := range l.busyGroups {
		if g.members == 0 {
			continue
		}
		last = g
		var part int64
		if cost > 0 {
			part = min(left, int64(float64(uj)*(g.windowSteps*g.stepUJ()/cost)))
		} else {
			part = int64(float64(uj) * float64(g.members) / float64(l.allocator.decoding))
			part = min(part, left)
		}
		g.divide(part)
		left -= part
	}
	if last == nil {
		l.allocator.residual(left)
	} else {
		last.divide(left)
	}
}

// chargePool adds the prefill part of a window to the open pool.
func (l *Ledger) chargePool(uj, decode, ns int64) {
	alloc := &l.allocator
	p := &alloc.pools[alloc.pool]
	mw := float64(uj) / float64(ns) * 1e6
	if ns >= 4e7 && alloc.decoding == 0 && !alloc.contended && !l.cfg.Frozen {
		alloc.prefillPeakMW = max(alloc.prefillPeakMW*0.999, mw)
	}
	p.uj += uj
	p.decodeUJ += decode
	p.contended = p.contended || alloc.contended
	p.unseen = p.unseen || len(alloc.orphans) > 0
	p.beforeBaseline = p.beforeBaseline || !alloc.idle.learnt()
}

// prefillMW is the active power expected of a prefill.
func (alloc *allocator) prefillMW() float64 {
	if alloc.prefillPeakMW > 0 {
		return alloc.prefillPeakMW
	}
	return 3 * max(alloc.idle.mw(), 1)
}
