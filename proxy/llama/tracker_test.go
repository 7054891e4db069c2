package llama_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	deployllama "wattline/deploy/llama"
	"wattline/meter"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/proxy/llamatest"
)

// timings are a request's prefill figures from its own reply.
type timings struct {
	key      uint64
	promptMs float64
	promptN  int64
}

// client sends streams to a server and reports them to a SlotTracker, as cmd/wattline does.
type client struct {
	url     string
	tracker *llama.SlotTracker
	now     func() int64

	mu   sync.Mutex
	seen map[uint64]int
	done []timings
}

func (c *client) observe(s llama.SlotObservation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Idle {
		c.seen[s.Request] = s.Slot
	}
}

func newClient(t *testing.T, url string) *client {
	t.Helper()
	begin := time.Now()
	c := &client{url: url, seen: map[uint64]int{}, now: func() int64 { return int64(time.Since(begin)) + 1 }}
	up, err := proxy.ParseUpstream(url)
	if err != nil {
		t.Fatal(err)
	}
	c.tracker = llama.NewSlotTracker(llama.SlotTrackerConfig{Client: llama.NewClient(up), Now: c.now, Observe: c.observe})
	t.Cleanup(c.tracker.Stop)
	return c
}

// stream sends one request and reads it to its end.
func (c *client) stream(t *testing.T, key uint64, words, tokens int) {
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":%q}],"stream":true,"max_tokens":%d,"ignore_eos":true,"cache_prompt":false}`, strings.Repeat(" ba", words), tokens)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	q := c.tracker.RequestSent(key, c.now(), meter.Work{Streams: true, MaxTokens: meter.Some(int64(tokens))}, int64(len(body)))
	req.Close = true // llama-server promises keep-alive behind a stream and closes
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	q.SlotStarted(c.now())
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: {")
		if !ok {
			continue
		}
		var e struct {
			Timings *struct {
				PromptMs float64 `json:"prompt_ms"`
				PromptN  int64   `json:"prompt_n"`
			} `json:"timings"`
		}
		if err := json.Unmarshal([]byte("{"+data), &e); err != nil {
			t.Error(err)
		}
		if e.Timings != nil {
			c.mu.Lock()
			c.done = append(c.done, timings{key, e.Timings.PromptMs, e.Timings.PromptN})
			c.mu.Unlock()
		} else if strings.Contains(data, `"content":"`) {
			q.OutputReceived(1)
		}
	}
	q.Ended(c.now(), false)
}

var printTiming = regexp.MustCompile(`print_timing: id +(\d+) \| task \d+ \| prompt eval time = +([\d.]+) ms / +(\d+) tokens`)

// slotsOf finds in the server's log the slots in which a prompt of that size took that time.
func slotsOf(log string, s timings) (found []int) {
	for _, m := range printTiming.FindAllStringSubmatch(log, -1) {
		slot, _ := strconv.Atoi(m[1])
		ms, _ := strconv.ParseFloat(m[2], 64)
		n, _ := strconv.ParseInt(m[3], 10, 64)
		if n == s.promptN && math.Abs(ms-s.promptMs) < 0.006 {
			found = append(found, slot)
		}
	}
	return found
}

// TestSlotsOfARealServer: requests that overlap, begin together or one after the other, equal or not. The
// server's log says which slot each had. Over all plays none is assigned wrongly, one in eight at least is
// assigned, and the server is polled at most twice a second. How many are assigned depends on the moments
// of the polls, so the share is taken over all plays.
func TestSlotsOfARealServer(t *testing.T) {
	srv := llamatest.Start(t, "-c", "131072", "--threads-http", "16")
	// In percent of what takes long enough, alone, for a poll, of which there are two a second.
	tokens := llamatest.Tokens(t, srv, 200*time.Millisecond, 500)
	right, sent := 0, 0
	for range 3 {
		r, n := assigned(t, srv, tokens)
		right, sent = right+r, sent+n
	}
	if 8*right < sent {
		t.Errorf("of %d requests only %d were assigned", sent, right)
	}
}

// assigned plays a mix of requests and returns how many of them got their slot, out of how many.
func assigned(t *testing.T, srv *deployllama.Server, tokens int) (right, sent int) {
	t.Helper()
	c := newClient(t, srv.URL())
	begin := time.Now()
	key := uint64(0)
	mix := [][3]int{{0, 20, 100}, {0, 200, 140}, {0, 20, 100}, {30, 60, 100}, {80, 90, 120}, {160, 90, 120}, {300, 10, 80}}
	for range 3 {
		var wg sync.WaitGroup
		for _, m := range mix {
			key++
			k := key
			wg.Go(func() {
				<-time.After(time.Duration(m[0]) * time.Millisecond)
				c.stream(t, k, m[1], m[2]*tokens/100)
			})
		}
		wg.Wait()
	}
	elapsed, st := time.Since(begin), c.tracker.Stats()
	if most := int64(2*elapsed.Seconds()) + 2; st.Polls == 0 || st.Polls > most {
		t.Errorf("%d polls in %v", st.Polls, elapsed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := 0
	for _, s := range c.done {
		slot, ok := c.seen[s.key]
		logged := slotsOf(srv.Log(), s)
		if !ok || len(logged) == 0 {
			continue
		}
		if logged[0] == slot || len(logged) > 1 {
			right++
		} else {
			wrong++
			t.Errorf("request %d was assigned slot %d; it had %v", s.key, slot, logged)
		}
	}
	t.Logf("%d requests: %d assigned rightly, %d wrongly; %+v in %v", len(c.done), right, wrong, st, elapsed)
	if len(c.done) != int(key) {
		t.Errorf("%d of %d requests have timings", len(c.done), key)
	}
	return right, int(key)
}

// TestNoPollForSingleRequests: requests one after the other share nothing, so the server is not asked.
func TestNoPollForSingleRequests(t *testing.T) {
	c := newClient(t, llamatest.Start(t).URL())
	for key := range uint64(4) {
		c.stream(t, key+1, 10, 200)
	}
	if st := c.tracker.Stats(); st.Polls != 0 {
		t.Errorf("%+v", st)
	}
}

// TestServerWithoutSlots: a server with --no-slots is asked once a minute at most.
func TestServerWithoutSlots(t *testing.T) {
	srv := llamatest.Start(t, "-c", "131072", "--no-slots")
	tokens := llamatest.Tokens(t, srv, 500*time.Millisecond, 2000) // all three run when the first poll comes
	c := newClient(t, srv.URL())
	begin := time.Now()
	for range 2 {
		var wg sync.WaitGroup
		for key := range uint64(3) {
			wg.Go(func() { c.stream(t, key+1, 10, tokens) })
		}
		wg.Wait()
	}
	most := 1 + int64(time.Since(begin)/time.Minute) // a slow machine may take longer than a minute
	if st := c.tracker.Stats(); st.Polls < 1 || st.Polls > most || st.Failed != st.Polls || len(c.seen) != 0 {
		t.Errorf("%+v, %v", st, c.seen)
	}
}
