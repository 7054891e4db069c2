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
	next, err := r.prepare(ctx, trial, cell)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.at, r.atSince = replay.Key{Trial: trial, Cell: cell}, time.Now()
	r.mu.Unlock()
	cpu := r.cpu()
	span := replay.Span{Trial: trial, Cell: cell, From: time.Now().UTC()}
	if s.Rate > 0 {
		err = r.open(ctx, trial, cell, next)
	} else {
		err = r.closed(ctx, next)
	}
	span.To = time.Now().UTC()
	if end := r.cpu(); end.Valid && cpu.Valid {
		span.CPUSeconds = replay.Some(end.V - cpu.V)
	}
	r.mu.Lock()
	r.spans = append(r.spans, span)
	r.mu.Unlock()
	return err
}

// source yields a cell's requests one by one, made beforehand where their number is known.
type source struct {
	mu      sync.Mutex // guards ready and index
	ready   []*replay.Request
	index   int
	until   time.Time // zero: as many as are ready
	more    func(index int) (*replay.Request, error)
	enough  func() bool // nil: never before the time is over
	failure atomic.Pointer[error]
}

// take returns the next request, or nil at the end.
func (s *source) take() *replay.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.until.IsZero() && s.index > 0 && (!time.Now().Before(s.until) || s.enough != nil && s.enough()) {
		return nil
	}
	i := s.index
	s.index++
	if i < len(s.ready) {
		return s.ready[i]
	}
	if s.until.IsZero() {
		return nil
	}
	req, err := s.more(i)
	if err != nil {
		s.failure.Store(&err)
		return nil
	}
	return req
}

// prepare makes a cell's prompts. With a duration their number is unknown: some are made now and the
// rest when they are needed.
func (r *Runner) prepare(ctx context.Context, trial, cell int) (*source, error) {
	s := &r.cfg.Plan.Spec
	r.cfg.Say("%s: preparing", r.name(trial, cell))
	n := s.Requests
	if s.Duration > 0 {
		n = max(1, s.Concurrency)
		if s.Rate > 0 {
			n = len(Schedule(r.cfg.Plan, trial, cell, r.share()))
		}
	}
	src := &source{enough: r.cfg.Enough, more: func(i int) (*replay.Request, error) {
		k := replay.Key{Trial: trial, Cell: cell, Index: i}
		text, err := r.prompt(ctx, k)
		if err != nil {
			return nil, err
		}
		return r.request(k, text), nil
	}}
	for i := range n {
		if s.Cache == replay.Warm && i > 0 { // all the same
			src.ready = append(src.ready, r.request(replay.Key{Trial: trial, Cell: cell, Index: i}, src.ready[0].Prompt))
			continue
		}
		req, err := src.more(i)
		if err != nil {
			return nil, err
		}
		src.ready = append(src.ready, req)
	}
	if s.Cache == replay.Warm && len(src.ready) > 0 {
		r.prime(ctx, src.ready[0])
	}
	if s.Duration > 0 && s.Rate == 0 {
		src.until = time.Now().Add(r.share())
	}
	return src, nil
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
const rampStep = time.Millisecond

// closed keeps as many requests in flight as the plan says.
func (r *Runner) closed(ctx context.Context, src *source) error {
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range r.cfg.Plan.Spec.Concurrency {
		wg.Go(func() {
			if r.waitUntil(ctx, begin.Add(time.Duration(i)*rampStep)) != nil {
				return
			}
			for ctx.Err() == nil {
				req := src.take()
				if req == nil {
					return
				}
				r.send(ctx, req)
			}
		})
	}
	wg.Wait()
	if err := src.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// open sends each request when the schedule says, and waits for the last reply.
func (r *Runner) open(ctx context.Context, trial, cell int, src *source) error {
	offsets := Schedule(r.cfg.Plan, trial, cell, r.share())
	var wg sync.WaitGroup
	defer wg.Wait()
	begin := time.Now().Add(openLead)
	for _, off := range offsets {
		req := src.take()
		if req == nil {
			break
		}
		req.ScheduledAt = begin.Add(off)
		if err := r.waitUntil(ctx, req.ScheduledAt); err != nil {
			return nil //nolint:nilerr // the run is over; what was measured stays
		}
		wg.Go(func() { r.send(ctx, req) })
	}
	return nil
}

// openLead lies between the end of the preparations and an open loop's first request.
const openLead = 50 * time.Millisecond
