package meter_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
)

var agree = flag.Int("agree", 40, "requests that TestServerAgrees sends one after the other")

// TestServerAgrees compares two independent measurements of the same requests on a real llama-server:
// our stamps on the wire and the server's own clock. On an idle server T1 − P1 is the prompt's time and
// Tn − T1 the generation's; with more clients than slots, the head of a stream is its slot's start.
// Between P1 and the prompt's start the server accepts, parses and tokenises: on a busy machine that takes
// as long as any request, so GET /health is timed beside and its median added to the limit of 2 ms.
func TestServerAgrees(t *testing.T) {
	live := &liveServers{t: t}
	addr := live.start(&flavour{name: "agree", args: []string{"-np", "4", "-c", "16384", "--threads-http", "32"}})
	rng := rand.New(rand.NewPCG(1, 2))
	var bare, first, head, rest []time.Duration
	for i := range *agree {
		health := &transcript{Name: "health", Method: "GET", Path: "/health"}
		if err := health.send(addr, 0); err != nil {
			t.Fatal(err)
		}
		bare = append(bare, micro(health.Reads[0][0]))
		o := askMixed(t, rng, addr, i)
		if o.Facts.Disagree {
			t.Errorf("request %d: sources disagree: %+v", i, o.Facts)
		}
		r, f := o.Record, o.Facts
		first = append(first, micro(r.UpstreamTTFTUs.V-f.Timings.PromptUs.V))
		head = append(head, time.Duration(f.FirstNs.V)-micro(r.TTFBUs.V+f.Timings.PromptUs.V))
		rest = append(rest, micro(r.DecodeUs.V-f.Timings.PredictedUs.V))
	}
	load := report(t, "GET /health", bare, time.Minute)
	report(t, "T1 - P1 against prompt_ms, idle server", first, 2*time.Millisecond+load)
	report(t, "T1 - H against prompt_ms, idle server", head, 2*time.Millisecond)
	report(t, "Tn - T1 against predicted_ms, idle server", rest, 2*time.Millisecond)

	const clients = 8
	var mu sync.Mutex // guards heads and queued
	var heads []time.Duration
	var queued int
	var slots meter.SlotClock
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 3))
			for i := range max(*agree/clients, 8) {
				tr := mixed(rng, i)
				if err := tr.send(addr, 0); err != nil {
					t.Error(err)
					return
				}
				o := tr.play(t, new(meter.Meter), &slots)
				mu.Lock()
				start := o.Facts.FirstNs.V - 1e3*o.Facts.Timings.PromptUs.V
				heads = append(heads, time.Duration(1e3*o.Record.TTFBUs.V-start))
				if o.Record.QueueUs.V > 20_000 {
					queued++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	report(t, fmt.Sprintf("H against T1 - prompt_ms, %d clients on 4 slots, %d of %d queued more than 20 ms", clients, queued, len(heads)), heads, 2*time.Millisecond+load)
	if queued == 0 {
		t.Error("no request queued: this proves nothing about queueing")
	}
}

// askMixed sends one request and checks its counts.
func askMixed(t *testing.T, rng *rand.Rand, addr string, i int) outcome {
	t.Helper()
	tr := mixed(rng, i)
	if err := tr.send(addr, 0); err != nil {
		t.Fatal(err)
	}
	r := tr.reply(t)
	o := tr.playBody(new(meter.Meter), nil, &r)
	checkCounts(t, tr, &r, o)
	if o.Record.Stream.V != 1 || !o.Facts.Timings.PromptUs.Valid || !o.Record.DecodeUs.Valid {
		t.Fatalf("%s: %s", tr.Name, o.json(t))
	}
	return o
}

// mixed is a streamed request of one of three dialects, with 5 to 200 words of prompt and 2 to 60 tokens.
func mixed(rng *rand.Rand, i int) *transcript {
	words := make([]string, 5+rng.IntN(195))
	for w := range words {
		words[w] = string(rune('a'+rng.IntN(26))) + string(rune('a'+rng.IntN(26)))
	}
	prompt, n := strings.Join(words, " "), 2+rng.IntN(59)
	tr := &transcript{Name: fmt.Sprintf("mixed %d", i), Method: "POST"}
	switch i % 3 {
	case 0:
		tr.Path, tr.Body = chat, fmt.Sprintf(`{"messages":[{"role":"user","content":"%s"}],"max_tokens":%d,"stream":true,"cache_prompt":false}`, prompt, n)
	case 1:
		tr.Path, tr.Body = "/v1/completions", fmt.Sprintf(`{"prompt":"%s","max_tokens":%d,"stream":true,"cache_prompt":false}`, prompt, n)
	default:
		tr.Path, tr.Body = "/completion", fmt.Sprintf(`{"prompt":"%s","n_predict":%d,"stream":true,"cache_prompt":false}`, prompt, n)
	}
	return tr
}

func micro(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

// report prints the distribution of differences, holds their median, without sign, to a limit and
// returns it.
func report(t *testing.T, what string, d []time.Duration, limit time.Duration) (median time.Duration) {
	t.Helper()
	for i := range d {
		d[i] = max(d[i], -d[i])
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))] }
	t.Logf("%s: %d requests, median %v, p90 %v, p99 %v, max %v", what, len(d), at(0.5), at(0.9), at(0.99), d[len(d)-1])
	if at(0.5) > limit {
		t.Errorf("%s: median %v, want at most %v", what, at(0.5), limit)
	}
	return at(0.5)
}
