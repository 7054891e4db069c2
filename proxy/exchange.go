package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
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
	reply       head
	replied     bool // a final head went to the client
	resume      bool // X-Conversation-Id: the stream goes on without its client
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
	x := &exchange{srv: s, c: c, id: newID()}
	x.meter = meters.Get().(*meter.Meter) //nolint:forcetypeassert // its New
	x.meter.Reset()
	x.marks.P0 = s.at(c.arrive)
	x.rec = &meter.Record{
		ID: x.id, StartedAt: c.arrive, Instance: s.cfg.Instance, Route: s.cfg.Name, Upstream: s.cfg.Upstream.String(),
		Method: string(c.head.method()), Path: string(c.head.path()),
	}
	s.identify(x.rec, c)
	x.echo = string(c.head.get("X-Wattline-Echo")) == "1"
	x.resume = c.head.get("X-Conversation-Id") != nil
	return x
}

// identify fills the who columns.
func (s *Server) identify(rec *meter.Record, c *clientConn) {
	addr := c.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		addr = host
	}
	s.cfg.Identify.Fill(rec, c.head.get, addr)
	if rec.Labels == nil {
		rec.Labels = s.cfg.Labels
	}
}

// run carries the exchange from head to row. It reports whether the client's connection can go on.
func (x *exchange) run() (keep bool) {
	defer func() { keep = x.finish(recover()) }()
	live := x.srv.enter(x)
	x.c.watch.enter(x)
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Phase: Arrived, At: x.marks.P0})
	if t := x.srv.cfg.Tracer; t != nil {
		x.metered(func() { x.traceparent, x.rec.TraceID = t.Trace(x.seq, x.c.head.get) })
	}
	x.metered(func() {
		x.meter.BeginRequest(meter.RequestHead{
			Method: x.rec.Method, Path: x.rec.Path, Header: x.c.head.get, Identify: x.srv.cfg.Identify, Slots: &x.srv.slots,
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
	msg := x.requestHead()
	msg = append(msg, piece...)
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

// firstChunkGrace is how long a head waits for the first chunk size behind it. Clients send the two
// together; one that does not may be waiting for an early answer, and shall have it.
const firstChunkGrace = 200 * time.Millisecond

// awaitFirstChunk reads on until the first chunk size is known to be one, so that a request whose body
// is malformed from the start never reaches the upstream. A client that waits for 100-continue sends
// none before.
func (x *exchange) awaitFirstChunk() error {
	c := x.c
	until := c.arrive.Add(min(firstChunkGrace, x.srv.cfg.BodyIdle))
	for c.head.body == chunked && !c.head.expect {
		probe := c.chunks
		for b := c.buffered(); len(b) > 0 && probe.state < inData; {
			n, _, err := probe.next(b[:1])
			if err != nil {
				return &refusal{400, err.Error()}
			}
			b = b[n:]
		}
		if probe.state >= inData {
			return nil
		}
		switch err := c.fill(time.Until(until), smallSize+maxChunkLine); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return x.clientReadError(err)
		}
	}
	return nil
}

// requestHead builds what goes upstream: the received lines, end-to-end ones only, and where tracing
// is on one traceparent in the place of the client's.
func (x *exchange) requestHead() []byte {
	h := &x.c.head
	msg := make([]byte, 0, len(h.raw)+len(x.c.buffered())+80)
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
		ctx, cancel := context.WithTimeout(context.Background(), x.srv.cfg.DialTimeout)
		up, err := x.srv.pool.get(ctx, fresh)
		cancel()
		if err != nil {
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
	if err := x.up.SetWriteDeadline(time.Now().Add(x.srv.cfg.UpstreamIdle)); err != nil {
		return 0, err
	}
	return x.up.Write(p)
}

// sent notes P1.
func (x *exchange) sent(at int64) {
	x.sentAt.Store(at)
	var work meter.Work
	x.metered(func() { work = x.meter.Work() })
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Phase: Sent, At: at, Work: work, Bytes: x.inBytes.Load()})
}

// upload sends what remains of the body. It is started by forward, ends when the body does, the client
// leaves or the upstream takes no more, and finish waits for it.
func (x *exchange) upload() {
	defer close(x.uploaded)
	defer x.srv.rescue("an upload failed", func() { x.uploadFailed(&refusal{500, "internal error"}) })
	c := x.c
	c.roomForUpload()
	defer c.release()
	for !c.bodyDone() {
		if len(c.buffered()) == 0 {
			if err := c.fill(x.srv.cfg.BodyIdle, largeSize); err != nil {
				x.uploadFailed(x.clientReadError(err))
				return
			}
		}
		piece, before, err := c.takeBody()
		if err != nil {
			x.uploadFailed(err)
			return
		}
		if c.bodyDone() { // before the write: the reply may be here as soon as that returns
			x.received.Store(true)
		}
		if _, err := x.writeUp(piece); err != nil {
			return // the upstream has heard enough; its reply says why
		}
		x.showBody(piece, before)
	}
	x.sent(x.srv.now())
}

// uploadFailed ends the exchange because of what the client sent or did not send.
func (x *exchange) uploadFailed(err error) {
	var why *refusal
	errors.As(err, &why)
	if x.state.CompareAndSwap(live, cancelled) {
		x.uploadFail.Store(why) // nil if the client left
		x.cutUpstream()
	} else if x.state.CompareAndSwap(detached, cancelled) { // half a request makes no stream to resume
		x.cutUpstream()
	}
}

// clientReadError says what a failed read from the client means.
func (x *exchange) clientReadError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &refusal{408, fmt.Sprintf("no byte of the request's body came for %v", x.srv.cfg.BodyIdle)}
	}
	return errLeft
}

// showBody shows the payload in a piece of the request's body to the meter.
func (x *exchange) showBody(piece []byte, scan chunkScanner) {
	if len(piece) == 0 {
		return
	}
	if x.c.head.body == sized {
		x.inBytes.Add(int64(len(piece)))
		x.metered(func() { x.meter.RequestBody(piece) })
		return
	}
	for len(piece) > 0 {
		n, payload, err := scan.next(piece)
		if err != nil || n == 0 {
			return
		}
		if len(payload) > 0 {
			x.inBytes.Add(int64(len(payload)))
			x.metered(func() { x.meter.RequestBody(payload) })
		}
		piece = piece[n:]
	}
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

// fail notes why the exchange did not come to its end.
func (x *exchange) fail(err error) {
	var why *refusal
	switch {
	case errors.As(err, &why):
		x.refusal = why
	case errors.Is(err, errLeft):
	default:
		x.failure = err.Error()
	}
	x.keep = false
}

// finish ends the exchange: it answers what was refused, settles who owns the upstream connection,
// waits for the uploader and hands the row over. It reports whether the client's connection goes on.
func (x *exchange) finish(panicked any) bool {
	if panicked != nil {
		x.keep, x.failure, x.refusal = false, "internal error", &refusal{500, "internal error of wattline"}
		x.srv.cfg.Log.Error("an exchange failed", "panic", panicked, "id", x.id, "path", x.rec.Path, "stack", string(debug.Stack()))
	}
	won := x.state.CompareAndSwap(live, finished)
	x.keep = x.keep && won
	if x.refusal != nil || !x.clean {
		x.cutUpstream()
	}
	if x.marks.E == 0 {
		x.marks.E = x.srv.now()
	}
	x.endUpload()
	if x.refusal != nil && !x.replied {
		x.replied = true
		x.rec.Status = meter.Some(int64(x.refusal.status))
		x.c.refuseWith(x.refusal, x.replyExtras())
		x.keep = false
	}
	x.releaseUpstream()
	x.c.watch.current.Store(nil)
	x.finishRow(won)
	if !x.deaf.Load() { // what a failed one holds is not known
		meters.Put(x.meter)
	}
	keep := x.keep && x.state.Load() == finished && !x.srv.stop.Load()
	if !keep && x.replied && !x.c.bodyDone() {
		x.c.linger()
	}
	return keep
}

// endUpload waits for the uploader. One that is still writing the last bytes is given a moment. One that
// is still waiting for the client is woken: the reply is over, and nobody will read the rest.
func (x *exchange) endUpload() {
	if x.uploaded == nil {
		return
	}
	patience := time.Duration(0)
	if x.received.Load() {
		patience = 10 * time.Millisecond
	}
	select {
	case <-x.uploaded:
	case <-time.After(patience):
		x.keep = x.keep && x.received.Load()
		x.cutUpstream()
		for done := false; !done; {
			_ = x.c.Conn.SetReadDeadline(time.Unix(1, 0))
			select {
			case <-x.uploaded:
				done = true
			case <-time.After(10 * time.Millisecond): // its own deadline may have come behind ours
			}
		}
	}
	if why := x.uploadFail.Load(); why != nil && !x.replied {
		x.refusal = why
	}
}

// releaseUpstream pools a connection that the reply left clean and closes any other.
func (x *exchange) releaseUpstream() {
	x.mu.Lock()
	up, cut := x.up, x.noUp
	x.up, x.noUp = nil, true
	x.mu.Unlock()
	if up == nil {
		return
	}
	st := x.state.Load()
	if (st == finished || st == detached) && !cut && x.clean && x.refusal == nil && x.reusable() {
		x.srv.pool.put(up)
		return
	}
	_ = up.Close()
}

// reusable reports whether another request may go out on the upstream connection. Both heads must allow
// it, and the reply must have been a sized one: llama-server (build 11669) closes the connection behind
// every chunked reply although its head promises keep-alive, some time after the last chunk, so that no
// look at the socket can be early enough to tell. A dial a stream is the price.
func (x *exchange) reusable() bool {
	return !x.c.head.http10 && !x.reply.http10 && !x.reply.closing && x.reply.status != 101 && x.sentAt.Load() != 0 &&
		(x.reply.body == sized || x.reply.body == noBody)
}

// finishRow completes the record and hands it over.
func (x *exchange) finishRow(won bool) {
	rec := x.rec
	x.marks.R, x.marks.P1 = x.marks.P0, x.sentAt.Load()
	if x.inBytes.Load() > 0 {
		x.marks.R = x.c.last
	}
	rec.Outcome, rec.Error = x.outcome(won)
	rec.RequestBytes, rec.ResponseBytes = meter.Some(x.inBytes.Load()), meter.Some(x.outBytes)
	if x.replied {
		rec.WriteBlockedUs = meter.Some(x.blocked / 1000)
	}
	rec.MeanConcurrency = meter.Some(x.srv.leave(x))
	x.metered(func() { x.meter.Fill(rec, x.marks, x.clean) })
	if x.deaf.Load() && rec.Error == "" {
		rec.Error = "metering failed"
	}
	x.srv.done(x.seq, x.marks.E, rec)
	x.srv.rows.Add(-1)
}

// outcome decides how the exchange ended. complete outweighs a client that left behind the last event.
func (x *exchange) outcome(won bool) (meter.Outcome, string) {
	switch {
	case x.refusal != nil && x.refusal.status == 502 || x.refusal != nil && x.refusal.status == 504:
		return meter.UpstreamError, x.refusal.reason
	case x.refusal != nil:
		return meter.Rejected, x.refusal.reason
	case x.clean && !x.unsent, x.complete && !won:
		if x.reply.status >= 400 {
			return meter.UpstreamError, ""
		}
		return meter.OK, ""
	case !won:
		return meter.Cancelled, x.failure
	case !x.replied:
		return meter.UpstreamError, x.failure
	default:
		return meter.Truncated, x.failure
	}
}

// snapshot is what Inflight shows; called under the Server's lock, beside the relaying goroutine.
func (x *exchange) snapshot(now int64) Inflight {
	f := Inflight{
		ID: x.id, Route: x.srv.cfg.Name, StartedAt: x.rec.StartedAt, Method: x.rec.Method, Path: x.rec.Path,
		Agent: x.rec.Agent, AgeUs: (now - x.entered) / 1000, Events: x.events.Load(), Phase: "sending",
	}
	switch first := x.firstAt.Load(); {
	case first > 0:
		us := (first - x.entered) / 1000
		f.TTFTUs, f.Phase = &us, "producing"
	case x.headedAt.Load() > 0:
		f.Phase = "headed"
	case x.sentAt.Load() > 0:
		f.Phase = "waiting"
	}
	return f
}

// upstreamFailure words a failed read from the upstream.
func (x *exchange) upstreamFailure(err error) error {
	up := x.srv.cfg.Upstream
	switch {
	case x.state.Load() != live && x.state.Load() != detached:
		return errLeft
	case errors.Is(err, os.ErrDeadlineExceeded):
		text := fmt.Sprintf("the upstream %s said nothing for %v", up, x.srv.cfg.UpstreamIdle)
		if x.replied {
			return errors.New(text)
		}
		return &refusal{504, text}
	case x.replied:
		return fmt.Errorf("the upstream %s ended its reply early: %s", up, plain(err))
	default:
		return &refusal{502, fmt.Sprintf("the upstream %s closed the connection without a reply: %s", up, plain(err))}
	}
}

// plain is an error's text without the addresses that net puts in front.
func plain(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "end of stream"
	}
	return strings.TrimPrefix(err.Error(), "read: ")
}
