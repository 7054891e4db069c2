package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/meter"
	"wattline/proxy/rawconn"
)

// Config configures one route: its clients and one upstream. A duration of zero takes the default in its
// comment. Every deadline is an idle one; none bounds a whole exchange.
type Config struct {
	Name     string // the route's name in rows
	Instance string
	Upstream Upstream
	Admin    string            // address for X-Wattline-Admin; empty: not sent
	Labels   map[string]string // for rows of requests without labels

	KeepAliveIdle time.Duration // client between requests; 75 s
	HeaderIdle    time.Duration // client within a head; 30 s
	BodyIdle      time.Duration // client within a body; 60 s
	WriteIdle     time.Duration // client that reads nothing; 60 s
	UpstreamIdle  time.Duration // upstream that sends nothing; 1 h (a long prompt on a CPU takes minutes)
	DialTimeout   time.Duration // 5 s
	PoolIdle      time.Duration // idle upstream connection; 3.5 s (llama-server closes its side after 5)

	MaxHeaderBytes int   // 431 above; 64 KiB
	MaxBodyBytes   int64 // 413 above; 0: no limit
	MaxConns       int   // 503 above; 16384
	MaxRequests    int   // live ones, 503 above; 4096
	KeepGaps       int   // gaps between output events kept of each stream, in its row's GapsUs; 0: none

	// Bodies gives each request a copy of its body that makes a model generate, shown after it was sent; nil: none. It runs on the
	// data path and must not block, and neither must the Writer.
	Bodies func(seq uint64, length int64) io.Writer

	Unmetered bool // rows have times and sizes only; for measuring the cost of metering

	Loads    func(ctx context.Context) (meter.LoadState, error) // asks the upstream whether it sleeps or loads a model; nil: never
	Observer Observer                                           // nil: NopObserver
	Tracer   Tracer                                             // nil: off
	Identify *meter.Identify                                    // which personal data rows keep; nil: none
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	Log      *slog.Logger
}

// SetDefaults sets zero fields to their defaults. New calls it.
func (c *Config) SetDefaults() {
	setDefault(&c.KeepAliveIdle, 75*time.Second)
	setDefault(&c.HeaderIdle, 30*time.Second)
	setDefault(&c.BodyIdle, time.Minute)
	setDefault(&c.WriteIdle, time.Minute)
	setDefault(&c.UpstreamIdle, time.Hour)
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.PoolIdle, 3500*time.Millisecond)
	setDefault(&c.MaxHeaderBytes, 64<<10)
	setDefault(&c.MaxConns, 16384)
	setDefault(&c.MaxRequests, 4096)
	if c.Observer == nil {
		c.Observer = NopObserver{}
	}
	if c.Identify == nil {
		c.Identify = &meter.Identify{Mode: meter.IdentifyNone}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Server is one route's data path. It can serve several listeners; Shutdown ends it.
type Server struct {
	cfg     Config
	http    *fasthttp.Server
	pool    pool
	watcher *rawconn.Watcher
	slots   meter.SlotClock // when this upstream's slots start, learnt from its streams
	loads   meter.LoadClock // when it loaded a model
	looks   loadLooks
	prompts meter.PromptRatios
	epoch   time.Time
	conns   atomic.Int64 // of clients, including those above the limit

	clientsMu sync.Mutex // guards clients
	clients   map[*clientConn]struct{}

	rows        atomic.Int64 // rows not yet handed to the Observer
	stop        atomic.Bool
	drainFor    time.Duration // how long idle connections stay open then; set before stop
	rejectSlots chan struct{} // bounds the connections above the limit that are being answered

	mu           sync.Mutex // guards what follows
	listeners    []*listener
	seq          uint64
	live         map[uint64]*exchange
	liveIntegral float64 // of the number of live requests over time, request-nanoseconds
	integratedTo int64   // the time up to which it is computed
}

// New makes a Server; it listens to nothing yet.
func New(cfg Config) (*Server, error) {
	cfg.SetDefaults()
	w, err := rawconn.NewWatcher()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, watcher: w, epoch: time.Now(), live: map[uint64]*exchange{}, clients: map[*clientConn]struct{}{}, rejectSlots: make(chan struct{}, 64)}
	s.looks = loadLooks{ask: cfg.Loads, srv: s}
	s.pool = pool{up: cfg.Upstream, dial: cfg.Dial, idle: cfg.PoolIdle}
	s.http = &fasthttp.Server{
		Handler:         s.handle,
		Concurrency:     cfg.MaxConns + 64, // listener.Accept enforces the limit, with a reply
		ReadBufferSize:  len(placeholderHead),
		WriteBufferSize: 128, // its writes are dropped
		// The goroutines of a burst end soon after it.
		MaxIdleWorkerDuration: 2 * time.Second,
		NoDefaultDate:         true, NoDefaultContentType: true, NoDefaultServerHeader: true,
		SecureErrorLogMessage: true,
		Logger:                dropLogger{}, // its messages quote heads; clientConn and exchange log instead
		ErrorHandler:          func(*fasthttp.RequestCtx, error) {},
	}
	return s, nil
}

type dropLogger struct{}

func (dropLogger) Printf(string, ...any) {}

// now is the Server's monotonic clock in nanoseconds; never 0.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) + 1 }

// clockTime is a time on the Server's clock.
func (s *Server) clockTime(t time.Time) int64 { return int64(t.Sub(s.epoch)) + 1 }

// Clock relates the Server's clock to wall time: an Event with At == mono happened at wall.
func (s *Server) Clock() (wall time.Time, mono int64) { return s.epoch, 1 }

// Serve accepts connections from ln until Shutdown; then it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	l := &listener{Listener: RetryListener(ln, s.cfg.Log), srv: s}
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	s.looks.idle()
	err := s.http.Serve(l)
	if err != nil && !s.stop.Load() {
		return fmt.Errorf("proxy: serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, waits for live exchanges until ctx ends, and then aborts the rest. When it
// returns, all rows have been handed to the Observer.
func (s *Server) Shutdown(ctx context.Context) error {
	return s.shutdown(ctx, drainTime, ctx)
}

// Retire is Shutdown for a server that another process has succeeded: idle connections stay open for their usual time, until
// hurry ends, so that no client meets a close that it would not have met anyway. Each ends after its next reply, which says so.
func (s *Server) Retire(ctx, hurry context.Context) error { //nolint:revive // two contexts: one aborts, the other hurries
	return s.shutdown(ctx, s.cfg.KeepAliveIdle, hurry)
}

func (s *Server) shutdown(ctx context.Context, idle time.Duration, hurry context.Context) error { //nolint:revive // as Retire
	s.drainFor = idle
	s.stop.Store(true)
	s.drainConns(ctx, hurry)
	err := s.awaitConns(ctx)
	if err == nil {
		err = s.http.ShutdownWithContext(ctx) // a stream that goes on without its client
	}
	if err != nil {
		s.mu.Lock()
		for _, x := range s.live {
			x.cut()
		}
		s.mu.Unlock()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverFor+time.Second)
		defer cancel()
		err = errors.Join(err, awaitZero(last, &s.rows))
		_ = awaitZero(last, &s.conns) // clients take what was relayed
	} else {
		err = awaitZero(ctx, &s.rows) // rows of compressed bodies come a little after their exchanges
	}
	s.looks.stop()
	s.pool.close()
	s.watcher.Close()
	if err != nil {
		return fmt.Errorf("proxy: shutdown: %w", err)
	}
	return nil
}

// drainTime is how long idle connections stay open at a shutdown. A request that is already on its way is
// then answered, with Connection: close, instead of meeting a closed socket.
const drainTime = 500 * time.Millisecond

// drainConns stops accepting and waits until every connection has ended, at most drainFor.
func (s *Server) drainConns(ctx, hurry context.Context) {
	s.mu.Lock()
	for _, ln := range s.listeners {
		_ = ln.Close() // connections that were accepted are still served
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.drainFor)
	defer cancel()
	defer context.AfterFunc(hurry, cancel)()
	_ = awaitZero(ctx, &s.conns)
}

// awaitConns waits until every connection has ended, and ends those on which no request has begun. fasthttp would do that
// too, but it takes a connection for idle until a head is complete, and then drops the request.
func (s *Server) awaitConns(ctx context.Context) error {
	const pause = 100 * time.Millisecond
	for {
		s.clientsMu.Lock()
		for c := range s.clients {
			c.closeIdle()
		}
		s.clientsMu.Unlock()
		step, cancel := context.WithTimeout(ctx, pause)
		err := awaitZero(step, &s.conns)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// awaitZero waits until a counter is zero.
func awaitZero(ctx context.Context, n *atomic.Int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Live is the number of requests in flight.
func (s *Server) Live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// Conns is the number of client connections.
func (s *Server) Conns() int { return int(s.conns.Load()) }

// handle is fasthttp's handler, called for each head that clientConn has read. A panic ends the connection;
// fasthttp would let it end the process. During a shutdown fasthttp closes each connection after its request,
// even if the reply did not announce that. The next request may then be on its way, so it is awaited here.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	defer s.recoverPanic("a request failed", ctx.SetConnectionClose)
	c, ok := ctx.Conn().(*clientConn)
	if !ok {
		ctx.SetConnectionClose()
		return
	}
	for newExchange(s, c).run() {
		if !s.stop.Load() {
			return
		}
		if c.readHead() != nil {
			break
		}
	}
	c.closeGently()
	ctx.SetConnectionClose()
}

// recoverPanic must be deferred. It logs a panic and calls end.
func (s *Server) recoverPanic(what string, end func()) {
	if p := recover(); p != nil {
		s.cfg.Log.Error(what, "panic", p, "stack", string(debug.Stack()))
		end()
	}
}

// done hands a row to the Observer.
func (s *Server) done(seq uint64, at int64, rec *meter.Record) {
	defer s.recoverPanic("a row was lost: the observer failed", func() {})
	s.cfg.Observer.Done(seq, at, rec)
}

// enter makes x live and gives it its sequence number.
func (s *Server) enter(x *exchange) (live int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(x.marks.P0)
	s.rows.Add(1)
	s.seq++
	x.seq, x.integralBefore, x.entered = s.seq, s.liveIntegral, s.integratedTo
	s.live[x.seq] = x
	if len(s.live) == 1 {
		s.looks.busy()
	} else {
		s.looks.entered()
	}
	return len(s.live)
}

// leave ends x and returns the mean number of live requests while it was, in thousandths.
func (s *Server) leave(x *exchange) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(s.now())
	delete(s.live, x.seq)
	if len(s.live) == 0 {
		s.looks.idle()
	}
	if s.integratedTo <= x.entered {
		return 1000
	}
	return int64((s.liveIntegral-x.integralBefore)/float64(s.integratedTo-x.entered)*1000 + 0.5)
}

func (s *Server) advance(now int64) {
	if now > s.integratedTo {
		s.liveIntegral += float64(len(s.live)) * float64(now-s.integratedTo)
		s.integratedTo = now
	}
}
