package meter_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
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
// Between those the server passes work from thread to thread, which takes long on a busy machine. The control is
// GET /slots, which goes the same way and does nothing: one is timed beside each request.
func TestServerAgrees(t *testing.T) {
	live := &liveServers{t: t}
	addr := live.start(&flavour{name: "agree", args: []string{"-np", "4", "-c", "32768", "--threads-http", "64"}})
	rng := rand.New(rand.NewPCG(1, 2))
	alone := differences{}
	for i := range *agree {
		control, err := timeSlots(addr)
		if err != nil {
			t.Fatal(err)
		}
		o := askMixed(t, rng, addr, i)
		if o.disputed() {
			t.Errorf("request %d: sources disagree: %+v", i, o.Observations)
		}
		r, f := o.Record, o.Observations
		alone.add(firstDiffers, micro(r.UpstreamTTFTUs.V-f.Timings.PromptUs.V), control)
		alone.add(headDiffers, time.Duration(f.FirstNs.V)-micro(r.TTFBUs.V+f.Timings.PromptUs.V), control)
		alone.add(restDiffers, micro(r.DecodeUs.V-f.Timings.PredictedUs.V), control)
	}
	alone.check(t, firstDiffers, headDiffers, restDiffers)

	const clients = 16
	idleQueue := alone.median(firstDiffers)
	crowd := differences{}
	var mu sync.Mutex // guards crowd and queued
	var queued int
	var slots meter.SlotClock
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 3))
			for i := range max(*agree/clients, 4) {
				tr := mixed(rng, i)
				control, err := timeSlots(addr)
				if err = errors.Join(err, tr.send(addr, 0)); err != nil {
					t.Error(err)
					return
				}
				o := tr.play(t, new(meter.Meter), &slots)
				mu.Lock()
				start := o.Observations.FirstNs.V - 1e3*o.Observations.Timings.PromptUs.V
				crowd.add(headDiffers, time.Duration(1e3*o.Record.TTFBUs.V-start), control)
				if waited(o.Record, idleQueue) {
					queued++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	crowd.check(t, headDiffers)
	if n := len(crowd[headDiffers]); queued < n/10 {
		t.Errorf("%d of %d requests queued four times as long as on an idle server: this proves nothing about queueing", queued, n)
	}
}

// timeSlots is how long the server takes for a question that its loop answers between two batches.
func timeSlots(addr string) (time.Duration, error) {
	tr := &transcript{Name: "slots", Method: "GET", Path: "/slots"}
	if err := tr.send(addr, 0); err != nil {
		return 0, err
	}
	return micro(tr.Reads[0][0]), nil
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
