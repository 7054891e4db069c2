package proxy

import (
	"errors"
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
	if x.uploaded != nil {
		<-x.uploaded // the uploader still reads the request's body
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

	t := &tunnelState{idle: x.srv.cfg.UpstreamIdle, now: x.srv.now}
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
	x.marks.E, x.replyEnded, x.keepAlive = x.srv.now(), true, false
	return nil
}

// tunnelState is shared by the two directions: a tunnel is idle when both are.
type tunnelState struct {
	idle time.Duration
	now  func() int64
	last atomic.Int64 // when bytes last passed in either direction
}

// pump copies one direction until its source ends and then closes the destination's half. If the source was
// reset or the tunnel is idle, it closes the destination. It returns the number of bytes copied.
func (t *tunnelState) pump(dst, src net.Conn) (total int64) {
	bp := rawconn.LargeBuffer()
	defer rawconn.PutBuffer(bp)
	t.last.Store(t.now())
	for {
		_ = src.SetReadDeadline(time.Now().Add(t.idle))
		n, err := src.Read(*bp)
		if n > 0 {
			t.last.Store(t.now())
			_ = dst.SetWriteDeadline(time.Now().Add(t.idle))
			if _, werr := dst.Write((*bp)[:n]); werr != nil {
				_ = src.Close()
				return total
			}
			total += int64(n)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && t.now()-t.last.Load() < int64(t.idle) {
			continue // the other direction is active
		}
		if errors.Is(err, io.EOF) {
			closeHalf(dst)
			return total
		} else if err != nil {
			_ = dst.Close()
			return total
		}
	}
}

// closeHalf closes the sending half, or the connection if it has no halves.
func closeHalf(c net.Conn) {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
		return
	}
	_ = c.Close()
}
