package meter_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy"
)

// rowsByID is the proxy's Observer: it hands a row to whoever waits for it.
type rowsByID struct {
	proxy.Deaf
	mu   sync.Mutex // guards rows
	rows map[string]chan *meter.Record
}

// of returns the channel on which the row of a request will come.
func (r *rowsByID) of(id string) chan *meter.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows[id] == nil {
		r.rows[id] = make(chan *meter.Record, 1)
	}
	return r.rows[id]
}

func (r *rowsByID) Done(_ uint64, _ int64, rec *meter.Record) { r.of(rec.ClientRequestID) <- rec }

// startProxy puts wattline's data path before an upstream.
func startProxy(t *testing.T, upstream string) (addr string, rows *rowsByID) {
	t.Helper()
	up, err := proxy.ParseUpstream("http://" + upstream)
	if err != nil {
		t.Fatal(err)
	}
	rows = &rowsByID{rows: map[string]chan *meter.Record{}}
	srv, err := proxy.New(proxy.Config{Name: "agree", Upstream: up, Observer: rows})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(srv.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), rows
}

// measured is what one request showed on both sides: the row, and the reply as its client read it.
type measured struct {
	row  *meter.Record
	told timesTold
}

// timesTold are the server's own times as they stand in the reply, found with encoding/json.
type timesTold struct {
	prompt, predicted time.Duration
	ok                bool
}

func timesIn(t testing.TB, r *reply) (out timesTold) {
	t.Helper()
	for _, d := range documents(t, r) {
		timings := sub(d, "timings")
		if timings == nil {
			timings = sub(d, "response", "timings")
		}
		p, hasPrompt := timings["prompt_ms"].(float64)
		g, hasPredicted := timings["predicted_ms"].(float64)
		if hasPrompt && hasPredicted {
			out = timesTold{time.Duration(p * 1e6), time.Duration(g * 1e6), true}
		}
	}
	return out
}

// throughProxy sends a request to the proxy, awaits its row and holds every count in it to the reply.
func throughProxy(t *testing.T, addr string, rows *rowsByID, tr *transcript) (m measured, err error) {
	tr.Headers = map[string]string{"X-Request-Id": tr.Name}
	if err := tr.send(addr, 0); err != nil {
		return m, err
	}
	r := tr.reply(t)
	select {
	case m.row = <-rows.of(tr.Name):
	case <-time.After(time.Minute):
		return m, fmt.Errorf("%s: no row", tr.Name)
	}
	m.told = timesIn(t, &r)
	if m.row.Outcome != meter.OK || m.row.Status.V != 200 {
		return m, fmt.Errorf("%s: status %d, outcome %s: %s", tr.Name, m.row.Status.V, m.row.Outcome, m.row.Error)
	}
	facts := meter.Facts{Disagree: len(m.row.Disputed()) > 0}
	checkCounts(t, tr, &r, outcome{m.row, &facts})
	return m, nil
}

// varied is a request of one of eight forms: five dialects, streamed and not, with and without usage and
// running timings; 5 to 200 words of prompt, 2 to 60 tokens.
func varied(rng *rand.Rand, name string, i int) *transcript {
	words := make([]string, 5+rng.IntN(195))
	for w := range words {
		words[w] = string(rune('a'+rng.IntN(26))) + string(rune('a'+rng.IntN(26)))
	}
	prompt, n := strings.Join(words, " "), 2+rng.IntN(59)
	said := fmt.Sprintf(`"messages":[{"role":"user","content":"%s"}],"max_tokens":%d`, prompt, n)
	form := []struct{ path, body string }{
		{chat, said + `,"stream":true`},
		{"/v1/completions", fmt.Sprintf(`"prompt":"%s","max_tokens":%d,"stream":true`, prompt, n)},
		{"/completion", fmt.Sprintf(`"prompt":"%s","n_predict":%d,"stream":true`, prompt, n)},
		{chat, said + `,"stream":true,"stream_options":{"include_usage":true}`},
		{chat, said + `,"stream":true,"timings_per_token":true`},
		{"/v1/responses", fmt.Sprintf(`"input":"%s","max_output_tokens":%d,"stream":true`, prompt, n)},
		{"/v1/messages", said + `,"stream":true`},
		{chat, said},
	}[i%8]
	return &transcript{Name: name, Method: "POST", Path: form.path, Body: "{" + form.body + `,"cache_prompt":false}`}
}

// differences are distributions of differences between the row and the server, by what they compare.
type differences map[string][]time.Duration

const (
	firstDiffers = "T1 - P1 against prompt_ms"
	restDiffers  = "Tn - T1 against predicted_ms"
	headDiffers  = "H against T1 - prompt_ms"
)

// add compares one row. All of it are the row's columns beside the times in the reply; T1 - P0 is
// ttfo_us, as these models do not reason.
func (d differences) add(m measured) {
	if m.row.Stream.V != 1 || !m.told.ok {
		return // unstreamed, or /v1/messages: the reply tells no times to compare with
	}
	row := m.row
	d[firstDiffers] = append(d[firstDiffers], micro(row.UpstreamTTFTUs.V)-m.told.prompt)
	d[restDiffers] = append(d[restDiffers], micro(row.DecodeUs.V)-m.told.predicted)
	d[headDiffers] = append(d[headDiffers], micro(row.TTFBUs.V)-(micro(row.TTFOUs.V)-m.told.prompt))
}

// agreementLimit is what the median of each difference may be.
const agreementLimit = 2 * time.Millisecond

// agreementRound is how many requests' medians are judged together: neighbours on the machine come and go,
// so that one round in quiet is enough, while an error of ours would be in all.
const agreementRound = 20

// TestSoakServerAndProxyAgree compares rows with the server's own clock and counts, on a real llama-server
// behind the proxy: first one request at a time, then eight clients for four slots, where the head of a
// stream is its slot's start. make soak makes 504 comparisons of each; the table says how far the two are apart.
func TestSoakServerAndProxyAgree(t *testing.T) {
	n := 80
	if os.Getenv("WATTLINE_SOAK") != "" {
		n = 672 // six of eight forms tell their times: 504 comparisons
	}
	live := &liveServers{t: t}
	addr, rows := startProxy(t, live.start(&flavour{name: "agree", args: []string{"-np", "4", "-c", "16384", "--threads-http", "32"}}))
	rng := rand.New(rand.NewPCG(4, 2))
	alone := differences{}
	for i := range n {
		m, err := throughProxy(t, addr, rows, varied(rng, fmt.Sprint("alone-", i), i))
		if err != nil {
			t.Fatal(err)
		}
		alone.add(m)
	}
	t.Logf("%d requests through the proxy, one at a time, every count equal: %v", n, !t.Failed())
	alone.report(t, firstDiffers, restDiffers, headDiffers)

	crowd, queued := crowded(t, addr, rows, n)
	t.Logf("%d requests of 8 clients on 4 slots, %d of them queued for more than 20 ms, every count equal: %v", n, queued, !t.Failed())
	crowd.report(t, headDiffers)
	if queued < n/10 {
		t.Errorf("%d of %d requests queued: this proves nothing about queueing", queued, n)
	}
}

// crowded sends n requests from eight clients at once.
func crowded(t *testing.T, addr string, rows *rowsByID, n int) (d differences, queued int) {
	t.Helper()
	const clients = 8
	d = differences{}
	var mu sync.Mutex // guards d, queued and next
	var next int
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 3))
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				m, err := throughProxy(t, addr, rows, varied(rng, fmt.Sprint("crowd-", i), i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				d.add(m)
				if m.row.QueueUs.V > 20_000 {
					queued++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return d, queued
}

// report prints a table and holds the median of the best round of each difference to the limit.
func (d differences) report(t *testing.T, what ...string) {
	t.Helper()
	t.Logf("%-30s %8s %10s %10s %10s %10s %18s", "|difference|", "requests", "median", "p90", "p99", "max", "best round's median")
	for _, w := range what {
		all := d[w]
		for i := range all {
			all[i] = max(all[i], -all[i])
		}
		best := all
		for round := range slices.Chunk(all, agreementRound) {
			if len(round) == agreementRound && quantile(round, 0.5) < quantile(best, 0.5) {
				best = round
			}
		}
		t.Logf("%-30s %8d %10v %10v %10v %10v %18v", w, len(all), quantile(all, 0.5), quantile(all, 0.9), quantile(all, 0.99), quantile(all, 1), quantile(best, 0.5))
		if len(all) < agreementRound || quantile(best, 0.5) > agreementLimit {
			t.Errorf("%s: the best round's median of %d requests is %v, want at most %v", w, len(all), quantile(best, 0.5), agreementLimit)
		}
	}
}

// quantile sorts a copy.
func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))].Round(time.Microsecond)
}
