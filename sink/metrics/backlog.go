package metrics

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
)

// maxBacklog bounds the rows that wait. When it is reached, the caller of add records its row itself, so
// memory is bounded and no row is lost.
const maxBacklog = 8192

// backlog takes the recording of rows, some microseconds each, off the data path: handing one over costs an
// append. Its goroutine is started by newBacklog; stop ends it and waits for it.
type backlog struct {
	record func(waiting)

	wake     chan struct{} // cap 1: there is something to record
	flushNow chan struct{} // cap 1: there is much
	quit     chan struct{} // closed by stop
	done     chan struct{} // closed when the goroutine has ended

	mu    sync.Mutex // guards rows
	rows  []waiting
	spare []waiting // guarded by flushing

	flushing sync.Mutex // one flush at a time, so that a second one ends behind the first's rows
}

// waiting is a row to be recorded: as it ended, or as it became final.
type waiting struct {
	rec   *meter.Record
	span  trace.SpanContext
	final bool
}

func newBacklog(record func(waiting)) *backlog {
	b := &backlog{record: record, wake: make(chan struct{}, 1), flushNow: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go b.run()
	return b
}

func (b *backlog) run() {
	defer close(b.done)
	for {
		select {
		case <-b.wake:
			b.gather()
			b.flush()
		case <-b.quit:
			b.flush()
			return
		}
	}
}

// gatherTime is how long the first row of a batch waits for more rows: a batch wakes the goroutine once.
const gatherTime = 50 * time.Millisecond

// gather waits for a batch.
func (b *backlog) gather() {
	timer := time.NewTimer(gatherTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.flushNow:
	case <-b.quit: // run sees it as well
	}
}

func (b *backlog) add(w waiting) {
	b.mu.Lock()
	room := len(b.rows) < maxBacklog
	if room {
		b.rows = append(b.rows, w)
	}
	first, almostFull := len(b.rows) == 1, len(b.rows) == maxBacklog/4
	b.mu.Unlock()
	switch {
	case !room:
		b.record(w)
	case first:
		signal(b.wake)
	case almostFull:
		signal(b.flushNow)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // already signalled
	}
}

// flush records the waiting rows. A collection calls it first, so that a scrape includes every row that was
// added before it.
func (b *backlog) flush() {
	b.flushing.Lock()
	defer b.flushing.Unlock()
	b.mu.Lock()
	rows := b.rows
	b.rows = b.spare
	b.mu.Unlock()
	for _, w := range rows {
		b.record(w)
	}
	clear(rows) // let the rows go
	b.spare = rows[:0]
}

func (b *backlog) stop() {
	close(b.quit)
	<-b.done
}
