package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
)

// TestTokenCounts: on every path, streamed and not, the row has the token counts of the real llama-server.
func TestTokenCounts(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t)
	w := serve(t, up.URL())
	chat := func(stream bool) map[string]any {
		return map[string]any{"messages": []any{map[string]any{"role": "user", "content": "ba ce di fo gu"}}, "stream": stream, "max_tokens": 24}
	}
	text := func(stream bool) map[string]any {
		return map[string]any{"prompt": "ba ce di fo gu", "stream": stream, "max_tokens": 24, "n_predict": 24}
	}
	for _, c := range []struct {
		path string
		body func(bool) map[string]any
	}{{"/v1/chat/completions", chat}, {"/v1/completions", text}, {"/completion", text}} {
		for _, stream := range []bool{true, false, true} { // the third has a cached prompt
			t.Run(fmt.Sprintf("%s/%v", c.path, stream), func(t *testing.T) {
				r := w.post(t.Context(), c.path, c.body(stream))
				if r.err != nil || r.status != http.StatusOK {
					t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
				}
				promptN, cacheN, predictedN := lastTimings(t, r.body)
				rec := w.row(t, r.id)
				for _, v := range []struct {
					name string
					got  meter.Int
					want int64
				}{
					{"prompt_tokens", rec.PromptTokens, promptN + cacheN},
					{"cached_tokens", rec.CachedTokens, cacheN},
					{"output_tokens", rec.OutputTokens, predictedN},
				} {
					if v.got != meter.Some(v.want) {
						t.Errorf("%s is %+v, the server says %d", v.name, v.got, v.want)
					}
				}
				if rec.Outcome != meter.OK || rec.Dialect == "" || rec.TokenSource == "" {
					t.Errorf("outcome %q, dialect %q, token_source %q", rec.Outcome, rec.Dialect, rec.TokenSource)
				}
				if stream != rec.TTFTUs.Valid {
					t.Errorf("streamed %v, ttft_us %+v", stream, rec.TTFTUs)
				}
				// queue_us is null if the server was faster than wattline's timestamp P1.
				if !rec.DecodeUs.Valid || !rec.PrefillUs.Valid {
					t.Errorf("phases: prefill %+v, decode %+v", rec.PrefillUs, rec.DecodeUs)
				}
			})
		}
	}
}

// TestPathWithoutTokens: the row of such a path has null token columns.
func TestPathWithoutTokens(t *testing.T) {
	t.Parallel()
	w := serve(t, llamatest.Start(t).URL())
	r := w.post(t.Context(), "/tokenize", map[string]any{"content": "ba ce"})
	if r.err != nil || r.status != http.StatusOK || !bytes.Contains(r.body, []byte("tokens")) {
		t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
	}
	if rec := w.row(t, r.id); rec.OutputTokens.Valid || rec.TTFTUs.Valid || rec.Outcome != meter.OK {
		t.Errorf("row of /tokenize: %+v", rec)
	}
}

// TestStopUnderLoad: SIGTERM while 20 streams are in flight. All arrive complete and have their rows.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	const streams = 20
	up := llamatest.Start(t, "-np", fmt.Sprint(streams), "-c", "163840", "--threads-http", "64")
	tokens := llamatest.Tokens(t, up, 60*time.Millisecond, 400) // alone: 20 share the server
	w := serve(t, up.URL(), "--stop-timeout", "10m")            // a busy machine is no reason to cut a stream
	var mu sync.Mutex
	var replies []reply
	tokens, done := w.together(t, streams, tokens, func(r reply) {
		mu.Lock()
		defer mu.Unlock()
		replies = append(replies, r)
	})
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	done()
	replies = replies[len(replies)-streams:]
	if err := <-w.waited; err != nil {
		t.Errorf("wattline ended with %v", err)
	}
	rows := w.stored(t, 100)
	for i, r := range replies {
		if r.err != nil || !bytes.HasSuffix(bytes.TrimSpace(r.body), []byte("[DONE]")) {
			t.Errorf("stream %d is not whole: %v, %d bytes", i, r.err, len(r.body))
			continue
		}
		if _, _, n := lastTimings(t, r.body); n != int64(tokens) {
			t.Errorf("stream %d: the server generated %d tokens", i, n)
		}
		if rec := rows[r.id]; rec == nil || rec.Outcome != meter.OK || rec.OutputTokens != meter.Some(int64(tokens)) {
			t.Errorf("stream %d has the row %+v", i, rec)
		}
	}
}

// TestKillUnderLoad: kill -9 under load, three times. The store opens, rows that were seen before are there,
// and of the requests of one connection (their rows are committed in order) only the last can be missing. How long a
// row waits for its commit is tested in package store (TestRowsLostByAKill).
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	up := llamatest.Start(t)
	for range 3 {
		killUnderLoad(t, serve(t, up.URL()))
	}
}

func killUnderLoad(t *testing.T, w *wattlineProcess) {
	t.Helper()
	body := map[string]any{"prompt": "ba ce di", "n_predict": 4}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var total atomic.Int64
	enough := make(chan struct{})
	ended := make([][]string, 4) // ids, of one connection each
	for i := range ended {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				r := w.postBy(ctx, client, "/completion", body)
				if r.err != nil || r.status != http.StatusOK {
					return // the kill
				}
				if ended[i] = append(ended[i], r.id); total.Add(1) == 400 {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(2 * patience):
		t.Fatal("400 requests did not end in time")
	}
	committed := w.stored(t, 10000)
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-w.waited
	stop()
	wg.Wait()
	rows := w.stored(t, 10000)
	for id := range committed {
		if rows[id] == nil {
			t.Errorf("row %s was committed before the kill and is gone", id)
		}
	}
	if len(committed) == 0 {
		t.Error("no row was seen before the kill")
	}
	missing := 0
	for i, ids := range ended {
		first := slices.IndexFunc(ids, func(id string) bool { return rows[id] == nil })
		if first < 0 {
			continue
		}
		missing += len(ids) - first
		for _, id := range ids[first:] {
			if rows[id] != nil {
				t.Errorf("connection %d: row %s is there, and one of a request before it is missing", i, id)
			}
		}
	}
	t.Logf("%d requests ended, %d rows were seen before the kill, %d of the newest are missing", total.Load(), len(committed), missing)
}
