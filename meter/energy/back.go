package energy

import "time"

// back is the pass that settles windows: it replays the events up to each window and divides its energy.
type back struct {
	idle idle
	lag  lagLearner
	rules
	inFlight, holding int
	prefilling        int
	decoding          int

	pool         int // open prefill pool, -1 none
	pools        []pool
	freePools    []int
	knownPools   []int             // closed, every count known
	waitingPools ring[waitingPool] // closed, by time

	worked int64       // when work last went on
	enders ring[int32] // requests that ended a moment ago, in order
	owners []int32     // those of them that own the tail

	contended bool
	sums      marks // running sums over windows

	peakMW   float64 // highest active power in a prefill
	decodeAv float64 // usual active power of one decoding request

	poured             int64 // in windows that are not settled yet
	idleUJ, residualUJ int64
	given              given // drawn by requests, with a result or without one yet
	results            given // in results
	settled            int64 // end of the last settled window
	stats              Stats
}

// given sums what requests were given, by rule.
type given struct{ active, idle, time, token int64 }

// enderSpan is how close to the last of them requests must end to share the tail.
const enderSpan = 25 * int64(time.Millisecond)

func newBack(cfg Config) back {
	return back{idle: newIdle(cfg.Baseline, cfg.Frozen), pool: -1}
}

func (b *back) residual(uj int64) { b.residualUJ += uj }

// settleFull settles every window that is full.
func (l *Ledger) settleFull() {
	f := &l.front
	for f.fill > 0 {
		w := f.windows.pop()
		f.fill--
		l.back.poured -= w.uj
		for l.queue.back < w.events {
			l.replay(l.queue.at(l.queue.back))
			l.queue.drop()
		}
		l.settleWindow(&w)
	}
}

// replay applies an event to the state that shares are taken from.
func (l *Ledger) replay(e *queued) {
	b := &l.back
	switch e.kind {
	case Temperature:
		b.idle.temperature(float64(e.n) / 1000)
		return
	case Contended:
		b.contended = e.on
		return
	case Lost:
		b.sums.lost++
		return
	}
	i := e.req
	r := l.req(i)
	if r.key != e.request {
		return // of a request that is over, whose place another has taken
	}
	if e.kind.changesPhase() && e.kind != Arrive && e.kind != SlotSeen {
		l.endRuns()
	}
	switch e.kind {
	case Arrive:
		b.inFlight++
		r.phase = waiting
		r.mark = b.sums
		r.mark.flightIdle, r.mark.flightTime = b.flightIdle.sum, b.flightTime.sum
	case SlotStart:
		l.startPrefill(i, e)
	case SlotSeen:
		l.seeSlot(i, int(e.n))
	case presume:
		if r.phase == waiting {
			l.hold(i, e.at)
			r.estimated, r.phase = true, decoding
			b.decoding++
			l.joinDecoders(i, r.guess)
		}
	case Progress:
		if !r.known && e.n > 0 && r.phase == prefilling {
			r.prompt, r.known = e.n, true
			l.countsKnown(i)
		}
	case Decode:
		if r.phase == decoding {
			b.countTokens(r, e.n)
		}
	case FirstToken:
		l.startDecode(i, e.at)
	case End:
		l.endRequest(i, e)
	case SlotIdle, ghostEnd:
		if r.ended && r.phase == prefilling && r.ghost {
			l.endPrefill(i, e.at)
			l.over(i, e.at)
		}
	}
}

// hold gives request i a slot: from now on it owns a part of the idle draw of slot holders.
func (l *Ledger) hold(i int32, now int64) {
	b := &l.back
	r := l.req(i)
	l.drawFlight(r)
	r.start = now
	b.holding++
	r.group.holding++
	m := &r.mark
	m.holdIdle, m.holdTime = b.holdIdle.sum, b.holdTime.sum
	m.power, m.shared = b.sums.power, b.sums.shared
}

func (l *Ledger) drawFlight(r *request) {
	b := &l.back
	uj := b.flightIdle.take(b.flightIdle.sum - r.mark.flightIdle)
	r.idleUJ += uj
	b.given.idle += uj
	r.timeUJ += b.flightTime.take(b.flightTime.sum - r.mark.flightTime)
	r.mark.flightIdle, r.mark.flightTime = b.flightIdle.sum, b.flightTime.sum
}

func (l *Ledger) startPrefill(i int32, e *queued) {
	r := l.req(i)
	if r.phase != waiting {
		return
	}
	l.succeed(r, e.at)
	l.endTail()
	l.clearCells(r.group) // the server clears what others left before it starts a task
	l.hold(i, e.at)
	if e.on {
		r.slot = int(e.n)
	}
	r.phase = prefilling
	l.back.prefilling++
	l.joinPool(i, e.at)
}

func (l *Ledger) seeSlot(i int32, slot int) {
	r := l.req(i)
	if r.slot >= 0 || slot < 0 {
		return
	}
	r.slot = slot
	if r.phase == decoding {
		l.occupy(i)
	}
}

func (l *Ledger) endPrefill(i int32, now int64) {
	r := l.req(i)
	r.first = now
	l.back.prefilling--
	l.leavePool(i, now)
}

func (l *Ledger) startDecode(i int32, now int64) {
	r := l.req(i)
	if r.phase != prefilling {
		return
	}
	l.endPrefill(i, now)
	r.phase = decoding
	l.back.decoding++
	l.change(r, l.back.prefillMW()-l.back.decodeMW(1))
	ctx := r.guess
	if r.known {
		ctx = r.prompt
	}
	l.back.countTokens(r, ctx+1)
	r.mark.edge2, r.mark.beside = l.back.sums.edge2, l.back.sums.beside
	l.joinDecoders(i, ctx)
}

func (l *Ledger) endRequest(i int32, e *queued) {
	b := &l.back
	r := l.req(i)
	if c := r.counts; c.Known && !r.known {
		r.prompt, r.cached, r.known = c.PromptTokens, c.CachedTokens, true
		l.countsKnown(i)
	} else if !r.known {
		l.countsKnown(i) // it will not be told any more: guess
	}
	switch r.phase {
	case waiting:
		l.drawFlight(r)
		b.inFlight--
		l.close(i, e.at)
		return
	case prefilling:
		if e.on { // the server finishes it
			r.ghost = true
			return
		}
		l.endPrefill(i, e.at)
	case decoding:
		b.decoding--
		r.edge2 += b.sums.edge2 - r.mark.edge2
		beside := besideRel * (b.sums.beside - r.mark.beside)
		r.model2 += beside * beside
		before := r.decodeUJ
		l.leaveDecoders(i)
		b.given.active += r.decodeUJ - before
		l.change(r, b.decodeMW(1))
	}
	l.over(i, e.at)
}

// over takes request i off its slot. It stays open a moment: it may own the tail.
func (l *Ledger) over(i int32, now int64) {
	b := &l.back
	r := l.req(i)
	m := &r.mark
	uj := b.holdIdle.take(b.holdIdle.sum - m.holdIdle)
	r.idleUJ += uj
	b.given.idle += uj
	r.timeUJ += b.holdTime.take(b.holdTime.sum - m.holdTime)
	r.holdNS = now - r.start
	if r.holdNS > 0 {
		r.meanMW = int64((b.sums.power - m.power) / float64(r.holdNS) * 1e6)
	}
	r.shared = b.sums.shared > m.shared
	b.holding--
	r.group.holding--
	b.inFlight--
	if b.holding == 0 {
		b.residual(b.holdIdle.empty())
		b.holdTime.empty()
	}
	r.tail = true
	b.enders.push(i)
	r.end = now
	l.leave(i)
	l.close(i, now)
}

// close ends what every request has, slot or not.
func (l *Ledger) close(i int32, now int64) {
	b := &l.back
	r := l.req(i)
	tokens := r.tokens
	if c := r.counts; c.Known {
		tokens = c.PromptTokens - c.CachedTokens + c.OutputTokens
	}
	b.drawTokens(r, tokens)
	r.phase, r.end = done, now
	r.partial = r.partial || b.sums.lost > r.mark.lost
	r.unmetered = now > r.arrived && b.sums.metered == r.mark.metered
	r.contended = b.sums.contended > r.mark.contended
	r.estimated = r.estimated || b.sums.gap > r.mark.gap ||
		r.counts.Several && r.shared // it is one decoder here, and beside others that is too few
	if b.inFlight == 0 {
		b.residual(b.flightIdle.empty())
		b.flightTime.empty()
		b.tokenPot, b.liveTokens = 0, 0
	}
	l.finish(i)
}

// finish emits request i's result once nothing more can be charged to it.
func (l *Ledger) finish(i int32) {
	r := l.req(i)
	if !r.used || r.phase != done || r.pools > 0 || r.tail || r.left {
		return
	}
	b := &l.back
	res := l.result(r)
	b.results.active += res.ActiveUJ
	b.results.idle += res.IdleUJ
	b.results.time += res.TimeUJ
	b.results.token += res.TokenUJ
	l.results = append(l.results, res)
	delete(l.byKey, r.key)
	r.used = false
	l.free = append(l.free, i)
}

// close ends the account: what is still open is partial.
func (b *back) close(l *Ledger) {
	for l.queue.back < l.queue.tail {
		l.replay(l.queue.at(l.queue.back))
		l.queue.drop()
	}
	for i := range l.places {
		r := l.req(i)
		if !r.used || r.phase == done {
			continue
		}
		if !r.ghost {
			r.partial = true
			l.endRequest(i, &queued{kind: End, at: l.now, req: i})
		} else {
			l.endPrefill(i, l.now)
			l.over(i, l.now)
		}
	}
	for _, g := range l.busy {
		l.clearCells(g)
	}
	b.worked = l.now - tailTime
	l.endTail()
	l.releaseEnders(l.now + enderSpan + 1)
	for b.waitingPools.len() > 0 || len(b.knownPools) > 0 {
		l.dividePools(l.now + int64(l.cfg.SettleMax) + 1)
	}
	for i := range l.front.windows.len() {
		w := l.front.windows.at(i)
		b.residual(w.uj)
		b.poured -= w.uj
		w.uj = 0
	}
	b.residual(l.src.total - l.src.handed)
	l.src.handed = l.src.total
}
