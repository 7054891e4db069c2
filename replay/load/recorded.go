package load

import (
	"context"
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
	children [][]int       // of each record
	places   chan struct{} // one for each that may be in flight; nil: no limit
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
	if t.Most > 0 {
		t.places = make(chan struct{}, t.Most)
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
	for req := range made {
		due := t.begin.Add(t.scaled(t.Records[req.Index].Offset))
		if !t.due(ctx, req, due) {
			return
		}
		t.wg.Go(func() { t.send(ctx, req) })
	}
}

// due waits until a request is due and there is a place for it, and reports whether it is to be sent.
func (t *trip) due(ctx context.Context, req *replay.Request, at time.Time) bool {
	if t.r.waitUntil(ctx, at) != nil {
		return false
	}
	if t.places != nil {
		select {
		case t.places <- struct{}{}:
		default:
			select {
			case t.places <- struct{}{}:
				at = time.Now() // it was held back by others, not by the client
			case <-ctx.Done():
				return false
			}
		}
	}
	req.ScheduledAt = at
	req.ShiftUs = meter.Some(at.Sub(t.begin.Add(t.scaled(t.Records[req.Index].Offset))).Microseconds())
	return true
}

// send sends a request and, after it, those that continue it.
func (t *trip) send(ctx context.Context, req *replay.Request) {
	ex := t.r.send(ctx, req)
	ended := time.Now()
	req.Body = nil
	if t.places != nil {
		<-t.places
	}
	for _, child := range t.children[req.Index] {
		if ctx.Err() != nil {
			return
		}
		next := t.make(child, &Sent{req, ex})
		rec := &t.Records[child]
		at := t.begin.Add(t.scaled(rec.Offset))
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
