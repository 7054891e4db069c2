package rawconn

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// socket does Conn's system calls.
type socket struct {
	raw syscall.RawConn

	// Owned by the goroutine that takes the connection from its pool.
	peek   func(fd uintptr)
	isIdle bool

	// Owned by the reading goroutine. readOnce is a method value, made once to save allocations.
	readOnce func(fd uintptr) bool
	in       []byte  // destination; nil: a pooled buffer
	pooled   *[]byte // the one taken for this read
	large    bool    // its size
	got      int
	readErr  syscall.Errno

	// Owned by the writing goroutine.
	writeAll func(fd uintptr) bool
	out      []byte
	put      int
	writeErr syscall.Errno
}

func newSocket(c net.Conn) *socket {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := c.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // both have it
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.readOnce, s.writeAll, s.peek = s.tryRead, s.tryWrite, s.tryPeek
	return s
}

// read is net.Conn's Read.
func (s *socket) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in, s.got, s.readErr = p, 0, 0
	err := s.raw.Read(s.readOnce)
	s.in = nil
	return s.result(err)
}

// result returns the values of net.Conn's Read.
func (s *socket) result(err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case s.readErr != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", s.readErr)}
	case s.got == 0:
		return 0, io.EOF
	default:
		return s.got, nil
	}
}

// readPooled is Conn's ReadPooled.
func (s *socket) readPooled(large bool) (*[]byte, int, error) {
	s.in, s.got, s.readErr, s.large = nil, 0, 0, large
	err := s.raw.Read(s.readOnce)
	buf := s.pooled
	s.pooled = nil
	n, err := s.result(err)
	if err != nil && buf != nil {
		PutBuffer(buf)
		buf = nil
	}
	return buf, n, err
}

// tryRead returns false if the caller has to wait for the poller.
func (s *socket) tryRead(fd uintptr) bool {
	p := s.in
	if p == nil {
		s.pooled = pooledBuffer(s.large)
		p = *s.pooled
	}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) //nolint:gosec // the call's own types
		switch errno {
		case 0:
			s.got = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			if s.pooled != nil {
				PutBuffer(s.pooled)
				s.pooled = nil
			}
			return false
		default:
			s.readErr = errno
			return true
		}
	}
}

// write is net.Conn's Write.
func (s *socket) write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.out, s.put, s.writeErr = p, 0, 0
	err := s.raw.Write(s.writeAll)
	s.out = nil
	switch {
	case err != nil:
		return s.put, err
	case s.writeErr != 0:
		return s.put, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", s.writeErr)}
	default:
		return s.put, nil
	}
}

// tryWrite returns false if the caller has to wait for the poller.
func (s *socket) tryWrite(fd uintptr) bool {
	for s.put < len(s.out) {
		rest := s.out[s.put:]
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest))) //nolint:gosec // the call's own types
		switch errno {
		case 0:
			s.put += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.writeErr = errno
			return true
		}
	}
	return true
}

// idle is Conn's Idle.
func (s *socket) idle() bool {
	s.isIdle = false
	return s.raw.Control(s.peek) == nil && s.isIdle
}

func (s *socket) tryPeek(fd uintptr) {
	var b [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0) //nolint:gosec // the call's own types
	s.isIdle = errno == syscall.EAGAIN
}
