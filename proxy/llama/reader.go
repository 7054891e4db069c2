package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/proxy"
)

// Config configures a Reader.
type Config struct {
	Upstream proxy.Upstream
	Now      func() int64   // the clock of all stamps, ns
	Seen     func(Sighting) // is told what was found out, on the Reader's goroutine
	Insist   bool           // look also when a request is alone, and warn where the upstream shows no slots
	Log      *slog.Logger
}

// Sighting says where a request was seen to be.
type Sighting struct {
	Request uint64
	At      int64 // when the reply was read
	Slot    int
	Idle    bool // its client had left; now the slot does not work for it any more
}

// Stats count what reading slots has cost, and what it has told.
type Stats struct {
	Looks   int64         // times asked
	Failed  int64         // of them without a useful answer
	Waited  time.Duration // from asking to answer, over all looks
	Bytes   int64         // read
	Found   int64         // requests whose slot was found out
	Unknown int64         // requests that ended without
}

// Pace of the looks.
const (
	gather     = 60 * time.Millisecond // after a change: what begins together is seen together
	apart      = 500 * time.Millisecond
	answerTime = 3 * time.Second // a server that evaluates a long batch answers after it
	tries      = 3               // looks for one change of the set, each twice as long after the last
	longest    = 2 * time.Second // between looks while a cancelled request is waited for
	shyTime    = time.Minute     // after an answer that no llama-server gives
	maxReply   = 8 << 20
	ghostTime  = 10 * time.Minute // a cancelled request is followed for at most so long
)

// Reader asks one upstream. It owns one goroutine, started by New and awaited by Stop.
type Reader struct {
	cfg    Config
	client *http.Client
	wake   chan struct{} // room for one
	quit   context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex // guards what follows
	reqs map[uint64]*Request
	left int // looks that the last change still allows
	st   Stats

	// Owned by the goroutine.
	seen, seenAt int64 // greatest task number of the last look, and when that was answered
	shy          bool  // it was said that the upstream shows no slots
}

// Request is one request that makes the upstream compute.
type Request struct {
	r       *Reader
	outputs atomic.Int64

	// Guarded by the Reader's mu.
	live
	leftAt int64 // when its client left while it might still work; 0 while it is live
}

// New begins to read. It asks nothing until a request calls for it.
func New(cfg Config) *Reader {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, quit := context.WithCancel(context.Background())
	r := &Reader{cfg: cfg, wake: make(chan struct{}, 1), quit: quit, done: make(chan struct{}), reqs: map[uint64]*Request{}}
	r.client = &http.Client{Timeout: answerTime, Transport: &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return cfg.Upstream.Dial(ctx) },
	}}
	go r.run(ctx)
	return r
}

// Stop ends the reading.
func (r *Reader) Stop() {
	r.quit()
	<-r.done
}

// Stats returns the counters.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

// Sent begins a request that was sent upstream at.
func (r *Reader) Sent(key uint64, at int64, work meter.Work, bytes int64) *Request {
	q := &Request{r: r, live: live{key: key, sent: at, streams: work.Streams, maxTokens: work.MaxTokens, bytes: bytes, slot: -1, task: -1}}
	if work.Slot.Valid && work.Slot.V >= 0 { // the server lets it wait for just that one
		q.slot = int(work.Slot.V)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reqs[key] = q
	if !work.Streams { // that it holds a slot will not be told
		r.changed()
	}
	return q
}

// Started says that the request's slot has started.
func (q *Request) Started(at int64) {
	q.r.mu.Lock()
	defer q.r.mu.Unlock()
	q.started = at
	q.r.changed()
}

// Produced counts output events. It is cheap.
func (q *Request) Produced(n int) { q.outputs.Add(int64(n)) }

// Ended ends the request; cancelled says that its client left, so that the server may still work for it.
// It returns the slot, -1 where it never became known.
func (q *Request) Ended(at int64, cancelled bool) int {
	r := q.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case cancelled && q.slot >= 0:
		q.leftAt = at
	default:
		delete(r.reqs, q.key)
	}
	if q.slot < 0 && q.certain() {
		r.st.Unknown++
	}
	r.changed()
	return q.slot
}

// changed allows looks, if there is something to learn. The caller holds mu.
func (r *Reader) changed() {
	if !r.curious() {
		return
	}
	r.left = tries
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// curious says whether a look could tell something that matters. Alone, a request shares nothing: its
// slot matters once there is a second one. The caller holds mu.
func (r *Reader) curious() bool {
	unknown := false
	for _, q := range r.reqs {
		unknown = unknown || q.slot < 0
		if q.leftAt > 0 {
			return true
		}
	}
	return unknown && (r.cfg.Insist || len(r.reqs) > 1)
}

// run looks when there is reason to, until Stop.
func (r *Reader) run(ctx context.Context) {
	defer close(r.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		pause, wait := apart, gather
		for r.wanted() {
			if !sleep(ctx, wait) {
				return
			}
			if err := r.look(ctx); err != nil && !r.failed(ctx, err) {
				return
			}
			wait, pause = pause, min(2*pause, longest)
		}
		if !sleep(ctx, apart) {
			return
		}
	}
}

// wanted takes one of the looks that are left. While a cancelled request may still be worked on, they do
// not run out.
func (r *Reader) wanted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.reqs {
		if q.leftAt > 0 {
			return true
		}
	}
	if r.left == 0 || !r.curious() {
		return false
	}
	r.left--
	return true
}

// failed waits out what a failure asks for; false when the Reader is stopped meanwhile.
func (r *Reader) failed(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	r.mu.Lock()
	r.st.Failed++
	r.mu.Unlock()
	if !errors.Is(err, ErrForeign) {
		r.cfg.Log.Debug("the upstream's slots could not be read", "error", err)
		return true
	}
	if !r.shy {
		r.shy = true
		level := slog.LevelInfo
		if r.cfg.Insist {
			level = slog.LevelWarn
		}
		r.cfg.Log.Log(ctx, level, "slots stay unknown, so the energy of requests that decode together has a larger error", "upstream", r.cfg.Upstream.String(), "error", err)
	}
	return sleep(ctx, shyTime)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// look asks once and tells what it shows.
func (r *Reader) look(ctx context.Context) error {
	asked := r.cfg.Now()
	reqs := r.snapshot(asked)
	slots, err := r.ask(ctx)
	answered := r.cfg.Now()
	r.mu.Lock()
	r.st.Looks++
	r.st.Waited += time.Duration(answered - asked)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.shy = false
	for _, s := range r.judge(slots, reqs, answered) {
		r.cfg.Seen(s)
	}
	for _, s := range slots {
		r.seen = max(r.seen, s.Task.V)
	}
	r.seenAt = answered
	return nil
}

// snapshot copies what is known before asking.
func (r *Reader) snapshot(now int64) []*live {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*live, 0, len(r.reqs))
	for key, q := range r.reqs {
		if q.leftAt > 0 && now-q.leftAt > int64(ghostTime) {
			delete(r.reqs, key)
			continue
		}
		c := q.live
		c.outputs = q.outputs.Load()
		out = append(out, &c)
	}
	return out
}

// judge works a reply in and returns what is new.
func (r *Reader) judge(slots []Slot, reqs []*live, answered int64) (news []Sighting) {
	highest := int64(-1)
	for _, s := range slots {
		highest = max(highest, s.Task.V)
	}
	if r.seenAt > 0 && highest >= 0 && highest < r.seen { // another server answers: its numbers began anew
		r.seen, r.seenAt = 0, 0
	}
	match(slots, reqs, r.seen, r.seenAt)
	at := map[int]Slot{}
	for _, s := range slots {
		at[s.ID] = s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range reqs {
		q := r.reqs[c.key]
		if q == nil || c.slot < 0 {
			continue
		}
		if q.slot < 0 {
			q.slot, q.task = c.slot, c.task
			r.st.Found++
			news = append(news, Sighting{Request: c.key, At: answered, Slot: c.slot})
		}
		if s := at[c.slot]; q.leftAt > 0 && (!s.Busy || c.task >= 0 && s.Task != meter.Some(c.task)) {
			delete(r.reqs, c.key)
			news = append(news, Sighting{Request: c.key, At: answered, Slot: c.slot, Idle: true})
		}
	}
	return news
}

// ask asks for the slots.
func (r *Reader) ask(ctx context.Context) (_ []Slot, err error) {
	// The connection speaks TLS already where the upstream does.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.cfg.Upstream.Host()+"/slots", nil)
	if err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	r.mu.Lock()
	r.st.Bytes += int64(len(body))
	r.mu.Unlock()
	switch resp.StatusCode {
	case http.StatusOK:
		return Parse(body)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests: // it loads, or no slot is free (fail_on_no_slot)
		return nil, fmt.Errorf("slots: status %d", resp.StatusCode)
	}
	return nil, fmt.Errorf("%w: status %d (a key, a router, or a server with --no-slots)", ErrForeign, resp.StatusCode)
}
