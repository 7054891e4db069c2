package gpu

// edgeTracker narrows down when an energy counter took the value that a read returned, and plans the
// next read.
//
// A read of a counter that steps every 100 ms returns its value of up to 100 ms ago: 60 J at 600 W. From
// one read, the step lies in (Before - period, After]; an earlier read that still saw the old value, or
// one that saw the same, narrows that down. Steps keep their period (0.2 ms in 56 s on an H100), so a
// step that was narrowed down once predicts those that follow, and one read a second is as good as fifty.
//
// What is known is kept as intervals, so that nothing is taken as more exact than it was measured.
type edgeTracker struct {
	period span  // ns; zero: unknown, or the counter moves at every read
	maxGap int64 // ns; where it moves at every read: it has moved within so long before any read
	prev   Tick

	lock            span  // the last step that a read narrowed down; zero: none
	ref             span  // the first one since the steps are tracked
	steps           int64 // steps from ref to lock
	firstOfPair     bool  // the last read was meant to be just before a step
	replacesRegular bool  // that pair takes the place of two regular reads
	nextIsRegular   bool  // the moment that next returned counts as a regular read, though it is soon,
	skipsNext       bool  // and the read after it comes one regular interval later

	since int64 // After of the first read that saw prev's value
}

// span is an interval of time or of durations, in nanoseconds.
type span struct{ lo, hi int64 }

func (s span) width() int64      { return s.hi - s.lo }
func (s span) mid() int64        { return s.lo + (s.hi-s.lo)/2 }
func (s span) and(o span) span   { return span{max(s.lo, o.lo), min(s.hi, o.hi)} }
func (s span) empty() bool       { return s.lo >= s.hi }
func (s span) known() bool       { return s.hi != 0 }
func (s span) shift(d span) span { return span{s.lo + d.lo, s.hi + d.hi} }

const (
	edgeFirstNs     = 1e9   // no counter steps less often, as far as is known before it was seen to step
	edgeDriftPPM    = 20    // what two clocks may drift apart, always allowed for
	edgeKeptPart    = 3     // of a period: a step that is placed no better is placed anew
	replacingPairNs = 8e9   // the most that may lie between two pairs that take the place of regular reads
	edgeRoomNs      = 1e6   // a read is planned this far from where a step may be
	edgeRenewNs     = 60e9  // a lock older than this is renewed
	edgeForgetNs    = 600e9 // and not used when older than this
)

// setPeriod sets the counter's period as a probe measured it.
func (e *edgeTracker) setPeriod(p span) { *e = edgeTracker{period: p, maxGap: e.maxGap, prev: e.prev} }

// reset forgets all but the period: after a lost device or a counter reset.
func (e *edgeTracker) reset() { *e = edgeTracker{period: e.period, maxGap: e.maxGap} }

// observe sets t.Lo and t.Hi. Reads come in order.
func (e *edgeTracker) observe(t *Tick) {
	seen := e.seen(*t)
	if e.period.known() {
		expected, ok := e.predicted(*t)
		both := seen
		if ok {
			both = expected.and(seen)
		}
		switch {
		case both.empty(): // the steps do not follow the period any more
			e.lock = span{}
		case ok && both.width() < expected.width(), !ok && both.width() <= e.period.lo/2 && both.hi != e.lock.hi:
			e.relock(both)
			seen = both
		default:
			seen = both
		}
	}
	t.Lo, t.Hi = seen.lo, seen.hi
	if !e.prev.OK || t.Uj != e.prev.Uj {
		e.since = t.After
	}
	e.prev = *t
}

// stillNs returns for how long the counter has not moved, as the last read saw it.
func (e *edgeTracker) stillNs() int64 {
	if !e.prev.OK {
		return 0
	}
	return e.prev.Before - e.since
}

// seen returns where the reads alone place the step that led to t's value.
func (e *edgeTracker) seen(t Tick) span {
	s := span{t.Before - e.period.hi, t.After}
	switch {
	case !e.prev.OK:
		if !e.period.known() { // it may have stood there for long
			s.lo = t.Before - max(e.maxGap, edgeFirstNs)
		}
	case t.Uj != e.prev.Uj:
		s.lo = e.prev.Before
		switch {
		case e.period.known():
			s.lo = max(s.lo, t.Before-e.period.hi)
		case e.maxGap > 0:
			s.lo = max(s.lo, t.Before-e.maxGap)
		}
	default:
		same := span{max(e.prev.Lo, s.lo), e.prev.Hi}
		if !e.period.known() || same.empty() { // no period, or it stands still: the step is the old one
			return span{e.prev.Lo, e.prev.Hi}
		}
		return same
	}
	return s
}

// relock takes a step that a read has narrowed down as the one to count from, and sharpens the period by
// it.
func (e *edgeTracker) relock(s span) {
	if !e.lock.known() {
		e.ref, e.lock, e.steps = s, s, 0
		return
	}
	n := (s.hi - e.lock.lo) / e.period.lo // the most steps that fit, and below the least
	if least := (s.lo - e.lock.hi + e.period.hi - 1) / e.period.hi; n != least || n == 0 {
		e.ref, e.lock, e.steps = s, s, 0 // it cannot be told how many steps went by
		return
	}
	total := e.steps + n
	slack := e.period.mid() * edgeDriftPPM / 1e6
	p := e.period.and(span{(s.lo-e.ref.hi)/total - slack, (s.hi-e.ref.lo)/total + slack})
	if p.empty() { // another period than it was: count anew
		e.ref, e.lock, e.steps = s, s, 0
		return
	}
	e.period, e.lock, e.steps = p, s, total
}

// predicted returns where the period places the last step before t's value was read. It is silent
// where a step may fall into the call itself: either side of it may be what was read.
func (e *edgeTracker) predicted(t Tick) (span, bool) {
	if !e.locked(t.Before) {
		return span{}, false
	}
	for n := (t.Before - e.lock.hi) / e.period.hi; ; n++ {
		s := e.step(n)
		if s.hi > t.Before {
			return span{}, false
		}
		if e.step(n+1).lo > t.After {
			return s, true
		}
	}
}

func (e *edgeTracker) locked(now int64) bool {
	return e.lock.known() && now >= e.lock.hi && now-e.lock.hi < edgeForgetNs
}

// step returns the bounds of the n-th step after the locked one.
func (e *edgeTracker) step(n int64) span {
	return e.lock.shift(span{n * e.period.lo, n * e.period.hi})
}

// extraReads are the reads beyond the regular pace that can be paid for.
type extraReads struct {
	some  bool // those that keep track of the steps, or find them again
	ample bool // those that only sharpen where the steps are
}

// next returns when to read, given that a read is wanted at or after t: just after a step while the
// steps are tracked; before and after a step where its interval has become wide, to halve it, or old, to confirm
// it. Where extra reads can be paid for, the next read is sooner than t while the steps are not tracked (every
// eighth of a period), or where at t one step could not be told from the next. Where they cannot, a pair takes
// the place of two regular reads.
func (e *edgeTracker) next(now, t int64, m extraReads) int64 {
	if e.nextIsRegular = false; !e.period.known() {
		return t
	}
	if e.stillNs() > 3*e.period.hi { // a counter that stands still has no step to find
		return t
	}
	if !e.locked(now) || e.stepAfter(now).width() > e.period.lo*3/4 { // lost, or one step cannot be told from the next
		if e.firstOfPair, e.replacesRegular, e.skipsNext = false, false, false; !m.some {
			return t
		}
		return min(t, now+e.period.lo/8)
	}
	if e.firstOfPair {
		e.firstOfPair, e.nextIsRegular, e.skipsNext, e.replacesRegular = false, e.replacesRegular, e.replacesRegular, false
		return e.stepAfter(now).hi + edgeRoomNs
	}
	if e.skipsNext {
		e.skipsNext = false
		t += t - now
	}
	most := e.period.lo / edgeKeptPart // wider than that it is about to be lost
	if m.ample {
		most = max(e.period.lo/16, 6*edgeRoomNs)
	}
	if !m.some {
		s := e.stepAfter(t)
		if s.width() > most && s.width() <= e.period.lo*3/4 && 2*(t-now) <= replacingPairNs {
			e.firstOfPair, e.replacesRegular = true, true
			return s.mid()
		}
		return s.hi + edgeRoomNs
	}
	s := e.stepAfter(max(now, min(t, e.clear())))
	switch {
	case s.width() > most: // halve it
		e.firstOfPair = true
		return max(now, s.mid())
	case t-e.lock.hi > edgeRenewNs: // confirm it
		e.firstOfPair = true
		return max(now, s.lo-edgeRoomNs)
	}
	return s.hi + edgeRoomNs
}

// clear returns up to when the period tells one step from the next with half a period to spare.
func (e *edgeTracker) clear() int64 {
	n := (e.period.lo/2 - e.lock.width()) / max(1, e.period.width())
	return e.lock.hi + max(1, n)*e.period.lo
}

// stepAfter returns the first step that ends after t.
func (e *edgeTracker) stepAfter(t int64) span {
	for n := max(0, (t-e.lock.hi)/e.period.hi); ; n++ {
		if s := e.step(n); s.hi+edgeRoomNs > t {
			return s
		}
	}
}

// longestGap returns, for a counter without a period, how long before any read its last step may lie: twice the
// longest time between two changes that the probe saw.
func longestGap(reads []Tick) (gap int64) {
	for last, i := 0, 1; i < len(reads); i++ {
		if reads[i].Uj != reads[i-1].Uj {
			gap, last = max(gap, reads[i].After-reads[last].Before), i
		}
	}
	return 2 * gap
}
