package console_test

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wattline/sink/console"
)

// What is embedded is served as it is, once compressed, and is not sent again to those who have it.
func TestPageFiles(t *testing.T) {
	url := serve(t, console.Config{Ready: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler)})
	index, err := os.ReadFile(filepath.Join("web", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string, header ...string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	etag := ""
	for _, path := range []string{"/", "/requests", "/requests/01a2?since=1h", "/sessions/x", "/energy", "/queries", "/runs/a.b", "/health", "/live", "/web/index.html"} {
		resp := ask("GET", path, "Accept-Encoding", "identity")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || string(body) != string(index) || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %s, %d bytes, %v", path, resp.Status, len(body), resp.Header)
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		etag = resp.Header.Get("ETag")
	}
	resp := ask("GET", "/", "Accept-Encoding", "gzip")
	if z, err := gzip.NewReader(resp.Body); err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Error("not compressed:", err, resp.Header)
	} else if body, err := io.ReadAll(z); err != nil || string(body) != string(index) {
		t.Errorf("%v, %d bytes", err, len(body))
	}
	if resp := ask("GET", "/", "If-None-Match", etag); etag == "" || resp.StatusCode != 304 {
		t.Errorf("ETag %s again: %s", etag, resp.Status)
	}
	if resp := ask("HEAD", "/", "Accept-Encoding", "identity"); resp.StatusCode != 200 || resp.ContentLength != int64(len(index)) {
		t.Errorf("HEAD: %s, %d bytes", resp.Status, resp.ContentLength)
	}
	for _, path := range []string{"/web/", "/web/nothing.js", "/web/../console.go", "/requestsx", "/console.go", "/web/%2e%2e/page.go"} {
		if resp := ask("GET", path); resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
