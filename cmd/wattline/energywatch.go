package main

import (
	"net/http"
	"sync"
	"time"

	"wattline/gpu"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/sink/attribution"
)

// watched is a route's exchanges as energy sees them: it is the route's proxy.Observer.
type watched struct {
	rows     *rows
	power    *power
	route    uint64 // in the upper bits of every request's key
	index    int    // of the route
	name     string // of the route
	binding  *binding
	nowhere  *attribution.Upstream // takes the rows of requests that no device is known of
	slots    *llama.SlotTracker    // nil: slots are not asked for
	resident *resident             // nil: the upstream is not of this machine
	facts    *facts                // what the upstream is
	offset   int64                 // from the proxy's clock to power's

	mu   sync.Mutex // guards live; a request's entry is used by one goroutine at a time
	live map[uint64]*liveRequest
}

// liveRequest is a request that makes the server compute.
type liveRequest struct {
	on   *bound
	work meter.Work
	tape tape
	slot *llama.TrackedRequest // nil: slots are not asked for
}

// watch makes a route's observer.
func (p *power) watch(a *app, r *rows, index int, route *servedRoute) *watched {
	w := &watched{rows: r, power: p, index: index, name: route.Name, binding: p.bindings[index], route: uint64(index+1) << 48, live: map[uint64]*liveRequest{}}
	w.nowhere = p.settler.Upstream(index)
	if len(p.devices) > 0 && p.slots != "off" {
		w.slots = llama.NewSlotTracker(llama.SlotTrackerConfig{Client: route.client, Now: p.clock.Now, Observe: w.sighted, Always: p.slots == "on", Log: a.log})
	}
	whose, machine := processesOf(route.Upstream)
	w.resident = watchResident(whose, machine)
	w.facts = p.learnFacts(r, route, w.binding, whose, machine)
	p.watching = append(p.watching, w)
	return w
}

// sighted is told that a request was seen in a slot, or its slot idle. The lock makes sure that nothing
// is told of a request behind its end, in the ledger as in the recording.
func (w *watched) sighted(s llama.SlotObservation) {
	step := energy.Event{Kind: energy.SlotSeen, Request: s.Request, At: s.At, Slot: s.Slot}
	if s.Idle {
		step.Kind = energy.SlotIdle
		if on := w.binding.bound.Load(); on != nil {
			on.upstream.Observe(step)
			if w.power.recorder != nil {
				w.power.recorder.idle(on, s.Request, s.At)
			}
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if q := w.live[s.Request&^w.route]; q != nil {
		q.tape.slot, q.tape.slotAt = meter.Some(int64(s.Slot)), s.At
		q.on.upstream.Observe(step)
	}
}

// synchronise learns the proxy's clock.
func (w *watched) synchronise(s *proxy.Server) {
	wall, mono := s.Clock()
	w.offset = w.power.clock.At(wall) - mono
}

// stamp turns a stamp of the proxy's clock into one of power's, in whole microseconds: what a recording
// holds, so that it says exactly what was used.
func (w *watched) stamp(at int64) int64 { return (at + w.offset) / 1000 * 1000 }

// slotOfReply takes the slot from the reply where that names it (llama-server's own /completion does, at
// its end). Only of a request whose phases show at its end too does it come in time.
func (w *watched) slotOfReply(q *liveRequest, rec *meter.Record, end energy.Event) {
	if rec.Details == nil || !rec.Details.Slot.Valid {
		return
	}
	slot := rec.Details.Slot
	if !q.work.Streams && !q.tape.slot.Valid {
		q.on.upstream.Observe(energy.Event{Kind: energy.SlotSeen, Request: end.Request, At: q.tape.sent, Slot: int(slot.V)})
		q.tape.slot, q.tape.slotAt = slot, q.tape.sent
	}
}

// asksForSlot says whether a request insists on a slot, which is then the one that it gets.
func asksForSlot(w meter.Work) bool { return w.Slot.Valid && w.Slot.V >= 0 }

// Observe passes a step on to the ledger and to whoever watches activity. Only requests that make the
// server compute count: a route that is not metered costs the device nothing that could be told.
func (w *watched) Observe(e proxy.Event) {
	on := w.binding.bound.Load()
	if on == nil {
		return
	}
	w.mu.Lock()
	if e.Step == proxy.RequestSent && e.Work.Computes {
		w.live[e.Seq] = &liveRequest{on: on, work: e.Work}
	}
	q := w.live[e.Seq]
	w.mu.Unlock()
	if q == nil {
		return
	}
	step := energy.Event{Request: w.route | e.Seq, At: w.stamp(e.At)}
	switch e.Step {
	case proxy.RequestSent:
		q.tape.sent = step.At
		step.Kind, step.Late, step.PromptHint = energy.Arrive, !q.work.Streams, e.Bytes
		q.on.upstream.Observe(step)
		if w.slots != nil {
			q.slot = w.slots.RequestSent(step.Request, step.At, q.work, e.Bytes)
		}
		phase := meter.PhaseWaiting
		if !q.work.Streams { // its phases show only at its end; that it works now is still worth knowing
			phase = meter.PhasePrefill
		}
		w.tell(q, step, phase)
	case proxy.HeadersReceived:
		if q.work.Streams && e.Status < 400 { // what is refused never got a slot
			q.tape.headed = step.At
			step.Kind, step.Slot, step.SlotKnown = energy.SlotStart, int(q.work.Slot.V), asksForSlot(q.work)
			if step.SlotKnown {
				q.tape.slot, q.tape.slotAt = q.work.Slot, 0
			}
			q.on.upstream.Observe(step)
			if q.slot != nil {
				q.slot.SlotStarted(step.At)
			}
			w.tell(q, step, meter.PhasePrefill)
		}
	case proxy.OutputReceived:
		if e.Progress.Outputs > 0 {
			if w.power.recorder != nil {
				q.tape.produced(step.At, e.Progress.Outputs)
			}
			if q.slot != nil {
				q.slot.OutputReceived(e.Progress.Outputs)
			}
		}
		w.produced(q, step, e.Progress)
	case proxy.RequestArrived:
	}
}

func (w *watched) produced(q *liveRequest, step energy.Event, p meter.Progress) {
	if p.PrefillTotal > 0 {
		step.Kind, step.Tokens, step.Total = energy.Progress, p.PrefillDone, p.PrefillTotal
		q.on.upstream.Observe(step)
		if q.tape.prompt == 0 {
			q.tape.prompt, q.tape.promptAt = p.PrefillTotal, step.At
		}
	}
	if p.Outputs == 0 {
		return
	}
	n := p.Outputs
	if p.First {
		step.Kind = energy.FirstToken
		q.on.upstream.Observe(step)
		w.tell(q, step, meter.PhaseDecode)
		n--
	}
	for range n { // one by one, as a recording has them
		step.Kind, step.Tokens = energy.Decode, 1
		q.on.upstream.Observe(step)
	}
}

func (w *watched) tell(q *liveRequest, step energy.Event, phase meter.Phase) {
	q.on.activity.Observe(gpu.Event{At: step.At, Request: step.Request, Phase: phase, Slot: -1})
}

// refused says that the server turned the request away before it computed anything. Streams are told so by
// their head; an unstreamed 500 may be the end of work that failed.
func refused(rec *meter.Record, streams bool) bool {
	switch s := rec.Status.V; s {
	case http.StatusNotImplemented, http.StatusServiceUnavailable:
		return true
	default:
		return s >= 400 && (streams || s < 500)
	}
}

// Done prices a finished row and hands it to the settler, with the counts that close its account.
func (w *watched) Done(seq uint64, at int64, rec *meter.Record) {
	w.rows.price(rec)
	w.rows.keepGaps(rec)
	rec.RAMBytes = w.resident.now()
	w.facts.stamp(rec)
	w.mu.Lock()
	q := w.live[seq]
	delete(w.live, seq)
	w.mu.Unlock()
	if q == nil {
		w.nowhere.Done(rec, energy.Event{})
		return
	}
	end := energy.Event{Kind: energy.End, Request: w.route | seq, At: w.stamp(at)}
	end.Counts = energy.Counts{
		Known:        rec.PromptTokens.Valid && rec.OutputTokens.Valid && rec.TokenSource != meter.TokensFromEvents,
		PromptTokens: rec.PromptTokens.V, CachedTokens: rec.CachedTokens.V, OutputTokens: rec.OutputTokens.V,
		Cancelled: rec.Outcome == meter.Cancelled, Refused: refused(rec, q.work.Streams), Several: q.work.Several,
		Prefill: time.Duration(rec.PrefillUs.V) * time.Microsecond, Decode: time.Duration(rec.DecodeUs.V) * time.Microsecond,
	}
	w.tell(q, end, meter.PhaseDone)
	if q.slot != nil {
		q.slot.Ended(end.At, end.Counts.Cancelled)
	}
	w.slotOfReply(q, rec, end)
	if w.power.recorder != nil {
		w.power.recorder.request(w, q, rec, end)
	}
	q.on.upstream.Done(rec, end)
}
