package sink

import (
	"slices"

	"wattline/meter"
)

// ring holds the waiting rows of one kind. Where there is no room for a row, the oldest one gives way.
type ring[T any] struct {
	rows []*T
	head int // index of the oldest row
}

// add reports whether a row had to give way.
func (r *ring[T]) add(row *T, capacity int) (dropped bool) {
	if len(r.rows) < capacity {
		r.rows = append(r.rows, row)
		return false
	}
	r.rows[r.head] = row
	r.head = (r.head + 1) % capacity
	return true
}

// take empties the ring. It returns the rows behind older ones, from the oldest to the newest, without those for which there
// is no room; their number is counted in drops.
func (r *ring[T]) take(older []*T, capacity int, drops *Counts) []*T {
	rows := slices.Concat(older, r.rows[r.head:], r.rows[:r.head])
	*r = ring[T]{}
	over := max(0, len(rows)-capacity)
	drops.Dropped += uint64(over)
	return rows[over:]
}

// waitingRows are the rows of all kinds that wait in a queue.
type waitingRows struct {
	requests, settled ring[meter.Record]
	power             ring[Power]
	ledger            ring[Ledger]
	configs           ring[ServerConfig]
	gaps              ring[Gaps]
	prompts           ring[Prompt]
}

func (w *waitingRows) len() int {
	return len(w.requests.rows) + len(w.settled.rows) + len(w.power.rows) + len(w.ledger.rows) + len(w.configs.rows) + len(w.gaps.rows) +
		len(w.prompts.rows)
}

// takeBehind moves all rows behind those of rows, see ring.take.
func (w *waitingRows) takeBehind(rows *Rows, capacity int, stats *Stats) {
	rows.Requests = w.requests.take(rows.Requests, capacity, &stats.Requests)
	rows.Settled = w.settled.take(rows.Settled, capacity, &stats.Settled)
	rows.Power = w.power.take(rows.Power, capacity, &stats.Samples)
	rows.Ledger = w.ledger.take(rows.Ledger, capacity, &stats.Samples)
	rows.Configs = w.configs.take(rows.Configs, capacity, &stats.Samples)
	rows.Gaps = w.gaps.take(rows.Gaps, capacity, &stats.Samples)
	rows.Prompts = w.prompts.take(rows.Prompts, capacity, &stats.Samples)
}
