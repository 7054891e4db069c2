package proxy

import (
	"net"
	"time"

	"wattline/meter"
)

// tunnel passes bytes both ways after 101 Switching Protocols until both sides have ended. A side that
// closes its half closes the other side's half; it does not count as a client that left.
func (x *exchange) tunnel(in *inbox) error {
	out := x.replyHead(nil)
	out = append(out, in.bytes()...)
	if err := x.writeAt(out, in.at); err != nil {
		return err
	}
	x.replied = true
	x.rec.Status = meter.Some(101)
	x.outBytes += int64(in.w - in.r)
	x.c.watch.current.Store(nil)
	up := x.up
	x.sent(x.srv.now())

	back := make(chan int64, 1)
	go func() { back <- pump(x.c.Conn, up.Conn, x.srv.cfg.UpstreamIdle) }() // ends with its connections; awaited below
	if early := x.c.buffered(); len(early) > 0 {
		if _, err := x.writeUp(early); err == nil {
			x.inBytes.Add(int64(len(early)))
			x.c.r += len(early)
			x.c.release()
		}
	}
	x.inBytes.Add(pump(up.Conn, x.c.Conn, x.srv.cfg.UpstreamIdle))
	x.outBytes += <-back
	x.marks.E, x.clean, x.keep = x.srv.now(), true, false
	return nil
}

// pump copies one direction until its source ends or is silent for idle, then closes the destination's
// half. It returns the bytes copied.
func pump(dst, src net.Conn, idle time.Duration) (total int64) {
	bp := largeBuffer()
	defer putBuffer(bp)
	for {
		_ = src.SetReadDeadline(time.Now().Add(idle))
		n, err := src.Read(*bp)
		if n > 0 {
			_ = dst.SetWriteDeadline(time.Now().Add(idle))
			if _, werr := dst.Write((*bp)[:n]); werr != nil {
				_ = src.Close()
				return total
			}
			total += int64(n)
		}
		if err != nil {
			if cw, ok := dst.(interface{ CloseWrite() error }); ok {
				_ = cw.CloseWrite()
			} else {
				_ = dst.Close()
			}
			return total
		}
	}
}
