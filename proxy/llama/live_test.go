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

// served is what a request's own reply told of it.
type served struct {
	key      uint64
	promptMs float64
	promptN  int64
}

// client sends streams to a server and tells a Reader of them, as the proxy does.
type client struct {
	url    string
	reader *llama.Reader
	now    func() int64

	mu   sync.Mutex
	seen map[uint64]int
	done []served
}

func (c *client) sighted(s llama.Sighting) {
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
	c.reader = llama.New(llama.Config{Upstream: up, Now: c.now, Seen: c.sighted})
	t.Cleanup(c.reader.Stop)
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
	q := c.reader.Sent(key, c.now(), meter.Work{Streams: true, MaxTokens: meter.Some(int64(tokens))}, int64(len(body)))
	req.Close = true // llama-server promises keep-alive behind a stream and closes
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	q.Started(c.now())
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
			c.done = append(c.done, served{key, e.Timings.PromptMs, e.Timings.PromptN})
			c.mu.Unlock()
		} else if strings.Contains(data, `"content":"`) {
			q.Produced(1)
		}
	}
	q.Ended(c.now(), false)
}

var timing = regexp.MustCompile(`print_timing: id +(\d+) \| task \d+ \| prompt eval time = +([\d.]+) ms / +(\d+) tokens`)

// slotOf finds, in the server's log, the slots in which a prompt of that size took that time.
func slotOf(log string, s served) (found []int) {
	for _, m := range timing.FindAllStringSubmatch(log, -1) {
		slot, _ := strconv.Atoi(m[1])
		ms, _ := strconv.ParseFloat(m[2], 64)
		n, _ := strconv.ParseInt(m[3], 10, 64)
		if n == s.promptN && math.Abs(ms-s.promptMs) < 0.006 {
			found = append(found, slot)
		}
	}
	return found
}

// TestSlotsOfARealServer: requests that overlap, begin at once or one after the other, alike or not. The
// server's own log says where each was. None is placed wrongly, a quarter at least are placed, and the server is
// asked at most twice a second. How many are placed depends on when it is looked: of some plays one has to hold.
func TestSlotsOfARealServer(t *testing.T) {
	srv := llamatest.Start(t, "-c", "131072", "--threads-http", "16")
	// Percent of what lasts long enough, alone, for a look at the slots, of which there are two a second.
	tokens := llamatest.Tokens(t, srv, 200*time.Millisecond, 500)
	for play := 1; ; play++ {
		right, sent := placed(t, srv, tokens)
		if t.Failed() || 4*right >= sent {
			return
		}
		if play == 10 {
			t.Fatalf("of %d requests %d were placed", sent, right)
		}
	}
}

// placed plays a mix of requests and returns how many of them were placed rightly.
func placed(t *testing.T, srv *deployllama.Server, tokens int) (right, sent int) {
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
	elapsed, st := time.Since(begin), c.reader.Stats()
	if most := int64(2*elapsed.Seconds()) + 2; st.Looks == 0 || st.Looks > most {
		t.Errorf("%d looks in %v", st.Looks, elapsed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := 0
	for _, s := range c.done {
		slot, ok := c.seen[s.key]
		truth := slotOf(srv.Log(), s)
		if !ok || len(truth) == 0 {
			continue
		}
		if truth[0] == slot || len(truth) > 1 {
			right++
		} else {
			wrong++
			t.Errorf("request %d is said to be in slot %d; it was in %v", s.key, slot, truth)
		}
	}
	t.Logf("%d requests: %d placed rightly, %d wrongly; %+v in %v", len(c.done), right, wrong, st, elapsed)
	if len(c.done) != int(key) {
		t.Errorf("%d of %d requests told their times", len(c.done), key)
	}
	return right, int(key)
}

// TestAloneNobodyIsAsked: one request after the other needs no slot, and costs no look.
func TestAloneNobodyIsAsked(t *testing.T) {
	c := newClient(t, llamatest.Start(t).URL())
	for key := range uint64(4) {
		c.stream(t, key+1, 10, 200)
	}
	if st := c.reader.Stats(); st.Looks != 0 {
		t.Errorf("%+v", st)
	}
}

// TestAServerThatHidesItsSlots is asked once and then left alone for a while.
func TestAServerThatHidesItsSlots(t *testing.T) {
	srv := llamatest.Start(t, "-c", "131072", "--no-slots")
	tokens := llamatest.Tokens(t, srv, 500*time.Millisecond, 2000) // three at once are there when it is looked for them
	c := newClient(t, srv.URL())
	begin := time.Now()
	for range 2 {
		var wg sync.WaitGroup
		for key := range uint64(3) {
			wg.Go(func() { c.stream(t, key+1, 10, tokens) })
		}
		wg.Wait()
	}
	most := 1 + int64(time.Since(begin)/time.Minute) // the while is a minute, which a slow machine outlasts
	if st := c.reader.Stats(); st.Looks < 1 || st.Looks > most || st.Failed != st.Looks || len(c.seen) != 0 {
		t.Errorf("%+v, %v", st, c.seen)
	}
}
