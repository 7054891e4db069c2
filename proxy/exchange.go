package proxy

import (
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/proxy/http1"
	"wattline/proxy/inflate"
	"wattline/proxy/rawconn"
)

// The states of an exchange. It leaves live by one compare-and-swap, and the goroutine that wins it decides
// about the upstream connection: finished pools or closes it, cancelled has closed it.
const (
	live      int32 = iota
	finished        // the reply ended and all of it was written
	cancelled       // the client left or wattline gave up: the upstream connection is closed
	detached        // the client left a resumable stream: the upstream is read to its end, nothing is written
)

// exchange is one request and its reply.
type exchange struct {
	srv *Server
	c   *clientConn
	seq uint64
	id  string

	state   atomic.Int32
	mu      sync.Mutex // guards up and aborted
	up      *upstreamConn
	aborted bool // no upstream connection may be attached any more

	// Owned by the relaying goroutine.
	marks         meter.Marks
	meter         *meter.Meter // from meterPool
	rec           *meter.Record
	traceparent   string      // the Tracer's; "": the client's own is passed on
	reply         *http1.Head // the connection's
	replied       bool        // a final head went to the client
	resumable     bool        // X-Conversation-Id: the stream goes on without its client
	echoID        bool        // X-Wattline-Echo: the reply carries the row's id
	keepAlive     bool        // of the client's connection
	pathBytes     int         // of a path of which the row has a part, else 0
	tunnelled     bool        // the reply opened a tunnel, so the connection is spent
	message       []byte      // all of a request that went out on a kept connection, until a byte of the reply arrives
	room          *[]byte     // holds message, unless that is larger
	broken        bool        // the reply ended before its end
	replyEnded    bool        // the upstream ended its reply by its own framing
	lastEventSent bool        // the stream's last event was written
	skipped       atomic.Bool // part of the reply was not written, since the client of a resumable stream had left
	lost          bool        // the end of the reply may have been destroyed by a reset
	failure       string
	refusal       *http1.StatusError // answered instead of, or because of, the upstream
	outBytes      int64
	blocked       int64 // ns between reading and having written, summed

	// Shared with the uploader, which ends before finish reads them.
	requestInflater, replyInflater *inflate.Stream // nil: the body is not compressed, or of no use to the meter

	won     bool         // set by finish for handOver, as status
	status  int          // of the reply
	readers atomic.Int32 // inflaters at work, and the exchange itself until finish

	earlyMu  sync.Mutex  // guards early
	early    []Event     // steps of the reply that wait for RequestSent
	sentTold atomic.Bool // RequestSent was reported

	sentOnce   sync.Once     // reports P1 of a compressed request
	meterOff   atomic.Bool   // metering failed or is switched off; bytes go on
	uploaded   chan struct{} // closed by the uploader; nil: none was needed
	received   atomic.Bool   // the uploader has the whole body; its last bytes may not be written yet
	inBytes    atomic.Int64
	sentAt     atomic.Int64 // P1
	uploadFail atomic.Pointer[http1.StatusError]

	// Read by Inflight.
	headedAt, firstAt, events atomic.Int64
	work                      meter.Work // valid once worked is set
	worked                    atomic.Bool

	integralBefore float64 // the Server's liveIntegral at enter
	entered        int64
}

//nolint:gochecknoglobals // a pool is shared by design
var meterPool = sync.Pool{New: func() any { return new(meter.Meter) }}

// newExchange makes an exchange for the head that c has read. Exchanges are not pooled, since the watcher may
// still hold one that has ended.
func newExchange(s *Server, c *clientConn) *exchange {
	c.reply.Reset()
	x := &exchange{srv: s, c: c, id: newID(), reply: &c.reply}
	x.meter = meterPool.Get().(*meter.Meter) //nolint:forcetypeassert // its New; BeginRequest resets it
	x.meterOff.Store(s.cfg.Unmetered)
	x.readers.Store(1)
	x.marks.P0 = s.clockTime(c.arrived)
	x.rec = &meter.Record{
		ID: x.id, StartedAt: c.arrived, Instance: s.cfg.Instance, Route: s.cfg.Name, Upstream: s.cfg.Upstream.String(),
	}
	c.describe(x.rec)
	x.pathBytes = c.pathBytes
	s.identify(x.rec, c)
	x.echoID = string(c.head.Get("X-Wattline-Echo")) == "1"
	x.resumable = c.head.Get("X-Conversation-Id") != nil
	return x
}

// identify fills the columns that identify the client.
func (s *Server) identify(rec *meter.Record, c *clientConn) {
	s.cfg.Identify.FillCached(rec, c.get, c.clientHost(), &c.known)
	if rec.Labels == nil {
		rec.Labels = s.cfg.Labels
	}
}

// run carries the exchange out. It reports whether the client's connection can be used again.
func (x *exchange) run() (keep bool) {
	defer func() { keep = x.finish(recover()) }()
	live := x.srv.enter(x)
	x.c.departure.enter(x)
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Step: RequestArrived, At: x.marks.P0})
	if t := x.srv.cfg.Tracer; t != nil {
		x.metered(func() { x.traceparent, x.rec.TraceID = t.Trace(x.seq, x.c.get) })
	}
	x.metered(x.beginRequest)
	if live > x.srv.cfg.MaxRequests {
		x.refusal = statusError(503, "too many requests in flight")
		return
	}
	if limit := x.srv.cfg.MaxBodyBytes; limit > 0 && x.c.head.Length > limit {
		x.refusal = errBodyTooLarge
		return
	}
	if err := x.forward(); err != nil {
		x.fail(err)
		return
	}
	if err := x.relay(); err != nil {
		x.fail(err)
	}
	return
}

// forward sends the head and the received part of the body upstream. The rest is sent by an uploader
// goroutine, so that an early reply is seen while the upload runs.
func (x *exchange) forward() error {
	if err := x.awaitFirstChunk(); err != nil {
		return err
	}
	if err := x.awaitSmallBody(); err != nil {
		return err
	}
	piece, before, err := x.c.takeBody()
	if err != nil {
		return err
	}
	x.room = rawconn.SmallBuffer()
	x.message = append(x.requestHead((*x.room)[:0]), piece...)
	whole := x.c.body.Done()
	wrote, err := x.sendHead(x.message, whole && (x.isSafe() || x.srv.pool.trusted()))
	if !whole || err != nil || wrote < len(x.message) || !x.up.reused {
		x.forgetMessage()
	}
	if err != nil {
		return err
	}
	x.showBody(piece, before)
	if whole {
		x.sent(x.srv.now())
		x.c.releaseBuffer()
		return nil
	}
	x.uploaded = make(chan struct{})
	go x.upload()
	return nil
}

// requestHead builds the head for the upstream: the received end-to-end lines and, with tracing, a
// traceparent instead of the client's.
func (x *exchange) requestHead(msg []byte) []byte {
	h := &x.c.head
	drop := ""
	if x.traceparent != "" {
		drop = "traceparent"
	}
	msg = h.AppendEndToEnd(msg, drop)
	if x.traceparent != "" {
		msg = append(msg, "traceparent: "+x.traceparent+"\r\n"...)
	}
	if h.Upgrade {
		msg = append(msg, "Connection: Upgrade\r\n"...)
	}
	return append(msg, "\r\n"...)
}

// sendHead takes an upstream connection, a kept one if reuse is set, and writes msg. A kept connection that turns
// out to be closed is replaced, if not one byte was written.
func (x *exchange) sendHead(msg []byte, reuse bool) (wrote int, err error) {
	for ; ; reuse = false {
		up, err := x.srv.pool.get(x.srv.cfg.DialTimeout, !reuse)
		if err != nil {
			if x.state.Load() == cancelled { // no client waits for an answer
				return 0, errClientLeft
			}
			x.failure = dialError(x.srv.cfg.Upstream, err)
			return 0, statusError(502, x.failure)
		}
		if !x.attachUpstream(up) {
			return 0, errClientLeft
		}
		n, err := x.writeUp(msg)
		switch {
		case err == nil:
			return n, nil
		case x.state.Load() != live:
			return n, errClientLeft
		case n == 0 && up.reused:
			x.detachUpstream()
		default:
			return n, nil // the upstream may have answered before it closed: relay finds out
		}
	}
}

var errClientLeft = errors.New("the client left")

// attachUpstream makes up the exchange's connection, unless the exchange was aborted meanwhile.
func (x *exchange) attachUpstream(up *upstreamConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.aborted {
		_ = up.Close()
		return false
	}
	x.up = up
	return true
}

func (x *exchange) detachUpstream() {
	x.mu.Lock()
	defer x.mu.Unlock()
	_ = x.up.Close()
	x.up = nil
}

// writeUp writes to the upstream. Its deadline is moved when a quarter of its time has passed.
func (x *exchange) writeUp(p []byte) (int, error) {
	idle := int64(x.srv.cfg.UpstreamIdle)
	if now := x.srv.now(); x.up.writeDeadlineAt == 0 || now-x.up.writeDeadlineAt > idle/4 {
		if err := x.up.SetWriteDeadline(time.Now().Add(x.srv.cfg.UpstreamIdle)); err != nil {
			return 0, err
		}
		x.up.writeDeadlineAt = now
	}
	return x.up.raw.Write(p)
}

// sent sets P1 and reports it. It must be called after the last byte of the request was written.
func (x *exchange) sent(at int64) {
	x.sentAt.Store(at)
	if x.requestInflater != nil {
		x.requestInflater.Close(true) // requestInflated reports it
		return
	}
	var work meter.Work
	x.metered(func() { work = x.meter.Work() })
	x.reportSent(at, work)
}

func (x *exchange) reportSent(at int64, work meter.Work) {
	if !x.worked.Load() {
		x.work = work
		x.worked.Store(true)
	}
	x.earlyMu.Lock()
	defer x.earlyMu.Unlock()
	if work.Computes {
		x.srv.loads.Sent(at)
	}
	observe := x.srv.cfg.Observer.Observe
	observe(Event{Seq: x.seq, Step: RequestSent, At: at, Work: work, Bytes: x.inBytes.Load()})
	for _, e := range x.early {
		observe(e)
	}
	x.early = nil
	x.sentTold.Store(true)
}

// maxEarly bounds the steps of a reply that wait for the end of its request.
const maxEarly = 64

// observe reports a step of the reply. Steps of one that is earlier than the end of its request wait for that, since
// Observers are told in order and by one goroutine at a time.
func (x *exchange) observe(e Event) {
	if !x.sentTold.Load() {
		x.earlyMu.Lock()
		defer x.earlyMu.Unlock()
		if !x.sentTold.Load() {
			if len(x.early) < maxEarly {
				x.early = append(x.early, e)
			}
			return
		}
	}
	x.srv.cfg.Observer.Observe(e)
}

// metered calls f unless metering is off. A panic in f ends this exchange's metering, not its traffic.
func (x *exchange) metered(f func()) {
	if x.meterOff.Load() {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			x.meterOff.Store(true)
			x.srv.cfg.Log.Error("metering failed; traffic is unaffected", "panic", p, "id", x.id, "path", x.rec.Path, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// clientLeft is called on the watcher's goroutine, at any time.
func (x *exchange) clientLeft() {
	if !x.resumable {
		x.abort()
		return
	}
	x.state.CompareAndSwap(live, detached)
}

// abort ends a live exchange from another goroutine: it closes both connections, which wakes reads and
// writes on them.
func (x *exchange) abort() {
	if x.state.CompareAndSwap(live, cancelled) || x.state.CompareAndSwap(detached, cancelled) {
		x.abortUpstream()
		x.c.abort()
	}
}

// cut ends a live exchange because wattline stops. What was relayed of the reply still reaches the client.
func (x *exchange) cut() {
	if x.state.CompareAndSwap(live, cancelled) || x.state.CompareAndSwap(detached, cancelled) {
		x.abortUpstream()
		x.c.cut.Store(true)
		_ = x.c.Conn.SetWriteDeadline(time.Unix(1, 0)) // wakes send
	}
}

// abortUpstream closes the upstream connection and lets no other be attached.
func (x *exchange) abortUpstream() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.aborted = true
	if x.up != nil {
		x.up.abort()
	}
}
