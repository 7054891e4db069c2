//go:build !linux

package rawconn

import (
	"errors"
	"net"
)

// socket exists on Linux only.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) read([]byte) (int, error)  { return 0, errors.ErrUnsupported }
func (*socket) write([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (*socket) readPooled(bool) (*[]byte, int, error) { return nil, 0, errors.ErrUnsupported }

func (*socket) idle() bool { return false }
