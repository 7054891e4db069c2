//go:build unix

package chtest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reserve binds a socket that never listens. With SO_REUSEADDR, which Go's listeners have as well, another
// socket may listen on its port when asked to by number; the kernel gives it to none that asks for any.
func reserve() (addr string, release func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", nil, err
	}
	unix.CloseOnExec(fd)
	release = func() { _ = unix.Close(fd) }
	defer func() {
		if err != nil {
			release()
		}
	}()
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return "", nil, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", nil, err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return "", nil, err
	}
	in4, ok := at.(*unix.SockaddrInet4)
	if !ok {
		return "", nil, fmt.Errorf("its address is a %T", at)
	}
	return fmt.Sprintf("127.0.0.1:%d", in4.Port), release, nil
}
