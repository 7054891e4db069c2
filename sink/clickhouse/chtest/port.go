package chtest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// FreeAddr reserves a loopback address for the test: no other process gets it, the test may listen on it, and until then
// connections are refused. Without the reservation a connection of another test could take the port.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, release, err := reserve()
	if err != nil {
		t.Fatalf("chtest: no port can be reserved: %v", err)
	}
	t.Cleanup(release)
	return addr
}

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
