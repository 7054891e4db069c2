package proxy

import (
	"context"
	"sync"
	"time"

	"wattline/meter"
)

// When the upstream is asked whether it sleeps: while nothing is under way, ever more seldom, until it does. A router is asked
// while a request has waited for waitLook.
const (
	idleLook    = 1200 * time.Millisecond
	maxIdleLook = time.Minute
	silentLook  = 10 * time.Minute // after an upstream gave no answer
	waitLook    = 150 * time.Millisecond
	maxWaitLook = time.Second // what waits was seen not to wait for a load
	loadTimeout = 5 * time.Second
)

// loadLooks asks an upstream for its models' states, on a timer's goroutine. What a reply's head and body tell of a load is
// the meter's; this is for servers that tell nothing there.
type loadLooks struct {
	ask func(ctx context.Context) (meter.LoadState, error) // nil: the upstream is not asked
	srv *Server

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	pause   time.Duration
	router  bool
	silent  time.Time // until when it is not asked: it gave no answer
	stopped bool
	waitFor time.Duration // the pause between looks at what waits
	seen    uint64        // the last request at the latest of these looks
}

// idle begins to ask: the last live request has ended.
func (l *loadLooks) idle() {
	if l.ask == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause = idleLook
	l.arm(max(l.pause, time.Until(l.silent)))
}

// busy ends that, and with a router begins to look at what waits.
func (l *loadLooks) busy() {
	if l.ask == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.router {
		l.waitFor = 0
		l.arm(waitLook)
	} else if l.timer != nil {
		l.timer.Stop()
	}
}

// entered looks sooner, where the pause has become long: a request came while others are live.
func (l *loadLooks) entered() {
	if l.ask == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.router && l.waitFor > meter.LoadLookNs {
		l.waitFor = 0
		l.arm(waitLook)
	}
}

func (l *loadLooks) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// arm sets the timer. The caller holds mu.
func (l *loadLooks) arm(after time.Duration) {
	switch {
	case l.stopped:
	case l.timer == nil:
		l.timer = time.AfterFunc(after, l.look)
	default:
		l.timer.Reset(after)
	}
}

// look asks once.
func (l *loadLooks) look() {
	live, waits, seq := l.srv.waiting()
	if live > 0 && !waits {
		l.again(live, waitLook)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	asked := l.srv.now()
	state, err := l.ask(ctx)
	if live > 0 {
		for _, model := range state.Loading {
			l.srv.loads.Loading(model, asked)
		}
		l.again(live, l.waitPause(seq, len(state.Loading) > 0))
		return
	}
	if state.Asleep && l.srv.stillIdle(seq) {
		return // until the next request has ended
	}
	l.mu.Lock()
	if err != nil {
		l.silent = time.Now().Add(silentLook)
		l.mu.Unlock()
		return
	}
	l.router = state.Router
	l.pause = min(2*l.pause, maxIdleLook)
	pause := l.pause
	l.mu.Unlock()
	l.again(0, pause)
}

// waitPause is how long until the next look at what waits: ever longer while it waits for no load. A router begins a load when
// the request comes, so a new request is looked at soon.
func (l *loadLooks) waitPause(seq uint64, loading bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if loading || l.seen != seq {
		l.waitFor, l.seen = meter.LoadLookNs, seq
	} else {
		l.waitFor = min(2*l.waitFor, maxWaitLook)
	}
	return l.waitFor
}

// again looks again later, if it is still as it was.
func (l *loadLooks) again(live int, after time.Duration) {
	if now, _, _ := l.srv.waiting(); (now > 0) != (live > 0) {
		return // idle or busy has set the timer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if live == 0 || l.router {
		l.arm(after)
	}
}

// waiting reports how many requests are live, whether one of them has waited for its reply, and the last one's number.
func (s *Server) waiting() (live int, waits bool, seq uint64) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.live {
		sent := x.sentAt.Load()
		waits = waits || sent != 0 && x.headedAt.Load() == 0 && now-sent >= int64(waitLook)
	}
	return len(s.live), waits, s.seq
}

// stillIdle notes that the upstream sleeps, unless a request came after number seq.
func (s *Server) stillIdle(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seq != seq {
		return false
	}
	s.loads.Asleep()
	return true
}
