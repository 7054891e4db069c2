package autopsy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/meter/prompt"
)

// TestCancelledPromptIsKept: of a request whose client leaves the fingerprint is kept too, as a trace has such requests.
func TestCancelledPromptIsKept(t *testing.T) {
	b := newBench(t, cache.Facts{})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	body := `{"messages": [{"role": "user", "content": "` + syllables(1, 50) + `"}], "stream": true, "ignore_eos": true, "max_tokens": 20000}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	leave()
	_ = resp.Body.Close()
	row := <-b.rows
	if row.Outcome != meter.Cancelled {
		t.Fatalf("the row's outcome is %s", row.Outcome)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.kept) != 1 || b.kept[0].ID != row.ID {
		t.Fatalf("%d fingerprints are kept", len(b.kept))
	}
	if p, err := prompt.Decode(b.kept[0].Fingerprint); err != nil || p.Bytes < 200 {
		t.Errorf("the fingerprint is of %+v: %v", p, err)
	}
}
