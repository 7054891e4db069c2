package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"wattline/meter"
)

// maxReplyHead bounds the head of an upstream's reply.
const maxReplyHead = 256 << 10

// inbox is what has arrived from the upstream and not been dealt with: (*buf)[r:w]. It has no buffer
// while it is empty, so that a stream that waits for its next event holds none.
type inbox struct {
	buf    *[]byte
	r, w   int
	filled bool  // the last read left no room: bulk is coming
	at     int64 // when the newest of it arrived
}

func (in *inbox) bytes() []byte {
	if in.buf == nil {
		return nil
	}
	return (*in.buf)[in.r:in.w]
}

// free gives the buffer back.
func (in *inbox) free() {
	if in.buf != nil {
		putBuffer(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// room makes room behind what is there.
func (in *inbox) room(limit int) error {
	if in.w < len(*in.buf) {
		return nil
	}
	if in.r == 0 && in.w >= limit {
		return errors.New("the upstream's reply has a head without an end")
	}
	bigger := largeBuffer()
	if in.w-in.r >= largeSize {
		b := make([]byte, 2*(in.w-in.r))
		bigger = &b
	}
	in.w = copy(*bigger, in.bytes())
	in.r = 0
	putBuffer(in.buf)
	in.buf = bigger
	return nil
}

// receive reads once. Behind a read that filled its buffer a large one is used.
func (x *exchange) receive(in *inbox, limit int) error {
	if in.r == in.w {
		in.free()
	} else if err := in.room(limit); err != nil {
		return err
	}
	idle := int64(x.srv.cfg.UpstreamIdle)
	if now := x.srv.now(); x.up.readSet == 0 || now-x.up.readSet > idle/4 {
		if err := x.up.SetReadDeadline(time.Now().Add(time.Duration(idle))); err != nil {
			return err
		}
		x.up.readSet = now
	}
	var n int
	var err error
	if in.buf == nil {
		in.buf, n, err = readNew(x.up.Conn, x.up.quiet, in.filled)
	} else {
		n, err = readFrom(x.up.Conn, x.up.quiet, (*in.buf)[in.w:])
	}
	in.at = x.srv.now()
	in.w += n
	if n > 0 {
		in.filled = in.w == len(*in.buf)
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// relay passes the reply on: interim heads as they come, then the final head, then the body.
func (x *exchange) relay() error {
	var in inbox
	defer in.free()
	for {
		if err := x.readReplyHead(&in); err != nil {
			return err
		}
		if s := x.reply.status; s >= 200 || s == 101 {
			break
		}
		if err := x.write(x.reply.raw); err != nil {
			return err
		}
		x.reply.reset()
	}
	x.marks.H = in.at
	x.headedAt.Store(in.at)
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Step: HeadersReceived, At: in.at, Status: x.reply.status})
	if err := x.reply.replyFraming(x.c.head.method()); err != nil {
		return err
	}
	x.metered(func() {
		x.meter.BeginReply(meter.ReplyHead{Status: x.reply.status, Header: x.c.replyGet, At: in.at})
	})
	if x.reply.status == 101 {
		return x.tunnel(&in)
	}
	return x.relayBody(&in)
}

// readReplyHead reads one head into x.reply.
func (x *exchange) readReplyHead(in *inbox) error {
	searched := 0
	for {
		b := in.bytes()
		end, ok := headEnd(b, searched)
		if !ok {
			return &refusal{502, "the upstream's reply has a header line that ends in a bare line feed"}
		}
		if end >= 0 {
			x.reply.raw = append(x.reply.raw[:0], b[:end]...)
			in.r += end
			return x.reply.parseReply()
		}
		searched = len(b)
		if err := x.receive(in, maxReplyHead); err != nil {
			return x.upstreamFailure(err)
		}
	}
}

// replyHead builds the head for the client: the received lines, end-to-end ones only, what this hop
// has to say about its connection, and the echo if it was asked for.
func (x *exchange) replyHead(dst []byte) []byte {
	h := &x.c.head
	uploading := x.uploaded != nil && !x.received.Load()
	ends := x.reply.body == untilClose || h.http10 && (!h.keepAlive || x.reply.body == chunked) // HTTP/1.0 knows no chunks: it reads on
	x.keep = !h.closing && !ends && !uploading && !x.srv.stop.Load()
	dst = x.reply.appendEndToEnd(dst, "")
	switch {
	case x.reply.status == 101:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	case !x.keep:
		dst = append(dst, "Connection: close\r\n"...)
	case h.http10:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	dst = append(dst, x.replyExtras()...)
	return append(dst, "\r\n"...)
}

// replyExtras are the header lines by which a replayed request finds its row.
func (x *exchange) replyExtras() string {
	if !x.echo {
		return ""
	}
	s := "X-Wattline-Id: " + x.id + "\r\n"
	if a := x.srv.cfg.Admin; a != "" {
		s += "X-Wattline-Admin: " + a + "\r\n"
	}
	return s
}

// relayBody sends the head with whatever of the body has come with it, and then every read as it comes:
// read, stamp, write, stamp, and only then the meter.
func (x *exchange) relayBody(in *inbox) error {
	room := smallBuffer()
	out := x.replyHead((*room)[:0])
	body := replyBody{framing: x.reply.body, left: x.reply.length}
	first := true
	for {
		before := body
		piece, malformed := body.take(in.bytes())
		in.r += len(piece)
		if first || len(piece) > 0 {
			p := piece
			if first {
				out = append(out, piece...)
				p = out
			}
			if err := x.writeAt(p, in.at); err != nil {
				return err
			}
			if first {
				putBuffer(room)
				first, x.replied, out, room = false, true, nil, nil
				x.rec.Status = meter.Some(int64(x.reply.status))
				x.dropHeads()
			}
			x.showReply(piece, before, in.at)
		}
		if malformed != nil { // what was good before it has been passed on
			x.marks.E = in.at
			x.breakOff()
			return fmt.Errorf("the upstream %s: %w", x.srv.cfg.Upstream, malformed)
		}
		if body.done() {
			x.clean, x.marks.E = true, in.at
			x.reply.closing = x.reply.closing || in.r != in.w // bytes behind the end: not to be trusted again
			return nil
		}
		if err := x.receive(in, largeSize); err != nil {
			x.marks.E = x.srv.now()
			if body.framing == untilClose && errors.Is(err, io.EOF) {
				st := x.state.Load()
				x.clean = st == live || st == detached
				return nil
			}
			x.breakOff()
			return x.upstreamFailure(err)
		}
	}
}

// dropHeads gives up the heads' bytes where a stream begins: it may last for minutes beside thousands.
func (x *exchange) dropHeads() {
	if x.reply.body == chunked {
		x.reply.drop()
		x.c.head.drop()
	}
}

// breakOff makes sure that a client cannot take a reply that ended early for a whole one. Sized and
// chunked replies show it by themselves; one that runs until the close needs a reset.
func (x *exchange) breakOff() {
	if x.reply.body != untilClose {
		return
	}
	raw := x.c.Conn
	t, encrypted := raw.(*tls.Conn)
	if encrypted {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	if encrypted {
		x.c.abort() // without TLS's goodbye
	}
}

// write sends bytes to the client as they are.
func (x *exchange) write(p []byte) error { return x.writeAt(p, x.srv.now()) }

// writeAt sends bytes that arrived at a time; a detached exchange writes nothing. A client that cannot
// be written to has left.
func (x *exchange) writeAt(p []byte, at int64) error {
	if x.state.Load() == detached {
		x.unsent = true
		return nil
	}
	err := x.c.send(p, at)
	if err == nil {
		return nil
	}
	x.blocked += x.srv.now() - at
	if x.resume && (x.state.CompareAndSwap(live, detached) || x.state.Load() == detached) {
		x.unsent = true
		return nil
	}
	if x.state.CompareAndSwap(live, cancelled) {
		x.cutUpstream()
		if isTimeout(err) {
			return errors.New("the client read nothing for " + x.srv.cfg.WriteIdle.String())
		}
	}
	return errLeft
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// showReply shows the payload in a relayed piece to the meter.
func (x *exchange) showReply(piece []byte, body replyBody, read int64) {
	written := x.srv.now()
	x.blocked += written - read
	for len(piece) > 0 {
		n, payload, err := body.next(piece)
		if err != nil || n == 0 {
			return
		}
		piece = piece[n:]
		if len(payload) > 0 {
			x.outBytes += int64(len(payload))
			x.metered(func() { x.meterReply(payload, read, written) })
		}
	}
}

func (x *exchange) meterReply(payload []byte, read, written int64) {
	p := x.meter.ReplyBody(payload, read, written)
	x.complete = x.complete || (p.Done && !x.unsent)
	if p.Outputs > 0 || p.PrefillTotal > 0 {
		x.progressed(p, read)
	}
}

func (x *exchange) progressed(p meter.Progress, at int64) {
	if p.First {
		x.firstAt.Store(at)
	}
	x.events.Add(int64(p.Outputs))
	x.srv.cfg.Observer.Observe(Event{Seq: x.seq, Step: OutputReceived, At: at, Progress: p})
}

// replyBody follows a reply's body through its framing.
type replyBody struct {
	framing framing
	left    int64
	chunks  chunkScanner
}

func (b *replyBody) done() bool {
	switch b.framing {
	case chunked:
		return b.chunks.done()
	case sized:
		return b.left == 0
	case untilClose:
		return false
	default:
		return true
	}
}

// next consumes a prefix of p, at most one stretch of payload.
func (b *replyBody) next(p []byte) (n int, payload []byte, err error) {
	switch b.framing {
	case chunked:
		return b.chunks.next(p)
	case sized:
		p = p[:min(int64(len(p)), b.left)]
		b.left -= int64(len(p))
		return len(p), p, nil
	case untilClose:
		return len(p), p, nil
	default:
		return 0, nil, nil
	}
}

// take consumes what of p belongs to the body.
func (b *replyBody) take(p []byte) ([]byte, error) {
	at := 0
	for at < len(p) && !b.done() {
		n, _, err := b.next(p[at:])
		at += n
		if err != nil {
			return p[:at], err
		}
	}
	return p[:at], nil
}
