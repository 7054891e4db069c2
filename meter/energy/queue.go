package energy

// queue keeps events in order of time between their arrival and their last reader. Two readers pass
// over it: front, which cuts windows, and back, which settles them; an event leaves behind back.
// Positions are absolute and never reused.
type queue struct {
	buf   []queued // ring, length a power of two
	back  uint64   // next event for back
	front uint64   // next event for front
	tail  uint64   // one past the newest
}

type queued struct {
	Event
	req int32 // index of the request, -1 for events of the device
}

// maxQueue bounds the memory that tokens can take: beyond it a Decode event is counted at its request
// and not queued.
const maxQueue = 1 << 16

func newQueue() queue { return queue{buf: make([]queued, 1<<10)} }

func (q *queue) at(i uint64) *queued { return &q.buf[i&uint64(len(q.buf)-1)] }

func (q *queue) len() int { return int(q.tail - q.back) }

// push inserts e behind every event that is not after it. Events come nearly sorted, so few move.
func (q *queue) push(e queued) {
	if q.len() == len(q.buf) {
		q.grow()
	}
	i := q.tail
	for i > q.front && e.before(&q.at(i-1).Event) {
		*q.at(i) = *q.at(i - 1)
		i--
	}
	*q.at(i) = e
	q.tail++
}

func (q *queue) grow() {
	bigger := make([]queued, 2*len(q.buf))
	for i := q.back; i < q.tail; i++ {
		bigger[i&uint64(len(bigger)-1)] = *q.at(i)
	}
	q.buf = bigger
}
