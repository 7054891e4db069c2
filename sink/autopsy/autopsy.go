// Package autopsy fills the columns cache_* of rows: whether a prompt was reused as far as it could be, and if not, whose fault
// that was and what it cost. Package meter/cache decides; here its History meets the proxy.
//
//	proxy ──► Route.Body: a copy of the request's body, made behind the write
//	      ──► Route.Observe: the request was sent; its fingerprint is made beside the data path, while the server works
//	      ──► Route.Done: the verdict; server losses may ask GET /slots once more
//	attribution ──► Rows: the price, once the row's joules are known
//
// Copies and remembered texts share one bound (Config.Memory). Text is in memory only.
package autopsy

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/meter/prompt"
	"wattline/proxy/llama"
	"wattline/sink"
)

// DefaultMemory bounds the texts in memory: some hundred prompts of agents.
const DefaultMemory = 64 << 20

// Config configures an Autopsy.
type Config struct {
	Secret []byte // of the installation: the key of the fingerprints follows from it
	Memory int64  // bound on the texts in memory, bytes
	Keep   bool   // fingerprints go to Offer
	Text   bool   // the lines that changed go to Log
	Offer  func(*sink.Prompt) bool
	Log    *slog.Logger
}

// Autopsy judges the requests of all routes. A nil Autopsy judges none.
type Autopsy struct {
	cfg Config
	key prompt.Key

	inFlight atomic.Int64 // bytes of bodies that are not judged yet

	mu      sync.Mutex // guards what follows; never taken on the data path
	history cache.History
	asked   map[string]*ask // rows that wait for the server's slots, by id
	asking  sync.WaitGroup  // the goroutines that ask
}

// ask is a question for slots whose answer a row waits for.
type ask struct {
	done    chan struct{} // closed when verdict is final
	verdict cache.Verdict
}

// New makes an Autopsy.
func New(cfg Config) *Autopsy {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Autopsy{cfg: cfg, key: prompt.NewKey(cfg.Secret), history: cache.History{TextBytes: cfg.Memory}, asked: map[string]*ask{}}
}

// Remember adds the prompts of an earlier run, the oldest first. They ended before this run's first request.
func (a *Autopsy) Remember(rec *meter.Record, fingerprint []byte) {
	p, err := prompt.Decode(fingerprint)
	if a == nil || err != nil {
		return
	}
	q := requestOf(rec, p)
	q.Ended = -int64(time.Hour)
	q.Started, q.Earlier = q.Ended-1, true
	a.mu.Lock()
	defer a.mu.Unlock()
	a.history.Add(q)
}

// requestOf takes what a row tells of a request. Its times are set by the caller.
func requestOf(rec *meter.Record, p *prompt.Prompt) *cache.Request {
	q := &cache.Request{
		ID: rec.ID, Server: rec.Upstream + "\n" + rec.Model, Prompt: p, ConfigID: rec.ConfigID, LoadUs: rec.LoadUs,
		PromptTokens: rec.PromptTokens, CachedTokens: rec.CachedTokens, OutputTokens: rec.OutputTokens,
	}
	if d := rec.Details; d != nil {
		q.CachePrompt, q.Slot = d.CachePrompt, d.Slot
	}
	if rec.Details == nil || rec.Details.SessionSource != meter.SessionInferred {
		q.Session = rec.Session
	}
	return q
}

// wait returns when no question is open, or ctx has ended.
func (a *Autopsy) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends with the questions, each of which is bounded
		a.asking.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Stop waits for open questions, at most until ctx ends.
func (a *Autopsy) Stop(ctx context.Context) {
	if a != nil {
		a.wait(ctx)
	}
}

// askTimeout bounds a question for slots.
const askTimeout = time.Second

// slots reads an upstream's slots.
func slots(ctx context.Context, client *llama.Client) ([]cache.SlotSeen, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, _, err := client.Slots(ctx)
	out := make([]cache.SlotSeen, len(list))
	for i, s := range list {
		out[i] = cache.SlotSeen{ID: s.ID, Task: s.Task, Tokens: s.Prompt}
	}
	return out, err
}
