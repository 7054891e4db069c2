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

// rowsByID is the proxy's Observer: it hands a row to the goroutine that waits for it.
type rowsByID struct {
	proxy.NopObserver
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

// measured is one request as seen from both sides: the row, and the reply as its client read it.
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
	case <-time.After(5 * time.Minute):
		return m, fmt.Errorf("%s: no row", tr.Name)
	}
	m.told = timesIn(t, &r)
	if m.row.Outcome != meter.OK || m.row.Status.V != 200 {
		return m, fmt.Errorf("%s: status %d, outcome %s: %s", tr.Name, m.row.Status.V, m.row.Outcome, m.row.Error)
	}
	checkCounts(t, tr, &r, outcome{m.row, new(meter.Observations)})
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

// differences are distributions of differences between two clocks, by what they compare.
type differences map[string][]difference

// difference is one, without sign, with what the server took for GET /slots beside it.
type difference struct{ by, control time.Duration }

const (
	firstDiffers = "T1 - P1 against prompt_ms"
	restDiffers  = "Tn - T1 against predicted_ms"
	headDiffers  = "H against T1 - prompt_ms"
)

func (d differences) add(what string, by, control time.Duration) {
	d[what] = append(d[what], difference{max(by, -by), control})
}

// addRow compares one row's columns with the times in the reply; T1 - P0 is ttfo_us, as these models do not reason.
func (d differences) addRow(m measured, control time.Duration) {
	if m.row.Stream.V != 1 || !m.told.ok {
		return // unstreamed, or /v1/messages: the reply tells no times to compare with
	}
	row := m.row
	d.add(firstDiffers, micro(row.UpstreamTTFTUs.V)-m.told.prompt, control)
	d.add(restDiffers, micro(row.DecodeUs.V)-m.told.predicted, control)
	d.add(headDiffers, micro(row.TTFBUs.V)-(micro(row.TTFOUs.V)-m.told.prompt), control)
}

func (d differences) median(what string) time.Duration {
	by, _ := d.quantiles(what, 0.5)
	return by
}

// quantiles returns a quantile of the differences and the same one of their controls.
func (d differences) quantiles(what string, q float64) (by, control time.Duration) {
	var bys, controls []time.Duration
	for _, x := range d[what] {
		bys, controls = append(bys, x.by), append(controls, x.control)
	}
	return quantile(bys, q), quantile(controls, q)
}

// check prints a table and holds quantiles over all differences to a limit above the same quantile of the controls.
// Thrice the control is allowed where the server parses and tokenises, too.
func (d differences) check(t *testing.T, what ...string) {
	t.Helper()
	for _, w := range what {
		if len(d[w]) == 0 {
			t.Errorf("%s: nothing to compare", w)
			continue
		}
		for _, limit := range []struct {
			q     float64
			above time.Duration
		}{{0.5, 2 * time.Millisecond}, {0.9, 6 * time.Millisecond}} {
			by, control := d.quantiles(w, limit.q)
			if w == firstDiffers {
				control *= 3
			}
			t.Logf("%-30s %4d requests, quantile %.1f: %10v, allowed %10v", w, len(d[w]), limit.q, by, limit.above+control)
			if by > limit.above+control {
				t.Errorf("%s: quantile %.1f of %d requests is %v, want at most %v", w, limit.q, len(d[w]), by, limit.above+control)
			}
		}
	}
}

// TestSoakServerAndProxyAgree compares rows with the server's own clock and counts, on a real llama-server
// behind the proxy: first one request at a time, then 16 clients for four slots, where the head of a
// stream is its slot's start. make soak makes 504 comparisons of each; the table says how far the two are apart.
func TestSoakServerAndProxyAgree(t *testing.T) {
	n := 80
	if os.Getenv("WATTLINE_SOAK") != "" {
		n = 672 // six of eight forms tell their times: 504 comparisons
	}
	live := &liveServers{t: t}
	upstream := live.start(&flavour{name: "agree", args: []string{"-np", "4", "-c", "32768", "--threads-http", "64"}})
	addr, rows := startProxy(t, upstream)
	rng := rand.New(rand.NewPCG(4, 2))
	alone := differences{}
	for i := range n {
		control, err := timeSlots(upstream)
		if err != nil {
			t.Fatal(err)
		}
		m, err := throughProxy(t, addr, rows, varied(rng, fmt.Sprintf("alone-%d", i), i))
		if err != nil {
			t.Fatal(err)
		}
		alone.addRow(m, control)
	}
	t.Logf("%d requests through the proxy, one at a time, every count equal: %v", n, !t.Failed())
	alone.check(t, firstDiffers, restDiffers, headDiffers)

	crowd, queued := crowded(t, addr, upstream, rows, n, alone.median(firstDiffers))
	t.Logf("%d requests of %d clients on 4 slots, %d of them queued four times as long as on an idle server, every count equal: %v", n, crowdClients, queued, !t.Failed())
	crowd.check(t, headDiffers)
	if queued < n/10 {
		t.Errorf("%d of %d requests queued: this proves nothing about queueing", queued, n)
	}
}

const crowdClients = 16

// crowded sends n requests from many clients at once.
func crowded(t *testing.T, addr, upstream string, rows *rowsByID, n int, idleQueue time.Duration) (d differences, queued int) {
	t.Helper()
	d = differences{}
	var mu sync.Mutex // guards d, queued and next
	var next int
	var wg sync.WaitGroup
	for c := range crowdClients {
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
				control, err := timeSlots(upstream)
				if err != nil {
					t.Error(err)
					return
				}
				m, err := throughProxy(t, addr, rows, varied(rng, fmt.Sprintf("crowd-%d", i), i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				d.addRow(m, control)
				if waited(m.row, idleQueue) {
					queued++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return d, queued
}

// quantile sorts a copy.
func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))].Round(time.Microsecond)
}
