package energy

import (
	"slices"
	"time"

	"wattline/meter"
)

// A server may work for a request whose phases nobody tells: an unstreamed one, or one whose client has left. Looks at
// the server's slots (Waiting, Working, SlotIdle) tell them some tenths of a second later; windows wait for them,
// so that facts come in the order of time. Without looks the end of the reply and its counts are worked back from,
// at the pace of a neighbour's tokens; nothing is presumed that the number of slots contradicts; and what was only
// presumed widens the error bars of the request and of its neighbours (doubt).

const (
	// patience is how long windows wait for the next look at a followed request. A server answers only between
	// two batches.
	patience = 5 * int64(time.Second)
	// maxSilence is how long a stream may show no token, while its neighbours do, before it counts as hung.
	maxSilence = 10 * int64(time.Second)
	maxLooks   = 64 // kept for a request until its phases are needed
	maxPieces  = 64 // events into which tokens between two looks are divided
)

// look is what was seen of a request at one moment.
type look struct {
	at      int64
	working bool  // it held a slot
	tokens  int64 // generated so far
	slot    int32
}

// followState is what the segmenter knows of a request whose phases it is not told. It is made when it is needed.
type followState struct {
	looks   []look
	told    int64 // the phases up to then are in the queue
	begun   bool  // SlotStart is
	first   bool  // FirstToken is
	tokens  int64 // generated tokens that are
	lastAt  int64 // the last look, or the client's departure
	waited  int64 // the last look at which it had no slot
	left    int64 // when its client left
	start   int64 // SlotStart's stamp, once begun
	orphan  bool  // its client has left
	overdue bool  // the phases are needed before its end
	slot    int32 // -1 unknown
}

// followOf returns request i's state, made if there is none.
func (l *Ledger) followOf(r *request) *followState {
	if r.follow == nil {
		r.follow = &followState{told: r.arrived, slot: -1}
	}
	return r.follow
}

// addLook takes what was seen of a request.
func (l *Ledger) addLook(e Event, i int32) {
	r := l.req(i)
	if !r.late && (r.follow == nil || !r.follow.orphan && !r.follow.overdue) {
		return // a stream tells its phases itself
	}
	f := l.followOf(r)
	if e.At < f.told {
		return
	}
	o := look{at: e.At, working: e.Kind == Working, tokens: e.Tokens, slot: int32(e.Slot)} //nolint:gosec // a slot
	f.lastAt = max(f.lastAt, e.At)
	l.segmenter.followedFrom = 0
	if !o.working {
		f.waited = max(f.waited, e.At)
	}
	if n := len(f.looks); n > 0 && !o.working && !f.looks[n-1].working {
		f.looks[n-1] = o // it has waited on
	} else {
		f.looks = append(f.looks, o)
	}
	if len(f.looks) > maxLooks { // every second one is enough
		n := 0
		for k := 1; k < len(f.looks); k += 2 {
			f.looks[n] = f.looks[k]
			n++
		}
		f.looks = f.looks[:n]
	}
	if f.orphan || f.overdue {
		l.tellLooks(i)
	}
}

// tellLooks queues the phases that the looks show.
func (l *Ledger) tellLooks(i int32) {
	f := l.req(i).follow
	for _, o := range f.looks {
		l.tellLook(i, o)
	}
	f.looks = f.looks[:0]
}

func (l *Ledger) tellLook(i int32, o look) {
	r := l.req(i)
	f, m := r.follow, &r.group.model
	if !o.working {
		if !f.begun {
			f.told = o.at
		}
		return
	}
	if f.slot = o.slot; !f.begun {
		start, first := l.handedOn(i, f.told, o.at, f.told), int64(0)
		if o.tokens > 0 {
			decode, prefill := float64(o.tokens)*m.stepTime, float64(m.prefillTime(int64(float64(r.hint)*m.tokensPerHint())))
			if most := float64(o.at - f.told); decode+prefill > most { // both were shorter
				decode, prefill = decode*most/(decode+prefill), prefill*most/(decode+prefill)
			}
			first = o.at - int64(decode)
			start = l.handedOn(i, f.told, first, max(f.told, first-int64(prefill)))
		}
		f.begun, f.start = true, start
		l.enqueue(Event{Kind: SlotStart, Request: r.key, At: start, Slot: int(o.slot), SlotKnown: o.slot >= 0}, i)
		if f.told = start; o.tokens > 0 {
			f.first, f.tokens, f.told = true, 1, max(first, start+1)
			l.enqueue(Event{Kind: FirstToken, Request: r.key, At: f.told}, i)
		}
	}
	if o.tokens > 0 && !f.first {
		first := max(f.told+1, o.at-int64(float64(o.tokens)*m.stepTime))
		f.first, f.tokens = true, 1
		l.enqueue(Event{Kind: FirstToken, Request: r.key, At: first}, i)
		f.told = first
	}
	l.tellTokens(i, o.at, o.tokens)
	f.told = max(f.told, o.at)
}

// tellTokens queues the tokens up to the n-th, evenly until at.
func (l *Ledger) tellTokens(i int32, at, n int64) {
	r := l.req(i)
	f := r.follow
	more := n - f.tokens
	if !f.first || more <= 0 || at <= f.told {
		return
	}
	pieces := min(more, maxPieces)
	for k := int64(1); k <= pieces; k++ {
		t := f.told + int64(float64(at-f.told)*float64(k)/float64(pieces))
		l.enqueue(Event{Kind: Decode, Request: r.key, At: t, Tokens: more*k/pieces - more*(k-1)/pieces}, i)
	}
	f.tokens = n
}

// clientLeft takes the end of a request whose client has left while the server may go on.
func (l *Ledger) clientLeft(e Event, i int32) {
	r := l.req(i)
	f := l.followOf(r)
	r.assumed = r.assumed || r.late && !r.followable
	r.late = false
	f.orphan = true
	f.lastAt, f.left = max(f.lastAt, e.At), e.At
	if r.begun != 0 && !f.begun {
		f.begun, f.start, f.told = true, r.begun, e.At
	}
	l.follow(i)
	l.tellLooks(i)
	l.enqueue(e, i)
}

// serverEnded takes the news that a request's slot is idle, or works for another one.
func (l *Ledger) serverEnded(e Event, i int32) {
	r := l.req(i)
	f := r.follow
	if f == nil || !f.orphan {
		if !r.ended { // a stream that hangs: the server has finished
			r.ended = true
			r.assumed = true
			l.enqueue(Event{Kind: End, Request: e.Request, At: e.At}, i)
			return
		}
		l.enqueue(e, i)
		return
	}
	at := e.At
	switch left := r.counts.MaxTokens - f.tokens; {
	case f.first && r.counts.MaxTokens > 0:
		at = min(at, f.told+int64(float64(max(left, 1))*max(r.group.model.stepTime, 1e6)))
		at = max(at, (f.told+e.At)/2)
	case f.begun && !f.first:
		at = l.takenOver(i, f.told, at, f.start+l.abandonedTime(r))
	}
	l.endFollowed(i, max(at, f.told))
}

// abandonedTime is how long the server works on a prompt that nobody waits for: to its end if it had begun when the client
// left, else it notices after a batch.
func (l *Ledger) abandonedTime(r *request) int64 {
	m := &r.group.model
	tokens := int64(float64(r.hint) * m.tokensPerHint())
	if r.begun == 0 {
		tokens = min(tokens, unseenTokens)
	}
	return int64(m.prefillTime(tokens))
}

// handedOn is when request i got a slot in (from, to]: when another one's ended, nearest to want, since all slots were busy
// while it waited. An end is passed over if another request started right after it. Without one it is want.
func (l *Ledger) handedOn(i int32, from, to, want int64) int64 {
	const atOnce = 20 * int64(time.Millisecond)
	r, q := l.req(i), &l.queue
	best, started := int64(-1), int64(0)
	for k := q.tail; k > q.toSegment; k-- {
		e := q.at(k - 1)
		if e.at <= from {
			break
		}
		if e.req < 0 || e.req == i || l.req(e.req).group != r.group {
			continue
		}
		switch e.kind {
		case SlotStart:
			started = e.at
		case End, orphanEnd:
			if o := l.req(e.req); e.kind == End && o.follow != nil && o.follow.orphan {
				continue // the server goes on with it
			}
			if started != 0 && started-e.at <= atOnce {
				started = 0
				continue
			}
			if e.at < to && (best < 0 || abs(e.at-want) < abs(best-want)) {
				best = e.at
			}
		}
	}
	if best < 0 {
		return want
	}
	return best + 1
}

// takenOver is when request i's slot went to another one in (from, to]: just before a start, the nearest to want. Without one
// it is want, as far as the bounds allow.
func (l *Ledger) takenOver(i int32, from, to, want int64) int64 {
	r, q := l.req(i), &l.queue
	want = min(max(want, from), to)
	best := int64(-1)
	for k := q.tail; k > q.toSegment; k-- {
		e := q.at(k - 1)
		if e.at <= from {
			break
		}
		if e.kind == SlotStart && e.req != i && e.at <= to && l.req(e.req).group == r.group && (best < 0 || abs(e.at-want) < abs(best-want)) {
			best = e.at
		}
	}
	if best < 0 {
		return want
	}
	return best - 1
}

func abs(x int64) int64 { return max(x, -x) }

// endFollowed queues the end of a followed request.
func (l *Ledger) endFollowed(i int32, at int64) {
	r := l.req(i)
	at = max(at, r.follow.left)
	r.follow.lastAt = neverAgain
	l.segmenter.followedFrom = 0
	l.enqueue(Event{Kind: orphanEnd, Request: r.key, At: at}, i)
}

// lateUntil is until when windows wait for the end of request i, which tells its phases exactly.
func (l *Ledger) lateUntil(i int32) int64 {
	r := l.req(i)
	most := r.arrived + int64(l.cfg.SettleMax)
	if !r.followable {
		return most
	}
	from := r.arrived
	if r.follow != nil {
		from = max(from, r.follow.waited)
	}
	return min(most, from+followWait)
}

// followWait is the longest wait for the end of a request that has a slot, and whose phases looks tell too, less exactly.
const followWait = 8 * int64(time.Second)

// overdue takes a request whose phases were not told in time.
func (l *Ledger) overdue(o lateRequest) {
	r := l.req(o.req)
	f := l.followOf(r)
	f.overdue = true
	f.lastAt = max(f.lastAt, l.lateUntil(o.req))
	if r.followable || len(f.looks) > 0 {
		l.follow(o.req)
		l.tellLooks(o.req)
		return
	}
	f.begun = true
	l.enqueue(Event{Kind: assumeDecoding, Request: o.key, At: o.arrived}, o.req)
}

// neverAgain marks a request of which no further look is awaited.
const neverAgain = int64(1) << 62

// followed is a request that windows wait for.
type followed struct {
	key uint64
	req int32
}

// follow makes windows wait for what looks tell of request i.
func (l *Ledger) follow(i int32) {
	l.segmenter.followed = append(l.segmenter.followed, followed{l.req(i).key, i})
	l.segmenter.followedFrom = 0
}

// followLimit is how far windows may be cut, as far as followed requests are concerned. They are gone through only when
// something became known of one (followedFrom is 0) or the patience with one has ended.
func (l *Ledger) followLimit(limit int64) int64 {
	seg := &l.segmenter
	if len(seg.followed) > 0 && (l.now >= seg.followedFrom || seg.closing) {
		l.goThroughFollowed()
	}
	if len(seg.followed) > 0 {
		limit = min(limit, seg.followedLimit)
	}
	return limit
}

// goThroughFollowed finds until when windows may be cut, and when that changes without news. A request of which nothing was
// seen for SettleMax has ended.
func (l *Ledger) goThroughFollowed() {
	seg := &l.segmenter
	limit, next := neverAgain, neverAgain
	seg.followed = slices.DeleteFunc(seg.followed, func(o followed) bool {
		r := l.req(o.req)
		if r.key != o.key || !r.used || r.follow == nil || r.follow.lastAt == neverAgain {
			return true
		}
		f := r.follow
		if f.orphan && (l.now-f.lastAt > int64(l.cfg.SettleMax) || seg.closing) {
			at := min(f.lastAt+int64(l.cfg.SettleMax), l.now)
			if f.begun && !f.first {
				at = min(at, f.start+l.abandonedTime(r))
			}
			r.assumed = true
			l.endFollowed(o.req, max(f.told, at))
			return true
		}
		if f.orphan {
			next = min(next, f.lastAt+int64(l.cfg.SettleMax)+1)
		}
		if l.now-f.lastAt <= patience && !seg.closing && r.followable {
			limit = min(limit, f.told)
			next = min(next, f.lastAt+patience+1)
		}
		return false
	})
	seg.followedLimit, seg.followedFrom = limit, next
}

// tellEnd queues the phases of an unstreamed request that has ended, and its end.
func (l *Ledger) tellEnd(e Event, i int32) {
	r := l.req(i)
	c := e.Counts
	f := r.follow
	if c.Known && c.Decode > 0 && (f == nil || !f.begun) {
		l.tellPhases(e, i, max(e.At-int64(c.Decode), r.arrived), int64(c.Prefill))
		return
	}
	if f != nil {
		l.tellLooks(i)
	}
	switch {
	case f != nil && f.begun:
		if n := c.OutputTokens; n > 0 && !f.first {
			f.first, f.tokens = true, 1
			f.told = max(f.told+1, l.back(i, e.At, n))
			l.enqueue(Event{Kind: FirstToken, Request: r.key, At: f.told}, i)
		}
		l.tellTokens(i, e.At, c.OutputTokens)
		l.enqueue(e, i)
	case c.OutputTokens > 0:
		r.assumed = true
		first := max(l.back(i, e.At, c.OutputTokens), r.arrived)
		if f != nil {
			first = max(first, f.told)
		}
		l.tellPhases(e, i, first, int64(r.group.model.prefillTime(c.PromptTokens-c.CachedTokens)))
	default:
		l.enqueue(Event{Kind: assumeDecoding, Request: e.Request, At: r.arrived}, i)
		l.enqueue(e, i)
	}
}

// tellPhases queues a request's phases from its first token, its prefill's length and its end.
func (l *Ledger) tellPhases(e Event, i int32, first, prefill int64) {
	r := l.req(i)
	least := r.arrived
	if r.follow != nil {
		least = max(least, r.follow.told)
	}
	first = max(first, least)
	l.enqueue(Event{Kind: SlotStart, Request: r.key, At: max(first-prefill, least)}, i)
	l.enqueue(Event{Kind: FirstToken, Request: r.key, At: first}, i)
	steps := e.Counts.OutputTokens - 1
	n := min(steps, maxPieces)
	for k := int64(1); k <= n; k++ {
		at := first + int64(float64(e.At-first)*float64(k)/float64(n))
		l.enqueue(Event{Kind: Decode, Request: r.key, At: at, Tokens: steps*k/n - steps*(k-1)/n}, i)
	}
	l.enqueue(e, i)
}

// back is when request i's first token came, if it generated n tokens until at: as many steps back as a neighbour's tokens
// show, the rest at the usual pace.
func (l *Ledger) back(i int32, at, n int64) int64 {
	r := l.req(i)
	q := &l.queue
	neighbour, t := int32(-1), at
	for k := q.tail; k > q.toSegment && n > 1; k-- {
		e := q.at(k - 1)
		if e.at < r.arrived {
			return r.arrived
		}
		if e.kind != Decode || e.at > at || e.req == i || l.req(e.req).group != r.group {
			continue
		}
		if neighbour < 0 {
			neighbour = e.req
		}
		if e.req == neighbour {
			n -= e.n
			t = e.at
		}
	}
	return t - int64(float64(max(n-1, 0))*r.group.model.stepTime)
}

// deferStart reports whether a request that is only presumed to decode cannot do so yet, since others hold every slot.
func (l *Ledger) deferStart(e *queuedEvent, r *request) bool {
	g := r.group
	if g.slotCount == 0 || g.segHolders < g.slotCount {
		return false
	}
	g.deferred = append(g.deferred, followed{e.request, e.req})
	return true
}

// startDeferred lets the first of those start that waited for a slot, just after now.
func (l *Ledger) startDeferred(g *decodeGroup, now int64) {
	for len(g.deferred) > 0 && g.segHolders < g.slotCount {
		o := g.deferred[0]
		g.deferred = g.deferred[1:]
		if r := l.req(o.req); r.key == o.key && r.used && r.segPhase == meter.PhaseWaiting {
			l.queue.push(queuedEvent{at: now + 1, request: o.key, req: o.req, kind: assumeDecoding})
			return
		}
	}
}

// hushed notes that a stream showed no token while its neighbours took many steps.
func (l *Ledger) hushed(i int32, now int64) {
	r := l.req(i)
	if r.hushed || r.segPhase != meter.PhaseDecode {
		return
	}
	r.hushed = true
	l.segmenter.hushed = append(l.segmenter.hushed, followed{r.key, i})
	l.queue.push(queuedEvent{at: now + 1, request: r.key, req: i, kind: doubtful, on: true})
}

// endHung ends the streams that have shown no token for maxSilence while others did.
func (l *Ledger) endHung(limit int64) {
	seg := &l.segmenter
	if len(seg.hushed) == 0 {
		return
	}
	seg.hushed = slices.DeleteFunc(seg.hushed, func(o followed) bool {
		r := l.req(o.req)
		if r.key != o.key || !r.used || r.ended || !r.hushed {
			return true
		}
		at := r.segLastToken + maxSilence
		if at > limit {
			return false
		}
		r.ended, r.assumed = true, true
		l.enqueue(Event{Kind: End, Request: r.key, At: at}, o.req)
		return true
	})
}
