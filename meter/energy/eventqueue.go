package energy

// eventQueue keeps events in order of time. The segmenter reads them first, the allocator last; then they are
// dropped. Positions count from the first event ever queued.
type eventQueue struct {
	events     fifo[queuedEvent]
	toAllocate uint64 // next event for the allocator
	toSegment  uint64 // next event for the segmenter
	tail       uint64 // one past the newest
}

// queuedEvent is the part of an Event that the passes need. It is small, because events of some seconds lie in
// the queue and should fit into the processor's caches.
type queuedEvent struct {
	at      int64
	request uint64
	n       int64 // Decode: tokens; Progress: the total; SlotStart, SlotSeen: the slot; Temperature: milli °C
	req     int32 // index of the request, -1 for events of the device
	kind    Kind
	on      bool // Contended: On; SlotStart: SlotKnown; End: the server finishes the prefill (set by the segmenter)
}

// newQueuedEvent takes the fields that matter for the event's kind.
func newQueuedEvent(e *Event, req int32) queuedEvent {
	q := queuedEvent{at: e.At, request: e.Request, req: req, kind: e.Kind}
	switch e.Kind {
	case Decode:
		q.n = e.Tokens
	case Progress:
		q.n = e.Total
	case SlotStart:
		q.n, q.on = int64(e.Slot), e.SlotKnown
	case SlotSeen:
		q.n = int64(e.Slot)
	case Temperature:
		q.n = e.MilliC
	case Contended:
		q.on = e.On
	}
	return q
}

// before is a total order of events, by time, kind, request and content. It makes results independent of the
// order in which events with the same stamp were handed over.
func (e *queuedEvent) before(o *queuedEvent) bool {
	if e.at != o.at {
		return e.at < o.at
	}
	if e.kind != o.kind {
		return e.kind < o.kind
	}
	if e.request != o.request {
		return e.request < o.request
	}
	if e.on != o.on {
		return o.on
	}
	return e.n < o.n
}

// maxQueuedEvents bounds the memory: beyond it Decode events are ignored (Stats.UnqueuedDecodes).
const maxQueuedEvents = 1 << 16

func (q *eventQueue) at(i uint64) *queuedEvent { return q.events.at(int(i - q.toAllocate)) }

func (q *eventQueue) len() int { return q.events.len() }

// push inserts e in order. Events come nearly sorted, so few move.
func (q *eventQueue) push(e queuedEvent) {
	q.events.push(e)
	i := q.tail
	for i > q.toSegment && e.before(q.at(i-1)) {
		*q.at(i) = *q.at(i - 1)
		i--
	}
	*q.at(i) = e
	q.tail++
}

// drop removes the event that the allocator has applied.
func (q *eventQueue) drop() {
	q.events.pop()
	q.toAllocate++
	q.toSegment = max(q.toSegment, q.toAllocate) // at Close the allocator may overtake the segmenter
}
