//go:build unix

package rawconn

import (
	"errors"

	"golang.org/x/sys/unix"
)

// idle reports whether a socket is open and has nothing to read.
func idle(fd int) (open, known bool) {
	var b [1]byte
	_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EWOULDBLOCK), true
}
