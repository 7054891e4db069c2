package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"wattline/meter"
	"wattline/proxy/http1"
	"wattline/proxy/rawconn"
)

// maxReplyHead bounds the head of an upstream's reply.
const maxReplyHead = 256 << 10

// readBuffer holds the bytes from the upstream that were not processed yet: (*buf)[r:w]. An empty one has no
// buffer, so that a stream that waits for its next event holds none.
type readBuffer struct {
	buf    *[]byte
	r, w   int
	filled bool  // the last read filled the buffer, so more is expected
	at     int64 // arrival of the newest byte
}

func (in *readBuffer) bytes() []byte {
	if in.buf == nil {
		return nil
	}
	return (*in.buf)[in.r:in.w]
}

// free returns the buffer to its pool.
func (in *readBuffer) free() {
	if in.buf != nil {
		rawconn.PutBuffer(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// makeRoom makes room after the bytes that are there.
func (in *readBuffer) makeRoom(limit int) error {
	if in.w < len(*in.buf) {
		return nil
	}
	if in.r == 0 && in.w >= limit {
		return errors.New("the upstream's reply has a head that is too long")
	}
	bigger := rawconn.LargeBuffer()
	if in.w-in.r >= rawconn.LargeSize {
		b := make([]byte, 2*(in.w-in.r))
		bigger = &b
	}
	in.w = copy(*bigger, in.bytes())
	in.r = 0
	rawconn.PutBuffer(in.buf)
	in.buf = bigger
	return nil
}

// receive reads once from the upstream. After a read that filled its buffer it uses a large one.
func (x *exchange) receive(in *readBuffer, limit int) error {
	if in.r == in.w {
		in.free()
	} else if err := in.makeRoom(limit); err != nil {
		return err
	}
	idle := int64(x.srv.cfg.UpstreamIdle)
	if now := x.srv.now(); x.up.readDeadlineAt == 0 || now-x.up.readDeadlineAt > idle/4 {
		if err := x.up.SetReadDeadline(time.Now().Add(time.Duration(idle))); err != nil {
			return err
		}
		x.up.readDeadlineAt = now
	}
	var n int
	var err error
	if in.buf == nil {
		in.buf, n, err = x.up.raw.ReadPooled(in.filled)
	} else {
		n, err = x.up.raw.Read((*in.buf)[in.w:])
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

// relay passes the reply on: interim heads, the final head and the body.
func (x *exchange) relay() error {
	var in readBuffer
	defer in.free()
	closes := false // an interim reply was the last on its connection
	for {
		if err := x.readReplyHead(&in); err != nil {
			return err
		}
		if err := x.reply.FrameReply(x.c.head.Method()); err != nil {
			return err
		}
		closes = closes || x.reply.Close
		if s := x.reply.Status; s >= 200 || s == 101 {
			break
		}
		if err := x.write(append(x.reply.AppendEndToEnd(nil, ""), "\r\n"...)); err != nil {
			return err
		}
		x.reply.Reset()
	}
	x.reply.Close = closes
	x.marks.H = in.at
	x.headedAt.Store(in.at)
	x.metered(func() { x.beginReply(in.at) })
	x.observe(Event{Seq: x.seq, Step: HeadersReceived, At: in.at, Status: x.reply.Status})
	if x.reply.Tunnel(x.c.head.Method()) {
		return x.tunnel(&in)
	}
	return x.relayBody(&in)
}

// readReplyHead reads one head into x.reply.
func (x *exchange) readReplyHead(in *readBuffer) error {
	searched := 0
	for {
		b := in.bytes()
		end, ok := http1.HeadEnd(b, searched)
		if !ok {
			return statusError(502, "the upstream's reply has a header line that ends in a bare line feed")
		}
		if end >= 0 {
			x.reply.Raw = append(x.reply.Raw[:0], b[:end]...)
			in.r += end
			return x.reply.ParseReply()
		}
		searched = len(b)
		err := x.receive(in, maxReplyHead)
		if err != nil && x.message != nil {
			if again, err := x.sendAgain(err); again || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		x.forgetMessage()
		if err != nil {
			return x.upstreamFailure(err)
		}
	}
}

// replyHead builds the head for the client: the received end-to-end lines, this hop's Connection field, and
// the row's id if it was asked for.
func (x *exchange) replyHead(dst []byte) []byte {
	h := &x.c.head
	uploading := x.uploaded != nil && !x.received.Load()
	ends := x.reply.Body == http1.UntilClose || h.HTTP10 && (!h.KeepAlive || x.reply.Body == http1.Chunked) // HTTP/1.0 has no chunks: only the close ends the body
	x.keepAlive = !h.Close && !ends && !uploading && !x.srv.stop.Load()
	dst = x.reply.AppendEndToEnd(dst, "")
	switch {
	case x.reply.Status == 101:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	case !x.keepAlive:
		dst = append(dst, "Connection: close\r\n"...)
	case h.HTTP10:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	dst = append(dst, x.replyExtras()...)
	return append(dst, "\r\n"...)
}

// replyExtras are the header lines by which a client finds its row (X-Wattline-Echo).
func (x *exchange) replyExtras() string {
	if !x.echoID {
		return ""
	}
	s := "X-Wattline-Id: " + x.id + "\r\n"
	if a := x.srv.cfg.Admin; a != "" {
		s += "X-Wattline-Admin: " + a + "\r\n"
	}
	return s
}

// relayBody sends the head together with the received part of the body, and then each read at once: read,
// stamp, write, stamp, and only then show the bytes to the meter.
func (x *exchange) relayBody(in *readBuffer) error {
	room := rawconn.SmallBuffer()
	out := x.replyHead((*room)[:0])
	body := http1.Body{Framing: x.reply.Body, Left: x.reply.Length}
	first := true
	for {
		before := body
		piece, malformed := body.Take(in.bytes())
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
				rawconn.PutBuffer(room)
				first, x.replied, out, room = false, true, nil, nil
				x.rec.Status = meter.Some(int64(x.reply.Status))
				x.releaseHeads()
			}
			x.showReply(piece, before, in.at)
		}
		if malformed != nil { // the bytes before the malformed one have been passed on
			x.marks.E = in.at
			x.broken = true
			return fmt.Errorf("the upstream %s: %w", x.srv.cfg.Upstream, malformed)
		}
		if body.Done() {
			x.replyEnded, x.marks.E = true, in.at
			x.reply.Close = x.reply.Close || in.r != in.w // bytes after the end: the connection is not reused
			return nil
		}
		if err := x.receive(in, rawconn.LargeSize); err != nil {
			x.marks.E = x.srv.now()
			if body.Framing == http1.UntilClose && errors.Is(err, io.EOF) {
				st := x.state.Load()
				x.replyEnded = st == live || st == detached
				return nil
			}
			x.broken = true
			return x.upstreamFailure(err)
		}
	}
}

// releaseHeads frees the heads' bytes when a stream begins: thousands may be live for minutes.
func (x *exchange) releaseHeads() {
	if x.reply.Body == http1.Chunked {
		x.reply.Release()
		x.c.head.Release()
	}
}

// write sends bytes to the client unchanged.
func (x *exchange) write(p []byte) error { return x.writeAt(p, x.srv.now()) }

// writeAt sends bytes that arrived at the time at. A detached exchange writes nothing. A client that cannot be
// written to has left.
func (x *exchange) writeAt(p []byte, at int64) error {
	if x.state.Load() == detached {
		x.skipped.Store(true)
		return nil
	}
	err := x.c.send(p, at)
	if err == nil {
		return nil
	}
	x.blocked += x.srv.now() - at
	if x.resumable && (x.state.CompareAndSwap(live, detached) || x.state.Load() == detached) {
		x.skipped.Store(true)
		return nil
	}
	if x.state.CompareAndSwap(live, cancelled) {
		x.abortUpstream()
		if isTimeout(err) {
			return errors.New("the client read nothing for " + x.srv.cfg.WriteIdle.String())
		}
	}
	return errClientLeft
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// showReply shows the payload of a relayed piece to the meter.
func (x *exchange) showReply(piece []byte, body http1.Body, read int64) {
	written := x.srv.now()
	x.blocked += written - read
	for len(piece) > 0 {
		n, payload, err := body.Next(piece)
		if err != nil || n == 0 {
			return
		}
		piece = piece[n:]
		if len(payload) > 0 {
			x.outBytes += int64(len(payload))
			if x.replyInflater != nil {
				x.replyInflater.Write(payload, read, written)
				continue
			}
			x.metered(func() { x.meterReply(payload, read, written) })
		}
	}
}

func (x *exchange) meterReply(payload []byte, read, written int64) {
	p := x.meter.ReplyBody(payload, read, written)
	x.lastEventSent = x.lastEventSent || (p.Done && !x.skipped.Load())
	if p.Outputs > 0 || p.PrefillTotal > 0 {
		x.progressed(p, read)
	}
}

func (x *exchange) progressed(p meter.Progress, at int64) {
	if p.First {
		x.firstAt.Store(at)
	}
	x.events.Add(int64(p.Outputs))
	x.observe(Event{Seq: x.seq, Step: OutputReceived, At: at, Progress: p})
}
