package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wattline/meter"
)

// Uploader sends one batch of spans; otlptrace.Client satisfies it.
type Uploader interface {
	UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error
}

// finishedTrace is a trace with a final row.
type finishedTrace struct {
	state *traceState
	rec   *meter.Record
}

const (
	batchTraces   = 256 // about 1,300 spans and 800 KB: well under a collector's default of 4 MiB
	firstPause    = time.Second
	longestPause  = 30 * time.Second
	giveUpAfter   = 2 * time.Minute // a batch is given up after this, or sooner when the queue needs the room
	logInterval   = 30 * time.Second
	uploadTimeout = 10 * time.Second
)

// sender is the bounded queue between final rows and the collector. Its goroutine is started by
// newSender; stop ends it and waits for it.
type sender struct {
	cfg         Config
	takeExpired func(before time.Time) []finishedTrace
	resource    *tracepb.ResourceSpans // shared by all batches; never changed

	wake chan struct{} // cap 1: there is something to send
	full chan struct{} // cap 1: a batch is full, send it now
	done chan struct{} // closed when the goroutine has ended

	ctx           context.Context // ends when stop's deadline has passed
	cancel        context.CancelFunc
	stopping      context.Context // ends when stop is called: waits are over
	startStopping context.CancelFunc

	mu    sync.Mutex // guards what follows
	queue []finishedTrace
	busy  int // traces in the batch that is being sent
	ended bool
	stats Stats

	loggedAt time.Time // owned by the goroutine: the last log line about trouble
	logged   bool
}

func newSender(cfg Config, takeExpired func(time.Time) []finishedTrace) *sender {
	s := &sender{
		cfg: cfg, takeExpired: takeExpired, resource: batchResource(cfg.Instance, cfg.Version),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.stopping, s.startStopping = context.WithCancel(s.ctx)
	go s.run()
	return s
}

// offer queues a trace, or drops and counts it; it never blocks.
func (s *sender) offer(j finishedTrace) {
	s.mu.Lock()
	if s.ended || len(s.queue)+s.busy >= s.cfg.Capacity {
		s.stats.Dropped++
		s.mu.Unlock()
		return
	}
	s.queue = append(s.queue, j)
	crowded := len(s.queue) >= batchTraces
	s.mu.Unlock()
	signal(s.wake)
	if crowded {
		signal(s.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // already signalled
	}
}

func (s *sender) run() {
	defer close(s.done)
	sweep := time.NewTicker(s.cfg.MaxWait / 8)
	defer sweep.Stop()
	for {
		select {
		case <-s.wake:
			s.gather()
			s.drain()
		case <-sweep.C:
			for _, j := range s.takeExpired(time.Now().Add(-s.cfg.MaxWait)) {
				s.offer(j)
			}
		case <-s.stopping.Done():
			s.drain()
			return
		}
	}
}

// gather waits until FlushInterval has passed or a batch is full.
func (s *sender) gather() {
	timer := time.NewTimer(s.cfg.FlushInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.full:
	case <-s.stopping.Done():
	}
}

// drain sends until nothing is queued.
func (s *sender) drain() {
	for {
		batch := s.take()
		if len(batch) == 0 {
			return
		}
		s.send(batch)
	}
}

func (s *sender) take() []finishedTrace {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), batchTraces)
	batch := append([]finishedTrace(nil), s.queue[:n]...)
	rest := copy(s.queue, s.queue[n:])
	clear(s.queue[rest:])
	s.queue, s.busy = s.queue[:rest], n
	return batch
}

// send tries until the batch has arrived or is given up. A batch is kept as long as the queue behind it
// has room, so a collector that restarts loses nothing; it is given up after a while even so, because it
// may be this batch that the collector cannot take.
func (s *sender) send(batch []finishedTrace) {
	start := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := s.try(batch)
		rejected, arrived := partial(err)
		if err == nil || arrived {
			s.arrived(len(batch), rejected, err)
			return
		}
		again := s.stopping.Err() == nil && time.Since(start) < giveUpAfter && !s.crowded()
		s.failed(len(batch), err, again)
		if !again {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.stopping.Done():
			timer.Stop()
		}
	}
}

// crowded reports whether the queue needs the room of the batch that is being sent.
func (s *sender) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)+s.busy > s.cfg.Capacity*3/4
}

// try is one attempt. A panic counts as an error: it must not end the process that carries the traffic.
func (s *sender) try(batch []finishedTrace) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("otlp: making or sending spans panicked: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(s.ctx, uploadTimeout)
	defer cancel()
	return s.cfg.Upload.UploadTraces(ctx, batchOf(s.resource, batch))
}

// partialText matches both clients' error for a batch of which the collector refused a part. Their error type is internal.
var partialText = regexp.MustCompile(`^OTLP partial success: .*\((\d+) spans rejected\)`) //nolint:gochecknoglobals // a constant

// partial reports whether an error means that the batch arrived, and how many of its spans were refused.
func partial(err error) (rejected uint64, arrived bool) {
	if err == nil {
		return 0, false
	}
	m := partialText.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, false
	}
	rejected, perr := strconv.ParseUint(m[1], 10, 64)
	return rejected, perr == nil
}

func (s *sender) arrived(n int, rejected uint64, err error) {
	s.mu.Lock()
	s.busy = 0
	s.stats.Sent += uint64(n)
	s.stats.SpansRejected += rejected
	s.stats.LastError = ""
	if err != nil {
		s.stats.LastError, s.stats.LastErrorAt = err.Error(), time.Now()
	}
	s.mu.Unlock()
	if err != nil {
		s.log(slog.LevelWarn, "the collector refused some spans", "error", err, "spans_rejected", rejected)
	} else if s.logged {
		s.logged = false
		s.cfg.Log.Info("traces arrive at the collector again")
	}
}

func (s *sender) failed(n int, err error, again bool) {
	s.mu.Lock()
	s.stats.LastError, s.stats.LastErrorAt = err.Error(), time.Now()
	if !again {
		s.busy = 0
		s.stats.Failed += uint64(n)
	}
	lost := s.stats.Failed + s.stats.Dropped
	s.mu.Unlock()
	s.log(slog.LevelWarn, "traces do not arrive at the collector; traffic goes on", "error", err, "will_retry", again, "traces_lost", lost)
}

func (s *sender) log(level slog.Level, text string, args ...any) {
	if now := time.Now(); s.loggedAt.IsZero() || now.Sub(s.loggedAt) >= logInterval {
		s.loggedAt, s.logged = now, true
		s.cfg.Log.Log(s.ctx, level, text, args...)
	}
}

// stop ends the goroutine after one attempt for each batch that waits.
func (s *sender) stop(ctx context.Context) error {
	for _, j := range s.takeExpired(time.Now().Add(time.Hour)) {
		s.offer(j)
	}
	s.mu.Lock()
	s.ended = true
	before := s.stats.Failed
	s.mu.Unlock()
	giveUp := context.AfterFunc(ctx, s.cancel)
	defer giveUp()
	s.startStopping()
	<-s.done
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if lost := s.stats.Failed - before; lost > 0 {
		return fmt.Errorf("otlp: %d traces could not be sent before wattline ended: %s", lost, s.stats.LastError)
	}
	return nil
}

func (s *sender) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Waiting = len(s.queue) + s.busy
	return st
}
