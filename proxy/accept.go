package proxy

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// acceptPause is how long nothing is accepted where the system cannot give a connection.
const acceptPause = 50 * time.Millisecond

// Patient wraps a listener so that Accept waits out what is the moment's trouble: no descriptor or memory left, or a
// client that went before it was accepted. For fasthttp each of these is a listener's end, and with it the process's.
func Patient(ln net.Listener, log *slog.Logger) net.Listener { return patient{ln, log} }

type patient struct {
	net.Listener
	log *slog.Logger
}

func (l patient) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err == nil || !passes(err) {
			return nc, err //nolint:wrapcheck // the listener's own
		}
		l.log.Warn("for the moment no connection can be accepted; those that come wait", "error", err)
		time.Sleep(acceptPause)
	}
}

// passes reports whether an error of Accept says nothing about the listener itself.
func passes(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
