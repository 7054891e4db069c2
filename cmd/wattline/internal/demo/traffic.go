package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

//nolint:gochecknoglobals // a constant list
var syllables = [...]string{"ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"}

// request is one kind of request that the demo sends.
type request struct {
	words       int // of the prompt; each is one token for the small model
	tokens      int // of the reply
	concurrency int // copies sent at the same time

	agent, session string // "": the demo's own, none
}

// Send sends the demo's requests to the proxy at base and returns the ids of their rows.
func Send(ctx context.Context, base string) (all []string, err error) {
	for _, r := range []request{{words: 20, tokens: 16, concurrency: 1}, {words: 20, tokens: 128, concurrency: 1}, {words: 300, tokens: 64, concurrency: 1}, {words: 1000, tokens: 64, concurrency: 1}, {words: 300, tokens: 128, concurrency: 4}} {
		ids, err := r.send(ctx, base)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	return all, nil
}

// send sends the copies of the request and returns the ids of their rows.
func (r request) send(ctx context.Context, base string) ([]string, error) {
	ids, errs := make([]string, r.concurrency), make([]error, r.concurrency)
	var wg sync.WaitGroup
	for i := range r.concurrency {
		wg.Go(func() { ids[i], errs[i] = r.one(ctx, base, i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("a demo request failed: %w", err)
		}
	}
	return ids, nil
}

func (r request) one(ctx context.Context, base string, nth int) (id string, err error) {
	var words strings.Builder
	for i := range r.words { // one token each for the small model, about three for others
		k := i*7 + nth*13
		words.WriteString(" " + syllables[k%len(syllables)] + syllables[(k/3)%len(syllables)])
	}
	body, err := json.Marshal(map[string]any{
		"messages": []map[string]string{{"role": "user", "content": fmt.Sprintf("Request %d.%s", nth, words.String())}},
		"stream":   true, "max_tokens": r.tokens, "ignore_eos": true,
	})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", cmp.Or(r.agent, "wattline-demo"))
	if r.session != "" {
		req.Header.Set("X-Session-Id", r.session)
	}
	req.Header.Set("X-Wattline-Echo", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, text)
	}
	return resp.Header.Get("X-Wattline-Id"), nil
}

// KeepOn sends requests of three clients, slowly enough to be watched in the console, until ctx ends. A request that fails
// stands in the rows. The words are fewer for a model that is not
// the demo's own, whose tokens are shorter, so that prompts fit into a slot.
func KeepOn(ctx context.Context, base string, otherModel bool) {
	wordTokens := 1
	if otherModel {
		wordTokens = 3
	}
	var wg sync.WaitGroup
	for i, agent := range []string{"demo-editor", "demo-chat", "demo-agent"} {
		wg.Go(func() {
			for turn := 0; ; turn++ {
				r := request{
					words: (50 + 150*(turn%5)*(i+1)) / wordTokens, tokens: 200 + 300*((turn+i)%4), agent: agent, session: fmt.Sprintf("%s-%d", agent, turn/5),
				}
				_, _ = r.one(ctx, base, i)
				select {
				case <-time.After(time.Duration(1+(turn*7+i*3)%4) * time.Second):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
}

// AwaitRows waits until the rows of these requests can be read, their joules included. A row is stored a moment after the
// client has its reply, its joules settle in seconds.
func AwaitRows(ctx context.Context, queue *sink.Queue, reader *store.Reader, ids []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the rows of the requests did not reach the store in time"))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(ids) > 0 {
		if err := queue.Flush(ctx); err != nil {
			return err
		}
		rec, err := reader.Find(ctx, ids[0])
		if err != nil {
			return err
		}
		if rec != nil && rec.EnergyQuality != meter.EnergyPending {
			ids = ids[1:]
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
