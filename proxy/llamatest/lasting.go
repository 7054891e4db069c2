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

// Tokens returns how many tokens, at least least, keep srv busy for d: what a request has to ask for so that others
// find it running, on a fast machine too. The server generates them here, alone, twice as many each time until it
// takes d. A slot's context bounds them; an eighth of it is left for the prompt.
func Tokens(t testing.TB, srv *llama.Server, d time.Duration, least int) int {
	t.Helper()
	room := ReadProps(t, srv).Defaults.NCtx * 7 / 8
	if least > room {
		t.Fatalf("llamatest: a slot has no room for %d tokens: start the server with a larger -c", least)
	}
	n, took, err := tokensFor(d, least, room, func(n int) (time.Duration, error) { return generate(t.Context(), srv, n) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tokens take %v", n, took.Round(time.Millisecond))
	return n
}

// tokensFor doubles n, from least to room at most, until generating n tokens takes d.
func tokensFor(d time.Duration, least, room int, generate func(n int) (time.Duration, error)) (n int, took time.Duration, err error) {
	for n = least; ; n = min(2*n, room) {
		if took, err = generate(n); err != nil || took >= d || n == room {
			return n, took, err
		}
	}
}

// generate has the server generate n tokens and returns how long that took, as the server measured it.
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
