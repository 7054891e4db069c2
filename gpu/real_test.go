//go:build realgpu && cgo && linux

package gpu_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/NVIDIA/go-nvml/pkg/nvml"

	"wattline/gpu"
	"wattline/gpu/nvml"
	"wattline/gpu/sim"
	"wattline/meter"
)

// upstreamEnv names the llama-server that runs on the card, e.g. http://127.0.0.1:8080.
const upstreamEnv = "WATTLINE_TEST_UPSTREAM"

// TestRealCard verifies the sampler on an NVIDIA card with a llama-server on it, as SAMPLING.md says.
func TestRealCard(t *testing.T) {
	upstream := os.Getenv(upstreamEnv)
	if upstream == "" {
		t.Fatalf("set %s to the llama-server that runs on the card", upstreamEnv)
	}
	clock := gpu.NewClock()
	src, err := nvml.New(clock)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	list, err := src.List()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, url: upstream, clock: clock, length: 3000}
	b := &bench{clock: clock, target: gpu.Target{Source: src, Info: list[0]}, counter: s.counter, mixed: s.mixed, streams: s.streams}
	s.warmUp()
	t.Run("energy", func(t *testing.T) {
		if busy := verifyEnergy(t, b, time.Minute); busy > 0.5 {
			t.Errorf("sampling took %.3f %% of one core under load, more than 0.5 %%", busy)
		}
	})
	t.Run("cost", func(t *testing.T) { shown(t, verifyCost(t, b, 4, 2*time.Second, 60)) })
}

// TestRealServer is the part of TestRealCard that needs no card: a llama-server that computes on processors, beside the
// simulated card. It rehearses the comparison; the sampler's small cost there proves nothing.
func TestRealServer(t *testing.T) {
	upstream := os.Getenv(upstreamEnv)
	if upstream == "" {
		t.Fatalf("set %s to a llama-server", upstreamEnv)
	}
	clock := gpu.NewClock()
	src := sim.New(sim.Config{Clock: clock})
	list, err := src.List()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, url: upstream, clock: clock, length: 200} // a small model's speed follows the context closely
	b := &bench{clock: clock, target: gpu.Target{Source: src, Info: list[0]}, streams: s.streams}
	shown(t, verifyCost(t, b, 4, time.Second, 30))
}

// shown wants it shown that sampling costs less than half a percent of the tokens.
func shown(t *testing.T, lost span) {
	t.Helper()
	if lost.hi > 0.5 {
		t.Errorf("it is not shown that sampling costs less than 0.5 %% of the tokens: %v %%", lost)
	}
}

// server is the llama-server under load.
type server struct {
	t      *testing.T
	url    string
	clock  gpu.Clock
	length int // of a stream, tokens
	id     atomic.Uint64
	card   driver.Device
}

// counter reads the card through the driver's library, not through the code under test.
func (s *server) counter() (before, after, uj int64, err error) {
	if s.card == nil {
		if ret := driver.Init(); ret != driver.SUCCESS {
			return 0, 0, 0, ret
		}
		var ret driver.Return
		if s.card, ret = driver.DeviceGetHandleByIndex(0); ret != driver.SUCCESS {
			return 0, 0, 0, ret
		}
	}
	before = s.clock.Now()
	mj, ret := s.card.GetTotalEnergyConsumption()
	after = s.clock.Now()
	if ret != driver.SUCCESS {
		return 0, 0, 0, ret
	}
	return before, after, int64(mj) * 1000, nil
}

// complete has the server process words and generate tokens. It counts as prefill from its start to its
// end less the time that the server says it generated.
func (s *server) complete(ctx context.Context, tell gpu.Activity, words, tokens int) int64 {
	id := s.id.Add(1)
	prompt := strings.Repeat(fmt.Sprintf("w%d and some more ", id), words/4)
	body, err := json.Marshal(map[string]any{"prompt": prompt, "n_predict": tokens, "ignore_eos": true, "cache_prompt": false})
	if err != nil {
		s.t.Error(err)
		return 0
	}
	if tell != nil {
		tell.Observe(gpu.Event{At: s.clock.Now(), Request: id, Phase: meter.PhasePrefill, Slot: -1, Tokens: words})
		defer func() { tell.Observe(gpu.Event{At: s.clock.Now(), Request: id, Phase: meter.PhaseDone, Slot: -1}) }()
	}
	// A request that was begun is finished: what the card does must be told to the end.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, s.url+"/completion", bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var reply struct {
		Predicted int64 `json:"tokens_predicted"`
	}
	if err == nil {
		err = json.Unmarshal(text, &reply)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Errorf("%s: %v: %.200s", resp.Status, err, text)
	}
	return reply.Predicted
}

// together has n requests run at once.
func (s *server) together(ctx context.Context, tell gpu.Activity, n, words, tokens int) int64 {
	var wg sync.WaitGroup
	var sum atomic.Int64
	for range n {
		wg.Go(func() { sum.Add(s.complete(ctx, tell, words, tokens)) })
	}
	wg.Wait()
	return sum.Load()
}

func (s *server) mixed(ctx context.Context, tell gpu.Activity) (tokens int64) {
	for ctx.Err() == nil {
		tokens += s.complete(ctx, tell, 1000, 16)
		tokens += s.complete(ctx, tell, 1000, 256)
		tokens += s.together(ctx, tell, 2, 1000, 128)
		tokens += s.complete(ctx, tell, 10_000, 64)
		tokens += s.together(ctx, tell, 4, 500, 128)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return tokens
}

// streams has n streams run side by side, each asked for again when it has reached the end of its context.
func (s *server) streams(ctx context.Context, tell gpu.Activity, n int, token func(stream int, at int64)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil && s.stream(ctx, tell, func(at int64) { token(i, at) }) {
				token(i, 0)
			}
		})
	}
	wg.Wait()
}

// stream reports one stream's tokens until it or ctx ends, and returns false if it could not be had.
func (s *server) stream(ctx context.Context, tell gpu.Activity, token func(at int64)) bool {
	id := s.id.Add(1)
	body, err := json.Marshal(map[string]any{"prompt": fmt.Sprintf("w%d and some more", id), "n_predict": s.length, "ignore_eos": true, "cache_prompt": false, "stream": true})
	if err != nil {
		s.t.Error(err)
		return false
	}
	tell.Observe(gpu.Event{At: s.clock.Now(), Request: id, Phase: meter.PhaseDecode, Slot: -1})
	defer func() { tell.Observe(gpu.Event{At: s.clock.Now(), Request: id, Phase: meter.PhaseDone, Slot: -1}) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/completion", bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true // llama-server closes behind a stream although it promises not to
	resp, err := http.DefaultClient.Do(req)
	if ctx.Err() != nil {
		return false
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Errorf("a stream: %v", err)
		return false
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte("data: ")) {
			token(s.clock.Now())
		}
	}
	return true
}

// warmUp has the driver compile its kernels for every batch width and context length that is used. Each takes seconds.
func (s *server) warmUp() {
	for _, n := range []int{1, 2, 4, 1} {
		s.together(s.t.Context(), nil, n, 1000, 64)
	}
	s.complete(s.t.Context(), nil, 10_000, 16)
	s.together(s.t.Context(), nil, 4, 8, s.length)
	// Streams that end and begin at different moments make batches of every width.
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	short := server{t: s.t, url: s.url, clock: s.clock, length: 50}
	short.streams(ctx, discard{}, 4, func(int, int64) {})
}

// discard is a gpu.Activity that drops all events.
type discard struct{}

func (discard) Observe(gpu.Event) {}
