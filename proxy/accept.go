package proxy

import (
	"errors"
	"log/slog"
	"net"
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
