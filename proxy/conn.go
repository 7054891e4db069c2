package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"wattline/meter"
)

// fixedHead is what fasthttp is shown for every request. Its own reader would wait for up to 8 KiB of
// body before it calls the handler, answer Expect itself, and reorder what it parsed; its writer loses
// HEAD's Content-Length, chunks for HTTP/1.0 clients and knows no interim reply. So it is given a
// request without any of that, once a real head has been read and validated, and the handler finds the
// real one in the clientConn.
const fixedHead = "GET / HTTP/1.1\r\nHost: w\r\n\r\n"

// errBodyTooLarge is returned by takeBody when a chunked body outgrows its limit.
var errBodyTooLarge = &refusal{413, "the request's body is larger than the limit"}

// clientConn is a client's connection as fasthttp sees it. All reading of real bytes happens here.
type clientConn struct {
	net.Conn
	srv   *Server
	quiet *quiet // of Conn; nil: it has none

	canned string // what fasthttp has still to be given of fixedHead

	// Owned by the goroutine that serves the connection, and by the uploader while one runs.
	bufp   *[]byte // held only while something is in it or a request is awaited, not while a reply streams
	r, w   int     // received and not yet used: (*bufp)[r:w]
	head   head
	reply  head      // the upstream's reply to the request that is being answered
	arrive time.Time // P0: when the head was complete
	last   int64     // R: arrival of the last byte of the request so far
	left   int64     // bytes of a sized body not yet taken
	chunks chunkScanner

	idleMu sync.Mutex // guards idle
	idle   bool       // nothing of a next request has arrived

	readIdle time.Duration // what the read deadline was last set for; 0: it has to be set
	readSet  int64         // and when
	writeSet int64         // when the write deadline was last moved; 0: it has to be

	watch watchSlot
	ended sync.Once

	// What does not change from one request to the next, or seldom: made once.
	get, replyGet func(name string) []byte // of head and reply
	addr          string                   // of the client
	known         meter.Known
	method, path  string // of the last request
}

func newClientConn(nc net.Conn, srv *Server) *clientConn {
	c := &clientConn{Conn: nc, srv: srv, quiet: newQuiet(nc)}
	c.get, c.replyGet = c.head.get, c.reply.get
	return c
}

// named returns the request's method and path.
func (c *clientConn) named() (method, path string) {
	if m := c.head.method(); string(m) != c.method {
		c.method = string(m)
	}
	if p := c.head.path(); string(p) != c.path {
		c.path = string(p)
	}
	return c.method, c.path
}

// host is the client's address without its port.
func (c *clientConn) host() string {
	if c.addr == "" {
		c.addr = c.RemoteAddr().String()
		if host, _, err := net.SplitHostPort(c.addr); err == nil {
			c.addr = host
		}
	}
	return c.addr
}

// Read gives fasthttp one fixed head for each request that was read and found valid.
func (c *clientConn) Read(p []byte) (n int, err error) {
	defer c.srv.rescue("a request's head failed", func() { n, err = 0, net.ErrClosed })
	if c.canned == "" {
		if err := c.readHead(); err != nil {
			return 0, err
		}
		c.canned = fixedHead
	}
	n = copy(p, c.canned)
	c.canned = c.canned[n:]
	return n, nil
}

// Write drops what fasthttp would answer: replies go out through send.
func (c *clientConn) Write(p []byte) (int, error) { return len(p), nil }

// abort ends the connection at once: a TLS connection's Close would first try to say goodbye, which can
// take seconds if the client does not read.
func (c *clientConn) abort() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = c.Close()
}

// Close ends the connection and takes it from the watcher first, so that its descriptor's number is
// never watched for another connection.
func (c *clientConn) Close() error {
	var err error
	c.ended.Do(func() {
		c.srv.watcher.remove(&c.watch)
		c.srv.closed(c)
		err = c.Conn.Close()
	})
	return err
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are fasthttp's and do nothing: the deadlines are
// set where the reading and writing is.
func (c *clientConn) SetDeadline(time.Time) error      { return nil }
func (c *clientConn) SetReadDeadline(time.Time) error  { return nil } //nolint:revive // see SetDeadline
func (c *clientConn) SetWriteDeadline(time.Time) error { return nil } //nolint:revive // see SetDeadline

// buffered is what has been received and not used.
func (c *clientConn) buffered() []byte {
	if c.bufp == nil {
		return nil
	}
	return (*c.bufp)[c.r:c.w]
}

// release gives the receive buffer back when nothing is in it.
func (c *clientConn) release() {
	if c.bufp != nil && c.r == c.w {
		putBuffer(c.bufp)
		c.bufp, c.r, c.w = nil, 0, 0
	}
}

// roomForUpload exchanges the receive buffer for a large one.
func (c *clientConn) roomForUpload() {
	if len(c.buffered()) > largeSize {
		return
	}
	big := largeBuffer()
	n := copy(*big, c.buffered())
	if c.bufp != nil {
		putBuffer(c.bufp)
	}
	c.bufp, c.r, c.w = big, 0, n
}

// fill receives once, behind what is buffered already; it makes room up to limit bytes.
func (c *clientConn) fill(idle time.Duration, limit int) error {
	if now := c.srv.now(); c.readIdle != idle || now-c.readSet > int64(idle)/64 || c.srv.stop.Load() {
		if err := c.Conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return err
		}
		c.readIdle, c.readSet = idle, now
	}
	c.room(limit)
	var n int
	var err error
	if c.bufp == nil {
		c.bufp, n, err = readNew(c.Conn, c.quiet, false)
	} else {
		n, err = readFrom(c.Conn, c.quiet, (*c.bufp)[c.w:])
	}
	c.w += n
	if n > 0 {
		c.last = c.srv.now()
		return nil
	}
	return err
}

// room makes room behind what is buffered.
func (c *clientConn) room(limit int) {
	if c.bufp == nil {
		return
	}
	if c.r > 0 {
		c.w = copy(*c.bufp, (*c.bufp)[c.r:c.w])
		c.r = 0
	}
	if c.w == len(*c.bufp) {
		bigger := make([]byte, max(c.w+1, min(2*c.w, limit)))
		copy(bigger, *c.bufp)
		putBuffer(c.bufp)
		c.bufp = &bigger
	}
}

// awaitRequest receives the first bytes of a request. dismiss ends it early.
func (c *clientConn) awaitRequest(limit int) error {
	idle := c.srv.cfg.KeepAliveIdle
	if c.srv.stop.Load() {
		idle = lameDuckTime
	}
	c.setIdle(true)
	defer c.setIdle(false)
	return c.fill(idle, limit)
}

func (c *clientConn) setIdle(idle bool) {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	c.idle = idle
}

// dismiss ends the connection if it is idle; one that has begun a request may finish it.
func (c *clientConn) dismiss() {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	if c.idle {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // wakes awaitRequest
	}
}

// readHead waits for the next request and reads its head. What cannot be forwarded safely is answered
// here, and the connection closed; the error then tells fasthttp only to let go.
func (c *clientConn) readHead() error {
	c.head.reset()
	searched := 0
	limit := c.srv.cfg.MaxHeaderBytes
	for {
		b := c.buffered()
		for searched == 0 && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' { // RFC 9112, 2.2
			c.r += 2
			b = b[2:]
		}
		if len(b) > 0 {
			end, ok := headEnd(b, searched)
			if !ok {
				return c.refuse(&refusal{400, "a header line ends in a bare line feed"})
			}
			if end >= 0 && end <= limit {
				c.head.raw = append(c.head.raw[:0], b[:end]...)
				c.r += end
				break
			} else if end > limit || len(b) >= limit {
				return c.refuse(&refusal{431, "the request's head is larger than the limit"})
			}
			searched = len(b)
		}
		var err error
		if len(b) == 0 {
			err = c.awaitRequest(limit)
		} else {
			err = c.fill(c.srv.cfg.HeaderIdle, limit)
		}
		if err != nil {
			if len(b) > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				return c.refuse(&refusal{408, "the request's head did not arrive in time"})
			}
			return net.ErrClosed
		}
	}
	c.arrive = time.Now()
	c.chunks, c.left = chunkScanner{}, 0
	if err := c.head.parseRequest(); err != nil {
		return c.refuse(err)
	}
	if c.head.body == sized {
		c.left = c.head.length
	}
	return nil
}

// refuse answers a request that never became an exchange.
func (c *clientConn) refuse(err error) error {
	var why *refusal
	if !errors.As(err, &why) {
		return net.ErrClosed
	}
	if c.arrive.IsZero() || c.head.methodEnd == 0 {
		c.arrive = time.Now()
	}
	c.srv.refused(c, why)
	c.linger()
	return net.ErrClosed
}

// bodyDone reports whether the whole body has been taken.
func (c *clientConn) bodyDone() bool {
	switch c.head.body {
	case chunked:
		return c.chunks.done()
	case sized:
		return c.left == 0
	default:
		return true
	}
}

// takeBody takes what is buffered of the body, framing and all, and says how many payload bytes are in
// it. before is the scanner as it stood in front of it, for showing the payload to the meter later.
// A framing error takes nothing.
func (c *clientConn) takeBody() (piece []byte, before chunkScanner, err error) {
	b := c.buffered()
	before = c.chunks
	switch c.head.body {
	case sized:
		piece = b[:min(int64(len(b)), c.left)]
		c.left -= int64(len(piece))
	case chunked:
		n := 0
		for n < len(b) && !c.chunks.done() {
			k, _, err := c.chunks.next(b[n:])
			n += k
			if err != nil {
				return nil, before, &refusal{400, err.Error()}
			}
		}
		if limit := c.srv.cfg.MaxBodyBytes; limit > 0 && c.chunks.payload > limit {
			return nil, before, errBodyTooLarge
		}
		piece = b[:n]
	}
	c.r += len(piece)
	return piece, before, nil
}

// send writes to the client, moving the write deadline when it has grown old: a deadline an event would
// cost more than the write's own bookkeeping. A client that is slow but reads is given more time: the
// kernel takes new bytes only once a good part of what it holds has gone, so a write that has timed out
// asks how much that is, and gives up when nothing goes for half the idle time more. TLS cannot go on
// behind a deadline; there a client has to take a whole piece in time.
func (c *clientConn) send(p []byte, now int64) error {
	idle := c.srv.cfg.WriteIdle
	held := -1
	for {
		if c.writeSet == 0 || now-c.writeSet > int64(idle)/4 {
			if err := c.Conn.SetWriteDeadline(time.Now().Add(idle)); err != nil {
				return err
			}
			c.writeSet = c.srv.now()
		}
		n, err := writeTo(c.Conn, c.quiet, p)
		if err == nil {
			return nil
		}
		if _, encrypted := c.Conn.(*tls.Conn); encrypted || !isTimeout(err) {
			return err
		}
		before := held
		if held = unsent(c.Conn); n == 0 && before >= 0 && held >= before || held < 0 {
			return err
		}
		p, idle, c.writeSet = p[n:], c.srv.cfg.WriteIdle/2, 0
	}
}

// linger lets a client that is still sending read the reply before the connection goes: closing with
// unread bytes resets it, and the reset may overtake the reply. Bounded in time and bytes.
func (c *clientConn) linger() {
	type closeWriter interface{ CloseWrite() error }
	cw, ok := c.Conn.(closeWriter)
	if !ok || cw.CloseWrite() != nil {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(lingerFor))
	bp := largeBuffer()
	defer putBuffer(bp)
	for taken := 0; taken < lingerBytes; {
		n, err := c.Conn.Read(*bp)
		taken += n
		if err != nil {
			return
		}
	}
}

const (
	lingerFor   = 2 * time.Second
	lingerBytes = 16 << 20
)

var _ io.ReadWriteCloser = (*clientConn)(nil)
