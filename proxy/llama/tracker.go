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
	Watched func() bool           // somebody looks on: poll also for a single request; nil: nobody ever
	Log     *slog.Logger
}

// SlotObservation is what a reply told of a request: its slot, or its state if nothing else tells that.
type SlotObservation struct {
	Request uint64
	Of      any   // what RequestSent was given
	At      int64 // when the reply was read
	Slot    int   // -1: unknown
	Idle    bool  // the server no longer works for it, and will not
	Look    bool  // it holds a slot (Working) or waits for one; else its slot has become known
	Working bool
	Tokens  int64 // with Working: generated so far
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
	followGap      = 200 * time.Millisecond // between polls while a request is followed: a batch of an abandoned prompt takes 0.2 to 0.6 s
	maxPollGap     = 2 * time.Second        // between polls that only look for slots
	lookGap        = 10 * time.Second       // between two rounds of polls for a request that somebody looks at
	silence        = 3 * time.Second        // without output, after which a stream is followed
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

	count   atomic.Int64 // the server's slots; 0: not known
	refuses atomic.Bool  // the upstream does not list its slots
}

// Follows reports whether the state of requests that tell nothing themselves is looked at.
func (t *SlotTracker) Follows() bool { return t != nil && !t.refuses.Load() }

// Count is how many slots the server has; 0 if that is not known.
func (t *SlotTracker) Count() int {
	if t == nil {
		return 0
	}
	return int(t.count.Load())
}

// TrackedRequest is one request that makes the upstream compute.
type TrackedRequest struct {
	t       *SlotTracker
	of      any
	outputs atomic.Int64
	shownAt atomic.Int64 // when the last of them came
	askedAt atomic.Int64 // when Look last asked for polls

	// Guarded by the SlotTracker's mu.
	request
	cancelledAt int64     // when its client left while the server might still work for it; 0: not cancelled
	prompt      meter.Int // tokens of its prompt
}

// Prompt is how many tokens its prompt has; null until its slot has shown it with a token generated. It may be one too many:
// a slot counts the token that it is at among those of the prompt.
func (q *TrackedRequest) Prompt() meter.Int {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	return q.prompt
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

// RequestSent begins to track a request that was sent upstream at the time at. bytes is the size of its body, of is kept for
// its observations.
func (t *SlotTracker) RequestSent(key uint64, at int64, work meter.Work, bytes int64, of any) *TrackedRequest {
	q := &TrackedRequest{t: t, of: of, request: request{
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
	if q.started = at; q.presumed {
		q.slot, q.task, q.presumed = -1, -1, false
	}
	q.t.served(q)
	q.t.changed()
}

// served notes that a request has got a slot: those that were sent before it had one before. The caller holds mu.
func (t *SlotTracker) served(q *TrackedRequest) {
	if q.slot >= 0 && q.task < 0 {
		return // it asked for that slot, which others may not want
	}
	for _, r := range t.reqs {
		if r.slot < 0 && !r.hasStarted() {
			r.passedBy = max(r.passedBy, q.sent-r.sent)
		}
	}
}

// OutputReceived counts output events. It is called for each read of a stream, so it takes no lock but
// for the first.
func (q *TrackedRequest) OutputReceived(at int64, n int) {
	first := q.outputs.Add(int64(n)) == int64(n)
	q.shownAt.Store(at)
	if first && q.t.watched() { // its slot shows now how long the prompt was
		q.t.mu.Lock()
		defer q.t.mu.Unlock()
		q.t.changed()
	}
}

// Look says that somebody looks at the request, whose slot or prompt is not known: it is polled for, every lookGap at most.
func (q *TrackedRequest) Look() {
	now, last := q.t.cfg.Now(), q.askedAt.Load()
	if last > 0 && now-last < int64(lookGap) || !q.askedAt.CompareAndSwap(last, now) {
		return
	}
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	q.t.changed()
}

// Ended ends the request. cancelled: its client has left, and the request is followed until the server has finished with it.
// Ended returns the slot, -1 if it is unknown.
func (q *TrackedRequest) Ended(at int64, cancelled bool) int {
	t := q.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if cancelled && t.Follows() {
		q.cancelledAt, q.cancelled = at, true
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
// slot is needed only once there is a second one. Somebody who looks on wants each slot, and the prompts' lengths. The caller
// holds mu.
func (t *SlotTracker) needsPoll() bool {
	unknown, watched := false, t.watched()
	for _, q := range t.reqs {
		unknown = unknown || q.slot < 0 || watched && q.outputs.Load() > 0 && !q.prompt.Valid
		if q.followed(t.cfg.Now(), len(t.reqs)) {
			return true
		}
	}
	return unknown && (t.cfg.Always || len(t.reqs) > 1 || watched)
}

func (t *SlotTracker) watched() bool { return t.cfg.Watched != nil && t.cfg.Watched() }

// followed reports whether the request, one of n, must be looked at since nothing else tells its state: its client has
// left, or it is not streamed or silent and others need to know. The caller holds mu.
func (q *TrackedRequest) followed(now int64, n int) bool {
	return q.cancelledAt > 0 || n > 1 && (!q.streams || q.silent(now))
}

// silent reports whether a stream that had output has none any more.
func (q *TrackedRequest) silent(now int64) bool {
	at := q.shownAt.Load()
	return at > 0 && now-at > int64(silence)
}

// run polls when it is woken, until Stop.
func (t *SlotTracker) run(ctx context.Context) {
	defer close(t.done)
	for {
		var check <-chan time.Time
		if t.several() {
			check = time.After(silence) // a stream may fall silent
		}
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-check:
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
			if t.following() {
				wait, pause = followGap, minPollGap
			}
		}
		if !sleep(ctx, minPollGap) {
			return
		}
	}
}

// several reports whether more than one request is tracked.
func (t *SlotTracker) several() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.reqs) > 1
}

// following reports whether a request is followed.
func (t *SlotTracker) following() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.reqs {
		if q.followed(t.cfg.Now(), len(t.reqs)) {
			return true
		}
	}
	return false
}

// takePoll reports whether to poll, and counts pollsLeft down. While a request is followed there is no bound.
func (t *SlotTracker) takePoll() bool {
	if t.following() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
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
	t.refuses.Store(true)
	t.mu.Lock()
	for key, q := range t.reqs {
		if q.cancelledAt > 0 {
			delete(t.reqs, key)
		}
	}
	t.mu.Unlock()
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
	t.refuses.Store(false)
	t.count.Store(int64(len(slots)))
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
		if q == nil {
			continue
		}
		if q.slot < 0 && r.slot >= 0 {
			q.slot, q.task, q.presumed = r.slot, r.task, r.presumed
			t.served(q)
			if !r.presumed {
				t.stats.Found++
				news = append(news, SlotObservation{Request: r.key, Of: q.of, At: answered, Slot: r.slot})
			}
		}
		if s := byID[r.slot]; r.slot >= 0 && r.task >= 0 && !r.presumed && s.Task == meter.Some(r.task) && s.Prompt.V > s.Decoded && s.Decoded > 0 {
			q.prompt = meter.Some(s.Prompt.V - s.Decoded) // the server's count grows with each token
		}
		if o, ok := t.look(q, r, byID, answered); ok {
			news = append(news, o)
		}
	}
	return news
}

// look says what a reply told of a followed request. The caller holds mu.
func (t *SlotTracker) look(q *TrackedRequest, r *request, slots map[int]Slot, answered int64) (SlotObservation, bool) {
	o := SlotObservation{Request: r.key, Of: q.of, At: answered, Slot: r.slot}
	if !q.followed(answered, len(t.reqs)) {
		return o, false
	}
	gone := false
	switch {
	case r.slot >= 0:
		s := slots[r.slot]
		if gone = !s.Busy || r.task >= 0 && s.Task != meter.Some(r.task); !gone {
			o.Look, o.Working, o.Tokens = true, r.task >= 0 || r.hasStarted(), s.Decoded
		}
	case r.passedBy > inOrder || r.hasStarted():
		gone = !r.unclear // it may have been so short that no reply showed it
	case r.unclear || q.passedBy > 0:
		return o, false
	default:
		o.Look = true
		gone = q.cancelledAt > 0 && !anyBusy(slots)
	}
	if q.presumed {
		o.Slot = -1
	}
	if !gone {
		return o, o.Look
	}
	if q.cancelledAt == 0 && q.streams {
		gone = q.silent(answered) // its output may be on the way
	}
	if q.cancelledAt == 0 && !q.streams || !gone {
		return o, false // its reply is on the way
	}
	delete(t.reqs, r.key)
	return SlotObservation{Request: r.key, Of: q.of, At: answered, Slot: o.Slot, Idle: true}, true
}

func anyBusy(slots map[int]Slot) bool {
	for _, s := range slots {
		if s.Busy {
			return true
		}
	}
	return false
}
