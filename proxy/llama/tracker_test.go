package llama_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/proxy/llamatest"
)

// request is one that has ended. Its times are the client's; promptMs and promptN are from its reply.
type request struct {
	key                  uint64
	maxTokens            int64
	sent, started, ended int64 // just before and just after the tracker was told, and before it was told
	promptMs             float64
	promptN              int64
}

// client sends streams to a server and reports them to a SlotTracker, as cmd/wattline does.
type client struct {
	url     string
	tracker *llama.SlotTracker
	now     func() int64

	mu       sync.Mutex // guards what follows
	seen     map[uint64]int
	requests []request
}

func (c *client) observe(s llama.SlotObservation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Idle {
		c.seen[s.Request] = s.Slot
	}
}

// newClient makes a client of the server at url; its slots are read through a recorder.
func newClient(t *testing.T, url string) (*client, *slotsRecorder) {
	t.Helper()
	begin := time.Now()
	c := &client{url: url, seen: map[uint64]int{}, now: func() int64 { return int64(time.Since(begin)) + 1 }}
	recorder := startSlotsRecorder(t, url, c.now)
	up, err := proxy.ParseUpstream(recorder.url)
	if err != nil {
		t.Fatal(err)
	}
	c.tracker = llama.NewSlotTracker(llama.SlotTrackerConfig{Client: llama.NewClient(up), Now: recorder.clock, Observe: c.observe})
	t.Cleanup(c.tracker.Stop)
	return c, recorder
}

// stream sends one request and reads it to its end.
func (c *client) stream(t *testing.T, key uint64, words, tokens int) {
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":%q}],"stream":true,"max_tokens":%d,"ignore_eos":true,"cache_prompt":false}`, strings.Repeat(" ba", words), tokens)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	r := request{key: key, maxTokens: int64(tokens), sent: c.now()}
	q := c.tracker.RequestSent(key, c.now(), meter.Work{Streams: true, MaxTokens: meter.Some(int64(tokens))}, int64(len(body)), nil)
	req.Close = true // llama-server promises keep-alive behind a stream and closes
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	q.SlotStarted(c.now())
	r.started = c.now()
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
			r.promptMs, r.promptN = e.Timings.PromptMs, e.Timings.PromptN
		} else if strings.Contains(data, `"content":"`) {
			q.OutputReceived(c.now(), 1)
		}
	}
	r.ended = c.now()
	q.Ended(r.ended, false)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
}

var printTiming = regexp.MustCompile(`print_timing: id +(\d+) \| task \d+ \| prompt eval time = +([\d.]+) ms / +(\d+) tokens`)

// slotsOf finds in the server's log the slots in which a prompt of that size took that time.
func slotsOf(log string, s request) (found []int) {
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

// TestSlotTracker: requests that overlap, begin together or one after the other, equal or not. The
// server's log says which slot each had. Over all rounds none is assigned wrongly, the server is polled at most
// twice a second, and a request is assigned whenever a poll showed it alone with its max_tokens. At most one in
// ten of those may be missed: a request that began earlier may have ended between the poll and its reply.
func TestSlotTracker(t *testing.T) {
	srv := llamatest.Start(t, "-c", "131072", "--threads-http", "16")
	tokens := llamatest.Tokens(t, srv, 200*time.Millisecond, 500)
	c, polls := newClient(t, srv.URL())
	begin := time.Now()
	key := uint64(0)
	// Milliseconds until it is sent, words of its prompt, and tokens in percent of those above.
	mix := [][3]int{{0, 20, 100}, {0, 200, 140}, {0, 20, 100}, {30, 60, 100}, {80, 90, 120}, {160, 90, 120}, {300, 10, 80}}
	const rounds = 6
	for range rounds {
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
	if most := int64(2*elapsed.Seconds()) + 2; st.Polls < rounds || st.Polls > most {
		t.Errorf("%d polls in %v", st.Polls, elapsed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	right := 0
	for _, r := range c.requests {
		slot, ok := c.seen[r.key]
		if !ok {
			continue
		}
		switch logged := slotsOf(srv.Log(), r); {
		case slices.Contains(logged, slot):
			right++
		case len(logged) > 0: // else the log's beginning is gone
			t.Errorf("request %d was assigned slot %d; it had %v", r.key, slot, logged)
		}
	}
	shown, missed := c.shownAlone(polls.list())
	t.Logf("%d requests: %d assigned, %d shown alone by a poll, %d of those missed; %+v in %v", key, right, len(shown), len(missed), st, elapsed)
	if len(c.requests) != int(key) || len(shown) < rounds/2 {
		t.Errorf("%d of %d requests ended, %d were shown alone by a poll", len(c.requests), key, len(shown))
	}
	if len(missed) > max(1, len(shown)/10) { // one may be missed, also of fewer than ten
		t.Errorf("%d of %d requests that a poll showed alone have no slot: %v", len(missed), len(shown), missed)
	}
}

// shownAlone returns the requests that a poll showed alone with their max_tokens, and those of them without a
// slot. The caller holds mu.
func (c *client) shownAlone(polls []pollReply) (shown, missed []uint64) {
	for _, r := range c.requests {
		alone := slices.ContainsFunc(polls, func(p pollReply) bool {
			same := func(o request) bool { return o.maxTokens == r.maxTokens && o.sent < p.answered && o.ended > p.asked }
			busy := func(s llama.Slot) bool { return s.Busy && s.MaxTokens == meter.Some(r.maxTokens) }
			return r.started < p.asked && same(r) && countFunc(c.requests, same) == 1 && countFunc(p.slots, busy) == 1
		})
		if !alone {
			continue
		}
		shown = append(shown, r.key)
		if _, ok := c.seen[r.key]; !ok {
			missed = append(missed, r.key)
		}
	}
	return shown, missed
}

func countFunc[T any](list []T, match func(T) bool) (n int) {
	for _, v := range list {
		if match(v) {
			n++
		}
	}
	return n
}

// slotsRecorder passes /slots on to a server and keeps the replies.
type slotsRecorder struct {
	url string
	now func() int64

	mu      sync.Mutex // guards what follows
	replies []pollReply
}

// pollReply is the reply to one poll, and when the tracker asked and the server had answered.
type pollReply struct {
	asked, answered int64
	slots           []llama.Slot
}

func startSlotsRecorder(t *testing.T, upstream string, now func() int64) *slotsRecorder {
	t.Helper()
	r := &slotsRecorder{now: now}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked := r.now()
		resp, err := http.Get(upstream + q.URL.Path)
		if err != nil {
			return // the poll was cancelled, or the server stopped
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if slots, err := llama.ParseSlots(body); err == nil {
			r.mu.Lock()
			r.replies = append(r.replies, pollReply{asked, r.now(), slots})
			r.mu.Unlock()
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// clock is the tracker's.
func (r *slotsRecorder) clock() int64 {
	return r.now()
}

func (r *slotsRecorder) list() []pollReply {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.replies)
}

// TestNoPollForSingleRequests: requests one after the other share nothing, so the server is not asked.
func TestNoPollForSingleRequests(t *testing.T) {
	c, _ := newClient(t, llamatest.Start(t).URL())
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
	c, _ := newClient(t, srv.URL())
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
