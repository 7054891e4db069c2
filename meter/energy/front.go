package energy

import (
	"slices"
	"time"
)

// window is a span of time in which no request changed its phase.
type window struct {
	t0, t1  int64
	events  uint64 // queue position one past its last event
	uj      int64  // energy poured in so far
	covered int64  // ns for which energy was poured in

	inFlight, prefills, decoders int32                 // requests in each state
	filled                       bool                  // its energy is complete
	tail                         bool                  // nobody works, and somebody did less than tailTime ago
	estimated                    bool                  // some of its energy was shaped by the model alone, over a gap
	prompts                      int                   // which of the spans of prefill it belongs to
	steps                        [MaxUpstreams]float64 // decode steps of each group
}

// front is the pass that cuts time into windows.
type front struct {
	open    window // the window being built
	started bool
	limit   int64
	closing bool
	worked  int64 // when work last went on
	windows ring[window]
	fill    int // windows from the oldest on that are filled
	spans   [maxSpans]span
	dropped int64             // spans overwritten while a window still referred to them
	late    ring[lateRequest] // requests whose phases show at their end, in order of arrival
}

// span is a stretch of time with somebody in prefill, and what those prompts are guessed to hold.
type span struct {
	t0, t1 int64 // t1 is 0 while it goes on
	terms  [unknowns]float64
	hinted bool // every prompt's size is known or can be guessed
	group  *group
}

const maxSpans = 64

// lateRequest is a request before whose arrival no window can be cut yet.
type lateRequest struct {
	key     uint64
	req     int32
	arrived int64
}

const (
	maxWindow = 250 * int64(time.Millisecond)
	// tailTime is how long after the last token the draw still belongs to the last workers; it is also
	// the longest first window after a change.
	tailTime = 100 * int64(time.Millisecond)
)

// arrive takes an Arrive event: it makes the request's state and queues the event.
func (l *Ledger) arrive(e Event) {
	if over := e.Upstream - MaxUpstreams + 1; over > 0 {
		l.back.stats.UpstreamsOverLimit = max(l.back.stats.UpstreamsOverLimit, int64(over))
		e.Upstream = MaxUpstreams - 1
	}
	if _, ok := l.byKey[e.Request]; ok || e.Upstream < 0 || e.Upstream >= len(l.groups) {
		l.back.stats.UnknownEvents++
		return
	}
	var i int32
	if n := len(l.free); n > 0 {
		i = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		i = l.places
		if l.places++; int(i) == len(l.reqs)*chunkLen {
			l.reqs = append(l.reqs, new([chunkLen]request))
		}
	}
	*l.req(i) = request{
		key: e.Request, group: l.groups[e.Upstream], hint: e.PromptHint, late: e.Late, used: true,
		slot: -1, arrived: e.At, prevShown: -1, nextShown: -1,
	}
	l.byKey[e.Request] = i
	l.busyGroup(l.groups[e.Upstream])
	if e.Late {
		l.front.late.push(lateRequest{e.Request, i, max(e.At, l.front.open.t0)})
	}
	l.push(e, i)
}

// busyGroup notes that a group has requests.
func (l *Ledger) busyGroup(g *group) {
	if g.busy {
		return
	}
	g.busy = true
	at, _ := slices.BinarySearchFunc(l.busy, g, func(a, b *group) int { return a.index - b.index })
	l.busy = slices.Insert(l.busy, at, g)
}

// observe takes every other event of a known request.
func (l *Ledger) observe(e Event, i int32) {
	r := l.req(i)
	if e.Kind == Decode && l.queue.len() >= maxQueue {
		l.back.stats.UnqueuedDecodes++
		return
	}
	if e.Kind == End {
		r.ended, r.counts = true, e.Counts
		if r.late {
			l.observeLate(e, i)
			return
		}
	}
	if r.late && e.Kind != SlotSeen {
		return // its phases come with End
	}
	l.push(e, i)
}

// observeLate writes the phases of a request that tells them only at its end.
func (l *Ledger) observeLate(e Event, i int32) {
	r := l.req(i)
	r.late = false
	c := e.Counts
	if c.Refused {
		l.push(e, i)
		return
	}
	first := max(e.At-int64(c.Decode), r.arrived)
	start := max(first-int64(c.Prefill), r.arrived)
	if !c.Known || c.Decode == 0 {
		l.push(Event{Kind: presume, Request: e.Request, At: r.arrived}, i)
		l.push(e, i)
		return
	}
	l.push(Event{Kind: SlotStart, Request: e.Request, At: start}, i)
	l.push(Event{Kind: FirstToken, Request: e.Request, At: first}, i)
	const most = 64
	steps := c.OutputTokens - 1
	n := min(steps, most)
	for k := int64(1); k <= n; k++ {
		at := first + int64(float64(e.At-first)*float64(k)/float64(n))
		l.push(Event{Kind: Decode, Request: e.Request, At: at, Tokens: steps*k/n - steps*(k-1)/n}, i)
	}
	l.push(e, i)
}

// push queues an event. What comes too late for its own time is taken as of the time already cut.
func (l *Ledger) push(e Event, i int32) {
	if l.front.started && e.At < l.front.open.t0 {
		e.At = l.front.open.t0
		l.back.stats.LateEvents++
	}
	l.queue.push(compact(&e, i))
}

// advanceFront cuts windows as far as events are known: up to now less the slack, and not past a
// request whose phases are unknown, unless settle_max has passed.
func (l *Ledger) advanceFront() {
	f := &l.front
	f.limit = max(f.limit, l.now-slack)
	limit := f.limit
	for ; f.late.len() > 0; f.late.pop() {
		o := *f.late.at(0)
		if r := l.req(o.req); r.key != o.key || !r.late {
			continue // it has ended
		}
		if l.now-o.arrived <= int64(l.cfg.SettleMax) && !f.closing {
			limit = min(limit, o.arrived)
			break
		}
		l.push(Event{Kind: presume, Request: o.key, At: o.arrived}, o.req)
	}
	q := &l.queue
	for q.front < q.tail {
		e := q.at(q.front)
		if e.at > limit {
			break
		}
		l.frontEvent(e)
		q.front++
	}
	if f.started {
		f.roll(q.front, limit)
		if f.closing {
			f.cut(q.front, limit)
		}
	}
}

// frontEvent cuts the window where the event changes a phase and applies the change.
func (l *Ledger) frontEvent(e *queued) {
	f := &l.front
	f.start(e.at)
	f.roll(l.queue.front, e.at)
	if e.kind == Decode && l.req(e.req).fphase == decoding {
		l.step(e.req, e.at, e.n)
	}
	if !e.kind.changesPhase() {
		return
	}
	f.cut(l.queue.front, e.at)
	if e.req < 0 || l.req(e.req).key != e.request { // of the device, or of a request that is over
		return
	}
	l.frontPhase(e, l.req(e.req))
}

// start opens the first window.
func (f *front) start(at int64) {
	if !f.started {
		f.started, f.open.t0, f.worked = true, at, at-tailTime
	}
}

// frontPhase counts the request in its new state.
func (l *Ledger) frontPhase(e *queued, r *request) {
	o := &l.front.open
	m := &r.group.model
	switch e.kind {
	case Arrive:
		o.inFlight++
		r.guess = int64(float64(r.hint) * m.tokensPerHint())
	case SlotStart:
		if r.fphase == waiting {
			r.fphase, r.fstart, r.flone = prefilling, e.at, o.prefills == 0
			l.front.joinSpan(r, e.at)
			o.prefills++
		}
	case presume:
		if r.fphase == waiting {
			r.fphase, r.flast = decoding, e.at
			o.decoders++
		}
	case FirstToken:
		if r.fphase == prefilling {
			r.fphase = decoding
			l.front.leavePrefill(e.at)
			o.decoders++
			r.flone = r.flone && o.prefills == 0
			r.ffirst, r.flast = e.at, e.at
			l.show(e.req)
		}
	case End:
		if r.counts.Known && !l.cfg.Frozen {
			m.learnPrompt(r, r.counts)
		}
		if r.counts.Cancelled && r.fphase == prefilling {
			if at := r.fstart + int64(min(m.prefillTime(r.guess), l.cfg.SettleMax)); at > e.at {
				e.on = true // the server goes on
				l.queue.push(queued{at: at, request: e.request, req: e.req, kind: ghostEnd})
				return
			}
		}
		l.hide(e.req)
		l.front.leave(r)
	case SlotIdle, ghostEnd:
		if r.fphase != done && (r.ended || e.kind == ghostEnd) {
			l.front.leave(r)
		}
	}
}

// joinSpan adds a prompt to the open span, or opens one.
func (f *front) joinSpan(r *request, now int64) {
	o := &f.open
	if o.prefills == 0 {
		o.prompts++
		if f.windows.len() > 0 && f.windows.at(0).prompts <= o.prompts-maxSpans && o.prompts > maxSpans {
			f.dropped++
		}
		f.spans[o.prompts%maxSpans] = span{t0: now, hinted: true, group: r.group}
	}
	s := &f.spans[o.prompts%maxSpans]
	t := promptTerms(r.guess, 0)
	for i := range t {
		s.terms[i] += t[i]
	}
	s.hinted = s.hinted && r.hint > 0
}

// leavePrefill takes a prompt out of the open span.
func (f *front) leavePrefill(now int64) {
	if f.open.prefills--; f.open.prefills == 0 {
		f.spans[f.open.prompts%maxSpans].t1 = now
	}
}

func (f *front) leave(r *request) {
	o := &f.open
	switch r.fphase {
	case prefilling:
		f.leavePrefill(o.t0)
	case decoding:
		o.decoders--
	case done:
		return
	}
	o.inFlight--
	r.fphase = done
}

// roll cuts the open window at its greatest length as often as needed to reach t.
func (f *front) roll(events uint64, t int64) {
	for {
		length := maxWindow
		if f.open.t0 < f.worked+tailTime {
			length = tailTime
		}
		if t-f.open.t0 <= length {
			return
		}
		f.cut(events, f.open.t0+length)
	}
}

// cut closes the open window at t and opens the next in the same state.
func (f *front) cut(events uint64, t int64) {
	o := &f.open
	if t <= o.t0 {
		return
	}
	if o.prefills+o.decoders > 0 {
		f.worked = t
	}
	o.tail = o.prefills+o.decoders == 0 && t <= f.worked+tailTime
	o.t1, o.events = t, events
	f.windows.push(*o)
	o.t0 = t
	o.steps = [MaxUpstreams]float64{}
}
