package llama

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestReplyTooLong: a reply that is cut at its bound is an error that names the path; one that fits exactly is read.
func TestReplyTooLong(t *testing.T) {
	var reply []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(reply) }))
	defer srv.Close()
	c := newClient(t, srv.URL)
	const patience = 5 * time.Minute // 8 MiB may take longer than the timeouts of Info and Slots on a busy machine
	reply = bytes.Repeat([]byte("x"), maxReply)
	if status, body, err := c.get(t.Context(), patience, "/props"); status != http.StatusOK || len(body) != maxReply || err != nil {
		t.Errorf("%d, %d bytes, %v", status, len(body), err)
	}
	reply = append(reply, 'x')
	if _, body, err := c.get(t.Context(), patience, "/props"); !errors.Is(err, ErrReplyTooLong) || !strings.Contains(err.Error(), "/props") || body != nil {
		t.Errorf("one more: %d bytes, %v", len(body), err)
	}
}

// TestReady: any status below 500 is ready; the error of a server that is not says why in one sentence.
func TestReady(t *testing.T) {
	status, conns := http.StatusOK, map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" || r.Method != http.MethodGet || r.UserAgent() != "wattline" {
			t.Errorf("%s %s from %q", r.Method, r.URL.Path, r.UserAgent())
		}
		conns[r.RemoteAddr] = true
		w.WriteHeader(status)
	}))
	defer srv.Close()
	c := newClient(t, srv.URL)
	for _, status = range []int{200, 302, 404, 503} {
		err := c.Ready(t.Context())
		if (err == nil) != (status < 500) || err != nil && !strings.HasSuffix(err.Error(), "is not ready: /health answers 503 Service Unavailable") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if len(conns) != 4 {
		t.Errorf("4 questions used %d connections", len(conns))
	}
	srv.Close()
	if err := c.Ready(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "does not answer /health: connect: connection refused") {
		t.Errorf("nothing listens: %v", err)
	}
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := newClient(t, hangs.URL).Ready(ctx); err == nil || !strings.HasSuffix(err.Error(), "no answer in time") {
		t.Errorf("no answer: %v", err)
	}
}
