package energy

// queue keeps events in order of time between their arrival and their last reader. Two readers pass
// over it: front, which cuts windows, and back, which settles them; an event leaves behind back.
// Positions are absolute and never reused.
type queue struct {
	events ring[queued]
	back   uint64 // next event for back
	front  uint64 // next event for front
	tail   uint64 // one past the newest
}

// queued is what the passes need of an event. It is small, as those of some seconds lie in the queue: beyond
// what the processor's caches hold, an event costs what it takes to fetch it.
type queued struct {
	at      int64
	request uint64
	n       int64 // Decode: tokens; Progress: the total; SlotStart, SlotSeen: the slot; Temperature: milli °C
	req     int32 // index of the request, -1 for events of the device
	kind    Kind
	on      bool // Contended: On; SlotStart: SlotKnown; End: the server goes on (set by front)
}

// compact takes from an event what its kind has to say.
func compact(e *Event, req int32) queued {
	q := queued{at: e.At, request: e.Request, req: req, kind: e.Kind}
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

// before is the total order of events: by time, kind and request, then by what they say. It makes results
// independent of the order in which events of one time stamp were handed over.
func (e *queued) before(o *queued) bool {
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

// maxQueue bounds the memory that tokens can take: beyond it a Decode event is counted at its request
// and not queued.
const maxQueue = 1 << 16

func (q *queue) at(i uint64) *queued { return q.events.at(int(i - q.back)) }

func (q *queue) len() int { return q.events.len() }

// push inserts e behind every event that is not after it. Events come nearly sorted, so few move.
func (q *queue) push(e queued) {
	q.events.push(e)
	i := q.tail
	for i > q.front && e.before(q.at(i-1)) {
		*q.at(i) = *q.at(i - 1)
		i--
	}
	*q.at(i) = e
	q.tail++
}

// drop takes the event out that back has dealt with.
func (q *queue) drop() {
	q.events.pop()
	q.back++
	q.front = max(q.front, q.back) // at the very end back sees what front has not
}
