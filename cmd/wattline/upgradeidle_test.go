//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// idleClient keeps one connection and sends its next request when told, as HTTP clients do: on the kept connection, if the
// server has not closed that.
type idleClient struct {
	addr string
	nc   net.Conn
	br   *bufio.Reader
	met  *atomic.Int64 // requests that met the end of the connection
	kept *atomic.Int64 // requests sent on a kept connection
}

func (c *idleClient) request(t *testing.T) {
	for {
		kept := c.nc != nil
		if kept && !open(t, c.nc) {
			_ = c.nc.Close()
			kept = false
		}
		if !kept {
			nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", c.addr)
			if err != nil {
				t.Error(err)
				return
			}
			c.nc, c.br = nc, bufio.NewReader(nc)
		}
		_ = c.nc.SetDeadline(time.Now().Add(patience))
		const body = `{"prompt":"ba","n_predict":1}`
		_, err := fmt.Fprintf(c.nc, "POST /completion HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if kept {
			c.kept.Add(1)
		}
		var resp *http.Response
		if err == nil {
			resp, err = http.ReadResponse(c.br, nil)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			if resp.Close {
				_ = c.nc.Close()
				c.nc = nil
			}
		}
		if err == nil {
			return
		}
		c.nc = nil
		if !kept {
			t.Errorf("a request on a new connection: %v", err)
			return
		}
		c.met.Add(1)
	}
}

// open reports whether the server has not closed a connection, as far as has arrived.
func open(t *testing.T, nc net.Conn) (open bool) {
	raw, err := nc.(*net.TCPConn).SyscallConn() //nolint:forcetypeassert // dialled above
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN)
	})
	return open
}

// TestIdleClientsSoak: clients with kept connections send their next request at some moment around a handover, again and
// again. None meets the end of its connection. With WATTLINE_SOAK, 8,000 requests.
func TestIdleClientsSoak(t *testing.T) {
	handovers, clients := 2, 50
	if os.Getenv("WATTLINE_SOAK") != "" {
		handovers, clients = 20, 400
	}
	w := serve(t, newGatedUpstream(t).URL, "--gpu", "none")
	var met, kept atomic.Int64
	all := make([]*idleClient, clients)
	for i := range all {
		all[i] = &idleClient{addr: strings.TrimPrefix(w.url, "http://"), met: &met, kept: &kept}
		all[i].request(t)
	}
	pid := w.cmd.Process.Pid
	sent := int64(0)
	for range handovers {
		var wg sync.WaitGroup
		for _, c := range all {
			if c.nc == nil {
				wg.Go(func() { c.request(t) })
			}
		}
		wg.Wait()
		before := kept.Load()
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		next := awaitSuccessor(t, w)
		for _, c := range all {
			wg.Go(func() {
				<-time.After(rand.N(time.Second))
				c.request(t)
			})
		}
		wg.Wait()
		sent += kept.Load() - before
		awaitEnd(t, pid)
		pid = next
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
	t.Logf("%d handovers, %d requests, %d of them on kept connections: %d met the end of their connection", handovers, handovers*clients, sent, met.Load())
	if met.Load() > 0 || sent < int64(handovers*clients*9/10) {
		t.Errorf("%d requests of %d on kept connections met the end of their connection", met.Load(), sent)
	}
}
