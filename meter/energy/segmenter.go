package energy

import (
	"slices"
	"time"

	"wattline/meter"
)

// window is a span of time in which no request changed its phase.
type window struct {
	t0, t1    int64
	events    uint64  // position in the queue after its last event
	uj        int64   // energy received so far
	covered   int64   // ns for which energy was received
	lost      int64   // ns for which none is known
	shapeless float64 // uJ received in long slices without a shape

	inFlight, prefills, decoders int32                 // requests in each state
	complete                     bool                  // it has received all its energy
	tail                         bool                  // no request works, and one did within tailTime before its end
	estimated                    bool                  // some of its energy lies in a gap of the samples
	prefillSpan                  int                   // number of the latest prefill span
	steps                        [MaxUpstreams]float64 // decode steps of each group
}

// segmenter is the first pass: it cuts time into windows.
type segmenter struct {
	open         window // the window being built
	started      bool
	limit        int64
	closing      bool
	lastWork     int64 // when a request last prefilled or decoded
	windows      fifo[window]
	complete     int // how many of the oldest windows are complete
	prefillSpans [maxPrefillSpans]prefillSpan
	forgotten    int64             // prefill spans overwritten while a window still referred to them
	late         fifo[lateRequest] // requests that tell their phases only at their end, by arrival
	followed     []followed        // requests whose phases looks tell, and are needed now
	// Until followedFrom, windows may be cut up to followedLimit for their sake.
	followedFrom, followedLimit int64
	hushed                      []followed // streams that are silent while others are not
}

// prefillSpan is a stretch of time with requests in prefill, and the guessed work of their prompts.
type prefillSpan struct {
	t0, t1 int64                           // t1 is 0 while it goes on
	terms  [MaxUpstreams][unknowns]float64 // by group
	sized  bool                            // every prompt's size can be guessed
}

const maxPrefillSpans = 64

// lateRequest is a request with phases not known yet: no window past its arrival can be cut.
type lateRequest struct {
	key     uint64
	req     int32
	arrived int64
}

const (
	maxWindow = 250 * int64(time.Millisecond)
	// tailTime is how long after the last token the draw still belongs to the requests that worked last. It is also
	// the longest window while none has worked for less than that.
	tailTime = 100 * int64(time.Millisecond)
)

// arrive makes the state of a new request and queues its event.
func (l *Ledger) arrive(e Event) {
	if over := e.Upstream - MaxUpstreams + 1; over > 0 {
		l.allocator.stats.UpstreamsOverLimit = max(l.allocator.stats.UpstreamsOverLimit, int64(over))
		e.Upstream = MaxUpstreams - 1
	}
	if _, ok := l.byKey[e.Request]; ok || e.Upstream < 0 || e.Upstream >= len(l.groups) {
		l.allocator.stats.UnknownEvents++
		return
	}
	var i int32
	if n := len(l.freeRequests); n > 0 {
		i = l.freeRequests[n-1]
		l.freeRequests = l.freeRequests[:n-1]
	} else {
		i = l.created
		if l.created++; int(i) == len(l.reqs)*chunkLen {
			l.reqs = append(l.reqs, new([chunkLen]request))
		}
	}
	*l.req(i) = request{
		key: e.Request, group: l.groups[e.Upstream], hint: e.PromptHint, late: e.Late, used: true,
		slot: -1, arrived: e.At, prevStreaming: -1, nextStreaming: -1, followable: e.Followed,
	}
	if e.Slots > 0 {
		l.groups[e.Upstream].slotCount = e.Slots
	}
	l.byKey[e.Request] = i
	l.markBusy(l.groups[e.Upstream])
	if e.Late {
		l.segmenter.late.push(lateRequest{e.Request, i, max(e.At, l.segmenter.open.t0)})
	}
	l.enqueue(e, i)
}

// markBusy notes that a group has had a request.
func (l *Ledger) markBusy(g *decodeGroup) {
	if g.busy {
		return
	}
	g.busy = true
	at, _ := slices.BinarySearchFunc(l.busyGroups, g, func(a, b *decodeGroup) int { return a.index - b.index })
	l.busyGroups = slices.Insert(l.busyGroups, at, g)
}

// addEvent takes any later event of a known request.
func (l *Ledger) addEvent(e Event, i int32) {
	r := l.req(i)
	if e.Kind == Decode && l.queue.len() >= maxQueuedEvents {
		l.allocator.stats.UnqueuedDecodes++
		return
	}
	switch e.Kind {
	case Waiting, Working:
		l.addLook(e, i)
		return
	case SlotIdle:
		l.serverEnded(e, i)
		return
	case SlotStart:
		r.begun = e.At
	case FirstToken:
		r.showed = true
	case End:
		r.ended, r.counts = true, e.Counts
		if e.Counts.Cancelled && !e.Counts.Refused && (r.late || r.followable && !r.showed) {
			l.clientLeft(e, i)
			return
		}
		if r.late {
			l.addLatePhases(e, i)
			return
		}
	}
	if r.late && e.Kind != SlotSeen {
		return // its phases are told by End
	}
	l.enqueue(e, i)
}

// addLatePhases reconstructs the phases of a request that tells them only at its end.
func (l *Ledger) addLatePhases(e Event, i int32) {
	r := l.req(i)
	r.late = false
	c := e.Counts
	if c.Refused {
		l.enqueue(e, i)
		return
	}
	l.tellEnd(e, i)
}

// enqueue queues an event. One that is older than the open window is moved to its beginning.
func (l *Ledger) enqueue(e Event, i int32) {
	if l.segmenter.started && e.At < l.segmenter.open.t0 {
		e.At = l.segmenter.open.t0
		l.allocator.stats.LateEvents++
	}
	l.queue.push(newQueuedEvent(&e, i))
}

// segment cuts windows as far as events are known: up to now minus slack, and not past the arrival of a
// request with unknown phases, unless SettleMax has passed.
func (l *Ledger) segment() {
	seg := &l.segmenter
	seg.limit = max(seg.limit, l.now-slack)
	limit := seg.limit
	for ; seg.late.len() > 0; seg.late.pop() {
		o := *seg.late.at(0)
		if r := l.req(o.req); r.key != o.key || !r.late {
			continue // it has ended
		}
		if l.now <= l.lateUntil(o.req) && !seg.closing {
			limit = min(limit, o.arrived)
			break
		}
		l.overdue(o)
	}
	limit = l.followLimit(limit)
	l.endHung(limit)
	q := &l.queue
	for q.toSegment < q.tail {
		e := q.at(q.toSegment)
		if e.at > limit {
			break
		}
		l.segmentEvent(e)
		q.toSegment++
	}
	if seg.started {
		seg.roll(q.toSegment, limit)
		if seg.closing {
			seg.cut(q.toSegment, limit)
		}
	}
}

// segmentEvent cuts the window where an event changes a phase, and applies the change.
func (l *Ledger) segmentEvent(e *queuedEvent) {
	seg := &l.segmenter
	seg.start(e.at)
	seg.roll(l.queue.toSegment, e.at)
	if e.kind == Decode && l.req(e.req).segPhase == meter.PhaseDecode {
		l.countStep(e.req, e.at, e.n)
	}
	if !e.kind.changesPhase() {
		return
	}
	seg.cut(l.queue.toSegment, e.at)
	if e.req < 0 || l.req(e.req).key != e.request { // of the device, or of a request that has its result
		return
	}
	l.segmentPhase(e, l.req(e.req))
}

// start opens the first window.
func (seg *segmenter) start(at int64) {
	if !seg.started {
		seg.started, seg.open.t0, seg.lastWork = true, at, at-tailTime
	}
}

// segmentPhase counts the request in its new phase.
func (l *Ledger) segmentPhase(e *queuedEvent, r *request) {
	o := &l.segmenter.open
	m := &r.group.model
	switch e.kind {
	case Arrive:
		o.inFlight++
		r.guess = int64(float64(r.hint) * m.tokensPerHint())
	case SlotStart:
		if r.segPhase == meter.PhaseWaiting {
			r.segPhase, r.segStart, r.segAlone = meter.PhasePrefill, e.at, o.prefills == 0
			l.segmenter.joinPrefillSpan(r, e.at)
			o.prefills++
			r.group.segHolders++
		}
	case assumeDecoding:
		if r.segPhase == meter.PhaseWaiting {
			if e.on = l.deferStart(e, r); e.on {
				return
			}
			r.segPhase, r.segLastToken = meter.PhaseDecode, e.at
			o.decoders++
			r.group.segHolders++
		}
	case FirstToken:
		if r.segPhase == meter.PhasePrefill {
			r.segPhase = meter.PhaseDecode
			l.segmenter.leavePrefill(e.at)
			o.decoders++
			r.segAlone = r.segAlone && o.prefills == 0
			r.segFirst, r.segLastToken = e.at, e.at
			l.startStreaming(e.req)
		}
	case End:
		if r.counts.Known && !l.cfg.Frozen {
			m.learnPrompt(r, r.counts)
		}
		if r.follow != nil && r.follow.orphan {
			e.on = true // the server may go on
			return
		}
		if r.counts.Cancelled && r.segPhase == meter.PhasePrefill {
			if at := r.segStart + int64(min(m.prefillTime(r.guess), l.cfg.SettleMax)); at > e.at {
				e.on = true // the server finishes the prefill
				l.queue.push(queuedEvent{at: at, request: e.request, req: e.req, kind: orphanEnd})
				return
			}
		}
		l.leave(e.req, e.at)
	case SlotIdle, orphanEnd:
		if r.segPhase != meter.PhaseDone && (r.ended || e.kind == orphanEnd) {
			l.leave(e.req, e.at)
		}
	}
}

// joinPrefillSpan adds a prompt to the open span, or opens one.
func (seg *segmenter) joinPrefillSpan(r *request, now int64) {
	o := &seg.open
	if o.prefills == 0 {
		o.prefillSpan++
		if seg.windows.len() > 0 && seg.windows.at(0).prefillSpan <= o.prefillSpan-maxPrefillSpans && o.prefillSpan > maxPrefillSpans {
			seg.forgotten++
		}
		seg.prefillSpans[o.prefillSpan%maxPrefillSpans] = prefillSpan{t0: now, sized: true}
	}
	s := &seg.prefillSpans[o.prefillSpan%maxPrefillSpans]
	t := promptTerms(r.guess, 0)
	for i := range t {
		s.terms[r.group.index][i] += t[i]
	}
	s.sized = s.sized && r.hint > 0
}

// leavePrefill takes a prompt out of the open span.
func (seg *segmenter) leavePrefill(now int64) {
	if seg.open.prefills--; seg.open.prefills == 0 {
		seg.prefillSpans[seg.open.prefillSpan%maxPrefillSpans].t1 = now
	}
}

// leave takes a request out of its phase; the server has finished with it.
func (l *Ledger) leave(i int32, now int64) {
	r := l.req(i)
	l.stopStreaming(i)
	held := r.segPhase == meter.PhasePrefill || r.segPhase == meter.PhaseDecode
	l.segmenter.leave(r)
	if held {
		r.group.segHolders--
		l.startDeferred(r.group, now)
	}
}

func (seg *segmenter) leave(r *request) {
	o := &seg.open
	switch r.segPhase {
	case meter.PhasePrefill:
		seg.leavePrefill(o.t0)
	case meter.PhaseDecode:
		o.decoders--
	case meter.PhaseDone:
		return
	}
	o.inFlight--
	r.segPhase = meter.PhaseDone
}

// roll cuts the open window at the greatest length until it reaches t.
func (seg *segmenter) roll(events uint64, t int64) {
	for {
		length := maxWindow
		if seg.open.t0 < seg.lastWork+tailTime {
			length = tailTime
		}
		if t-seg.open.t0 <= length {
			return
		}
		seg.cut(events, seg.open.t0+length)
	}
}

// cut closes the open window at t and opens the next one with the same requests in each phase.
func (seg *segmenter) cut(events uint64, t int64) {
	o := &seg.open
	if t <= o.t0 {
		return
	}
	if o.prefills+o.decoders > 0 {
		seg.lastWork = t
	}
	o.tail = o.prefills+o.decoders == 0 && t <= seg.lastWork+tailTime
	o.t1, o.events = t, events
	seg.windows.push(*o)
	o.t0 = t
	o.steps = [MaxUpstreams]float64{}
}
