package meter_test

import (
	"errors"
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
// Between those the server passes work from thread to thread, which on a busy machine takes as long as any
// request: GET /slots, which goes the same way and does nothing, is timed beside, and its median added to
// the limit of 2 ms. Neighbours come and go: of some rounds one has to hold, while an error of ours is in all.
func TestServerAgrees(t *testing.T) {
	live := &liveServers{t: t}
	addr := live.start(&flavour{name: "agree", args: []string{"-np", "4", "-c", "32768", "--threads-http", "64"}})
	rng := rand.New(rand.NewPCG(1, 2))
	var load, idleQueue time.Duration
	rounds(t, 10, func() error {
		var bare, first, head, rest []time.Duration
		for i := range *agree {
			bare = append(bare, askSlots(t, addr))
			o := askMixed(t, rng, addr, i)
			if o.disputed() {
				t.Errorf("request %d: sources disagree: %+v", i, o.Observations)
			}
			r, f := o.Record, o.Observations
			first = append(first, micro(r.UpstreamTTFTUs.V-f.Timings.PromptUs.V))
			head = append(head, time.Duration(f.FirstNs.V)-micro(r.TTFBUs.V+f.Timings.PromptUs.V))
			rest = append(rest, micro(r.DecodeUs.V-f.Timings.PredictedUs.V))
		}
		load, _ = report(t, "GET /slots", bare, time.Hour)
		var err [3]error
		idleQueue, err[0] = report(t, "T1 - P1 against prompt_ms, idle server", first, agreementLimit+3*load) // it parses and tokenises, too
		_, err[1] = report(t, "T1 - H against prompt_ms, idle server", head, agreementLimit+load)
		_, err[2] = report(t, "Tn - T1 against predicted_ms, idle server", rest, agreementLimit+load)
		return errors.Join(err[:]...)
	})

	const clients = 16
	rounds(t, 10, func() error {
		var mu sync.Mutex // guards heads and queued
		var heads []time.Duration
		var queued int
		var slots meter.SlotClock
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(c), 3))
				for i := range max(*agree/clients, 4) {
					tr := mixed(rng, i)
					if err := tr.send(addr, 0); err != nil {
						t.Error(err)
						return
					}
					o := tr.play(t, new(meter.Meter), &slots)
					mu.Lock()
					start := o.Observations.FirstNs.V - 1e3*o.Observations.Timings.PromptUs.V
					heads = append(heads, time.Duration(1e3*o.Record.TTFBUs.V-start))
					if waited(o.Record, idleQueue) {
						queued++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		what := fmt.Sprintf("H against T1 - prompt_ms, %d clients on 4 slots, %d of %d queued four times as long as on an idle server", clients, queued, len(heads))
		if _, err := report(t, what, heads, agreementLimit+load); err != nil {
			return err
		}
		if queued == 0 {
			return errors.New("no request queued: this proves nothing about queueing")
		}
		return nil
	})
}

// rounds plays what a busy machine may spoil until one round holds, n times at most.
func rounds(t *testing.T, n int, play func() error) {
	t.Helper()
	for round := range n {
		err := play()
		if err == nil {
			return
		}
		if round == n-1 {
			t.Error(err)
			return
		}
		t.Logf("round %d of %d: %v", round+1, n, err)
	}
}

// askSlots is how long the server takes for a question that its loop answers between two batches.
func askSlots(t *testing.T, addr string) time.Duration {
	t.Helper()
	tr := &transcript{Name: "slots", Method: "GET", Path: "/slots"}
	if err := tr.send(addr, 0); err != nil {
		t.Fatal(err)
	}
	return micro(tr.Reads[0][0])
}

// waited tells a request that waited for a slot from one that only met an idle server's own delay.
func waited(r *meter.Record, idle time.Duration) bool {
	return r.QueueUs.Valid && micro(r.QueueUs.V) > 4*idle
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
	if o.Record.Stream.V != 1 || !o.Observations.Timings.PromptUs.Valid || !o.Record.DecodeUs.Valid {
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

// report prints the distribution of differences, returns their median, without sign, and holds it to a limit.
func report(t *testing.T, what string, d []time.Duration, limit time.Duration) (median time.Duration, err error) {
	t.Helper()
	for i := range d {
		d[i] = max(d[i], -d[i])
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))] }
	t.Logf("%s: %d requests, median %v, p90 %v, p99 %v, max %v", what, len(d), at(0.5), at(0.9), at(0.99), d[len(d)-1])
	if at(0.5) > limit {
		err = fmt.Errorf("%s: median %v, want at most %v", what, at(0.5), limit)
	}
	return at(0.5), err
}
