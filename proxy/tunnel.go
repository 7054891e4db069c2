package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/proxy/rawconn"
)

// tunnel copies bytes in both directions after 101 Switching Protocols, or a CONNECT that succeeded, until both have ended. A half-close is
// passed on and does not count as a client that left.
func (x *exchange) tunnel(in *readBuffer) error {
	if !x.awaitUpload() {
		return errClientLeft
	}
	out := x.replyHead(nil)
	out = append(out, in.bytes()...)
	if err := x.writeAt(out, in.at); err != nil {
		return err
	}
	x.replied, x.tunnelled = true, true
	x.rec.Status = meter.Some(int64(x.reply.Status))
	x.outBytes += int64(in.w - in.r)
	x.c.departure.current.Store(nil)
	x.sent(x.srv.now())

	t := &tunnelState{idle: x.srv.cfg.UpstreamIdle, now: x.srv.now, over: func() bool { return x.state.Load() != live }}
	up := x.up
	back := make(chan int64, 1)
	go func() { back <- t.pump(x.c.Conn, up.Conn) }() // ends with its connections; awaited below
	if early := x.c.buffered(); len(early) > 0 {
		if _, err := x.writeUp(early); err == nil {
			x.inBytes.Add(int64(len(early)))
			x.c.r += len(early)
			x.c.releaseBuffer()
		}
	}
	x.inBytes.Add(t.pump(up.Conn, x.c.Conn))
	x.outBytes += <-back
	x.marks.E, x.keepAlive = x.srv.now(), false
	if why := t.failed.Load(); why != nil {
		return x.tunnelFailure(why)
	}
	x.replyEnded = x.state.Load() == live
	return nil
}

// tunnelFailure makes the error for a tunnel that did not end by its two sides' closes.
func (x *exchange) tunnelFailure(why *tunnelError) error {
	switch {
	case x.state.Load() != live || why.conn == x.c.Conn && !isTimeout(why.err):
		return errClientLeft
	case isTimeout(why.err):
		return fmt.Errorf("no byte passed through the tunnel for %v", x.srv.cfg.UpstreamIdle)
	}
	return fmt.Errorf("the upstream %s ended the tunnel: %s", x.srv.cfg.Upstream, trimNetError(why.err))
}

// uploadLook is how often a tunnel that waits for its request's body looks whether the exchange was ended.
const uploadLook = 100 * time.Millisecond

// awaitUpload waits for the uploader, which still reads the request's body. It returns false if the exchange was ended.
func (x *exchange) awaitUpload() bool {
	for x.uploaded != nil {
		select {
		case <-x.uploaded:
			return true
		case <-time.After(uploadLook):
			if x.state.Load() != live {
				return false
			}
		}
	}
	return true
}

// tunnelState is shared by the two directions: a tunnel is idle when both are.
type tunnelState struct {
	idle   time.Duration
	now    func() int64
	over   func() bool                 // the exchange was ended
	last   atomic.Int64                // when bytes last passed in either direction
	failed atomic.Pointer[tunnelError] // why a direction ended, if not by its source's close; the other ends too
}

// tunnelError is the first error of a tunnel and the connection that it is of.
type tunnelError struct {
	conn net.Conn
	err  error
}

// pump copies one direction until its source ends, and then closes the destination's half. After an error, when the tunnel is
// idle or the exchange is ended, it ends both directions. It returns the number of bytes copied.
func (t *tunnelState) pump(dst, src net.Conn) (total int64) {
	bp := rawconn.LargeBuffer()
	defer rawconn.PutBuffer(bp)
	t.last.Store(t.now())
	for {
		_ = src.SetReadDeadline(time.Now().Add(t.idle))
		if t.ended() { // whoever ended it may have moved the deadline before
			return total
		}
		n, err := src.Read(*bp)
		if n > 0 {
			t.last.Store(t.now())
			_ = dst.SetWriteDeadline(time.Now().Add(t.idle))
			if t.ended() {
				return total
			}
			if _, werr := dst.Write((*bp)[:n]); werr != nil {
				t.fail(dst, src, werr)
				return total
			}
			total += int64(n)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && t.now()-t.last.Load() < int64(t.idle) {
			continue // the other direction is active, or has ended by an error
		}
		if errors.Is(err, io.EOF) {
			closeHalf(dst)
			return total
		} else if err != nil {
			t.fail(src, dst, err)
			return total
		}
	}
}

func (t *tunnelState) ended() bool { return t.failed.Load() != nil || t.over() }

// fail notes an error of conn and wakes the other direction, which ends. Both connections are closed behind it.
func (t *tunnelState) fail(conn, other net.Conn, err error) {
	t.failed.CompareAndSwap(nil, &tunnelError{conn, err})
	past := time.Unix(1, 0)
	_ = errors.Join(conn.SetDeadline(past), other.SetDeadline(past))
}

// closeHalf closes the sending half, or the connection if it has no halves.
func closeHalf(c net.Conn) {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
		return
	}
	_ = c.Close()
}
