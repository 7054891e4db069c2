package llamatest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"wattline/deploy/llama"
)

// Tokens is how many tokens, at least least, keep srv busy for d: what a request has to ask for so that others
// find it running on a fast machine too. The server generates them here, alone, the double of what was too
// short each time. A slot's context bounds them, of which an eighth is left for the prompt.
func Tokens(t testing.TB, srv *llama.Server, d time.Duration, least int) int {
	t.Helper()
	room := ReadProps(t, srv).Defaults.NCtx * 7 / 8
	if least > room {
		t.Fatalf("llamatest: a slot has no room for %d tokens: start the server with a larger -c", least)
	}
	for n := least; ; n = min(2*n, room) {
		took, err := generate(t.Context(), srv, n)
		if err != nil {
			t.Fatal(err)
		}
		if took >= d || n == room {
			t.Logf("%d tokens take %v", n, took.Round(time.Millisecond))
			return n
		}
	}
}

// generate has the server generate n tokens and returns how long it did, by its own account.
func generate(ctx context.Context, srv *llama.Server, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL()+"/completion", strings.NewReader(fmt.Sprintf(`{"prompt":"ba ce di","n_predict":%d,"ignore_eos":true}`, n)))
	if err != nil {
		return 0, fmt.Errorf("llamatest: %w", err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("llamatest: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	var reply struct {
		Timings struct {
			Tokens int     `json:"predicted_n"`
			Ms     float64 `json:"predicted_ms"`
		} `json:"timings"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return 0, fmt.Errorf("llamatest: POST /completion: %s: %w", resp.Status, err)
	}
	if reply.Timings.Tokens != n {
		return 0, fmt.Errorf("llamatest: POST /completion: %s, and %d of %d tokens", resp.Status, reply.Timings.Tokens, n)
	}
	return time.Duration(reply.Timings.Ms * float64(time.Millisecond)), nil
}
