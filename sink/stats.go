package sink

import (
	"log/slog"
	"time"
)

// Counts are the totals of one kind of row since the start. Offered = Dropped + Written + Lost + waiting rows.
type Counts struct {
	Offered uint64
	Dropped uint64 // the oldest, because the queue was full; or refused, because it was stopped
	Written uint64
	Lost    uint64 // taken, but the store refused them for good or the stop's deadline passed
}

func (c *Counts) wrote(n int) { c.Written += uint64(n) }
func (c *Counts) lost(n int)  { c.Lost += uint64(n) }

// Stats is a snapshot of a Queue's counters.
type Stats struct {
	Requests    Counts
	Settled     Counts
	Samples     Counts // power, ledger, configs, gaps and prompts
	Waiting     int    // rows in the queue now
	StoreErrors uint64 // failed attempts to write
	LostAtStop  uint64
	LastError   string    // "" while the store works
	LastErrorAt time.Time // zero if it never failed
}

// Stats returns the counters as they are now.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Waiting = q.waiting.len()
	return s
}

// logInterval is the shortest time between two log lines about the same failure.
const logInterval = 30 * time.Second

// failureLog remembers what the writer has logged about failures.
type failureLog struct {
	now       bool // the last attempt failed
	logged    bool // a failure was logged since the last success
	loggedAt  time.Time
	unlogged  int    // failures since then
	dropped   uint64 // drops logged so far
	droppedAt time.Time
}

func (q *Queue) failed(err error, again bool) {
	now := time.Now()
	q.mu.Lock()
	q.stats.StoreErrors++
	q.stats.LastError = err.Error()
	q.stats.LastErrorAt = now
	if again {
		q.postponed++
		close(q.progress)
		q.progress = make(chan struct{})
	}
	q.mu.Unlock()
	f := &q.failures
	f.now = true
	if !f.loggedAt.IsZero() && now.Sub(f.loggedAt) < logInterval {
		f.unlogged++
		return
	}
	q.log.Error("rows are not being stored; traffic goes on", "error", err, "will_retry", again, "failures_unlogged", f.unlogged)
	f.logged, f.loggedAt, f.unlogged = true, now, 0
}

func (q *Queue) recovered() {
	if !q.failures.now {
		return
	}
	q.failures.now = false
	q.mu.Lock()
	q.stats.LastError = ""
	q.mu.Unlock()
	if q.failures.logged {
		q.failures.logged = false
		q.log.Info("rows are being stored again")
	}
}

// reportDrops logs drops from the writer's goroutine, so that no caller of Offer ever waits for a log.
func (q *Queue) reportDrops() {
	s := q.Stats()
	dropped := s.Requests.Dropped + s.Settled.Dropped + s.Samples.Dropped
	f := &q.failures
	if dropped == f.dropped || time.Since(f.droppedAt) < logInterval {
		return
	}
	q.log.Warn("the queue to the store was full: the oldest rows were dropped", slog.Uint64("dropped", dropped-f.dropped), slog.Uint64("dropped_in_all", dropped))
	f.dropped, f.droppedAt = dropped, time.Now()
}
