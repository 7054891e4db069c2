package llama

import (
	"errors"
	"fmt"
	"syscall"
)

// reservePort chooses a free port of 127.0.0.1 and reserves it for a child process until release, with a bound
// socket that does not listen. The kernel does not give such a port to a bind of port 0, and allows a bind of
// this port with SO_REUSEADDR or SO_REUSEPORT, which llama-server sets, because this socket sets both.
func reservePort() (port int, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("socket: %w", err)
	}
	release = func() { _ = syscall.Close(fd) }
	// Bound before the options are set, so that no two reservations can share a port.
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	err = errors.Join(err,
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soReusePort, 1))
	if err != nil {
		release()
		return 0, nil, fmt.Errorf("bind: %w", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		release()
		return 0, nil, fmt.Errorf("getsockname: %w", err)
	}
	return name.(*syscall.SockaddrInet4).Port, release, nil
}

// soReusePort is SO_REUSEPORT, which package syscall lacks on some architectures.
const soReusePort = 0xf
