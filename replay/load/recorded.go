package load

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/trace"
)

// Recording is a trace to send.
type Recording struct {
	Records []trace.Record
	Speed   float64
	Most    int // in flight at once; 0: no limit
	// Make makes the request of a record. before is what was sent for its parent, nil if it has none.
	Make func(i int, before *Sent) *replay.Request
	// WarmUp makes the prompt of a throw-away request.
	WarmUp func(tokens, nth int) *replay.RawPrompt
}

// Sent is a request with what came of it.
type Sent struct {
	Request  *replay.Request
	Exchange *replay.Exchange
}

// scaled is a time of the trace at the speed of the replay.
func (t *Recording) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / t.Speed)
}

// lasts is the time from the first request to the last.
func (t *Recording) lasts() time.Duration {
	return t.scaled(t.Records[len(t.Records)-1].Offset)
}

// ahead is how many requests of a trace are made before they are due.
const ahead = 32

// trip is one trace under way.
type trip struct {
	*Recording
	r        *Runner
	begin    time.Time
	children [][]int // of each record
	places   *places // nil: no limit
	wg       sync.WaitGroup
}

// recorded sends a trace. A record without a parent is sent at its own moment, counted from the beginning, so that no delay
// adds up. One with a parent is sent when its think time has passed after the parent's reply; where no think time was
// recorded, at its own moment, but not before that reply has ended.
func (r *Runner) recorded(ctx context.Context) {
	t := &trip{Recording: r.cfg.Recording, r: r}
	t.children = make([][]int, len(t.Records))
	var roots []int
	for i := range t.Records {
		if p := t.Records[i].Parent; p >= 0 {
			t.children[p] = append(t.children[p], i)
		} else {
			roots = append(roots, i)
		}
	}
	made := make(chan *replay.Request, ahead)
	go func() { // ends with the roots or the context
		defer close(made)
		for _, i := range roots {
			select {
			case made <- t.make(i, nil):
			case <-ctx.Done():
				return
			}
		}
	}()
	defer t.wg.Wait()
	t.begin = time.Now().Add(openLead)
	if t.Most > 0 {
		t.places = &places{free: t.Most, given: make(chan time.Time, t.Most)}
		for _, i := range roots {
			t.places.roots = append(t.places.roots, t.ownMoment(i))
		}
	}
	for req := range made {
		if !t.due(ctx, req, t.ownMoment(req.Index)) {
			return
		}
		t.wg.Go(func() { t.send(ctx, req) })
	}
}

// ownMoment is when the trace sends a record.
func (t *trip) ownMoment(i int) time.Time {
	return t.begin.Add(t.scaled(t.Records[i].Offset))
}

// due waits until a request is due and there is a place for it, and reports whether it is to be sent.
func (t *trip) due(ctx context.Context, req *replay.Request, at time.Time) bool {
	if t.r.waitUntil(ctx, at) != nil {
		return false
	}
	if t.places != nil {
		given := t.places.given
		if t.Records[req.Index].Parent >= 0 {
			given = t.places.child(at)
		} else {
			t.places.root()
		}
		select {
		case at = <-given:
		case <-ctx.Done():
			return false
		}
	}
	req.ScheduledAt = at
	req.ShiftUs = meter.Some(at.Sub(t.ownMoment(req.Index)).Microseconds())
	return true
}

// places are those that may be in flight at once. The request that was due first gets the next place that is free; so
// it knows when each root is due, though only the first of them are made.
type places struct {
	mu       sync.Mutex
	free     int
	opened   time.Time      // when the first of the free places became free
	roots    []time.Time    // when those without a place are due
	arrived  int            // roots that are due for certain
	given    chan time.Time // to roots, in their order
	children []waiting      // that are due, in that order
}

type waiting struct {
	due   time.Time
	given chan time.Time
}

// root tells that the next root is due.
func (p *places) root() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived++
	p.give()
}

// child puts a child that is due into the queue.
func (p *places) child(due time.Time) chan time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := waiting{due, make(chan time.Time, 1)}
	i, _ := slices.BinarySearchFunc(p.children, due, func(w waiting, due time.Time) int { return cmp.Or(w.due.Compare(due), -1) })
	p.children = slices.Insert(p.children, i, w)
	p.give()
	return w.given
}

// release frees a place.
func (p *places) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == 0 {
		p.opened = time.Now()
	}
	p.free++
	p.give()
}

// give gives the free places away. What comes over given is when the request is due: later than its own moment where
// others held it back, not the client.
func (p *places) give() {
	for ; p.free > 0; p.free-- {
		root := len(p.roots) > 0 && (p.arrived > 0 || !p.roots[0].After(time.Now()))
		child := len(p.children) > 0
		var due time.Time
		var given chan time.Time
		switch {
		case root && (!child || !p.children[0].due.Before(p.roots[0])):
			due, given = p.roots[0], p.given
			p.roots = p.roots[1:]
			p.arrived--
		case child:
			due, given = p.children[0].due, p.children[0].given
			p.children = p.children[1:]
		default:
			return
		}
		if due.Before(p.opened) {
			due = p.opened
		}
		given <- due
	}
}

// send sends a request and, after it, those that continue it.
func (t *trip) send(ctx context.Context, req *replay.Request) {
	ex := t.r.send(ctx, req)
	ended := time.Now()
	req.Body = nil
	if t.places != nil {
		t.places.release()
	}
	for _, child := range t.children[req.Index] {
		if ctx.Err() != nil {
			return
		}
		next := t.make(child, &Sent{req, ex})
		rec := &t.Records[child]
		at := t.ownMoment(child)
		if rec.ThinkUs.Valid {
			at = ended.Add(t.scaled(time.Duration(rec.ThinkUs.V) * time.Microsecond))
		} else if at.Before(ended) {
			at = ended
		}
		t.wg.Go(func() {
			if t.due(ctx, next, at) {
				t.send(ctx, next)
			}
		})
	}
	ex.Reply = nil
}

// make makes a record's request with its body.
func (t *trip) make(i int, before *Sent) *replay.Request {
	req := t.Make(i, before)
	if p, ok := t.r.cfg.Sender.(preparer); ok {
		p.Prepare(req)
	}
	return req
}
