package attribution

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wattline/gpu"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/proxy"
	"wattline/proxy/llama"
)

// RouteObserver turns a route's exchanges into events of the ledger. It is the route's proxy.Observer.
type RouteObserver struct {
	keyBase  uint64 // the route's number, in the upper bits of every request's key
	index    int    // of the route
	devices  *routeDevices
	unbound  *ledgerSet         // takes the rows of requests for which no device is known
	slots    *llama.SlotTracker // nil: the upstream is not asked for its slots
	recorder *recorder          // nil: nothing is recorded
	clock    gpu.Clock
	offset   int64 // from the proxy's clock to clock

	mu   sync.Mutex // guards live and followed; a request's entry is used by one goroutine at a time
	live map[uint64]*liveRequest
}

// liveRequest is a request that makes the server compute.
type liveRequest struct {
	on    *deviceSet
	work  meter.Work
	trace requestTrace
	slot  *llama.TrackedRequest // nil: slots are not asked for

	followed bool // its client has left, and the server may go on

	promptTokens atomic.Int64 // as the reply tells them while it runs; 0: it does not
}

// newObserver makes the observer of a route.
func newObserver(p *Pipeline, index int) *RouteObserver {
	o := &RouteObserver{
		keyBase: uint64(index+1) << 48, index: index, devices: p.routes[index], unbound: p.settler.ledgers(index),
		recorder: p.recorder, clock: p.cfg.Clock, live: map[uint64]*liveRequest{},
	}
	if len(p.devices) > 0 && p.cfg.Slots != "off" {
		o.slots = llama.NewSlotTracker(llama.SlotTrackerConfig{
			Client: p.cfg.Routes[index].Client, Now: p.cfg.Clock.Now, Observe: o.slotSeen, Always: p.cfg.Slots == "on", Watched: p.cfg.Watched, Log: p.cfg.Log,
		})
	}
	return o
}

// Synchronise tells where the proxy's clock stands: it showed mono at the time wall. It must be called before the proxy
// serves.
func (o *RouteObserver) Synchronise(wall time.Time, mono int64) { o.offset = o.clock.At(wall) - mono }

// stamp converts a stamp of the proxy's clock, to whole microseconds: a recording holds these, and so says exactly what
// the ledger was told.
func (o *RouteObserver) stamp(at int64) int64 { return (at + o.offset) / 1000 * 1000 }

// slotSeen is told that a request was seen in a slot, or that its slot is idle. Under the lock nothing is told of a
// request after its end, neither to the ledger nor to the recording.
func (o *RouteObserver) slotSeen(s llama.SlotObservation) {
	step := energy.Event{Kind: energy.SlotSeen, Request: s.Request, At: s.At / 1000 * 1000, Slot: s.Slot, Tokens: s.Tokens}
	q, ok := s.Of.(*liveRequest)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	gone := o.live[s.Request&^o.keyBase] == nil
	switch {
	case s.Idle:
		step.Kind = energy.SlotIdle
	case gone && !q.followed:
		return
	case s.Look && s.Working:
		step.Kind = energy.Working
	case s.Look:
		step.Kind = energy.Waiting
	case gone:
		return
	default:
		step.At = s.At
		q.trace.slot, q.trace.slotAt = meter.Some(int64(s.Slot)), s.At
	}
	q.on.ledgers.Observe(step)
	o.recorder.look(q.on, step)
}

// slotOfReply takes the slot from the reply where that names it: llama-server's own /completion does, at its end. That is
// early enough only for a request whose phases show at its end too.
func (o *RouteObserver) slotOfReply(q *liveRequest, rec *meter.Record, end energy.Event) {
	if rec.Details == nil || !rec.Details.Slot.Valid || q.work.Streams || q.trace.slot.Valid {
		return
	}
	slot := rec.Details.Slot
	q.on.ledgers.Observe(energy.Event{Kind: energy.SlotSeen, Request: end.Request, At: q.trace.sent, Slot: int(slot.V)})
	q.trace.slot, q.trace.slotAt = slot, q.trace.sent
}

// asksForSlot reports whether a request names a slot, which is then the one that it gets.
func asksForSlot(w meter.Work) bool { return w.Slot.Valid && w.Slot.V >= 0 }

// Observe passes a step on to the ledger and to the samplers. Only requests that make the server compute count.
func (o *RouteObserver) Observe(e proxy.Event) {
	on := o.devices.current.Load()
	if on == nil {
		return
	}
	o.mu.Lock()
	if e.Step == proxy.RequestSent && e.Work.Computes {
		o.live[e.Seq] = &liveRequest{on: on, work: e.Work}
	}
	q := o.live[e.Seq]
	o.mu.Unlock()
	if q == nil {
		return
	}
	step := energy.Event{Request: o.keyBase | e.Seq, At: o.stamp(e.At)}
	switch e.Step {
	case proxy.RequestSent:
		q.trace.sent, q.trace.bytes = step.At, e.Bytes
		step.Kind, step.Late, step.PromptHint = energy.Arrive, !q.work.Streams, e.Bytes
		step.Followed, step.Slots = o.slots.Follows(), o.slots.Count()
		q.trace.followed, q.trace.slots = step.Followed, step.Slots
		q.on.ledgers.Observe(step)
		if o.slots != nil {
			tracked := o.slots.RequestSent(step.Request, step.At, q.work, e.Bytes, q)
			o.mu.Lock()
			q.slot = tracked // the live page reads it
			o.mu.Unlock()
		}
		phase := meter.PhaseWaiting
		if !q.work.Streams { // its phases show only at its end; the samplers should know at once that it works
			phase = meter.PhasePrefill
		}
		q.tell(step, phase)
	case proxy.HeadersReceived:
		if q.work.Streams && e.Status < 400 { // a refused request never had a slot
			q.trace.headers = step.At
			step.Kind, step.Slot, step.SlotKnown = energy.SlotStart, int(q.work.Slot.V), asksForSlot(q.work)
			if step.SlotKnown {
				o.mu.Lock()
				q.trace.slot, q.trace.slotAt = q.work.Slot, 0
				o.mu.Unlock()
			}
			q.on.ledgers.Observe(step)
			if q.slot != nil {
				q.slot.SlotStarted(step.At)
			}
			q.tell(step, meter.PhasePrefill)
		}
	case proxy.OutputReceived:
		if e.Progress.Outputs > 0 {
			if o.recorder != nil {
				q.trace.output(step.At, e.Progress.Outputs)
			}
			if q.slot != nil {
				q.slot.OutputReceived(step.At, e.Progress.Outputs)
			}
		}
		q.progress(step, e.Progress)
	case proxy.RequestArrived:
	}
}

// progress tells the ledger what the reply says of the prompt and of tokens.
func (q *liveRequest) progress(step energy.Event, p meter.Progress) {
	if p.PrefillTotal > 0 {
		step.Kind, step.Tokens, step.Total = energy.Progress, p.PrefillDone, p.PrefillTotal
		q.on.ledgers.Observe(step)
		if q.trace.prompt == 0 {
			q.trace.prompt, q.trace.promptAt = p.PrefillTotal, step.At
			q.promptTokens.Store(p.PrefillTotal)
		}
	}
	if p.Outputs == 0 {
		return
	}
	n := p.Outputs
	if p.First {
		step.Kind = energy.FirstToken
		q.on.ledgers.Observe(step)
		q.tell(step, meter.PhaseDecode)
		n--
	}
	for range n { // one by one, as a recording has them
		step.Kind, step.Tokens = energy.Decode, 1
		q.on.ledgers.Observe(step)
	}
}

// tell tells the samplers of the request's devices its phase.
func (q *liveRequest) tell(step energy.Event, phase meter.Phase) {
	q.on.activity.Observe(gpu.Event{At: step.At, Request: step.Request, Phase: phase, Slot: -1})
}

// refused reports whether the server turned the request away before it computed anything. A stream's status says so; an
// unstreamed 500 may be the end of work that failed.
func refused(rec *meter.Record, streams bool) bool {
	switch s := rec.Status.V; s {
	case http.StatusNotImplemented, http.StatusServiceUnavailable:
		return true
	default:
		return s >= 400 && (streams || s < 500)
	}
}

// hasServerCounts reports whether a row's tokens are the server's own count.
func hasServerCounts(rec *meter.Record) bool {
	return rec.PromptTokens.Valid && rec.OutputTokens.Valid && rec.TokenSource != meter.TokensFromEvents
}

// Done takes over a finished row, with the counts that close the request's account.
func (o *RouteObserver) Done(seq uint64, at int64, rec *meter.Record) {
	o.mu.Lock()
	q := o.live[seq]
	delete(o.live, seq)
	if q != nil {
		q.followed = q.slot != nil && rec.Outcome == meter.Cancelled && o.slots.Follows()
	}
	o.mu.Unlock()
	if q == nil {
		o.unbound.Done(rec, energy.Event{})
		return
	}
	end := energy.Event{Kind: energy.End, Request: o.keyBase | seq, At: o.stamp(at)}
	end.Counts = energy.Counts{
		Known:        hasServerCounts(rec),
		PromptTokens: rec.PromptTokens.V, CachedTokens: rec.CachedTokens.V, OutputTokens: rec.OutputTokens.V,
		MaxTokens: rec.MaxTokens.V,
		Cancelled: rec.Outcome == meter.Cancelled, Refused: refused(rec, q.work.Streams), Several: q.work.Several,
		Prefill: time.Duration(rec.PrefillUs.V) * time.Microsecond, Decode: time.Duration(rec.DecodeUs.V) * time.Microsecond,
	}
	q.tell(end, meter.PhaseDone)
	if q.slot != nil {
		defer q.slot.Ended(end.At, end.Counts.Cancelled) // what is seen of it from now on comes after its end
	}
	o.slotOfReply(q, rec, end)
	o.recorder.request(o.index, q, rec, end)
	q.on.ledgers.Done(rec, end)
}
