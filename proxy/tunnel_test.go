package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
)

// TestTunnelEndsAtStop: a tunnel whose request's body has not come yet, or whose client reads nothing, ends with a stop.
func TestTunnelEndsAtStop(t *testing.T) {
	for name, request := range map[string]string{
		"half a body":   "POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: tunnel\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 10\r\n\r\nhalf",
		"reads nothing": "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: tunnel\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			f, dial := bubbleFront(t, func(ln net.Listener) {
				go func() {
					nc, err := ln.Accept()
					if err != nil {
						return
					}
					defer nc.Close()
					if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
						return
					}
					_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
					for err == nil {
						_, err = io.WriteString(nc, "more")
					}
				}()
				t.Cleanup(func() { _ = ln.Close() })
			}, func(c *Config) { c.BodyIdle, c.UpstreamIdle = time.Hour, time.Hour })
			nc := dial()
			defer nc.Close()
			send(t, nc, request)
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if err := f.Shutdown(ctx); err == nil {
				t.Errorf("%s: the tunnel ended by itself", name)
			}
			if took := time.Since(began); took > 2*time.Second+deliverFor {
				t.Errorf("%s: the stop took %v", name, took)
			}
			rows := f.rows.list()
			if len(rows) != 1 || rows[0].Outcome != meter.Cancelled || rows[0].DurationUs.V > 2_200_000 {
				t.Errorf("%s: %d rows, %+v", name, len(rows), rows)
			}
		})
	}
}

// endedConn is a source of which a byte comes at the moment at which the exchange is ended.
type endedConn struct {
	net.Conn
	end func()
}

func (c endedConn) Read(p []byte) (int, error) {
	c.end()
	return 1, nil
}

// TestTunnelEndedWhileItReads: a write to a client that reads nothing does not outlast an exchange that was ended between the
// read and the write.
func TestTunnelEndedWhileItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, upFar := net.Pipe()
		client, clientFar := net.Pipe()
		defer upFar.Close()
		defer clientFar.Close()
		var over atomic.Bool
		tun := &tunnelState{idle: time.Hour, now: func() int64 { return 1 }, over: over.Load}
		began := time.Now()
		tun.pump(client, endedConn{up, func() {
			over.Store(true)
			_ = client.SetWriteDeadline(time.Unix(1, 0)) // as cut does
		}})
		if took := time.Since(began); took != 0 {
			t.Errorf("ended after %v", took)
		}
	})
}

// TestInterimCloses: an interim reply that ends its connection, or has a body that it must not have, leaves the connection
// unused behind the final reply too.
func TestInterimCloses(t *testing.T) {
	for interim, conns := range map[string]int32{
		"Link: </a>\r\n": 1, "Connection: close\r\n": 3, "Transfer-Encoding: chunked\r\n": 3, "Content-Length: 5\r\n": 3,
	} {
		var accepted atomic.Int32
		url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
			accepted.Add(1)
			for {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(nc, "HTTP/1.1 103 Early Hints\r\n"+interim+"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		f := startFront(t, url)
		nc := dial(t, f.addr)
		br := bufio.NewReader(nc)
		for range 3 {
			send(t, nc, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
			for status := 103; status == 103; {
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if status = resp.StatusCode; status == 200 {
					if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
						t.Errorf("%q: %q, %v", interim, body, err)
					}
				}
			}
			f.rows.awaitN(t, 1)
		}
		if got := accepted.Load(); got != conns {
			t.Errorf("%q: %d connections, want %d", interim, got, conns)
		}
	}
}
