package energy

import "math"

// settleWindow divides one window's energy: first the idle draw, then the decoders' modelled work, and
// what remains to those in prefill. The remainder rule needs no guess of how far a prefill has come,
// and a prefill that does nothing (a neighbour's kernels compile, its own turn has not come) is not
// charged for its residence.
func (l *Ledger) settleWindow(w *window) {
	b := &l.back
	ns := w.t1 - w.t0
	mw := float64(w.uj) / float64(ns) * 1e6
	working := b.prefilling+b.decoding > 0
	b.idle.window(mw, float64(ns)*1e-9, working)
	l.count(w, ns)
	l.learnLag(w)

	for _, g := range l.busy {
		g.inWindow = w.steps[g.index]
		if g.n > 0 {
			g.stepped += g.inWindow
		}
	}
	idle := min(w.uj, int64(math.Round(b.idle.mw()*float64(ns)*1e-6)))
	if !working {
		l.settleRest(w, idle, mw)
	} else {
		b.worked = w.t1
		l.settleWork(w, idle)
	}
	b.settled = w.t1
	l.expireCells(w.t1)
	l.releaseEnders(w.t1)
	l.dividePools(w.t1)
}

// count moves the running sums on.
func (l *Ledger) count(w *window, ns int64) {
	s := &l.back.sums
	s.power += float64(w.uj)
	s.metered += w.covered
	if l.back.contended {
		s.contended += ns
	}
	if w.estimated {
		s.gap += ns
	}
	if w.covered*2 < ns {
		s.lost++
	}
	if l.back.holding > 1 {
		s.shared += ns
	}
}

// settleRest settles a window in which nobody works: the tail of the last work, waiting, or quiet.
func (l *Ledger) settleRest(w *window, idle int64, mw float64) {
	b := &l.back
	more := w.uj - idle
	switch {
	case w.tail && more > 0:
		own := min(more, l.tailMost())
		more += l.chargeTail(own) - own
	case b.idle.learnt() && mw > b.idle.mw()*1.05+3*b.idle.SigmaMW:
		// somebody else's work, or cool-down
	default: // the idle draw's own noise, or not known apart yet
		idle, more = w.uj, 0
	}
	b.residual(more)
	if b.inFlight > 0 {
		b.spread(idle, w.uj, b.inFlight, b.holding)
	} else {
		b.idleUJ += idle
	}
	wait := b.worked + settleQuiet
	if l.cfg.Shape == ShapeAverage {
		wait += int64(l.cfg.Average)
	}
	if b.inFlight == 0 && !b.contended && w.t0 >= wait && !w.estimated && w.covered == w.t1-w.t0 {
		b.idle.quiet(mw, w.t0 < wait+quietSoon)
	}
}

// tailMost is the most that the tail of the work that has ended can be: with a ring, what its owners usually
// draw in 40 ms. More is somebody else's work.
func (l *Ledger) tailMost() int64 {
	b := &l.back
	if l.cfg.Shape != ShapeSteps || b.decodeAv == 0 {
		return math.MaxInt64
	}
	l.findOwners()
	mw := b.decodeMW(len(b.owners))
	for _, i := range b.owners {
		if l.req(i).decodeUJ == 0 {
			mw = b.prefillMW()
		}
	}
	return int64(mw * 40e6 * 1e-6)
}

// settleWork settles a window in which somebody prefills or decodes.
func (l *Ledger) settleWork(w *window, idle int64) {
	b := &l.back
	active := w.uj - idle
	ns := w.t1 - w.t0
	b.spread(idle, w.uj, b.inFlight, b.holding)
	if b.holding == 0 { // work without a slot cannot be; keep the sums whole all the same
		b.residual(active)
		return
	}
	cost := l.decodeCost()
	if b.prefilling > 0 {
		decode := l.beside(w, active, cost)
		p := &b.pools[b.pool]
		p.cost += cost
		if b.decoding > 0 {
			b.sums.beside += cost / float64(b.decoding)
		}
		l.chargePool(active-decode, decode, ns)
		l.chargeDecoders(decode, cost)
		l.resetRuns()
		return
	}
	l.learnRun(w, active)
	active = l.bounded(active, ns)
	l.chargeDecoders(active, cost)
	if !l.cfg.Frozen {
		one := float64(active) / float64(ns) * 1e6 / decodersPower(b.decoding)
		b.decodeAv = towards(b.decodeAv, one, min(1, float64(ns)/1e9))
	}
	if b.decoding == 1 {
		for _, g := range l.busy {
			if g.n == 1 {
				l.req(g.who).aloneUJ += active
			}
		}
	}
}

// beside is the decoders' part of a window in which somebody prefills. Their modelled cost is known well
// and the prefill's progress is not, so what is over or missing mostly belongs to the prefill. Only where
// the prefill is short, so that its whole work is known better than the window's edges, does the
// difference go to the decoders: each side bears it by the variance of what is known of it.
func (l *Ledger) beside(w *window, active int64, cost float64) int64 {
	b := &l.back
	if b.decoding == 0 {
		l.blurAlone(w)
		return 0
	}
	prompt, sd := l.expectedPrompt(w)
	v := l.blur(w, prompt, sd)
	for _, g := range l.busy {
		if g.n > 0 {
			e := g.model.decode.rho() * g.inWindow * g.stepUJ()
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
	for _, g := range l.busy {
		if g.n > 0 {
			sum += g.inWindow * g.stepUJ()
		}
	}
	return sum
}

// band is how many times its modelled cost work may draw before the rest counts as somebody else's, once
// the model has seen bandMin windows. It is wide: a read per slot instead of one for all, or a model that
// was swapped for a larger one, must not lose the difference to the residual.
const (
	band    = 3.0
	bandMin = 20
)

// bounded keeps the draw that no decoding explains out of the requests' accounts: what is beyond the
// band, and beyond a tenth while another process is known to compute.
func (l *Ledger) bounded(active, ns int64) int64 {
	times := band
	if l.back.contended {
		times = 1.1
	}
	var most float64
	for _, g := range l.busy {
		if g.n == 0 {
			continue
		}
		if g.model.decode.observed < bandMin && !l.back.contended || !g.model.decode.learnt() || g.model.stepTime == 0 {
			return active
		}
		steps := g.inWindow
		if !l.back.contended {
			steps = max(steps, float64(ns)/g.model.stepTime)
		}
		most += times * steps * g.stepUJ()
	}
	if float64(active) > most {
		l.back.residual(active - int64(most))
		return int64(most)
	}
	return active
}

// chargeDecoders divides uj among the groups by their modelled cost, and within each by share.
func (l *Ledger) chargeDecoders(uj int64, cost float64) {
	left := uj
	var last *group
	for _, g := range l.busy {
		if g.n == 0 {
			continue
		}
		last = g
		var part int64
		if cost > 0 {
			part = min(left, int64(float64(uj)*(g.inWindow*g.stepUJ()/cost)))
		} else {
			part = int64(float64(uj) * float64(g.n) / float64(l.back.decoding))
			part = min(part, left)
		}
		g.share(part)
		left -= part
	}
	if last == nil {
		l.back.residual(left)
	} else {
		last.share(left)
	}
}

// chargePool adds the prefill part of a window to the open pool.
func (l *Ledger) chargePool(uj, decode, ns int64) {
	b := &l.back
	p := &b.pools[b.pool]
	mw := float64(uj) / float64(ns) * 1e6
	if ns >= 4e7 && b.decoding == 0 && !b.contended && !l.cfg.Frozen {
		b.peakMW = max(b.peakMW*0.999, mw)
	}
	p.uj += uj
	p.mixed += decode
	p.extra = p.extra || b.contended
	p.raw = p.raw || !b.idle.learnt()
}

// prefillMW is the active power expected of a prefill.
func (b *back) prefillMW() float64 {
	if b.peakMW > 0 {
		return b.peakMW
	}
	return 3 * max(b.idle.mw(), 1)
}
