package main

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy"
	"wattline/proxy/llamatest"
)

// awaitInflight waits until the requests in flight satisfy the condition.
func (w *wattlineProcess) awaitInflight(t *testing.T, what string, are func([]proxy.Inflight) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		resp, err := http.Get(w.admin + "/api/inflight")
		if err != nil {
			t.Fatal(err)
		}
		var live []proxy.Inflight
		err = json.NewDecoder(resp.Body).Decode(&live)
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case are(live):
			return
		case time.Now().After(deadline):
			t.Fatalf("%s: the requests in flight are %+v", what, live)
		}
	}
}

// TestRefusedAndQueuedEnergy: while one request has the server's only slot, another client leaves the queue, and the
// server refuses further requests. They do not compute, so they have no active joules. Rows in line and offline agree.
func TestRefusedAndQueuedEnergy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "recording")
	w := serve(t, llamatest.Start(t, "-np", "1", "-c", "131072").URL(), "--gpu", "sim", "--record", dir)
	w.awaitQuiet(t, 4) // until the idle draw is known
	generate := map[string]any{"prompt": "ba ce di", "n_predict": 120_000, "ignore_eos": true, "stream": true}
	post := func(ctx context.Context, path string, body any) (leave func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { // ends when the client leaves
			defer close(done)
			w.post(ctx, path, body)
		}()
		return func() { cancel(); <-done }
	}
	works := post(t.Context(), "/completion", generate)
	w.awaitInflight(t, "the one that works", func(live []proxy.Inflight) bool { return len(live) == 1 && live[0].Events > 0 })
	queued := post(t.Context(), "/completion", generate)
	w.awaitInflight(t, "the one that queues", func(live []proxy.Inflight) bool {
		return slices.ContainsFunc(live, func(f proxy.Inflight) bool { return f.Phase == "waiting" })
	})
	none := map[string]string{}
	for path, body := range map[string]map[string]any{
		"/v1/embeddings":       {"input": "ba ce di"}, // 501: the server was started without them
		"/v1/chat/completions": {"messages": "none", "stream": true},
		"/infill":              {"input_prefix": 7},
	} {
		r := w.post(t.Context(), path, body)
		if r.err != nil || r.status < 400 {
			t.Fatalf("%s: status %d, %v", path, r.status, r.err)
		}
		none[r.id] = path
	}
	asks, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, w.url+"/v1/chat/completions", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(asks); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("OPTIONS: %v, %v", resp, err)
	}
	queued()
	w.awaitInflight(t, "after the queued client has left", func(live []proxy.Inflight) bool { return len(live) == 1 })
	works()
	w.awaitInflight(t, "at the end", func(live []proxy.Inflight) bool { return len(live) == 0 })
	w.stop(t)
	offline := attributedRows(t, dir)
	left := 0
	for id, rec := range w.stored(t, 100) {
		switch {
		case rec.Method == http.MethodOptions:
			if rec.Dialect != "" || rec.GPUUj.Valid || rec.Error != "" || offline[id] != nil {
				t.Errorf("a browser's OPTIONS is taken for work: %+v", rec)
			}
			continue
		case none[id] != "" || rec.Outcome == meter.Cancelled && !rec.TTFTUs.Valid:
			left++
			if none[id] != "" && (rec.GPUUj.V != 0 || rec.EnergyQuality == meter.EnergyMeasured) {
				t.Errorf("%s was refused and is charged %+v, %s", none[id], rec.GPUUj, rec.EnergyQuality)
			}
			if rec.GPUActiveUj.V != 0 || rec.GPUDecodeUj.V != 0 || offline[id] != nil && offline[id].GPUActiveUj.V != 0 {
				t.Errorf("%s%s has active joules: %+v", none[id], rec.Outcome, rec.GPUActiveUj)
			}
		}
		sameJoules(t, id, rec, offline[id])
	}
	if left != len(none)+1 {
		t.Errorf("%d rows of those that never computed, want %d", left, len(none)+1)
	}
}
