package proxies

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
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
	var busy time.Duration
	c, err := Compare(context.Background(), CompareConfig{
		Direct: direct.URL, Proxied: proxied.URL, Concurrency: []int{1, 3}, Rounds: 4, Requests: 1, MaxTokens: 1,
		Hold: func(h bool) error { held.Store(h); return nil },
		CPU:  func() (time.Duration, error) { busy += time.Millisecond; return busy, nil }, // 1 ms a run
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := seen[0].Load(), seen[1].Load(); a != 3+4+12 || b != a {
		t.Errorf("%d and %d streams", a, b)
	}
	for _, p := range c.Levels {
		var percent []float64
		for _, w := range p.Proxied {
			percent = append(percent, 0.1/float64(w.WallSeconds)) // 1 ms of the run
		}
		if p.Core.Pairs != 4 || math.Abs(float64(p.Core.Median)/median(percent)-1) > 1e-6 {
			t.Errorf("%+v, not %v %% of a core", p.Core, median(percent))
		}
	}
	var out strings.Builder
	if err := c.Markdown(&out); err != nil || !c.Held || !strings.Contains(out.String(), "Nothing of wattline ran while") {
		t.Errorf("%v: %s", err, out.String())
	}
}
