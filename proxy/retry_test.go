package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"wattline/proxy/stub"
)

// brokenWriter takes some bytes of its second message and then fails.
type brokenWriter struct {
	net.Conn
	writes *atomic.Int64
	takes  int
}

func (c brokenWriter) Write(p []byte) (int, error) {
	if c.writes.Add(1) == 1 {
		return c.Conn.Write(p)
	}
	return c.takes, errors.New("the connection broke")
}

// TestResend: a request on a pooled connection that breaks is sent again on a new one only if not
// one byte of it was written. Else the server may have begun to work on it, and the client gets a 502.
func TestResend(t *testing.T) {
	for _, c := range []struct{ takes, status, dials int }{{0, 200, 2}, {1, 502, 1}} {
		synctest.Test(t, func(t *testing.T) {
			up := stub.New(stub.Config{})
			f, dial := bubbleFront(t, stubOn(t, up))
			plain, dials := f.pool.dial, 0
			f.pool.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := plain(ctx, network, addr)
				if dials++; dials == 1 {
					nc = brokenWriter{nc, new(atomic.Int64), c.takes}
				}
				return nc, err
			}
			nc := dial()
			defer nc.Close()
			br := bufio.NewReader(nc)
			for i, want := range []int{200, c.status} {
				send(t, nc, postOf("/tokenize", "x", `{"content":"x"}`))
				if resp, body := readReply(t, br, http.MethodPost); resp.StatusCode != want {
					t.Errorf("%d bytes taken: request %d: %s %s", c.takes, i, resp.Status, body)
				}
			}
			if dials != c.dials {
				t.Errorf("%d bytes taken: %d connections", c.takes, dials)
			}
		})
	}
}
