package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/proxy"
)

// together starts n streams of so many tokens and returns once all of them produce tokens at the same time. If one ends
// before, it waits for all and starts again with twice as many tokens; asked is the final number. note receives each
// reply, done waits for them.
func (w *wattlineProcess) together(t *testing.T, n, tokens int, note func(reply)) (asked int, done func()) {
	t.Helper()
	for {
		body := map[string]any{
			"messages": []any{map[string]any{"role": "user", "content": "ba ce di"}}, "stream": true, "max_tokens": tokens, "ignore_eos": true,
		}
		var wg sync.WaitGroup
		over := make(chan struct{}, n)
		for range n {
			wg.Go(func() {
				note(w.post(t.Context(), "/v1/chat/completions", body))
				over <- struct{}{}
			})
		}
		if w.awaitStreams(t, n, over) {
			return tokens, wg.Wait
		}
		wg.Wait()
		t.Logf("%d streams of %d tokens were over before all were seen at once", n, tokens)
		if tokens *= 2; tokens > 100_000 {
			t.Fatalf("%d streams do not produce tokens at once", n)
		}
	}
}

// awaitStreams waits until n chat streams produce tokens. It returns false if one ends first.
func (w *wattlineProcess) awaitStreams(t *testing.T, n int, over <-chan struct{}) bool {
	t.Helper()
	var live []proxy.Inflight
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		resp, err := http.Get(w.admin + "/api/inflight")
		if err != nil {
			t.Fatal(err)
		}
		live = nil
		err = json.NewDecoder(resp.Body).Decode(&live)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		producing := 0
		for _, f := range live {
			if f.Phase == "producing" && f.Path == "/v1/chat/completions" {
				producing++
			}
		}
		if producing >= n {
			return true
		}
		select {
		case <-over:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatalf("no %d streams produce tokens in time: %+v", n, live)
	return false
}

// answers sends n requests, checks that each is answered, and returns their IDs.
func (w *wattlineProcess) answers(t *testing.T, n int) (ids []string) {
	t.Helper()
	for range n {
		r := w.post(t.Context(), "/completion", map[string]any{"prompt": "ba ce di", "n_predict": 2})
		if r.err != nil || r.status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
		}
		ids = append(ids, r.id)
	}
	resp, err := http.Get(w.admin + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s, %v", resp.Status, err)
	}
	return ids
}

// awaitLog waits until the process has logged a text.
func (w *wattlineProcess) awaitLog(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(w.said(), text) {
		if time.Now().After(deadline) {
			t.Fatalf("wattline does not say %q within %v", text, patience)
		}
		<-time.After(20 * time.Millisecond)
	}
}
