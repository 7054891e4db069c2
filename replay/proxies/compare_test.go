package proxies

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestSuspendedProxy: whatever goes to the server directly goes while the proxy is held, nothing else does.
func TestSuspendedProxy(t *testing.T) {
	var held atomic.Bool
	var seen [2]atomic.Int64
	end := func(want bool, n *atomic.Int64) *httptest.Server {
		warm := int64(3) // streams of the warm-up, before anything is measured
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != chatPath {
				fmt.Fprint(w, "{}")
			} else if n.Add(1) > warm && held.Load() != want {
				t.Errorf("held %v, want %v", held.Load(), want)
			}
			fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}`+"\n\ndata: [DONE]\n\n")
		}))
	}
	direct, proxied := end(true, &seen[0]), end(false, &seen[1])
	defer direct.Close()
	defer proxied.Close()
	c, err := Compare(context.Background(), CompareConfig{
		Direct: direct.URL, Proxied: proxied.URL, Concurrency: []int{1, 3}, Rounds: 4, Requests: 1, MaxTokens: 1,
		Hold: func(h bool) error { held.Store(h); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := seen[0].Load(), seen[1].Load(); a != 3+4+12 || b != a {
		t.Errorf("%d and %d streams", a, b)
	}
	var out strings.Builder
	if err := c.Markdown(&out); err != nil || !c.Held || !strings.Contains(out.String(), "Nothing of wattline ran while") {
		t.Errorf("%v: %s", err, out.String())
	}
}
