package proxy

import (
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
)

// The states of an exchange. Leaving live is one compare-and-swap; whoever wins it decides about the
// upstream connection, and nobody else touches it: finished pools or closes it, cancelled has closed it.
const (
	live      int32 = iota
	finished        // the reply ended and all of it was written
	cancelled       // the client left, or wattline gave up on it: the upstream connection is closed
	detached        // the client left a resumable stream: the upstream is read to its end, nothing written
)

// exchange is one request and its reply.
type exchange struct {
	srv *Server
	c   *clientConn
	seq uint64
	id  string

	state atomic.Int32
	mu    sync.Mutex // guards up and cutoff
	up    *upstreamConn
	noUp  bool // the exchange was cut before it had an upstream connection

	// Owned by the relaying goroutine.
	marks       meter.Marks
	meter       *meter.Meter // from meters
	rec         *meter.Record
	traceparent string // the Tracer's; "": the client's own goes on
	reply       *head  // the connection's
	replied     bool   // a final head went to the client
	resume      bool   // X-Conversation-Id: the stream goes on without its client
	echo        bool
	keep        bool
	clean       bool // the upstream ended its reply by its own framing
	complete    bool // the reply's last event was seen and written
	failure     string
	refusal     *refusal
	inBytes     atomic.Int64
	outBytes    int64
	blocked     int64
	unsent      bool // something of the reply was not written, as the client of a resumable stream had left

	// Shared with the uploader, which ends before finish reads them.
	deaf       atomic.Bool   // metering failed; bytes go on
	uploaded   chan struct{} // nil: no uploader was needed
	received   atomic.Bool   // the uploader has the whole body; the last of it may still be on its way
	sentAt     atomic.Int64  // P1
	uploadFail atomic.Pointer[refusal]

	// Read by Inflight.
	headedAt, firstAt, events atomic.Int64

	integral float64 // Server's when it entered
	entered  int64
}

//nolint:gochecknoglobals // a pool is shared by design
var meters = sync.Pool{New: func() any { return new(meter.Meter) }}

// newExchange makes an exchange of the head that c has read. It is not pooled: the watcher may still
// hold it when it is over.
func newExchange(s *Server, c *clientConn) *exchange {
	c.reply.reset()
	x := &exchange{srv: s, c: c, id: newID(), reply: &c.reply}
	x.meter = meters.Get().(*meter.Meter) //nolint:forcetypeassert // its New; BeginRequest resets it
	x.deaf.Store(s.cfg.Unmetered)
	x.marks.P0 = s.at(c.arrive)
	x.rec = &meter.Record{
		ID: x.id, StartedAt: c.arrive, Instance: s.cfg.Instance, Route: s.cfg.Name, Upstream: s.cfg.Upstream.String(),
	}
	x.rec.Method, x.rec.Path = c.named()
	s.identify(x.rec, c)
	x.echo = string(c.head.get("X-Wattline-Echo")) == "1"
	x.resume = c.head.get("X-Conversation-Id") != nil
	return x
}

// identify fills the who columns.
func (s *Server) identify(rec *meter.Record, c *clientConn) {
	s.cfg.Identify.FillAgain(rec, c.get, c.host(), &c.known)
	if rec.Labels == nil {
		rec.Labels = s.cfg.Labels
	}
}

// run carries the exchange from head to row. It reports whether the client's connection can go on.
func (x *exchange) run() (keep bool) {
	defer func() { keep = x.finish(recover()) }()
	live := x.srv.enter(x)
	x.c.watch.enter(x)
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Step: RequestArrived, At: x.marks.P0})
	if t := x.srv.cfg.Tracer; t != nil {
		x.metered(func() { x.traceparent, x.rec.TraceID = t.Trace(x.seq, x.c.get) })
	}
	x.metered(func() {
		x.meter.BeginRequest(meter.RequestHead{
			Method: x.rec.Method, Path: x.rec.Path, Header: x.c.get, Identify: x.srv.cfg.Identify, Slots: &x.srv.slots,
			KeepStamps: x.srv.cfg.KeepGaps,
		})
	})
	if live > x.srv.cfg.MaxRequests {
		x.refusal = &refusal{503, "too many requests in flight"}
		return
	}
	if limit := x.srv.cfg.MaxBodyBytes; limit > 0 && x.c.head.length > limit {
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

// forward sends the head, and what has arrived of the body, upstream; the rest is left to an uploader,
// so that an early reply is seen while it runs.
func (x *exchange) forward() error {
	if err := x.awaitFirstChunk(); err != nil {
		return err
	}
	piece, before, err := x.c.takeBody()
	if err != nil {
		return err
	}
	room := smallBuffer()
	defer putBuffer(room)
	msg := append(x.requestHead((*room)[:0]), piece...)
	if err := x.sendHead(msg); err != nil {
		return err
	}
	x.showBody(piece, before)
	if x.c.bodyDone() {
		x.sent(x.srv.now())
		x.c.release()
		return nil
	}
	x.uploaded = make(chan struct{})
	go x.upload()
	return nil
}

// requestHead builds what goes upstream: the received lines, end-to-end ones only, and where tracing
// is on one traceparent in the place of the client's.
func (x *exchange) requestHead(msg []byte) []byte {
	h := &x.c.head
	drop := ""
	if x.traceparent != "" {
		drop = "traceparent"
	}
	msg = h.appendEndToEnd(msg, drop)
	if x.traceparent != "" {
		msg = append(msg, "traceparent: "+x.traceparent+"\r\n"...)
	}
	if h.upgrade {
		msg = append(msg, "Connection: Upgrade\r\n"...)
	}
	return append(msg, "\r\n"...)
}

// sendHead takes an upstream connection and writes msg. A pooled connection that turns out to be dead
// before a byte was taken is replaced once; after the first byte nothing is ever sent again.
func (x *exchange) sendHead(msg []byte) error {
	for fresh := false; ; fresh = true {
		up, err := x.srv.pool.get(x.srv.cfg.DialTimeout, fresh)
		if err != nil {
			if x.state.Load() == cancelled { // nobody is left to be told
				return errLeft
			}
			x.failure = dialError(x.srv.cfg.Upstream, err)
			return &refusal{502, x.failure}
		}
		if !x.own(up) {
			return errLeft
		}
		n, err := x.writeUp(msg)
		switch {
		case err == nil:
			return nil
		case x.state.Load() != live:
			return errLeft
		case n == 0 && up.reused:
			x.disown()
		default:
			return nil // the upstream may have answered before it closed: the relay will see
		}
	}
}

var errLeft = errors.New("the client left")

// own makes up the exchange's connection, unless the exchange was cut meanwhile.
func (x *exchange) own(up *upstreamConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.noUp {
		_ = up.Close()
		return false
	}
	x.up = up
	return true
}

func (x *exchange) disown() {
	x.mu.Lock()
	defer x.mu.Unlock()
	_ = x.up.Close()
	x.up = nil
}

// writeUp writes to the upstream under the idle deadline for bodies.
func (x *exchange) writeUp(p []byte) (int, error) {
	idle := int64(x.srv.cfg.UpstreamIdle)
	if now := x.srv.now(); x.up.writeSet == 0 || now-x.up.writeSet > idle/4 {
		if err := x.up.SetWriteDeadline(time.Now().Add(x.srv.cfg.UpstreamIdle)); err != nil {
			return 0, err
		}
		x.up.writeSet = now
	}
	return writeTo(x.up.Conn, x.up.quiet, p)
}

// sent notes P1.
func (x *exchange) sent(at int64) {
	x.sentAt.Store(at)
	var work meter.Work
	x.metered(func() { work = x.meter.Work() })
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Step: RequestSent, At: at, Work: work, Bytes: x.inBytes.Load()})
}

// metered runs a piece of metering. A panic in it ends the metering of this exchange and nothing else.
func (x *exchange) metered(f func()) {
	if x.deaf.Load() {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			x.deaf.Store(true)
			x.srv.cfg.Log.Error("metering failed; the traffic goes on", "panic", p, "id", x.id, "path", x.rec.Path, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// clientLeft is called by the watcher, on its goroutine, at any time.
func (x *exchange) clientLeft() {
	if !x.resume {
		x.cut()
		return
	}
	x.state.CompareAndSwap(live, detached) // told twice, it changes nothing
}

// cut ends a live exchange from outside: the upstream connection and the client's are closed, which
// wakes whoever reads or writes on them.
func (x *exchange) cut() {
	if x.state.CompareAndSwap(live, cancelled) || x.state.CompareAndSwap(detached, cancelled) {
		x.cutUpstream()
		x.c.abort()
	}
}

func (x *exchange) cutUpstream() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.noUp = true
	if x.up != nil {
		x.up.abort()
	}
}
