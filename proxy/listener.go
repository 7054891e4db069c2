package proxy

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// acceptPause is the wait after a temporary accept error.
const acceptPause = 50 * time.Millisecond

// RetryListener wraps a listener so that Accept retries after a temporary error: no file descriptor or
// memory left, or a client that disconnected before it was accepted. fasthttp would take any error for the
// end of the listener.
func RetryListener(ln net.Listener, log *slog.Logger) net.Listener { return retryListener{ln, log} }

type retryListener struct {
	net.Listener
	log *slog.Logger
}

func (l retryListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err == nil || !isTemporary(err) {
			return nc, err //nolint:wrapcheck // the listener's own
		}
		l.log.Warn("cannot accept connections for the moment; retrying", "error", err)
		time.Sleep(acceptPause)
	}
}

// isTemporary reports whether an error of Accept says nothing about the listener itself.
func isTemporary(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// listener makes clientConns and enforces Config.MaxConns.
type listener struct {
	net.Listener
	srv  *Server
	once sync.Once
}

// Close may be called twice: by drainConns and by fasthttp.
func (l *listener) Close() (err error) {
	l.once.Do(func() { err = l.Listener.Close() })
	return err
}

// Accept returns the next connection within the limit. One above it is answered with 503 and closed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newClientConn(nc, l.srv)
		if n := l.srv.conns.Add(1); n > int64(l.srv.cfg.MaxConns) {
			l.srv.reject(c)
			continue
		}
		l.srv.opened(c)
		if c.watchID, err = l.srv.watcher.Add(nc, &c.departure); err != nil {
			l.srv.cfg.Log.Warn("cannot watch a client's connection; its departure is noticed at the next write", "error", err)
		}
		return c, nil
	}
}

// reject answers a connection above the limit with 503. On plain connections the accepting goroutine writes the
// answer itself, since a few bytes always fit into a new socket. TLS handshakes and waiting for the client to
// read take other goroutines, at most cap(rejectSlots); beyond that connections are closed at once.
func (s *Server) reject(c *clientConn) {
	why := statusError(503, "too many connections")
	_, encrypted := c.Conn.(*tls.Conn)
	if !encrypted {
		s.rejectConn(c, why)
	}
	select {
	case s.rejectSlots <- struct{}{}:
	default:
		c.abort()
		return
	}
	go func() { // ends within the deadlines of rejectConn and closeGently
		defer func() { <-s.rejectSlots }()
		defer s.recoverPanic("a refusal failed", func() {})
		defer c.Close() //nolint:errcheck // no reply is expected
		if encrypted {
			s.rejectConn(c, why)
		}
		c.closeGently()
	}()
}

// opened registers a connection within the limit.
func (s *Server) opened(c *clientConn) {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	s.clients[c] = struct{}{}
}

// closed is called by a clientConn that closes.
func (s *Server) closed(c *clientConn) {
	s.conns.Add(-1)
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	delete(s.clients, c)
}
