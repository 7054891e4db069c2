package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter"
)

// TestNewConnectionsReplaceKept: requests that each need a new connection do not leave theirs open one beside the other,
// since a server may have a thread wait on each.
func TestNewConnectionsReplaceKept(t *testing.T) {
	var open, accepted atomic.Int64
	url := rawUpstream(t, func(nc *net.TCPConn, br *bufio.Reader) {
		accepted.Add(1)
		open.Add(1)
		defer open.Add(-1)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	f := startFront(t, url, func(cfg *Config) { cfg.PoolIdle = patience })
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	const requests = 10
	for range requests {
		send(t, nc, postOf("/v1/embeddings", "x", strings.Repeat("b", smallBody+1)))
		if resp, _ := readReply(t, br, http.MethodPost); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	deadline := time.Now().Add(patience / 4) // kept ones would close by themselves after patience
	for open.Load() > 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := open.Load(); n > 1 || accepted.Load() != requests {
		t.Errorf("%d of %d connections stay open", n, accepted.Load())
	}
}

// TestHalfReadOnUnix: a server at a Unix socket takes a part of a POST from a kept connection and closes its sending half.
// Such a socket counts the part that was read as unread, so the request is not sent again.
func TestHalfReadOnUnix(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var seen atomic.Int64
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				br := bufio.NewReader(nc)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if req.Header.Get("X-Request-Id") == "half" {
						seen.Add(1)
						if n == 1 {
							_ = nc.(*net.UnixConn).CloseWrite()
							<-ended
							return
						}
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
		}
	})
	t.Cleanup(func() {
		close(ended)
		_ = ln.Close()
		wg.Wait()
	})
	f := startFront(t, "unix://"+sock)
	nc := dial(t, f.addr)
	br := bufio.NewReader(nc)
	for i, want := range []int{200, 502} {
		send(t, nc, postOf("/tokenize", []string{"first", "half"}[i], strings.Repeat("b", 8000)))
		if resp, _ := readReply(t, br, http.MethodPost); resp.StatusCode != want {
			t.Errorf("%s, want %d", resp.Status, want)
		}
	}
	if n := seen.Load(); n != 1 {
		t.Errorf("the server saw it %d times", n)
	}
	if rec := f.rows.row(t, "half"); rec.Outcome != meter.UpstreamError {
		t.Errorf("row: %s %q", rec.Outcome, rec.Error)
	}
}
