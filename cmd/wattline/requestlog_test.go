package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wattline/meter"
)

// TestRequestLog: the log has a line with the ID of each failed request, at level debug of each request. The upstream's
// error message is not logged, because it can quote the request.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "break off"):
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler) // aborts the connection
		case strings.Contains(string(body), "dear diary"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"too long: dear diary"}}`)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}`)
		}
	}))
	t.Cleanup(up.Close)
	for level, want := range map[string]map[meter.Outcome]string{
		"info":  {meter.Truncated: "the upstream broke off its reply"},
		"debug": {meter.Truncated: "the upstream broke off its reply", meter.UpstreamError: "request", meter.OK: "request"},
	} {
		t.Run(level, func(t *testing.T) {
			w := serve(t, up.URL, "--gpu", "none", "--log-level", level, "--log-format", "json")
			for _, text := range []string{"break off", "dear diary", "hello"} {
				w.post(t.Context(), "/v1/chat/completions", map[string]any{"messages": []any{map[string]any{"role": "user", "content": text}}})
			}
			w.stop(t)
			rows, told := w.stored(t, 10), map[meter.Outcome]string{}
			for line := range strings.Lines(w.said()) {
				var l struct{ Msg, ID, Outcome, Route string }
				if json.Unmarshal([]byte(line), &l) != nil || l.ID == "" {
					continue // a line that is not about a request
				}
				rec := rows[l.ID]
				if rec == nil || string(rec.Outcome) != l.Outcome || l.Route != "default" {
					t.Errorf("%s is told of, which the rows do not know like that: %s", l.ID, line)
					continue
				}
				told[rec.Outcome] = l.Msg
			}
			if len(rows) != 3 || len(told) != len(want) {
				t.Errorf("of %d requests %v are told of, not %v", len(rows), told, want)
			}
			for outcome, message := range want {
				if told[outcome] != message {
					t.Errorf("%s is told of as %q", outcome, told[outcome])
				}
			}
			if strings.Contains(w.said(), "dear diary") {
				t.Errorf("a request is quoted:\n%s", w.said())
			}
		})
	}
}
