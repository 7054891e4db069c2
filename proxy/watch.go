package proxy

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"syscall"
)

// A watcher notices clients that leave: the peer's FIN or a reset, also behind bytes that nobody has
// read yet. A half-close counts as leaving, since a client that still wants its reply has no reason to
// close its side, and TCP cannot tell the two apart.
type watcher interface {
	// add watches a connection until remove. The slot's gone is called at most once, on the watcher's
	// goroutine.
	add(c *clientConn, slot *watchSlot) error
	remove(slot *watchSlot)
	close()
}

// watchSlot is a connection's place in the watcher.
type watchSlot struct {
	id   uint64 // 0: not watched
	left atomic.Bool
	// current is the exchange that is told when the client leaves; nil between exchanges.
	current atomic.Pointer[exchange]
}

// gone marks the client as having left and tells the exchange, if one is live.
func (s *watchSlot) gone() {
	s.left.Store(true)
	if x := s.current.Load(); x != nil {
		x.clientLeft()
	}
}

// enter makes x the exchange to be told; a client that has left already is told at once.
func (s *watchSlot) enter(x *exchange) {
	s.current.Store(x)
	if s.left.Load() {
		x.clientLeft()
	}
}

// sysConn finds the socket under a connection, or nil.
func sysConn(c net.Conn) syscall.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	sc, _ := c.(syscall.Conn)
	return sc
}
