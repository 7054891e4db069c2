package energy

import (
	"slices"
	"time"

	"wattline/meter"
)

// allocator is the second pass: it applies the events up to each window and divides the window's energy.
type allocator struct {
	idle baselineLearner
	lag  lagLearner
	simpleRules
	inFlight, slotHolders int
	prefilling            int
	decoding              int
	orphans               []int32 // requests without a slot whose clients have left, by when they left

	pool         int // open prefill pool, -1 none
	pools        []pool
	freePools    []int
	knownPools   []int             // closed, every count known
	waitingPools fifo[waitingPool] // closed, by time

	lastWork      int64       // when a request last prefilled or decoded
	recentlyEnded fifo[int32] // requests that may still be charged with the tail, by their end
	tailOwners    []int32     // those that share the tail

	contended bool
	sums      runningSums // running sums over windows

	prefillPeakMW float64 // highest active power in a prefill
	usualDecodeMW float64 // usual active power of one decoding request

	distributed        int64 // energy in windows that are not settled yet
	idleUJ, residualUJ int64
	charged            charges // to requests, whether their results are out or not
	inResults          charges // the part of it that results have shown
	settled            int64   // end of the last settled window
	stats              Stats
}

// charges sums what requests were charged, by rule.
type charges struct{ active, idle, time, token int64 }

// endedTogether is how close to the last end other requests must have ended to share the tail.
const endedTogether = 25 * int64(time.Millisecond)

func newAllocator(cfg Config) allocator {
	return allocator{idle: newBaselineLearner(cfg.Baseline, cfg.Frozen), pool: -1}
}

func (alloc *allocator) residual(uj int64) { alloc.residualUJ += uj }

// settleFilled settles every window with complete energy.
func (l *Ledger) settleFilled() {
	seg := &l.segmenter
	for seg.complete > 0 {
		w := seg.windows.pop()
		seg.complete--
		l.allocator.distributed -= w.uj
		for l.queue.toAllocate < w.events {
			l.applyEvent(l.queue.at(l.queue.toAllocate))
			l.queue.drop()
		}
		l.settleWindow(&w)
	}
}

// applyEvent applies an event to the state from which shares are computed.
func (l *Ledger) applyEvent(e *queuedEvent) {
	alloc := &l.allocator
	switch e.kind {
	case Temperature:
		alloc.idle.temperature(float64(e.n) / 1000)
		return
	case Contended:
		alloc.contended = e.on
		return
	case Lost:
		alloc.sums.lost++
		return
	}
	i := e.req
	r := l.req(i)
	if r.key != e.request {
		return // that request has its result, and another uses its memory
	}
	if e.kind.changesPhase() && e.kind != Arrive && e.kind != SlotSeen {
		l.learnRuns()
	}
	switch e.kind {
	case Arrive:
		alloc.inFlight++
		r.phase = meter.PhaseWaiting
		r.snapshot = alloc.sums
		r.snapshot.waitingIdle, r.snapshot.waitingTime = alloc.waitingIdle.share, alloc.waitingTime.share
	case SlotStart:
		l.startPrefill(i, e)
	case SlotSeen:
		l.seeSlot(i, int(e.n))
	case assumeDecoding:
		if r.phase == meter.PhaseWaiting && !e.on { // else others hold every slot
			l.acquireSlot(i, e.at)
			r.estimated, r.phase = true, meter.PhaseDecode
			alloc.decoding++
			l.joinDecoders(i, r.guess)
			l.setDoubt(i, true)
		}
	case Progress:
		if !r.known && e.n > 0 && r.phase == meter.PhasePrefill {
			r.prompt, r.known = e.n, true
			l.countsKnown(i)
		}
	case Decode:
		if r.phase == meter.PhaseDecode {
			alloc.countTokens(r, e.n)
		}
	case FirstToken:
		l.startDecode(i, e.at)
	case End:
		l.endRequest(i, e)
	case SlotIdle, orphanEnd:
		if r.ended && r.orphaned {
			l.endOrphan(i, e.at)
		}
	case doubtful:
		l.setDoubt(i, e.on)
	}
}

// acquireSlot gives request i a slot: from now on it shares the idle draw of the slot holders.
func (l *Ledger) acquireSlot(i int32, now int64) {
	alloc := &l.allocator
	r := l.req(i)
	l.drawWaiting(r)
	l.leaveOrphans(i)
	r.start = now
	alloc.slotHolders++
	r.group.slotHolders++
	m := &r.snapshot
	m.slotIdle, m.slotTime = alloc.slotIdle.share, alloc.slotTime.share
	m.deviceUJ, m.shared = alloc.sums.deviceUJ, alloc.sums.shared
}

// drawWaiting charges a request with its share of the idle draw so far, while no request held a slot.
func (l *Ledger) drawWaiting(r *request) {
	alloc := &l.allocator
	uj := alloc.waitingIdle.take(alloc.waitingIdle.share - r.snapshot.waitingIdle)
	r.idleUJ += uj
	r.waitingUJ += uj
	alloc.charged.idle += uj
	r.timeUJ += alloc.waitingTime.take(alloc.waitingTime.share - r.snapshot.waitingTime)
	r.snapshot.waitingIdle, r.snapshot.waitingTime = alloc.waitingIdle.share, alloc.waitingTime.share
}

func (l *Ledger) startPrefill(i int32, e *queuedEvent) {
	r := l.req(i)
	if r.phase != meter.PhaseWaiting {
		return
	}
	l.addStartEdge(r, e.at)
	l.endTail()
	l.clearLeftover(r.group) // the server clears the cells of ended requests before it starts a task
	l.acquireSlot(i, e.at)
	if e.on {
		r.slot = int(e.n)
	}
	r.phase = meter.PhasePrefill
	l.allocator.prefilling++
	l.joinPool(i, e.at)
}

func (l *Ledger) seeSlot(i int32, slot int) {
	r := l.req(i)
	if r.slot >= 0 || slot < 0 {
		return
	}
	r.slot = slot
	if r.phase == meter.PhaseDecode {
		l.occupySlot(i)
	}
}

func (l *Ledger) endPrefill(i int32, now int64) {
	r := l.req(i)
	r.first = now
	l.allocator.prefilling--
	l.leavePool(i, now)
}

func (l *Ledger) startDecode(i int32, now int64) {
	r := l.req(i)
	if r.phase != meter.PhasePrefill {
		return
	}
	l.endPrefill(i, now)
	r.phase = meter.PhaseDecode
	l.allocator.decoding++
	ctx := r.guess
	if r.known {
		ctx = r.prompt
	}
	l.allocator.countTokens(r, ctx+1)
	r.snapshot.edgeVar, r.snapshot.duringPrefill = l.allocator.sums.edgeVar, l.allocator.sums.duringPrefill
	l.joinDecoders(i, ctx)
	if r.assumed {
		r.estimated = true
		l.setDoubt(i, true)
	}
}

func (l *Ledger) endRequest(i int32, e *queuedEvent) {
	alloc := &l.allocator
	r := l.req(i)
	if c := r.counts; c.Known && !r.known {
		r.prompt, r.cached, r.known = c.PromptTokens, c.CachedTokens, true
		l.countsKnown(i)
	} else if !r.known && !e.on {
		l.countsKnown(i) // its counts will never be known: they are guessed
	}
	if e.on { // the server goes on
		if r.orphaned = true; r.phase == meter.PhaseWaiting {
			alloc.orphans = append(alloc.orphans, i)
			if !r.followable {
				r.group.unseen++
			}
		}
		r.estimated = r.estimated || r.follow != nil
		return
	}
	l.finish(i, e.at)
}

// endOrphan ends the account of a request whose client had left before.
func (l *Ledger) endOrphan(i int32, now int64) {
	r := l.req(i)
	if r.phase == meter.PhaseDone {
		return
	}
	if !r.known {
		if r.follow != nil && r.begun == 0 && r.phase == meter.PhasePrefill { // the server noticed after a batch that nobody waits
			r.guess = min(r.guess, unseenTokens)
		}
		l.countsKnown(i)
	}
	l.finish(i, now)
}

// finish ends whatever phase request i is in.
func (l *Ledger) finish(i int32, now int64) {
	alloc := &l.allocator
	r := l.req(i)
	switch r.phase {
	case meter.PhaseWaiting:
		l.drawWaiting(r)
		if r.counts.Refused { // nobody was served: the draw is the device's own
			alloc.idleUJ += r.idleUJ
			alloc.charged.idle -= r.idleUJ
			r.idleUJ, r.waitingUJ, r.timeUJ = 0, 0, 0
		}
		l.leaveOrphans(i)
		alloc.inFlight--
		l.closeRequest(i, now)
		return
	case meter.PhasePrefill:
		l.endPrefill(i, now)
	case meter.PhaseDecode:
		alloc.decoding--
		r.edgeVar += alloc.sums.edgeVar - r.snapshot.edgeVar
		e := duringPrefillRel * (alloc.sums.duringPrefill - r.snapshot.duringPrefill)
		r.modelVar += e * e
		before := r.decodeUJ
		l.leaveDecoders(i)
		alloc.charged.active += r.decodeUJ - before
	}
	l.releaseSlot(i, now)
}

// leaveOrphans takes request i off the list of those that may work unseen.
func (l *Ledger) leaveOrphans(i int32) {
	alloc := &l.allocator
	if k := slices.Index(alloc.orphans, i); k >= 0 {
		alloc.orphans = slices.Delete(alloc.orphans, k, k+1)
		if r := l.req(i); !r.followable {
			r.group.unseen--
		}
	}
}

// chargeOrphan charges draw that nobody explains to the oldest request whose client has left, and which may run without
// being seen: a server starts what waited first. It returns what it charged.
// Once a batch of a prompt has been charged and a pause has come, it is the next one's turn.
func (l *Ledger) chargeOrphan(w *window, uj float64) int64 {
	alloc := &l.allocator
	if len(alloc.orphans) == 0 || uj < 1 || alloc.contended || !alloc.idle.learnt() {
		return 0
	}
	r := l.req(alloc.orphans[0])
	batch := dot(promptTerms(min(r.guess, unseenTokens), 0), r.group.model.prefill.coef)
	if r.takenUJ > 0.4*batch && w.t0 > r.tookAt+tailTime {
		alloc.orphans = append(alloc.orphans[1:], alloc.orphans[0])
		r = l.req(alloc.orphans[0])
	}
	r.tookAt = w.t1
	v := int64(uj)
	r.prefillUJ += v
	r.takenUJ += uj
	alloc.charged.active += v
	return v
}

// releaseSlot takes request i off its slot. It stays open a moment, as it may be charged with the tail.
func (l *Ledger) releaseSlot(i int32, now int64) {
	alloc := &l.allocator
	r := l.req(i)
	m := &r.snapshot
	uj := alloc.slotIdle.take(alloc.slotIdle.share - m.slotIdle)
	r.idleUJ += uj
	alloc.charged.idle += uj
	r.timeUJ += alloc.slotTime.take(alloc.slotTime.share - m.slotTime)
	r.slotNS = now - r.start
	if r.slotNS > 0 {
		r.meanMW = int64((alloc.sums.deviceUJ - m.deviceUJ) / float64(r.slotNS) * 1e6)
	}
	r.shared = alloc.sums.shared > m.shared
	alloc.slotHolders--
	r.group.slotHolders--
	alloc.inFlight--
	if alloc.slotHolders == 0 {
		alloc.residual(alloc.slotIdle.empty())
		alloc.slotTime.empty()
	}
	r.mayOwnTail = true
	alloc.recentlyEnded.push(i)
	r.end = now
	l.leaveCells(i)
	l.closeRequest(i, now)
}

// closeRequest ends the account of a request, with a slot or without.
func (l *Ledger) closeRequest(i int32, now int64) {
	alloc := &l.allocator
	r := l.req(i)
	tokens := r.tokens
	if c := r.counts; c.Known {
		tokens = c.PromptTokens - c.CachedTokens + c.OutputTokens
	}
	alloc.drawTokens(r, tokens)
	r.phase, r.end = meter.PhaseDone, now
	r.partial = r.partial || alloc.sums.lost > r.snapshot.lost
	r.unseenUJ = alloc.sums.unseenUJ - r.snapshot.unseenUJ
	r.shapelessUJ = alloc.sums.shapelessUJ - r.snapshot.shapelessUJ
	r.unmetered = now > r.arrived && alloc.sums.metered == r.snapshot.metered
	r.contended = alloc.sums.contended > r.snapshot.contended
	r.estimated = r.estimated || alloc.sums.gap > r.snapshot.gap ||
		r.counts.Several && r.shared // the server decodes it in several slots, and here it counts as one
	if alloc.inFlight == 0 {
		alloc.residual(alloc.waitingIdle.empty())
		alloc.waitingTime.empty()
		alloc.tokenAccount, alloc.liveTokens = 0, 0
	}
	l.emitResult(i)
}

// emitResult emits request i's result once nothing more can be charged to it.
func (l *Ledger) emitResult(i int32) {
	r := l.req(i)
	if !r.used || r.phase != meter.PhaseDone || r.poolCount > 0 || r.mayOwnTail || r.ownsLeftover {
		return
	}
	alloc := &l.allocator
	res := l.result(r)
	alloc.inResults.active += res.ActiveUJ
	alloc.inResults.idle += res.IdleUJ
	alloc.inResults.time += res.TimeUJ
	alloc.inResults.token += res.TokenUJ
	l.results = append(l.results, res)
	delete(l.byKey, r.key)
	r.used = false
	l.freeRequests = append(l.freeRequests, i)
}

// close ends the ledger: requests still in flight become partial.
func (alloc *allocator) close(l *Ledger) {
	for l.queue.toAllocate < l.queue.tail {
		l.applyEvent(l.queue.at(l.queue.toAllocate))
		l.queue.drop()
	}
	for i := range l.created {
		r := l.req(i)
		if !r.used || r.phase == meter.PhaseDone {
			continue
		}
		if !r.orphaned {
			r.partial = true
			l.endRequest(i, &queuedEvent{kind: End, at: l.now, req: i})
		} else {
			l.endOrphan(i, l.now)
		}
	}
	for _, g := range l.busyGroups {
		l.clearLeftover(g)
	}
	alloc.lastWork = l.now - tailTime
	l.endTail()
	l.releaseEnded(l.now + endedTogether + 1)
	for alloc.waitingPools.len() > 0 || len(alloc.knownPools) > 0 {
		l.dividePools(l.now + int64(l.cfg.SettleMax) + 1)
	}
	for i := range l.segmenter.windows.len() {
		w := l.segmenter.windows.at(i)
		alloc.residual(w.uj)
		alloc.distributed -= w.uj
		w.uj = 0
	}
	alloc.residual(l.src.total - l.src.handed)
	l.src.handed = l.src.total
}
