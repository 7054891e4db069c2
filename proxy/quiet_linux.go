package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// quiet is described in quiet.go.
type quiet struct {
	raw syscall.RawConn

	// Owned by whoever takes the connection from its pool.
	peek  func(fd uintptr)
	still bool

	// Owned by the reading goroutine. readOnce is a method value that is made once.
	readOnce func(fd uintptr) bool
	in       []byte  // where to; nil: into a pooled buffer
	pooled   *[]byte // taken for this read
	large    bool    // which size of those
	got      int
	readErr  syscall.Errno

	// Owned by the writing goroutine.
	writeAll func(fd uintptr) bool
	out      []byte
	put      int
	writeErr syscall.Errno
}

func newQuiet(c net.Conn) *quiet {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := c.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // both have it
	if err != nil {
		return nil
	}
	q := &quiet{raw: raw}
	q.readOnce, q.writeAll, q.peek = q.tryRead, q.tryWrite, q.tryPeek
	return q
}

// read is net.Conn's Read.
func (q *quiet) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.in, q.got, q.readErr = p, 0, 0
	err := q.raw.Read(q.readOnce)
	q.in = nil
	return q.result(err)
}

// result is what net.Conn's Read returns.
func (q *quiet) result(err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case q.readErr != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", q.readErr)}
	case q.got == 0:
		return 0, io.EOF
	default:
		return q.got, nil
	}
}

// readPooled reads into a buffer that is taken from its pool only when there is something to read: who
// waits holds none. The buffer is nil if the read failed.
func (q *quiet) readPooled(large bool) (*[]byte, int, error) {
	q.in, q.got, q.readErr, q.large = nil, 0, 0, large
	err := q.raw.Read(q.readOnce)
	buf := q.pooled
	q.pooled = nil
	n, err := q.result(err)
	if err != nil && buf != nil {
		putBuffer(buf)
		buf = nil
	}
	return buf, n, err
}

// tryRead reports false where the poller has to be waited for.
func (q *quiet) tryRead(fd uintptr) bool {
	p := q.in
	if p == nil {
		q.pooled = pooledBuffer(q.large)
		p = *q.pooled
	}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) //nolint:gosec // the call's own types
		switch errno {
		case 0:
			q.got = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			if q.pooled != nil {
				putBuffer(q.pooled)
				q.pooled = nil
			}
			return false
		default:
			q.readErr = errno
			return true
		}
	}
}

// write is net.Conn's Write.
func (q *quiet) write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.out, q.put, q.writeErr = p, 0, 0
	err := q.raw.Write(q.writeAll)
	q.out = nil
	switch {
	case err != nil:
		return q.put, err
	case q.writeErr != 0:
		return q.put, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", q.writeErr)}
	default:
		return q.put, nil
	}
}

// tryWrite reports false where the poller has to be waited for.
func (q *quiet) tryWrite(fd uintptr) bool {
	for q.put < len(q.out) {
		rest := q.out[q.put:]
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest))) //nolint:gosec // the call's own types
		switch errno {
		case 0:
			q.put += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			q.writeErr = errno
			return true
		}
	}
	return true
}

// silent reports whether the socket is open and holds nothing to read.
func (q *quiet) silent() bool {
	q.still = false
	return q.raw.Control(q.peek) == nil && q.still
}

func (q *quiet) tryPeek(fd uintptr) {
	var b [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0) //nolint:gosec // the call's own types
	q.still = errno == syscall.EAGAIN
}
