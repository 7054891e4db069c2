package stub

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server answers like a llama-server. Its methods may be called from any goroutine.
type Server struct {
	cfg   Config
	slots *slots

	mu        sync.Mutex // guards what follows, and every recorded Exchange
	listeners []net.Listener
	conns     map[*conn]struct{}
	exchanges []*Exchange
	changed   chan struct{} // closed and replaced when an exchange changes while Await waits
	awaiting  int           // calls of Await in progress
	closed    bool

	closing chan struct{}  // closed by Close
	running sync.WaitGroup // connections' goroutines
}

// New makes a Server; it listens to nothing yet.
func New(cfg Config) *Server {
	cfg.setDefaults()
	return &Server{cfg: cfg, slots: newSlots(cfg.Slots), conns: map[*conn]struct{}{}, changed: make(chan struct{}), closing: make(chan struct{})}
}

// Serve answers the connections of ln until Close, then returns nil.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ln.Close()
	}
	s.listeners = append(s.listeners, ln)
	s.mu.Unlock()
	for {
		nc, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.closed {
				return nil
			}
			return fmt.Errorf("stub: accept: %w", err)
		}
		s.start(nc)
	}
}

// start gives a connection its two goroutines: one reads requests, so that the peer's close is seen at
// any moment, the other answers. Both end when the connection does; Close waits for them.
func (s *Server) start(nc net.Conn) {
	c := &conn{Conn: nc, srv: s, gone: make(chan struct{}), requests: make(chan *request, 64)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(2)
	go c.read()
	go c.answer()
}

// Conns is the number of open connections.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close closes the listeners and all connections and waits until nothing runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	var errs []error
	for _, ln := range s.listeners {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.listeners = nil
	for c := range s.conns {
		c.shut()
	}
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(errs...)
}

// request is one request, read to its end.
type request struct {
	*http.Request
	body    []byte // up to maxBody
	arrived time.Time
}

// maxBody is how much of a body is kept.
const maxBody = 8 << 20

// conn is one peer's connection.
type conn struct {
	net.Conn
	srv      *Server
	gone     chan struct{} // closed when either side has closed the connection
	requests chan *request
	shutting atomic.Bool // closed from this side: the end that the reader sees is not the peer's

	mu   sync.Mutex // guards what follows
	busy int        // requests read and not yet answered
	last *Exchange
}

// shut closes the connection from our side.
func (c *conn) shut() {
	c.shutting.Store(true)
	_ = c.Close()
}

// reset closes it with a TCP reset; other connections are closed as by shut.
func (c *conn) reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.shut()
}

// read passes requests to answer until the connection ends.
func (c *conn) read() {
	defer c.srv.running.Done()
	defer close(c.requests)
	defer c.closedByPeer()
	br := bufio.NewReaderSize(c.Conn, 4<<10)
	for {
		hr, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		c.busyUntilAnswered()
		r := &request{Request: hr}
		if hr.Header.Get("Expect") == "100-continue" {
			if _, err := io.WriteString(c.Conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
				return
			}
		}
		if r.body, err = io.ReadAll(io.LimitReader(hr.Body, maxBody)); err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, hr.Body); err != nil {
			return
		}
		r.arrived = time.Now()
		c.requests <- r
	}
}

func (c *conn) closedByPeer() {
	now, ours := time.Now(), c.shutting.Load()
	close(c.gone) // the answering goroutine may shut the connection from here on
	if ours {
		return
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last != nil {
		c.srv.note(func() { last.PeerClosed = now })
	}
}

// busyUntilAnswered and answered keep the idle deadline off while a request is being answered.
func (c *conn) busyUntilAnswered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy++
	_ = c.SetReadDeadline(time.Time{})
}

func (c *conn) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy--; c.busy == 0 && c.srv.cfg.KeepAlive > 0 {
		_ = c.SetReadDeadline(time.Now().Add(c.srv.cfg.KeepAlive))
	}
}

// answer serves the connection's requests, one after the other.
func (c *conn) answer() {
	defer c.srv.running.Done()
	defer func() {
		c.shut()
		c.srv.mu.Lock()
		delete(c.srv.conns, c)
		c.srv.mu.Unlock()
	}()
	for served := 1; ; served++ {
		r, ok := <-c.requests
		if !ok {
			return
		}
		x := &reply{conn: c, req: r, ex: c.srv.open(r), keep: c.keepAlive(r, served)}
		c.mu.Lock()
		c.last = x.ex
		c.mu.Unlock()
		c.srv.noteIfGone(c, x.ex)
		x.serve()
		c.srv.note(func() { x.ex.Ended, x.ex.Complete = time.Now(), x.complete })
		if !x.keep || !x.complete {
			return
		}
		c.answered()
	}
}

// noteIfGone records a close that came before answer took the request.
func (s *Server) noteIfGone(c *conn, e *Exchange) {
	select {
	case <-c.gone:
		s.note(func() {
			if e.PeerClosed.IsZero() {
				e.PeerClosed = time.Now()
			}
		})
	default:
	}
}

// keepAlive reports whether the connection stays open after its served'th request.
func (c *conn) keepAlive(r *request, served int) bool {
	limit := c.srv.cfg.KeepAliveMax
	return !r.Close && r.ProtoAtLeast(1, 1) && c.srv.cfg.KeepAlive > 0 && (limit < 0 || served < limit)
}
