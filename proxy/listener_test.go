package proxy

import (
	"bufio"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// scarce is a listener to which the system has nothing to give a few times.
type scarce struct {
	net.Listener
	errs  []syscall.Errno
	asked atomic.Int64
}

func (l *scarce) Accept() (net.Conn, error) {
	if n := int(l.asked.Add(1)); n <= len(l.errs) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", l.errs[n-1])}
	}
	return l.Listener.Accept()
}

// TestRetryListener: no descriptors, no memory, a client that has gone: the listener outlives them.
func TestRetryListener(t *testing.T) {
	up := startScripted(t, listen(t))
	ln := &scarce{Listener: listen(t), errs: []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS}}
	var log logged
	f := serveFront(t, ln, up.url(), func(c *Config) { c.Log = textLog(&log) })
	nc := dial(t, f.addr)
	send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, _ := readReply(t, bufio.NewReader(nc), "GET"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if !strings.Contains(log.String(), "too many open files") {
		t.Errorf("nothing is said of it: %s", log.String())
	}
}
