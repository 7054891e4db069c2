package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"wattline/meter"
	"wattline/proxy/http1"
	"wattline/proxy/rawconn"
)

// placeholderHead is the head that fasthttp reads for every request. Its own reader would wait for up to 8 KiB of
// body before it calls the handler, answer Expect itself and reorder the header; its writer loses HEAD's
// Content-Length, sends chunks to HTTP/1.0 clients and has no interim replies. So the connection reads and
// validates the real head itself, then gives fasthttp this one, and the handler takes the real head from
// the clientConn.
const placeholderHead = "GET / HTTP/1.1\r\nHost: w\r\n\r\n"

// errBodyTooLarge is returned by takeBody when a chunked body exceeds its limit.
var errBodyTooLarge = statusError(413, "the request's body is larger than the limit")

// clientConn is a client's connection as fasthttp sees it. All real bytes are read and written here.
type clientConn struct {
	net.Conn
	srv *Server
	raw rawconn.Conn // reads and writes Conn

	placeholder int // how many bytes of placeholderHead fasthttp has still to read

	// Owned by the goroutine that serves the connection, and by the uploader while one runs.
	bufp       *[]byte // nil while a reply streams and nothing is buffered
	r, w       int     // received and not yet used: (*bufp)[r:w]
	head       http1.Head
	body       http1.Body // the request's, up to the byte that was taken last
	reply      http1.Head // the upstream's reply to the current request
	arrived    time.Time  // P0: when the head was complete
	lastByteAt int64      // R: arrival of the last byte of the request so far
	closing    closing

	idleMu sync.Mutex // guards idle
	idle   bool       // waits for a request that no byte has come of, since before the stop

	readTimeout     time.Duration // of the read deadline; 0: none was set
	readDeadlineAt  int64         // when the read deadline was last moved
	writeDeadlineAt int64         // when the write deadline was last moved; 0: never
	cut             atomic.Bool   // send gives up: wattline ends the exchange

	departure departure
	watchID   uint64 // of the Server's watcher
	ended     sync.Once

	// Kept from one request to the next to save allocations.
	get, replyGet func(name string) []byte // of head and reply
	addr          string                   // the client's, without port
	known         meter.ConnIdentity
	method, path  string // of the last request, as its row has them
	pathBytes     int    // of its whole path, where the row has a part; 0: it has all
}

func newClientConn(nc net.Conn, srv *Server) *clientConn {
	c := &clientConn{Conn: nc, srv: srv, raw: rawconn.New(nc)}
	c.get, c.replyGet = c.head.Get, c.reply.Get
	return c
}

// What rows keep of a request line.
const (
	keptMethod = 32
	keptPath   = 1024
)

// describe sets the row's method and path. Of longer ones the row keeps the beginning, and of the path its length.
func (c *clientConn) describe(rec *meter.Record) {
	path := c.head.Path()
	if m := beginning(c.head.Method(), keptMethod); string(m) != c.method {
		c.method = string(m)
	}
	if p := beginning(path, keptPath); string(p) != c.path {
		c.path = string(p)
	}
	rec.Method, rec.Path = c.method, c.path
	if c.pathBytes = 0; len(c.path) < len(path) {
		c.pathBytes = len(path)
	}
}

// noteLongPath adds the length of a path that was cut, else 0, to the row's details.
func noteLongPath(rec *meter.Record, pathBytes int) {
	if pathBytes == 0 {
		return
	}
	var d meter.Details
	if rec.Details != nil {
		d = *rec.Details
	}
	d.PathBytes = meter.Some(int64(pathBytes))
	rec.Details = &d
}

// beginning returns at most n bytes of b, and no part of a character at their end.
func beginning(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// clientHost is the client's address without its port.
func (c *clientConn) clientHost() string {
	if c.addr == "" {
		c.addr = c.RemoteAddr().String()
		if host, _, err := net.SplitHostPort(c.addr); err == nil {
			c.addr = host
		}
	}
	return c.addr
}

// Read gives fasthttp one placeholder for each request with a valid head.
func (c *clientConn) Read(p []byte) (n int, err error) {
	defer c.srv.recoverPanic("a request's head failed", func() { n, err = 0, net.ErrClosed })
	if c.placeholder == 0 {
		if err := c.readHead(); err != nil {
			c.closeGently()
			return 0, err
		}
		c.placeholder = len(placeholderHead)
	}
	n = copy(p, placeholderHead[len(placeholderHead)-c.placeholder:])
	c.placeholder -= n
	return n, nil
}

// Write drops fasthttp's answer; replies go out through send.
func (c *clientConn) Write(p []byte) (int, error) { return len(p), nil }

// abort closes the connection at once. A TLS connection's Close would first send close_notify, which can
// take seconds if the client does not read.
func (c *clientConn) abort() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = c.Close()
}

// Close removes the connection from the watcher and closes it.
func (c *clientConn) Close() error {
	var err error
	c.ended.Do(func() {
		c.srv.watcher.Remove(c.watchID)
		c.srv.closed(c)
		err = c.Conn.Close()
	})
	return err
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are called by fasthttp and do nothing: receive and send
// set the deadlines.
func (c *clientConn) SetDeadline(time.Time) error      { return nil }
func (c *clientConn) SetReadDeadline(time.Time) error  { return nil } //nolint:revive // see SetDeadline
func (c *clientConn) SetWriteDeadline(time.Time) error { return nil } //nolint:revive // see SetDeadline

// buffered returns the bytes that were received and not used yet.
func (c *clientConn) buffered() []byte {
	if c.bufp == nil {
		return nil
	}
	return (*c.bufp)[c.r:c.w]
}

// releaseBuffer returns the receive buffer to its pool if it is empty.
func (c *clientConn) releaseBuffer() {
	if c.bufp != nil && c.r == c.w {
		rawconn.PutBuffer(c.bufp)
		c.bufp, c.r, c.w = nil, 0, 0
	}
}

// growForUpload replaces the receive buffer by a large one.
func (c *clientConn) growForUpload() {
	if len(c.buffered()) > rawconn.LargeSize {
		return
	}
	big := rawconn.LargeBuffer()
	n := copy(*big, c.buffered())
	if c.bufp != nil {
		rawconn.PutBuffer(c.bufp)
	}
	c.bufp, c.r, c.w = big, 0, n
}

// receive reads once and appends to the buffer, which may grow to limit bytes. The read deadline is moved
// only when it is 1/64 of its time old, since moving it costs as much as a read.
func (c *clientConn) receive(idle time.Duration, limit int) error {
	if now := c.srv.now(); c.readTimeout != idle || now-c.readDeadlineAt > int64(idle)/64 || c.srv.stop.Load() {
		if err := c.Conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return err
		}
		c.readTimeout, c.readDeadlineAt = idle, now
	}
	c.makeRoom(limit)
	var n int
	var err error
	if c.bufp == nil {
		c.bufp, n, err = c.raw.ReadPooled(false)
	} else {
		n, err = c.raw.Read((*c.bufp)[c.w:])
	}
	c.w += n
	if n > 0 {
		c.lastByteAt = c.srv.now()
		return nil
	}
	c.closing.gone = err != nil && !isTimeout(err)
	return err
}

// makeRoom makes room after the buffered bytes.
func (c *clientConn) makeRoom(limit int) {
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
		rawconn.PutBuffer(c.bufp)
		c.bufp = &bigger
	}
}

// awaitRequest receives the first bytes of a request. closeIdle ends it early. When the time is over it looks once more: a
// request may have arrived just now.
func (c *clientConn) awaitRequest(limit int) error {
	idle := c.srv.cfg.KeepAliveIdle
	stopping := c.srv.stop.Load()
	if stopping {
		idle = c.srv.drainFor
	}
	c.setIdle(!stopping || idle > drainTime)
	err := c.receive(idle, limit)
	c.setIdle(false)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if open, known := c.raw.Idle(); known && !open {
			return c.receive(c.srv.cfg.HeaderIdle, limit)
		}
	}
	return err
}

func (c *clientConn) setIdle(idle bool) {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	c.idle = idle
}

// closeIdle ends the connection if no byte of a next request has arrived.
func (c *clientConn) closeIdle() {
	c.idleMu.Lock()
	defer c.idleMu.Unlock()
	if c.idle {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // wakes awaitRequest
	}
}

// readHead waits for the next request and reads its head. A head that cannot be forwarded safely is answered
// here and the connection is closed; the error only makes fasthttp end the connection.
func (c *clientConn) readHead() error {
	c.head.Reset()
	searched := 0
	limit := c.srv.cfg.MaxHeaderBytes
	for {
		b := c.buffered()
		for searched == 0 && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' { // RFC 9112, 2.2
			c.r += 2
			b = b[2:]
		}
		if len(b) > 0 {
			end, ok := http1.HeadEnd(b, searched)
			if !ok {
				return c.refuse(statusError(400, "a header line ends in a bare line feed"))
			}
			if end >= 0 && end <= limit {
				c.head.Raw = append(c.head.Raw[:0], b[:end]...)
				c.r += end
				break
			} else if end > limit || len(b) >= limit {
				return c.refuse(statusError(431, "the request's head is larger than the limit"))
			}
			searched = len(b)
		}
		var err error
		if len(b) == 0 {
			err = c.awaitRequest(limit)
		} else {
			err = c.receive(c.srv.cfg.HeaderIdle, limit)
		}
		if err != nil {
			if len(b) > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				return c.refuse(statusError(408, "the request's head did not arrive in time"))
			}
			return net.ErrClosed
		}
	}
	c.arrived = time.Now()
	c.body = http1.Body{}
	if err := c.head.ParseRequest(); err != nil {
		return c.refuse(err)
	}
	c.body = http1.Body{Framing: c.head.Body, Left: c.head.Length}
	return nil
}

// refuse answers a head that cannot become an exchange.
func (c *clientConn) refuse(err error) error {
	var why *http1.StatusError
	if !errors.As(err, &why) {
		return net.ErrClosed
	}
	if c.arrived.IsZero() || !c.head.HasMethod() {
		c.arrived = time.Now()
	}
	c.srv.rejectConn(c, why)
	return net.ErrClosed
}

// takeBody takes the buffered part of the body, framing included. before is the body's state before it, which
// showBody needs to find the payload. With a framing error nothing is taken.
func (c *clientConn) takeBody() (piece []byte, before http1.Body, err error) {
	before = c.body
	if piece, err = c.body.Take(c.buffered()); err != nil {
		return nil, before, statusError(400, err.Error())
	}
	if limit := c.srv.cfg.MaxBodyBytes; limit > 0 && c.body.Chunks.Payload > limit {
		return nil, before, errBodyTooLarge
	}
	c.r += len(piece)
	return piece, before, nil
}

// send writes p to the client. The write deadline is moved only when a quarter of its time has passed, since
// moving it at every event would cost more than the write's own bookkeeping. A slow client that still reads
// is given more time: after a timeout, the bytes that the kernel still holds tell whether it has read
// something, and send gives up when that number does not fall within half the idle time. TLS cannot continue
// after a timeout, so there a client has to take each piece in time.
func (c *clientConn) send(p []byte, now int64) error {
	idle := c.srv.cfg.WriteIdle
	unsent := -1
	for {
		if c.writeDeadlineAt == 0 || now-c.writeDeadlineAt > int64(idle)/4 {
			if err := c.Conn.SetWriteDeadline(time.Now().Add(idle)); err != nil {
				return err
			}
			c.writeDeadlineAt = c.srv.now()
		}
		if c.cut.Load() {
			return net.ErrClosed
		}
		n, err := c.raw.Write(p)
		if err == nil {
			return nil
		}
		if _, encrypted := c.Conn.(*tls.Conn); encrypted || !isTimeout(err) {
			return err
		}
		before := unsent
		if unsent = c.raw.Unsent(); n == 0 && before >= 0 && unsent >= before || unsent < 0 {
			return err
		}
		p, idle, c.writeDeadlineAt = p[n:], c.srv.cfg.WriteIdle/2, 0
	}
}

var _ io.ReadWriteCloser = (*clientConn)(nil)
