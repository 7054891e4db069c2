package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"wattline/replay"
)

// cell runs one cell of one trial.
func (r *Runner) cell(ctx context.Context, trial, cell int) error {
	s := &r.cfg.Plan.Spec
	next := &source{quit: make(chan struct{}), made: make(chan struct{})}
	if r.cfg.Recording != nil {
		close(next.made)
	} else {
		var err error
		if next, err = r.prepare(ctx, trial, cell); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.at, r.atSince = replay.Key{Trial: trial, Cell: cell}, time.Now()
	r.mu.Unlock()
	cpu := r.cpu()
	span := replay.Span{Trial: trial, Cell: cell, From: time.Now().UTC()}
	switch {
	case r.cfg.Recording != nil:
		r.recorded(ctx)
	case s.Rate > 0:
		r.open(ctx, trial, cell, next)
	default:
		r.closed(ctx, next)
	}
	span.To = time.Now().UTC()
	if end := r.cpu(); end.Valid && cpu.Valid {
		span.CPUSeconds = replay.Some(end.V - cpu.V)
	}
	r.mu.Lock()
	r.spans = append(r.spans, span)
	r.mu.Unlock()
	return next.close()
}

// source yields a cell's requests one by one. Where their number is known they were all made beforehand;
// with a duration, a maker stays ahead of the workers.
type source struct {
	requests chan *replay.Request
	until    time.Time     // zero: as many as there are
	enough   func() bool   // nil: never before the time is over
	taken    atomic.Int64  // how many
	quit     chan struct{} // tells the maker to end
	made     chan struct{} // closed when it has
	failure  error         // of the maker; read after made
}

// take returns the next request, or nil at the end.
func (s *source) take(ctx context.Context) *replay.Request {
	if s.taken.Add(1) > 1 && s.over() {
		return nil
	}
	select {
	case req := <-s.requests: // nil when closed
		return req
	case <-ctx.Done():
		return nil
	}
}

func (s *source) over() bool {
	return !s.until.IsZero() && (!time.Now().Before(s.until) || s.enough != nil && s.enough())
}

// close ends the maker and returns what made it fail.
func (s *source) close() error {
	close(s.quit)
	<-s.made
	return s.failure
}

// prepare makes a cell's prompts: all of them, or as many as are in flight, with a maker for the rest.
func (r *Runner) prepare(ctx context.Context, trial, cell int) (*source, error) {
	s := &r.cfg.Plan.Spec
	r.cfg.Say("%s: preparing", r.name(trial, cell))
	unknown := s.Duration > 0 && s.Rate == 0
	n := s.Requests
	switch {
	case unknown:
		n = s.Concurrency
	case s.Duration > 0:
		n = len(Schedule(r.cfg.Plan, trial, cell, r.share()))
	}
	src := &source{requests: make(chan *replay.Request, n), enough: r.cfg.Enough, quit: make(chan struct{}), made: make(chan struct{})}
	text := ""
	next := func(i int) (_ *replay.Request, err error) {
		k := replay.Key{Trial: trial, Cell: cell, Index: i}
		if d := r.cfg.Plan.Dataset; d != nil {
			req := r.request(k, "")
			d.Send(req, i)
			return req, nil
		}
		if s.Cache != replay.Warm || i == 0 { // warm ones are all the same
			if text, err = r.prompt(ctx, k); err != nil {
				return nil, err
			}
		}
		return r.request(k, text), nil
	}
	for i := range n {
		req, err := next(i)
		if err != nil {
			return nil, err
		}
		if s.Cache == replay.Warm && i == 0 {
			r.prime(ctx, req)
		}
		src.requests <- req
	}
	if !unknown {
		close(src.requests)
		close(src.made)
		return src, nil
	}
	src.until = time.Now().Add(r.share())
	go src.keepMaking(n, next) // ends with close, which waits for it
	return src, nil
}

// keepMaking makes requests until the source is closed.
func (s *source) keepMaking(from int, next func(int) (*replay.Request, error)) {
	defer close(s.made)
	for i := from; ; i++ {
		req, err := next(i)
		if err != nil {
			select {
			case <-s.quit: // the run is over, and its context with it
			default:
				s.failure = err
				close(s.requests)
			}
			return
		}
		select {
		case s.requests <- req:
		case <-s.quit:
			return
		}
	}
}

// prime puts a prompt into every slot's cache that the cell will use.
func (r *Runner) prime(ctx context.Context, first *replay.Request) {
	var wg sync.WaitGroup
	for range max(1, min(r.cfg.Plan.Spec.Concurrency, r.cfg.Slots)) {
		wg.Go(func() {
			req := *first
			req.Warmup = true
			ex := r.cfg.Sender.Send(ctx, &req)
			r.mu.Lock()
			r.warmups = append(r.warmups, ex)
			r.mu.Unlock()
		})
	}
	wg.Wait()
}

// rampStep lies between the first requests of a closed loop's workers: all at once, they would measure
// how long the client takes to send them.
const rampStep = 2 * time.Millisecond

// closed keeps as many requests in flight as the plan says.
func (r *Runner) closed(ctx context.Context, src *source) {
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range r.cfg.Plan.Spec.Concurrency {
		wg.Go(func() {
			if r.waitUntil(ctx, begin.Add(time.Duration(i)*rampStep)) != nil {
				return
			}
			for ctx.Err() == nil {
				req := src.take(ctx)
				if req == nil {
					return
				}
				r.send(ctx, req)
			}
		})
	}
	wg.Wait()
}

// open sends each request when the schedule says, and waits for the last reply.
func (r *Runner) open(ctx context.Context, trial, cell int, src *source) {
	offsets := Schedule(r.cfg.Plan, trial, cell, r.share())
	var wg sync.WaitGroup
	defer wg.Wait()
	begin := time.Now().Add(openLead)
	for _, off := range offsets {
		req := src.take(ctx)
		if req == nil {
			break
		}
		req.ScheduledAt = begin.Add(off)
		if err := r.waitUntil(ctx, req.ScheduledAt); err != nil {
			return // the run is over; what was measured stays
		}
		wg.Go(func() { r.send(ctx, req) })
	}
}

// openLead lies between the end of the preparations and an open loop's first request.
const openLead = 50 * time.Millisecond
