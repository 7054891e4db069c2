package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/proxy/rawconn"
)

// lateListener's connections end their wait for a next request only when one has arrived: as where the deadline and the
// request come at the same moment.
type lateListener struct {
	net.Listener
	ended chan *lateConn // a wait was ended; the connection waits for a request
}

func (l *lateListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lateConn{TCPConn: nc.(*net.TCPConn), ended: l.ended, arrived: make(chan struct{})}, nil
}

type lateConn struct {
	*net.TCPConn
	ended   chan *lateConn
	arrived chan struct{}
	once    sync.Once
}

func (c *lateConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.once.Do(func() {
			c.ended <- c
			<-c.arrived
		})
	}
	return n, err
}

// TestShutdownRequestArrived: a request that arrives at the moment at which an idle connection's time is over is answered,
// at a stop and at the end of KeepAliveIdle.
func TestShutdownRequestArrived(t *testing.T) {
	for _, stop := range []bool{true, false} {
		ln := &lateListener{listen(t), make(chan *lateConn)}
		f := serveFront(t, ln, startScripted(t, listen(t)).url(), func(c *Config) {
			if !stop {
				c.KeepAliveIdle = 50 * time.Millisecond
			}
		})
		nc := dial(t, f.addr)
		br := bufio.NewReader(nc)
		send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		readReply(t, br, "GET")
		ended := make(chan error, 1)
		if stop {
			go func() { ended <- f.Shutdown(t.Context()) }()
		}
		late := <-ln.ended
		send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		awaitArrival(t, late.TCPConn)
		close(late.arrived)
		if resp, _ := readReply(t, br, "GET"); resp.StatusCode != 200 || resp.Close != stop {
			t.Errorf("stop %v: %s, close %v", stop, resp.Status, resp.Close)
		}
		if stop {
			if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("behind it: %v", err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
}

// awaitArrival waits until there is something to read.
func awaitArrival(t *testing.T, c *net.TCPConn) {
	t.Helper()
	conn := rawconn.New(c)
	eventually(t, func() bool { idle, _ := conn.Idle(); return !idle }, func() string { return "the request does not arrive" })
}

// TestShutdownSlowHead: half a head that came before the stop is no idle connection. Its other half is awaited.
func TestShutdownSlowHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dial := bubbleFront(t, func(ln net.Listener) { startScripted(t, ln) })
		nc := dial()
		br := bufio.NewReader(nc)
		send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
		readReply(t, br, "GET")
		send(t, nc, "GET /echo HTTP/1.1\r\nHo")
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- f.Shutdown(t.Context()) }()
		time.Sleep(10 * drainTime)
		send(t, nc, "st: x\r\n\r\n")
		if resp, _ := readReply(t, br, "GET"); resp.StatusCode != 200 || !resp.Close {
			t.Errorf("%s, close %v", resp.Status, resp.Close)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRetire: after a handover an idle connection stays open for its usual time. Its next request is answered, and the reply
// says that it closes. The end of hurry closes idle connections at once.
func TestRetire(t *testing.T) {
	for _, hurried := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, dial := bubbleFront(t, func(ln net.Listener) { startScripted(t, ln) })
			conns := [3]net.Conn{dial(), dial(), dial()}
			readers := [3]*bufio.Reader{}
			for i, nc := range conns {
				readers[i] = bufio.NewReader(nc)
				send(t, nc, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
				readReply(t, readers[i], "GET")
			}
			hurry, end := context.WithCancel(t.Context())
			defer end()
			began := time.Now()
			ended := make(chan error, 1)
			go func() { ended <- f.Retire(t.Context(), hurry) }()
			for i := range 2 {
				time.Sleep(30 * time.Second)
				send(t, conns[i], "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
				if resp, _ := readReply(t, readers[i], "GET"); resp.StatusCode != 200 || !resp.Close {
					t.Errorf("%s, close %v", resp.Status, resp.Close)
				}
			}
			want := f.cfg.KeepAliveIdle
			if hurried {
				end()
				want = time.Minute
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took < want || took > want+time.Second {
				t.Errorf("hurried %v: Retire took %v, want %v", hurried, took, want)
			}
			if _, err := readers[2].ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the idle connection: %v", err)
			}
		})
	}
}
