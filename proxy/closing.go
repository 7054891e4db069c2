package proxy

import (
	"crypto/tls"
	"errors"
	"os"
	"time"

	"wattline/proxy/rawconn"
)

// Bounds of the end of a connection that wattline closes.
const (
	deliverFor  = 2 * time.Second  // for the client's system to take the last bytes
	lingerQuiet = 2 * time.Second  // without a byte of the client's
	lingerFor   = 10 * time.Second // altogether
	lingerBytes = 16 << 20         // of the client's, read and dropped
	lingerLook  = 100 * time.Millisecond
)

// closing is the end of a connection that wattline closes. Closing a socket with unread bytes sends a reset, and so
// does a byte that arrives behind the close; a reset destroys what the client has not taken yet. So the sending half
// is closed first, and what the client still sends is read and dropped until it closes too, within bounds.
//
// Owned by the goroutine that serves the connection.
type closing struct {
	gone    bool  // the client has closed its side, or nothing more can be sent to it
	began   int64 // when the sending half was closed; 0: it is open
	last    int64 // arrival of the client's last byte since
	dropped int   // bytes of the client's since
}

// closeGently ends the connection; Close must follow.
func (c *clientConn) closeGently() {
	c.endSending()
	c.drain(lingerFor, c.srv.stop.Load)
}

// endSending closes the sending half and waits until the client's system has all bytes. It reports whether the
// connection can now be closed without a reset: false if the client sends more than is read here. Only the first
// call does something.
func (c *clientConn) endSending() (clean bool) {
	if c.closing.gone || c.closing.began != 0 {
		return true
	}
	conn := c.Conn
	if t, ok := conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
		conn = t.NetConn()
		c.raw = rawconn.New(conn)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	c.closing.gone = !ok || half.CloseWrite() != nil
	return c.deliver()
}

// reset closes the connection so that the client sees that a reply which runs until the close was cut. What was
// relayed of it is delivered before.
func (c *clientConn) reset() {
	c.deliver()
	raw := c.Conn
	t, encrypted := raw.(*tls.Conn)
	if encrypted {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	c.abort() // without close_notify, which would mark a proper end
	c.closing.gone = true
}

// deliver waits until the client's system has all bytes, at most deliverFor.
func (c *clientConn) deliver() (clean bool) {
	c.closing.began = c.srv.now()
	c.closing.last = c.closing.began
	return c.drain(deliverFor, func() bool { return c.raw.Unsent() <= 0 })
}

// drain reads and drops what the client sends, until done or until it has closed. It reports whether nothing was
// left unread when it gave up.
func (c *clientConn) drain(atMost time.Duration, done func() bool) (clean bool) {
	e := &c.closing
	clean = true
	for wait := time.Millisecond; !e.gone && !done(); wait = min(2*wait, lingerLook) {
		now := c.srv.now()
		if now-e.began > int64(atMost) || now-e.last > int64(lingerQuiet) || e.dropped > lingerBytes {
			return clean
		}
		if err := c.Conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			e.gone = true
			return true
		}
		buf, n, err := c.raw.ReadPooled(true)
		if buf != nil {
			rawconn.PutBuffer(buf)
		}
		e.dropped += n
		if clean = n == 0; !clean {
			e.last = now
		}
		e.gone = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	return true
}
