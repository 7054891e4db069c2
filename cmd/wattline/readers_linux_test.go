package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestReadersSoak: four pages of the console and a query that was stopped in the middle do not keep the store's log growing
// while 200 requests come in a second for ten minutes: it stays below twice its limit.
func TestReadersSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("ten minutes; make soak runs it, TestStoppedReader of sink/store has a short one")
	}
	const long, rate, limit = 10 * time.Minute, 200, 2 * 16 << 20
	w := serve(t, newGatedUpstream(t).URL, "--gpu", "sim")
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var sent, failed, reads, largest atomic.Int64
	every := func(pause time.Duration, do func()) {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				do()
			}
		}
	}
	ask := func(method, url, body string) error {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // only read
		_, err = io.Copy(io.Discard, resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", url, resp.Status)
		}
		return err
	}
	done := make(chan struct{})
	const senders, pages = 4, 4
	for range senders {
		go func() {
			every(time.Second*senders/rate, func() {
				if ask(http.MethodPost, w.url+"/completion", `{"prompt":"ba","n_predict":1}`) != nil {
					failed.Add(1)
				}
				sent.Add(1)
			})
			done <- struct{}{}
		}()
	}
	for range pages {
		go func() { // a page: what happens now, and what it asks for again and again
			live, err := http.NewRequestWithContext(ctx, http.MethodGet, w.admin+"/api/live", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := http.DefaultClient.Do(live); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		go func() {
			every(time.Second, func() {
				for _, path := range []string{"/api/requests?limit=50", "/api/sessions", "/api/usage?by=agent"} {
					if err := ask(http.MethodGet, w.admin+path, ""); err != nil {
						t.Error(err)
					}
					reads.Add(1)
				}
			})
			done <- struct{}{}
		}()
	}
	go func() {
		every(100*time.Millisecond, func() {
			if at, err := os.Stat(w.store + "-wal"); err == nil {
				largest.Store(max(largest.Load(), at.Size()))
			}
		})
		done <- struct{}{}
	}()
	<-time.After(long / 4) // there is something to read
	stopped := command(t, "query", "--store", w.store, "--format", "csv", "SELECT a.* FROM requests AS a, requests AS b, requests AS c")
	out, err := stopped.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stopped.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1000)); err != nil { // it is in the middle
		t.Fatal(err)
	}
	if err := stopped.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range senders + pages + 1 {
		<-done
	}
	_ = stopped.Process.Kill()
	_ = stopped.Wait()
	t.Logf("%d requests, %d reads of pages, a stopped query: the log had at most %.1f MiB", sent.Load(), reads.Load(), float64(largest.Load())/(1<<20))
	if failed.Load() > 0 || largest.Load() > limit || sent.Load() < int64(long.Seconds()*rate/2) {
		t.Errorf("%d of %d requests failed; the log may have %d bytes", failed.Load(), sent.Load(), limit)
	}
}
