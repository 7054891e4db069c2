package proxies

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// CompareConfig says where the two ways are and what is sent along them. Both ends are the user's own: a real
// server behind, and clients as they are.
type CompareConfig struct {
	Direct, Proxied string // base URLs
	Concurrency     []int
	Rounds          int           // pairs of one run each way, one after the other, which first by the toss of a coin
	Spend           time.Duration // at most so long at each concurrency, where there are three pairs; 0: no limit
	Requests        int           // of each client in a run
	MaxTokens       int
	Model           string                        // "" sends none
	Hold            func(held bool) error         // keeps the proxy from running while the direct way is measured; may be nil
	CPU             func() (time.Duration, error) // CPU time of the proxy, its sampling included, so far; may be nil
	Progress        func(format string, a ...any) // may be nil
}

// Comparison is the result of Compare.
type Comparison struct {
	Date   time.Time `json:"date"`
	Held   bool      `json:"held"`  // nothing of the proxy ran while the direct way was measured
	Short  *Pair     `json:"short"` // GET /health, one after the other
	Levels []*Pair   `json:"levels"`
}

// Pair is the two ways at one concurrency: every round's numbers, and medians over them.
type Pair struct {
	Concurrency int     `json:"concurrency"`
	Direct      []*Way  `json:"direct"`
	Proxied     []*Way  `json:"proxied"`
	TokensDelta Num     `json:"tokens_per_second_delta_percent"` // proxied against direct, medians
	TTFTDelta   Num     `json:"ttft_p50_delta_us"`
	LatDelta    Num     `json:"request_p50_delta_us"`
	Band        float64 `json:"direct_band_percent"` // how far direct's rounds lie apart: single rounds tell no less than that

	// What the pairs say, proxied against direct: tokens/s in percent, and the first token in microseconds.
	Rate  Interval `json:"tokens_per_second_paired_percent"`
	First Interval `json:"ttft_paired_us"`
	Took  Interval `json:"request_paired_us"`
	// Core is the proxy's CPU time, with all that it samples, in percent of the time of the proxied runs: 100 is one core.
	Core Interval `json:"proxy_cpu_percent_of_a_core"`
}

// Way is one round along one way.
type Way struct {
	Requests        int   `json:"requests"`
	Failures        int   `json:"failures"`
	Tokens          int   `json:"tokens"` // as the server counted them
	TokensPerSecond Num   `json:"tokens_per_second"`
	TTFT            Num   `json:"ttft_p50_us"`
	P50             Num   `json:"request_p50_us"`
	P99             Num   `json:"request_p99_us"`
	WallSeconds     Num   `json:"wall_s"`
	CPUSeconds      Num   `json:"proxy_cpu_s"` // of the proxy; NaN: not known
	Why             error `json:"-"`
}

// Compare measures both ways, in pairs.
func Compare(ctx context.Context, cfg CompareConfig) (*Comparison, error) {
	out := &Comparison{Date: time.Now().UTC(), Held: cfg.Hold != nil}
	short := &Pair{Concurrency: 1}
	out.Short = short
	toss := rand.New(rand.NewPCG(1, uint64(out.Date.UnixNano())))
	ask := func(clients int, p *Pair, one func(context.Context, *http.Client, string) sample) error {
		began := time.Now()
		for round := range cfg.Rounds {
			if round >= 3 && cfg.Spend > 0 && time.Since(began) > cfg.Spend {
				break
			}
			first := toss.IntN(2)
			for i := range 2 {
				base, to := cfg.Direct, &p.Direct
				if i != first {
					base, to = cfg.Proxied, &p.Proxied
				}
				if cfg.Hold != nil {
					if err := cfg.Hold(i == first); err != nil {
						return err
					}
				}
				before := cfg.cpu()
				w := cfg.way(ctx, clients, base, one)
				w.CPUSeconds = cfg.cpu() - before
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if w.Requests == 0 {
					return fmt.Errorf("no request to %s succeeded: %w", base, w.Why)
				}
				*to = append(*to, w)
			}
		}
		p.compare()
		if cfg.Progress != nil {
			cfg.Progress("%d at a time, %d pairs in %.0f s: tokens/s %s %%, first token %s us", clients, len(p.Direct), time.Since(began).Seconds(), p.Rate, p.First)
		}
		return nil
	}
	warm := cfg
	warm.Requests = 1
	for _, base := range []string{cfg.Direct, cfg.Proxied} { // first use of anything is slow
		if w := warm.way(ctx, slices.Max(cfg.Concurrency), base, cfg.stream); w.Requests == 0 {
			return nil, fmt.Errorf("no request to %s succeeded: %w", base, w.Why)
		}
	}
	if err := ask(1, short, health); err != nil {
		return nil, err
	}
	for _, n := range cfg.Concurrency {
		p := &Pair{Concurrency: n}
		out.Levels = append(out.Levels, p)
		if err := ask(n, p, cfg.stream); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sample is one request as its client saw it.
type sample struct {
	took, first time.Duration
	tokens      int
	err         error
}

// cpu is the proxy's CPU time in seconds.
func (cfg *CompareConfig) cpu() Num {
	if cfg.CPU == nil {
		return Num(math.NaN())
	}
	d, err := cfg.CPU()
	if err != nil {
		return Num(math.NaN())
	}
	return Num(d.Seconds())
}

// way sends the requests of one round.
func (cfg *CompareConfig) way(ctx context.Context, clients int, base string, one func(context.Context, *http.Client, string) sample) *Way {
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var mu sync.Mutex // guards all
	var all []sample
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			for range cfg.Requests {
				s := one(ctx, client, base)
				mu.Lock()
				all = append(all, s)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return tallyWay(all, time.Since(began))
}

func tallyWay(all []sample, wall time.Duration) *Way {
	w := &Way{}
	var took, first []int64
	for _, s := range all {
		if s.err != nil {
			w.Failures++
			w.Why = s.err
			continue
		}
		w.Requests++
		w.Tokens += s.tokens
		took = append(took, int64(s.took))
		if s.first > 0 {
			first = append(first, int64(s.first))
		}
	}
	slices.Sort(took)
	slices.Sort(first)
	w.WallSeconds, w.TokensPerSecond = Num(wall.Seconds()), Num(float64(w.Tokens)/wall.Seconds())
	w.TTFT = Num(quantile(first, 0.5) / 1e3)
	w.P50, w.P99 = Num(quantile(took, 0.5)/1e3), Num(quantile(took, 0.99)/1e3)
	return w
}

// health is the shortest request that a llama-server answers.
func health(ctx context.Context, client *http.Client, base string) (s sample) {
	for range 50 { // one sample is the mean of some, since one takes microseconds
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/health", nil)
		if err != nil {
			return sample{err: err}
		}
		resp, err := client.Do(req)
		if err != nil {
			return sample{err: err}
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return sample{err: err}
		}
		s.took += time.Since(began) / 50
	}
	return s
}

// stream asks for a streamed chat completion of MaxTokens.
func (cfg *CompareConfig) stream(ctx context.Context, client *http.Client, base string) (s sample) {
	ask := map[string]any{
		"stream": true, "max_tokens": cfg.MaxTokens, "ignore_eos": true, "stream_options": map[string]any{"include_usage": true},
		"messages": []any{map[string]any{"role": "user", "content": prompt}},
	}
	if cfg.Model != "" {
		ask["model"] = cfg.Model
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return sample{err: err}
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+chatPath, bytes.NewReader(body))
	if err != nil {
		return sample{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true // llama-server closes behind a stream although it promises not to: the next request would fail
	resp, err := client.Do(req)
	if err != nil {
		return sample{err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return sample{err: fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))}
	}
	s.readEvents(resp.Body, began)
	s.took = time.Since(began)
	return s
}

// readEvents reads a stream to its end.
func (s *sample) readEvents(r io.Reader, began time.Time) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), 1<<20)
	whole := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			whole = true
			continue
		}
		var e struct {
			Choices []struct {
				Delta struct {
					Content   string `json:"content"`
					Reasoning string `json:"reasoning_content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage *struct {
				Completion int `json:"completion_tokens"`
			} `json:"usage"`
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			s.err = fmt.Errorf("an event is no JSON: %w", err)
			return
		}
		if s.first == 0 && len(e.Choices) > 0 && e.Choices[0].Delta.Content+e.Choices[0].Delta.Reasoning != "" {
			s.first = time.Since(began)
		}
		if e.Usage != nil {
			s.tokens = e.Usage.Completion
		}
	}
	if err := lines.Err(); err != nil {
		s.err = err
	} else if !whole {
		s.err = errors.New("a stream ended early")
	}
}

// compare takes the medians' differences.
func (p *Pair) compare() {
	of := func(ways []*Way, f func(*Way) Num) float64 {
		var v []float64
		for _, w := range ways {
			v = append(v, float64(f(w)))
		}
		return median(v)
	}
	rate := func(w *Way) Num { return w.TokensPerSecond }
	took := func(w *Way) Num { return w.P50 }
	d := of(p.Direct, rate)
	p.TokensDelta = Num(100 * (of(p.Proxied, rate) - d) / d)
	p.TTFTDelta = Num(of(p.Proxied, func(w *Way) Num { return w.TTFT }) - of(p.Direct, func(w *Way) Num { return w.TTFT }))
	p.LatDelta = Num(of(p.Proxied, took) - of(p.Direct, took))
	var v, rates, firsts, tooks, cores []float64
	for i, w := range p.Direct {
		v = append(v, float64(w.P50))
		q := p.Proxied[i]
		rates = append(rates, 100*(float64(q.TokensPerSecond/w.TokensPerSecond)-1))
		firsts, tooks = append(firsts, float64(q.TTFT-w.TTFT)), append(tooks, float64(q.P50-w.P50))
	}
	for _, w := range p.Proxied {
		cores = append(cores, 100*float64(w.CPUSeconds/w.WallSeconds))
	}
	p.Rate, p.First, p.Took, p.Core = paired(rates), paired(firsts), paired(tooks), paired(cores)
	if lo, hi := spread(v); lo > 0 {
		p.Band = math.Round(1000*(hi-lo)/of(p.Direct, took)) / 10
	}
}

// Markdown writes the comparison for people.
func (c *Comparison) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. Direct / through wattline: medians over runs that alternate at random. Differences: medians of pairs of neighbouring runs, with 95 %% intervals (bootstrap).", c.Date.Format("2006-01-02 15:04 MST"))
	if c.Held {
		b.WriteString(" Nothing of wattline ran while the direct way was measured, and what of its sampling fell due then counts against the way through it.")
	}
	b.WriteString(" CPU: proxy and sampler together.\n\n")
	b.WriteString("| traffic | pairs | tokens/s | difference (%) | | first token p50 (ms) | difference (us) | request p50 (ms) | difference (us) | wattline's CPU (% of a core) | failed |\n|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|\n")
	for i, p := range append([]*Pair{c.Short}, c.Levels...) {
		name := fmt.Sprintf("streams, %d at a time", p.Concurrency)
		rate, delta, verdict := p.both(func(w *Way) Num { return w.TokensPerSecond }, 1, 1), p.Rate.String(), p.Rate.Verdict()
		tt, ttd := p.both(func(w *Way) Num { return w.TTFT }, 1e3, 2), p.First.String()
		if i == 0 {
			name, rate, delta, verdict, tt, ttd = "GET /health", "-", "-", "", "-", "-"
		}
		failed := 0
		for _, w := range append(slices.Clone(p.Direct), p.Proxied...) {
			failed += w.Failures
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", name, len(p.Direct), rate, delta, verdict, tt, ttd,
			p.both(func(w *Way) Num { return w.P50 }, 1e3, 3), p.Took, p.Core.plain(), failed)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// both is direct's median / proxied's.
func (p *Pair) both(of func(*Way) Num, unit float64, digits int) string {
	m := func(ways []*Way) Num {
		var v []float64
		for _, w := range ways {
			v = append(v, float64(of(w))/unit)
		}
		return Num(median(v))
	}
	return figure(m(p.Direct), digits) + " / " + figure(m(p.Proxied), digits)
}
