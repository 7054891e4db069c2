//go:build unix

package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
)

// gatedUpstream answers a short request at once. A stream goes on until it is released.
type gatedUpstream struct {
	*httptest.Server
	release chan struct{}

	mu   sync.Mutex // guards sent
	sent [][]byte   // of each stream, by its number
}

func newGatedUpstream(t *testing.T) *gatedUpstream {
	t.Helper()
	u := &gatedUpstream{release: make(chan struct{})}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

// ServeHTTP answers like llama-server, as far as a row needs it.
func (u *gatedUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	number, err := strconv.Atoi(r.Header.Get("X-Stream"))
	if err != nil {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"content":"ba","stop":true,"tokens_predicted":1,"tokens_evaluated":3}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(text string) {
		text = "data: " + text + "\n\n"
		_, _ = io.WriteString(w, text)
		w.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's own
		u.mu.Lock()
		defer u.mu.Unlock()
		u.sent[number] = append(u.sent[number], text...)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		event(fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":"%d "}}],"object":"chat.completion.chunk"}`, n))
		select {
		case <-tick.C:
		case <-u.release:
			event(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"object":"chat.completion.chunk"}`)
			event("[DONE]")
			return
		case <-r.Context().Done():
			return
		}
	}
}

// TestHandoverChainSoak: five handovers, one a second, under streams that outlive all of them, some in each process, and
// under short requests. No byte is cut, and every row of every process is stored once. With WATTLINE_SOAK the streams
// last a minute, twice the time that SIGTERM leaves.
func TestHandoverChainSoak(t *testing.T) {
	t.Parallel()
	const handovers = 5
	perProcess, last := 2, 0*time.Second
	if os.Getenv("WATTLINE_SOAK") != "" {
		perProcess, last = 10, time.Minute
	}
	streams := perProcess * handovers // the last process has short requests only
	up := newGatedUpstream(t)
	up.sent = make([][]byte, streams)
	w := serve(t, up.URL, "--gpu", "sim")
	began := time.Now()

	var mu sync.Mutex
	var short []reply
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients, streaming sync.WaitGroup
	for _, client := range []*http.Client{{Transport: &http.Transport{}}, {Transport: &http.Transport{DisableKeepAlives: true}}} {
		clients.Go(func() {
			for ctx.Err() == nil {
				r := w.postBy(t.Context(), client, "/completion", map[string]any{"prompt": "ba ce di", "n_predict": 1})
				mu.Lock()
				short = append(short, r)
				mu.Unlock()
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	long := make([]reply, streams)
	pids := []int{w.cmd.Process.Pid}
	for h := range handovers {
		for i := range perProcess {
			number := h*perProcess + i
			streaming.Go(func() { long[number] = w.stream(t, number) })
		}
		for deadline := time.Now().Add(patience); up.running() < (h+1)*perProcess; <-time.After(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d streams run", up.running())
			}
		}
		<-time.After(time.Until(began.Add(time.Duration(h+1) * time.Second)))
		if err := syscall.Kill(pids[h], syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, awaitSuccessor(t, w))
	}
	handedOver := time.Since(began)
	mu.Lock()
	newest := short[len(short)-1].id
	mu.Unlock()
	w.row(t, newest) // stored while all the old processes still serve
	<-time.After(time.Until(began.Add(last)))
	close(up.release)
	streaming.Wait()
	lasted := time.Since(began)
	stop()
	clients.Wait()
	if err := syscall.Kill(pids[handovers], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-w.waited; err != nil {
		t.Errorf("the first process ended with %v", err)
	}
	for _, pid := range pids[1:] {
		awaitEnd(t, pid)
	}

	rows := w.stored(t, 1_000_000)
	cut, lost := 0, 0
	for i, r := range long {
		if r.err != nil || !bytes.Equal(r.body, up.sent[i]) || !bytes.HasSuffix(r.body, []byte("[DONE]\n\n")) {
			cut++
			t.Errorf("stream %d: %v, %d of %d bytes arrived", i, r.err, len(r.body), len(up.sent[i]))
		}
	}
	for _, r := range append(long, short...) {
		switch rec := rows[r.id]; {
		case r.err != nil || r.status != http.StatusOK:
			t.Errorf("request %q: status %d, %v", r.id, r.status, r.err)
		case rec == nil:
			lost++
		case rec.Outcome != meter.OK || rec.EnergyQuality == meter.EnergyPending:
			t.Errorf("request %s has the row %+v", r.id, rec)
		}
	}
	if lost > 0 || len(rows) != len(long)+len(short) {
		t.Errorf("%d rows are lost; %d requests have %d rows", lost, len(long)+len(short), len(rows))
	}
	if said := w.said(); strings.Count(said, "the new process serves") != handovers || !strings.Contains(said, fmt.Sprintf(" requests=%d", perProcess)) {
		t.Errorf("the old processes do not say how many requests they still serve")
	}
	t.Logf("%d handovers in %v, %d streams of up to %v, %d short requests: %d streams cut, %d rows lost of %d",
		handovers, handedOver.Round(time.Millisecond), len(long), lasted.Round(time.Millisecond), len(short), cut, lost, len(long)+len(short))
}

// running counts the streams that have begun.
func (u *gatedUpstream) running() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.sent {
		if len(s) > 0 {
			n++
		}
	}
	return n
}

// stream reads the stream of a number to its end, on a connection of its own.
func (w *wattlineProcess) stream(t *testing.T, number int) reply {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/chat/completions", strings.NewReader(`{"messages":[{"role":"user","content":"ba"}],"stream":true}`))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Wattline-Echo", "1")
	req.Header.Set("X-Stream", strconv.Itoa(number))
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	out := reply{id: resp.Header.Get("X-Wattline-Id"), status: resp.StatusCode}
	out.body, out.err = io.ReadAll(resp.Body)
	return out
}

// TestOldProcessEnds: a stream that would never end stays in the old process until --handover-timeout, or until
// --stop-timeout after a SIGTERM to the old process. Its row is stored.
func TestOldProcessEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag string
		term bool
		says string
	}{
		{"--handover-timeout=300ms", false, "--handover-timeout has passed: requests that began before the upgrade are aborted"},
		{"--stop-timeout=300ms", true, "1 requests in flight may continue for 300ms"},
	} {
		t.Run(c.flag, func(t *testing.T) {
			t.Parallel()
			up := newGatedUpstream(t)
			up.sent = make([][]byte, 1)
			w := serve(t, up.URL, "--gpu", "none", c.flag)
			cut := make(chan reply, 1)
			go func() { cut <- w.stream(t, 0) }()
			for deadline := time.Now().Add(patience); up.running() == 0 && time.Now().Before(deadline); {
				<-time.After(5 * time.Millisecond)
			}
			if err := w.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			pid := awaitSuccessor(t, w)
			if c.term {
				if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			r := <-cut
			if r.err == nil {
				t.Errorf("the stream ended with %d bytes", len(r.body))
			}
			awaitEnd(t, w.cmd.Process.Pid)
			w.awaitLog(t, c.says)
			w.row(t, r.id)
			if s := w.answers(t, 1); len(s) != 1 {
				t.Error("the new process does not serve")
			}
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := <-w.waited; err != nil { // the successor has its stderr
				t.Errorf("the old process ended with %v", err)
			}
			awaitEnd(t, pid)
		})
	}
}

// TestOlderSuccessor: a new process that does not know the store's format does not start. The old one says why, goes on
// serving and writing rows.
func TestOlderSuccessor(t *testing.T) {
	t.Parallel()
	w := serve(t, fastUpstream(t), "--gpu", "none")
	ids := w.answers(t, 1)
	w.row(t, ids[0])
	db, err := sql.Open("sqlite", w.store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	w.awaitLog(t, "has format 99, and this wattline knows none above")
	w.awaitLog(t, "the upgrade failed; this process keeps serving")
	w.row(t, w.answers(t, 1)[0])
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.stop(t)
}
