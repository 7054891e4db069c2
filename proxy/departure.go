package proxy

import "sync/atomic"

// departure tells a connection's current exchange that the client has left. It is the connection's
// rawconn.Peer.
type departure struct {
	left    atomic.Bool
	current atomic.Pointer[exchange] // nil between exchanges
}

// Left implements rawconn.Peer.
func (d *departure) Left() {
	d.left.Store(true)
	if x := d.current.Load(); x != nil {
		x.clientLeft()
	}
}

// enter makes x the current exchange. If the client has left already, x is told at once.
func (d *departure) enter(x *exchange) {
	d.current.Store(x)
	if d.left.Load() {
		x.clientLeft()
	}
}
