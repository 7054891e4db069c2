package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"wattline/meter"
)

// Config configures a Queue. Only Store is required.
type Config struct {
	Store Store
	// Capacity is the limit of waiting rows of each kind (default 8192, about 2 KB each).
	Capacity int
	// FlushInterval is how long the first row of a batch waits for more rows (default 50 ms). A row is committed
	// within FlushInterval plus one transaction, which bounds what a kill -9 can lose.
	FlushInterval time.Duration
	// MaxWait is how long rows of tables power and ledger wait for more rows (default 2 s). They come every
	// second; one transaction each would be most of the work of an idle wattline.
	MaxWait time.Duration
	// Observer is called with every row; nil: none.
	Observer Observer
	// Log receives one line when the store starts to fail, at most one every 30 s while it does, and one
	// when it works again. Default: slog.Default().
	Log *slog.Logger
}

const (
	defaultCapacity      = 8192
	defaultFlushInterval = 50 * time.Millisecond
	defaultMaxWait       = 2 * time.Second
)

// Queue stands between the traffic and the store. Offering never blocks; a full queue drops the oldest row of the
// kind and counts it. New starts one goroutine, which writes; Stop ends it and waits for it.
type Queue struct {
	store         Store
	observer      Observer
	capacity      int
	flushInterval time.Duration
	maxWait       time.Duration
	log           *slog.Logger

	wake     chan struct{} // cap 1: there is something to write
	later    chan struct{} // cap 1: rows that may wait MaxWait
	flushNow chan struct{} // cap 1: write now, do not wait for a larger batch
	done     chan struct{} // closed when the writer has ended

	ctx    context.Context // ends when Stop's deadline has passed
	cancel context.CancelFunc

	mu        sync.Mutex // guards what follows
	waiting   waitingRows
	closed    bool
	progress  chan struct{} // closed and replaced each time rows left the queue for good or failed to
	taken     uint64        // times that the writer has taken rows
	finished  uint64        // of them, those with all rows written or given up
	postponed uint64        // failed writes that will be retried
	stats     Stats

	failures failureLog // owned by the writer
}

// New returns a Queue; its writer runs until Stop.
func New(cfg Config) *Queue {
	q := &Queue{
		store:         cfg.Store,
		observer:      cfg.Observer,
		capacity:      cfg.Capacity,
		flushInterval: cfg.FlushInterval,
		maxWait:       cfg.MaxWait,
		log:           cfg.Log,
		wake:          make(chan struct{}, 1),
		later:         make(chan struct{}, 1),
		flushNow:      make(chan struct{}, 1),
		done:          make(chan struct{}),
		progress:      make(chan struct{}),
	}
	if q.capacity <= 0 {
		q.capacity = defaultCapacity
	}
	if q.flushInterval <= 0 {
		q.flushInterval = defaultFlushInterval
	}
	if q.maxWait <= 0 {
		q.maxWait = defaultMaxWait
	}
	if q.observer == nil {
		q.observer = NopObserver{}
	}
	if q.log == nil {
		q.log = slog.Default()
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go q.run() // ended by Stop, which waits on q.done
	return q
}

// Offer hands over a new request's row and reports whether it was taken; only a stopped queue takes none. The row belongs to
// the queue afterwards: the caller may read it but not change it.
func (q *Queue) Offer(rec *meter.Record) bool {
	q.observer.Offered(rec)
	return offer(q, &q.waiting.requests, rec, &q.stats.Requests, q.wake)
}

// Settle hands over a row when its energy columns have become final: the whole record, under the same rules as
// Offer. It must be a copy, not the record given to Offer.
func (q *Queue) Settle(rec *meter.Record) bool {
	q.observer.Settled(rec)
	return offer(q, &q.waiting.settled, rec, &q.stats.Settled, q.wake)
}

// OfferPower hands over one row of table power, on the same terms as Offer.
func (q *Queue) OfferPower(p *Power) bool {
	q.observer.Power(p)
	return offer(q, &q.waiting.power, p, &q.stats.Samples, q.later)
}

// OfferLedger hands over one row of table ledger, on the same terms as Offer.
func (q *Queue) OfferLedger(l *Ledger) bool {
	q.observer.Ledger(l)
	return offer(q, &q.waiting.ledger, l, &q.stats.Samples, q.later)
}

// OfferConfig hands over one row of table configs, on the same terms as Offer.
func (q *Queue) OfferConfig(c *ServerConfig) bool {
	return offer(q, &q.waiting.configs, c, &q.stats.Samples, q.wake)
}

// OfferGaps hands over one row of table itl_gaps, on the same terms as Offer.
func (q *Queue) OfferGaps(g *Gaps) bool {
	return offer(q, &q.waiting.gaps, g, &q.stats.Samples, q.wake)
}

// OfferPrompt hands over one row of table prompts, on the same terms as Offer.
func (q *Queue) OfferPrompt(p *Prompt) bool {
	return offer(q, &q.waiting.prompts, p, &q.stats.Samples, q.wake)
}

func offer[T any](q *Queue, waiting *ring[T], row *T, counts *Counts, wake chan struct{}) bool {
	q.mu.Lock()
	counts.Offered++
	if q.closed {
		counts.Dropped++
		q.mu.Unlock()
		return false
	}
	if waiting.add(row, q.capacity) {
		counts.Dropped++
	}
	almostFull := len(waiting.rows) == q.capacity/4
	q.mu.Unlock()
	signal(wake)
	if almostFull {
		signal(q.flushNow)
	}
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // already signalled
	}
}

// Flush waits until every row taken before the call has been written or given up, until an attempt to write them has
// failed (another follows), or until ctx ends.
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	target, before := q.taken, q.postponed
	if q.waiting.len() > 0 {
		target++
	}
	q.mu.Unlock()
	signal(q.flushNow)
	for {
		q.mu.Lock()
		behind, progress := q.finished < target, q.progress
		postponed, why := q.postponed > before, q.stats.LastError
		q.mu.Unlock()
		if !behind {
			return nil
		}
		if postponed && why != "" { // else a later attempt has succeeded
			return fmt.Errorf("sink: flush: rows wait: %s", why)
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("sink: flush: %w", ctx.Err())
		}
	}
}

// Stop refuses further rows, writes the waiting ones until ctx ends, and ends the writer. Rows that could not be written
// by then are counted as lost; the error has their number.
func (q *Queue) Stop(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.flushNow)
	signal(q.wake)
	stop := context.AfterFunc(ctx, q.cancel)
	defer stop()
	<-q.done
	q.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stats.LostAtStop > 0 {
		return fmt.Errorf("sink: %d rows could not be written before the deadline: %w", q.stats.LostAtStop, ctx.Err())
	}
	return nil
}

// run is the writer: it waits for a row, collects a batch, and writes it.
func (q *Queue) run() {
	defer close(q.done)
	for {
		q.waitForBatch()
		var rows Rows
		q.take(&rows)
		if rows.Len() > 0 {
			q.write(rows)
		}
		q.reportDrops()
		if q.ended() {
			return
		}
	}
}

// ended reports whether Stop has been called and no row waits.
func (q *Queue) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && q.waiting.len() == 0
}

// waitForBatch waits for a row, then until FlushInterval or MaxWait has passed.
func (q *Queue) waitForBatch() {
	wake, pause := q.wake, q.flushInterval
	select {
	case <-q.wake:
		wake = nil
	case <-q.later:
		pause = q.maxWait
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-q.flushNow:
			return
		case <-wake: // an urgent row came as well
			wake = nil
			timer.Reset(q.flushInterval)
		}
	}
}

// take moves the waiting rows behind those that the writer already has. It also drains the wake-ups for them.
func (q *Queue) take(rows *Rows) {
	for _, c := range []chan struct{}{q.wake, q.later} {
		select {
		case <-c:
		default:
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.len() > 0 {
		q.taken++
	}
	q.waiting.takeBehind(rows, q.capacity, &q.stats)
}

// write tries until the rows are committed, refused for good, or Stop's deadline has passed. Each further attempt takes along
// what came meanwhile, so that no more rows wait than there is room for, and the oldest give way.
func (q *Queue) write(rows Rows) {
	const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := q.tryWrite(&rows)
		if err == nil {
			q.finish(&rows, (*Counts).wrote)
			q.recovered()
			return
		}
		again := retryable(err) && q.ctx.Err() == nil
		q.failed(err, again)
		if again {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-q.flushNow: // a flush or a stop: try now
			case <-q.ctx.Done():
			}
			timer.Stop()
			q.take(&rows)
			q.reportDrops()
			if q.ctx.Err() == nil {
				continue
			}
		}
		if q.ctx.Err() != nil {
			q.mu.Lock()
			q.stats.LostAtStop += uint64(rows.Len())
			q.mu.Unlock()
		}
		q.finish(&rows, (*Counts).lost)
		return
	}
}

// tryWrite is one attempt. A panic in the store counts as an error: it must not end the process that carries
// the traffic.
func (q *Queue) tryWrite(rows *Rows) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("sink: the store panicked: %v", p)
		}
	}()
	return q.store.Write(q.ctx, rows)
}

func retryable(err error) bool {
	var r interface{ Retryable() bool }
	return errors.As(err, &r) && r.Retryable()
}

// finish counts rows that have left the queue and wakes callers of Flush.
func (q *Queue) finish(rows *Rows, count func(*Counts, int)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	count(&q.stats.Requests, len(rows.Requests))
	count(&q.stats.Settled, len(rows.Settled))
	count(&q.stats.Samples, len(rows.Power)+len(rows.Ledger)+len(rows.Configs)+len(rows.Gaps)+len(rows.Prompts))
	q.finished = q.taken
	close(q.progress)
	q.progress = make(chan struct{})
}
