//go:build unix

package proxy

import (
	"errors"

	"golang.org/x/sys/unix"
)

// silent reports whether a socket is open and holds nothing to read.
func silent(fd int) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EWOULDBLOCK)
}
