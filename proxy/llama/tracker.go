package llama

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
)

// SlotTrackerConfig configures a SlotTracker.
type SlotTrackerConfig struct {
	Client  *Client
	Now     func() int64          // the clock of all times, ns
	Observe func(SlotObservation) // called for each slot that was learnt, on the SlotTracker's goroutine
	Always  bool                  // poll also for a single request, and warn if the upstream does not list its slots
	Log     *slog.Logger
}

// SlotObservation is the slot of a request.
type SlotObservation struct {
	Request uint64
	At      int64 // when the reply was read
	Slot    int
	Idle    bool // the request was cancelled, and the slot no longer works on it
}

// SlotTrackerStats count the cost and the results of polling.
type SlotTrackerStats struct {
	Polls    int64
	Failed   int64         // polls without a usable reply
	PollTime time.Duration // from request to reply, summed over all polls
	Bytes    int64         // of the replies
	Found    int64         // requests with a known slot
	NotFound int64         // requests that ended before their slot was known
}

// The times of the polls.
const (
	gatherTime     = 60 * time.Millisecond  // from a change to its poll, so that one shows requests that begin together
	minPollGap     = 500 * time.Millisecond // between polls
	maxPollGap     = 2 * time.Second        // between polls while a cancelled request may still occupy its slot
	pollsPerChange = 3                      // the gap doubles from one to the next
	noSlotsPause   = time.Minute            // after ErrNoSlots
	maxCancelled   = 10 * time.Minute       // a cancelled request is forgotten after this
)

// SlotTracker polls one upstream. It owns one goroutine, started by NewSlotTracker and awaited by Stop.
type SlotTracker struct {
	cfg  SlotTrackerConfig
	wake chan struct{} // capacity 1
	quit context.CancelFunc
	done chan struct{}

	mu        sync.Mutex // guards what follows
	reqs      map[uint64]*TrackedRequest
	pollsLeft int // of pollsPerChange, since the last change
	stats     SlotTrackerStats

	// Owned by the goroutine.
	lastTask, lastAt int64 // greatest task number so far, and the arrival of the last reply
	noSlotsLogged    bool
}

// TrackedRequest is one request that makes the upstream compute.
type TrackedRequest struct {
	t       *SlotTracker
	outputs atomic.Int64

	// Guarded by the SlotTracker's mu.
	request
	cancelledAt int64 // when its client left while the server might still work for it; 0: not cancelled
}

// NewSlotTracker starts a SlotTracker. It polls only when a request needs it.
func NewSlotTracker(cfg SlotTrackerConfig) *SlotTracker {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, quit := context.WithCancel(context.Background())
	t := &SlotTracker{cfg: cfg, wake: make(chan struct{}, 1), quit: quit, done: make(chan struct{}), reqs: map[uint64]*TrackedRequest{}}
	go t.run(ctx)
	return t
}

// Stop ends the polling.
func (t *SlotTracker) Stop() {
	t.quit()
	<-t.done
}

// Stats returns the counters.
func (t *SlotTracker) Stats() SlotTrackerStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// RequestSent begins to track a request that was sent upstream at the time at. bytes is the size of its body.
func (t *SlotTracker) RequestSent(key uint64, at int64, work meter.Work, bytes int64) *TrackedRequest {
	q := &TrackedRequest{t: t, request: request{
		key: key, sent: at, streams: work.Streams, maxTokens: work.MaxTokens, bytes: bytes, slot: -1, task: -1,
	}}
	if work.Slot.Valid && work.Slot.V >= 0 { // the server makes it wait for just that slot
		q.slot = int(work.Slot.V)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reqs[key] = q
	if !work.Streams { // SlotStarted will not be called for it
		t.changed()
	}
	return q
}

// SlotStarted notes that the server has begun to work on the request.
func (q *TrackedRequest) SlotStarted(at int64) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	q.started = at
	q.t.changed()
}

// OutputReceived counts output events. It is called for each read of a stream, so it takes no lock.
func (q *TrackedRequest) OutputReceived(n int) { q.outputs.Add(int64(n)) }

// Ended ends the request. cancelled: its client has left, and the request is tracked until its slot is idle.
// Ended returns the slot, -1 if it is unknown.
func (q *TrackedRequest) Ended(at int64, cancelled bool) int {
	t := q.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if cancelled && q.slot >= 0 {
		q.cancelledAt = at
	} else {
		delete(t.reqs, q.key)
	}
	if q.slot < 0 && q.hasStarted() {
		t.stats.NotFound++
	}
	t.changed()
	return q.slot
}

// changed allows further polls if one is needed. The caller holds mu.
func (t *SlotTracker) changed() {
	if !t.needsPoll() {
		return
	}
	t.pollsLeft = pollsPerChange
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// needsPoll reports whether a slot is unknown that the ledger needs. A single request shares no batch, so its
// slot is needed only once there is a second one. The caller holds mu.
func (t *SlotTracker) needsPoll() bool {
	unknown := false
	for _, q := range t.reqs {
		unknown = unknown || q.slot < 0
		if q.cancelledAt > 0 {
			return true
		}
	}
	return unknown && (t.cfg.Always || len(t.reqs) > 1)
}

// run polls when it is woken, until Stop.
func (t *SlotTracker) run(ctx context.Context) {
	defer close(t.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		pause, wait := minPollGap, gatherTime
		for t.takePoll() {
			if !sleep(ctx, wait) {
				return
			}
			if err := t.poll(ctx); err != nil && !t.pollFailed(ctx, err) {
				return
			}
			wait, pause = pause, min(2*pause, maxPollGap)
		}
		if !sleep(ctx, minPollGap) {
			return
		}
	}
}

// takePoll reports whether to poll, and counts pollsLeft down. While a cancelled request may occupy a slot there
// is no bound.
func (t *SlotTracker) takePoll() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.reqs {
		if q.cancelledAt > 0 {
			return true
		}
	}
	if t.pollsLeft == 0 || !t.needsPoll() {
		return false
	}
	t.pollsLeft--
	return true
}

// pollFailed counts and logs a failure, and pauses after a lasting one. It returns false when the SlotTracker is
// stopped.
func (t *SlotTracker) pollFailed(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	t.mu.Lock()
	t.stats.Failed++
	t.mu.Unlock()
	lasting := errors.Is(err, ErrNoSlots) || errors.Is(err, ErrReplyTooLong)
	if !lasting {
		t.cfg.Log.Debug("cannot read the upstream's slots", "error", err)
		return true
	}
	if !t.noSlotsLogged {
		t.noSlotsLogged = true
		level := slog.LevelInfo
		if t.cfg.Always {
			level = slog.LevelWarn
		}
		t.cfg.Log.Log(ctx, level, "slots stay unknown; the energy of requests that decode together has a larger error",
			"upstream", t.cfg.Client.up.String(), "error", err)
	}
	return sleep(ctx, noSlotsPause)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// poll reads /slots once and reports the slots that it learnt.
func (t *SlotTracker) poll(ctx context.Context) error {
	asked := t.cfg.Now()
	reqs := t.snapshot(asked)
	slots, n, err := t.cfg.Client.Slots(ctx)
	answered := t.cfg.Now()
	t.mu.Lock()
	t.stats.Polls++
	t.stats.PollTime += time.Duration(answered - asked)
	t.stats.Bytes += int64(n)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	t.noSlotsLogged = false
	for _, o := range t.update(slots, reqs, answered) {
		t.cfg.Observe(o)
	}
	for _, s := range slots {
		t.lastTask = max(t.lastTask, s.Task.V)
	}
	t.lastAt = answered
	return nil
}

// snapshot copies the requests before a poll.
func (t *SlotTracker) snapshot(now int64) []*request {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*request, 0, len(t.reqs))
	for key, q := range t.reqs {
		if q.cancelledAt > 0 && now-q.cancelledAt > int64(maxCancelled) {
			delete(t.reqs, key)
			continue
		}
		r := q.request
		r.outputs = q.outputs.Load()
		out = append(out, &r)
	}
	return out
}

// update matches a reply with the snapshot, stores the slots that it learnt, and returns them.
func (t *SlotTracker) update(slots []Slot, reqs []*request, answered int64) (news []SlotObservation) {
	highest := int64(-1)
	byID := map[int]Slot{}
	for _, s := range slots {
		highest = max(highest, s.Task.V)
		byID[s.ID] = s
	}
	if t.lastAt > 0 && highest >= 0 && highest < t.lastTask { // the server was restarted: its numbers began anew
		t.lastTask, t.lastAt = 0, 0
	}
	match(slots, reqs, t.lastTask, t.lastAt)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range reqs {
		q := t.reqs[r.key]
		if q == nil || r.slot < 0 {
			continue
		}
		if q.slot < 0 {
			q.slot, q.task = r.slot, r.task
			t.stats.Found++
			news = append(news, SlotObservation{Request: r.key, At: answered, Slot: r.slot})
		}
		if s := byID[r.slot]; q.cancelledAt > 0 && (!s.Busy || r.task >= 0 && s.Task != meter.Some(r.task)) {
			delete(t.reqs, r.key)
			news = append(news, SlotObservation{Request: r.key, At: answered, Slot: r.slot, Idle: true})
		}
	}
	return news
}
