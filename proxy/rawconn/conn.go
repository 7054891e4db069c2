package rawconn

import (
	"crypto/tls"
	"net"
	"syscall"
)

// Conn reads and writes a net.Conn. On a Linux socket it issues read and write with RawSyscall. The sockets
// are non-blocking, so skipping entersyscall is safe, and it avoids waking sysmon on nearly every event,
// which costs more than the read itself (proxy/results). Deadlines, Close and waiting in
// the runtime's poller stay those of the net.Conn. TLS, pipes and other systems use the net.Conn's methods.
//
// One goroutine may read while another writes.
type Conn struct {
	net  net.Conn
	sock *socket // nil: net's methods are used
}

// New makes a Conn. It does not own c.
func New(c net.Conn) Conn { return Conn{c, newSocket(c)} }

// Read is net.Conn's Read.
func (c *Conn) Read(p []byte) (int, error) {
	if c.sock == nil {
		return c.net.Read(p)
	}
	return c.sock.read(p)
}

// ReadPooled reads once into a pooled buffer. On a socket the buffer is taken only once there is something
// to read, so that a waiting stream holds none. The buffer is nil if nothing was read.
func (c *Conn) ReadPooled(large bool) (*[]byte, int, error) {
	if c.sock != nil {
		return c.sock.readPooled(large)
	}
	buf := pooledBuffer(large)
	n, err := c.net.Read(*buf)
	if n == 0 {
		PutBuffer(buf)
		return nil, 0, err
	}
	return buf, n, err
}

// Write is net.Conn's Write.
func (c *Conn) Write(p []byte) (int, error) {
	if c.sock == nil {
		return c.net.Write(p)
	}
	return c.sock.write(p)
}

// Idle reports without waiting whether the connection is open and has nothing to read; known is false if that
// cannot be seen. It does not look into TLS records.
func (c *Conn) Idle() (open, known bool) {
	if c.sock != nil {
		return c.sock.idle(), true
	}
	sc := Syscall(c.net)
	if sc == nil {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, true
	}
	err = raw.Control(func(fd uintptr) { open, known = idle(int(fd)) })
	return err == nil && open, err != nil || known
}

// Syscall returns the socket under a connection, also under TLS, or nil.
func Syscall(c net.Conn) syscall.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	sc, _ := c.(syscall.Conn)
	return sc
}
