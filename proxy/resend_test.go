package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
)

// crossing is an upstream that ends its kept connection when the second request is written to it, before the request
// arrives or after. The front's connections tell it so, so that the moment is exact on real sockets.
type crossing struct {
	url    string
	closes string // "before", "unread" or "read": what of the second request the server has when it closes

	mu   sync.Mutex // guards what follows
	seen map[string]int
	byMe map[string]chan chan struct{} // by the front's address: asks to close, and is told when that is done
	done map[string]bool               // by the front's address: its first request was answered
}

func startCrossing(t testing.TB, closes string) *crossing {
	t.Helper()
	s := &crossing{closes: closes, seen: map[string]int{}, byMe: map[string]chan chan struct{}{}, done: map[string]bool{}}
	ended := make(chan struct{})
	s.url = rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		if !s.answer(nc, br) {
			return
		}
		var closed chan struct{}
		select {
		case closed = <-s.asks(nc.RemoteAddr()):
		case <-ended:
			return
		}
		switch closes {
		case "before":
			_ = nc.Close()
			close(closed)
		case "unread":
			close(closed)
			_, _ = br.Peek(1) // the rest of it stays in the socket
			_ = nc.Close()
		case "read":
			close(closed)
			if req, err := http.ReadRequest(br); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				s.note(req)
			}
			_ = nc.Close()
		}
	})
	t.Cleanup(func() { close(ended) })
	return s
}

func (s *crossing) asks(addr net.Addr) chan chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := addr.String()
	if s.byMe[key] == nil {
		s.byMe[key] = make(chan chan struct{}, 1)
	}
	return s.byMe[key]
}

func (s *crossing) note(req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[req.Header.Get("X-Request-Id")]++
}

func (s *crossing) answer(nc net.Conn, br *bufio.Reader) bool {
	req, err := http.ReadRequest(br)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, req.Body)
	s.note(req)
	s.mu.Lock()
	s.done[nc.RemoteAddr().String()] = true
	s.mu.Unlock()
	_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	return true
}

// crossingConn asks the upstream to close before the second message is written.
type crossingConn struct {
	*net.TCPConn
	s     *crossing
	asked bool
}

func (c *crossingConn) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	second := c.s.done[c.LocalAddr().String()]
	c.s.mu.Unlock()
	if second && !c.asked {
		c.asked = true
		closed := make(chan struct{})
		c.s.asks(c.LocalAddr()) <- closed
		<-closed
	}
	return c.TCPConn.Write(p)
}

// TestKeptConnectionCloses: an upstream closes each kept connection as the next request arrives. Of eight new clients
// none is told, if no byte of a request reached the server, or if the method is safe; each server has each POST once at
// most. A POST that may have been worked on gets a 502, and further ones new connections.
func TestKeptConnectionCloses(t *testing.T) {
	for _, c := range []struct {
		closes, method string
		failures       int
	}{
		{"before", "POST", 0}, {"before", "GET", 0}, {"unread", "GET", 0}, {"read", "GET", 0}, {"read", "POST", 1}, {"unread", "POST", 1},
	} {
		t.Run(c.closes+" "+c.method, func(t *testing.T) {
			up := startCrossing(t, c.closes)
			f := startFront(t, up.url, func(cfg *Config) {
				cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
					if err != nil {
						return nil, err
					}
					return &crossingConn{TCPConn: nc.(*net.TCPConn), s: up}, nil
				}
			})
			failures := 0
			for i := range 8 {
				id := fmt.Sprint("r", i)
				msg := postOf("/tokenize", id, strings.Repeat("b", 5000))
				if c.method == "GET" {
					msg = "GET /props HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + id + "\r\nX-Fill: " + strings.Repeat("b", 5000) + "\r\n\r\n"
				}
				nc := dial(t, f.addr)
				send(t, nc, msg)
				resp, _ := readReply(t, bufio.NewReader(nc), c.method)
				_ = nc.Close()
				if rec := f.rows.row(t, id); (rec.Outcome == meter.OK) != (resp.StatusCode == 200) {
					t.Errorf("%s: %s, row %s %q", id, resp.Status, rec.Outcome, rec.Error)
				}
				if resp.StatusCode != 200 {
					failures++
				}
				up.mu.Lock()
				if n := up.seen[id]; n > 1 && c.method == "POST" || n > 2 {
					t.Errorf("%s was seen %d times", id, n)
				}
				up.mu.Unlock()
			}
			if failures != c.failures {
				t.Errorf("%d of 8 clients were told, want %d", failures, c.failures)
			}
		})
	}
}

// TestSmallBodyBehindTheHead: a small body that follows its head in a segment of its own takes a kept connection too, and
// a large one a new connection.
func TestSmallBodyBehindTheHead(t *testing.T) {
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	accepted := func() int {
		up.mu.Lock()
		defer up.mu.Unlock()
		return up.accepted
	}
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	for i, c := range []struct{ size, conns int }{{10, 1}, {10, 1}, {smallBody, 1}, {smallBody + 1, 2}} {
		head, body, _ := strings.Cut(postOf("/echo", "x", strings.Repeat("b", c.size)), "\r\n\r\n")
		kept := time.Now()
		send(t, nc, head+"\r\n\r\n")
		send(t, nc, body)
		took := time.Since(kept)
		if resp, got := readReply(t, br, http.MethodPost); resp.StatusCode != 200 || got != "POST "+body {
			t.Errorf("request %d: %s, %d bytes", i, resp.Status, len(got))
		}
		if got := accepted(); got > c.conns && took < smallBodyGrace/2 {
			t.Errorf("after request %d of %d bytes: %d connections", i, c.size, got)
		}
	}
}
