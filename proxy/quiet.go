package proxy

import "net"

// A quiet reads and writes a socket beside net.Conn, with the same deadlines, closing and waiting in the
// runtime's poller, but makes its system calls without telling the scheduler. They never block, so there
// is nothing to tell; and in a process that is mostly idle the telling wakes the runtime's monitor thread
// at almost every event, which costs more than the read itself (ARCHITECTURE, "What was tried").
//
// One goroutine may read while another writes. newQuiet returns nil for what is no socket (TLS, pipes):
// there the net.Conn is used as it is.

// readFrom reads once from q, or from c where there is no q.
func readFrom(c net.Conn, q *quiet, p []byte) (int, error) {
	if q == nil {
		return c.Read(p)
	}
	return q.read(p)
}

// readNew reads once into a buffer of the pools, which is taken as late as can be.
func readNew(c net.Conn, q *quiet, large bool) (*[]byte, int, error) {
	if q != nil {
		return q.readPooled(large)
	}
	buf := pooledBuffer(large)
	n, err := c.Read(*buf)
	if n == 0 {
		putBuffer(buf)
		return nil, 0, err
	}
	return buf, n, err
}

// writeTo writes all of p to q, or to c where there is no q.
func writeTo(c net.Conn, q *quiet, p []byte) (int, error) {
	if q == nil {
		return c.Write(p)
	}
	return q.write(p)
}
