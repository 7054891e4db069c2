package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy"
	"wattline/proxy/stub"
)

// stubUpstream serves a stub until stop is called or the test ends.
func stubUpstream(t testing.TB, cfg stub.Config) (url string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := stub.New(cfg)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			if err := errors.Join(srv.Close(), <-served); err != nil {
				t.Errorf("end of the stub: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return "http://" + ln.Addr().String(), stop
}

// get sends a request and returns status and body.
func get(t *testing.T, method, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestAdminListener: health, readiness of the upstream, and rows. On the data listener these paths are the upstream's.
func TestAdminListener(t *testing.T) {
	t.Parallel()
	url, stop := stubUpstream(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	w := serve(t, url)
	chat := map[string]any{"messages": []any{map[string]any{"role": "user", "content": "x"}}, "stream": true, "max_tokens": 7}
	var ids []string
	for range 3 {
		r := w.post(t.Context(), "/v1/chat/completions", chat)
		if r.err != nil || r.id == "" {
			t.Fatalf("%+v", r)
		}
		ids = append(ids, r.id)
		w.row(t, r.id) // waits for the row, which comes after the reply
	}
	for until := time.Now().Add(patience); ; { // the end of a request in flight also comes after its reply
		_, body := get(t, "GET", w.admin+"/api/inflight", "")
		if strings.TrimSpace(body) == "[]" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("/api/inflight: %s", body)
		}
	}
	for _, c := range []struct {
		method, path, host string
		status             int
		want               string
	}{
		{"GET", "/healthz", "", 200, "ok\n"},
		{"HEAD", "/healthz", "", 200, ""},
		{"GET", "/readyz", "", 200, "ok\n"},
		{"GET", "/api/inflight", "", 200, "[]"},
		{"GET", "/api/requests/" + ids[0], "", 200, ids[0]},
		{"GET", "/api/requests/none", "", 404, "no request has this id"},
		{"GET", "/api/requests?limit=0", "", 400, "limit must be a number"},
		{"GET", "/api/requests?limit=x", "", 400, "limit must be a number"},
		{"POST", "/api/requests", "", 405, "only GET"},
		{"GET", "/nothing", "", 404, "API.md"},
		{"GET", "/", "", 200, "<!doctype html>"},
		{"GET", "/api/sum", "", 200, `"requests":3,`},
		{"GET", "/api/hello", "", 200, `"live":true`},
		{"GET", "/api/requests", "evil.example", 403, "addresses, local names and --admin-hosts only"}, // DNS rebinding
	} {
		if status, body := get(t, c.method, w.admin+c.path, c.host); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	var recs []*meter.Record
	if _, body := get(t, "GET", w.admin+"/api/requests?limit=2", ""); json.Unmarshal([]byte(body), &recs) != nil || len(recs) != 2 ||
		recs[0].ID != ids[2] || recs[1].ID != ids[1] || recs[0].OutputTokens != meter.Some(7) {
		t.Errorf("the latest two: %s", body)
	}
	if status, body := get(t, "GET", w.url+"/healthz", ""); status != 404 || strings.Contains(body, "wattline") {
		t.Errorf("/healthz on the data listener is the upstream's: %d %s", status, body)
	}

	stop()
	if status, body := get(t, "GET", w.admin+"/readyz", ""); status != 503 || !strings.Contains(body, url) {
		t.Errorf("/readyz without an upstream: %d %s", status, body)
	}
	if status, _ := get(t, "GET", w.admin+"/healthz", ""); status != 200 {
		t.Errorf("/healthz without an upstream: %d", status)
	}
}

// TestInflight: a request in flight is listed with its phase until it ends.
func TestInflight(t *testing.T) {
	t.Parallel()
	url, _ := stubUpstream(t, stub.Config{HeaderDelay: 20 * time.Millisecond, FirstToken: 40 * time.Millisecond, TokenGap: 20 * time.Millisecond})
	w := serve(t, url)
	inflight := func() (live []proxy.Inflight) {
		if _, body := get(t, "GET", w.admin+"/api/inflight", ""); json.Unmarshal([]byte(body), &live) != nil {
			t.Fatalf("%s", body)
		}
		return live
	}
	await := func(what string, ok func([]proxy.Inflight) bool) []proxy.Inflight {
		t.Helper()
		live := inflight()
		for until := time.Now().Add(patience); !ok(live); live = inflight() {
			if time.Now().After(until) {
				t.Fatalf("never %s: %+v", what, live)
			}
		}
		return live
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/chat/completions", strings.NewReader(`{"messages":[],"stream":true,"max_tokens":100000,"model":"asked-for"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "watcher/1")
	req.Header.Set("X-Wattline-Echo", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := await("producing", func(l []proxy.Inflight) bool { return len(l) == 1 && l[0].Phase == "producing" && l[0].Events > 1 })[0]
	if first.ID != resp.Header.Get("X-Wattline-Id") || first.Route != "default" || first.Path != "/v1/chat/completions" || first.Agent != "watcher" || first.Model != "asked-for" ||
		first.TTFTUs == nil || *first.TTFTUs < 40_000 || first.AgeUs < *first.TTFTUs {
		t.Errorf("%+v", first)
	}
	await("further", func(l []proxy.Inflight) bool {
		return len(l) == 1 && l[0].Events > first.Events && l[0].AgeUs > first.AgeUs
	})
	leave()
	await("gone", func(l []proxy.Inflight) bool { return len(l) == 0 })
	if rec := w.row(t, first.ID); rec.Outcome != meter.Cancelled {
		t.Errorf("its row: %s", rec.Outcome)
	}
}

// TestRoutes: several upstreams of the configuration file, each with its own listener, name and labels.
func TestRoutes(t *testing.T) {
	t.Parallel()
	quick, _ := stubUpstream(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	other, stopOther := stubUpstream(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	file := filepath.Join(t.TempDir(), "routes.yaml")
	text := fmt.Sprintf(`admin: "127.0.0.1:0"
stop-timeout: 1m
gpu: sim
routes:
  - {name: chat, listen: "127.0.0.1:0", upstream: "%s", labels: {team: search}}
  - {name: embed, listen: "127.0.0.1:0", upstream: "%s", gpus: ["0"]}
`, quick, other)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, "--config", file, "serve")
	if len(w.urls) != 2 || w.urls[0] == w.urls[1] {
		t.Fatalf("listens at %v", w.urls)
	}
	w.mu.Lock()
	if said := w.stderr.String(); !strings.Contains(said, "SIM") || !strings.Contains(said, "named by gpus:") {
		t.Errorf("gpus: is not heeded: %s", said)
	}
	w.mu.Unlock()
	post := func(url, labels string) *meter.Record {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/completion", strings.NewReader(`{"prompt":"x","n_predict":3}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Wattline-Echo", "1")
		if labels != "" {
			req.Header.Set("X-Wattline-Labels", labels)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return w.row(t, resp.Header.Get("X-Wattline-Id"))
	}
	if rec := post(w.urls[0], ""); rec.Route != "chat" || rec.Upstream != quick || rec.Labels["team"] != "search" || rec.OutputTokens != meter.Some(3) {
		t.Errorf("chat: route %q, upstream %q, labels %v", rec.Route, rec.Upstream, rec.Labels)
	}
	if rec := post(w.urls[0], "team=ads"); rec.Labels["team"] != "ads" {
		t.Errorf("the request's own labels: %v", rec.Labels)
	}
	if rec := post(w.urls[1], ""); rec.Route != "embed" || rec.Upstream != other || len(rec.Labels) != 0 {
		t.Errorf("embed: route %q, upstream %q, labels %v", rec.Route, rec.Upstream, rec.Labels)
	}
	stopOther()
	if rec := post(w.urls[1], ""); rec.Outcome != meter.UpstreamError || rec.Status != meter.Some(502) {
		t.Errorf("embed without its upstream: %s %+v", rec.Outcome, rec.Status)
	}
	if rec := post(w.urls[0], ""); rec.Outcome != meter.OK {
		t.Errorf("chat meanwhile: %s", rec.Outcome)
	}
	if status, body := get(t, "GET", w.admin+"/readyz", ""); status != 503 || !strings.Contains(body, other) {
		t.Errorf("/readyz names no upstream: %d %s", status, body)
	}
}
