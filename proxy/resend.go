package proxy

import (
	"errors"
	"io"

	"wattline/proxy/rawconn"
)

// isSafe reports whether the request's method changes nothing on the server (RFC 9110, 9.2.1).
func (x *exchange) isSafe() bool {
	switch string(x.c.head.Method()) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// sendAgain sends the request once more, on a new connection, if the kept one ended with cause before a byte of the
// reply came and the server cannot have worked on it for nothing (RFC 9112, 9.3.1): the method is safe, or the server
// had closed before a byte of the request reached it. The latter is known if the end of the stream has arrived and
// the server's system has confirmed no byte of the request, as an end that was sent later would have. A reset says
// nothing of that kind, and a Unix socket counts a message that was read in part as unread. It reports whether the
// request was sent again.
func (x *exchange) sendAgain(cause error) (again bool, err error) {
	msg := x.message
	x.message = nil
	defer x.forgetMessage()
	if x.state.Load() != live || isTimeout(cause) {
		return false, nil
	}
	unseen := x.srv.cfg.Upstream.network == "tcp" && errors.Is(cause, io.EOF) && x.up.raw.Unsent() >= len(msg)
	if !unseen && !x.isSafe() {
		x.srv.pool.lost()
		return false, nil
	}
	x.detachUpstream()
	if _, err := x.sendHead(msg, false); err != nil {
		return false, err
	}
	x.sentAt.Store(x.srv.now())
	return true, nil
}

// forgetMessage frees the request.
func (x *exchange) forgetMessage() {
	x.message = nil
	if x.room != nil {
		rawconn.PutBuffer(x.room)
		x.room = nil
	}
}
