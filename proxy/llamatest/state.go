package llamatest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"wattline/deploy/llama"
)

// Slot is one element of GET /slots. A slot that has not worked yet has only the first three fields.
type Slot struct {
	ID           int  `json:"id"`
	NCtx         int  `json:"n_ctx"`
	IsProcessing bool `json:"is_processing"`

	PromptTokens int `json:"n_prompt_tokens"` // grows with the tokens generated
	NextToken    []struct {
		HasNextToken bool `json:"has_next_token"`
		Decoded      int  `json:"n_decoded"` // tokens generated so far
	} `json:"next_token"`
}

// Props are the fields of GET /props that tests read.
type Props struct {
	BuildInfo       string `json:"build_info"` // "b11669-Debian"
	TotalSlots      int    `json:"total_slots"`
	ModelAlias      string `json:"model_alias"`
	EndpointSlots   bool   `json:"endpoint_slots"`
	EndpointMetrics bool   `json:"endpoint_metrics"`
	Defaults        struct {
		NCtx int `json:"n_ctx"` // per slot
	} `json:"default_generation_settings"`
}

// stateTimeout bounds one request: a server with all HTTP threads in use does not answer.
const stateTimeout = time.Minute

// Slots reads the server's slots, in order of their ids.
func Slots(t testing.TB, srv *llama.Server) []Slot {
	t.Helper()
	var slots []Slot
	if err := read(t.Context(), srv, "/slots", &slots); err != nil {
		t.Fatal(err)
	}
	return slots
}

// ReadProps reads the server's properties.
func ReadProps(t testing.TB, srv *llama.Server) Props {
	t.Helper()
	var props Props
	if err := read(t.Context(), srv, "/props", &props); err != nil {
		t.Fatal(err)
	}
	return props
}

// Busy counts the slots that process a request.
func Busy(slots []Slot) int {
	n := 0
	for _, s := range slots {
		if s.IsProcessing {
			n++
		}
	}
	return n
}

// AwaitBusy reads the slots every 2 ms until exactly n of them process a request, and returns how long that
// took. The test fails if it takes longer than limit.
func AwaitBusy(t testing.TB, srv *llama.Server, n int, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		busy := Busy(Slots(t, srv))
		took := time.Since(begin)
		if busy == n {
			return took
		}
		if took > limit {
			t.Fatalf("%d slots are busy after %s, want %d", busy, limit, n)
		}
		<-tick.C
	}
}

// read uses a connection of its own: a kept one would occupy one of the server's few HTTP threads.
func read(ctx context.Context, srv *llama.Server, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL()+path, nil)
	if err != nil {
		return fmt.Errorf("llamatest: %w", err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("llamatest: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("llamatest: GET %s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("llamatest: GET %s: %w", path, err)
	}
	return nil
}
