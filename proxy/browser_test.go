package proxy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"wattline/deploy/debian"
	"wattline/meter"
	"wattline/proxy/llamatest"
)

// TestBrowser: a page that llama-server serves (--path) is loaded through wattline by a headless
// Chromium, reads a stream with fetch, and aborts another.
func TestBrowser(t *testing.T) {
	browser := debian.Need(t, "chromium")
	dir, err := filepath.Abs("testdata/page")
	if err != nil {
		t.Fatal(err)
	}
	srv := llamatest.Start(t, "--path", dir, "--webui", "-np", "2", "-c", "65536", "-t", "1", "-tb", "1")
	f := startFront(t, srv.URL())

	reports := make(chan []byte, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && len(body) > 0 {
			reports <- body
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer collector.Close()

	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-extensions",
		"--user-data-dir="+profile(t), f.url()+"/index.html?report="+url.QueryEscape(collector.URL))
	var log logged
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		_ = cmd.Wait() // killed
	}()

	var report struct {
		Error, Type, Aborted   string
		Status, Chunks, Tokens int
		Done                   bool
	}
	select {
	case body := <-reports:
		if err := json.Unmarshal(body, &report); err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatalf("the page did not report; the browser says\n%s", log.String())
	}
	if report.Error != "" || report.Status != 200 || !report.Done || report.Type != "text/event-stream" || report.Aborted != "AbortError" {
		t.Errorf("the page reports %+v", report)
	}
	if report.Chunks < 3 || report.Tokens < 600 {
		t.Errorf("the page read %d chunks with %d events: it did not stream", report.Chunks, report.Tokens)
	}
	t.Logf("the page read %d events in %d chunks", report.Tokens, report.Chunks)
	if rec := f.rows.row(t, "page-whole"); rec.Outcome != meter.OK || rec.OutputTokens != meter.Some(1200) || rec.Agent == "" {
		t.Errorf("row: %s, %+v tokens, agent %q", rec.Outcome, rec.OutputTokens, rec.Agent)
	}
	if rec := f.rows.row(t, "page-abort"); rec.Outcome != meter.Cancelled {
		t.Errorf("row of the aborted: %s", rec.Outcome)
	}
	page := f.rows.await(t, func(r *meter.Record) bool { return r.Path == "/index.html" })
	if page.Outcome != meter.OK || page.Status != meter.Some(200) {
		t.Errorf("row of the page: %s %+v", page.Outcome, page.Status)
	}
}

// profile is a folder for a browser; its processes may write into it a little after the browser has ended.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(time.Minute); os.RemoveAll(dir) != nil && time.Now().Before(deadline); {
			<-time.After(50 * time.Millisecond)
		}
	})
	return dir
}
