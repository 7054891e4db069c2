package cache

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/meter/prompt"
)

//nolint:gochecknoglobals // of the tests
var key = prompt.NewKey([]byte("tests"))

// chat is one server's history, with a clock that goes on a second a request.
type chat struct {
	h   History
	now int64
	n   int
}

func newChat() *chat { return &chat{h: History{TextBytes: 1 << 20}} }

// body is a request with a system prompt and some messages of 400 bytes, of users and the agent in turn.
func body(system string, messages ...string) []byte {
	list := []map[string]string{{"role": "system", "content": system + strings.Repeat(" The rules of the house are kept.", 12)}}
	for i, m := range messages {
		list = append(list, map[string]string{"role": []string{"user", "assistant"}[i%2], "content": strings.Repeat(m+" ", 400/(len(m)+1))})
	}
	b, _ := json.Marshal(map[string]any{"messages": list})
	return b
}

// ask judges a request whose prompt has a token for each four units of weight, and remembers it.
func (c *chat) ask(b []byte, reused int64, set ...func(*Request)) (Verdict, *Request) {
	c.n++
	p := prompt.Parse(key, b, nil)
	q := &Request{
		ID: fmt.Sprint(c.n), Server: "up\nmodel", Prompt: p, Started: c.now, Ended: c.now + 9e8,
		PromptTokens: meter.Some(int64(p.Weight() / 4)), CachedTokens: meter.Some(reused), OutputTokens: meter.Some(10),
	}
	c.now += 1e9
	for _, f := range set {
		f(q)
	}
	v := c.h.Judge(q)
	c.h.Add(q)
	return v, q
}

func one(q *Request) { q.Facts.Slots = meter.Some(1) }
func slot(n int64) func(*Request) {
	return func(q *Request) { q.Facts.Slots, q.Slot = meter.Some(4), meter.Some(n) }
}

func want(t *testing.T, name string, v Verdict, verdict, cause string) {
	t.Helper()
	if v.Verdict != verdict || v.Cause != cause {
		t.Errorf("%s: %s %s (%s), want %s %s: %+v", name, v.Verdict, v.Cause, v.Why, verdict, cause, v)
	}
	if v.Verdict != Hit && v.Why == "" {
		t.Errorf("%s: %s without evidence", name, v.Verdict)
	}
	if (v.Verdict == Client || v.Verdict == Server) != (v.Lost.V > 0) || (v.Verdict == Unknown) == v.Expected.Valid {
		t.Errorf("%s: %s with %+v", name, v.Verdict, v)
	}
}

func tokens(b []byte) int64 { return int64(prompt.Parse(key, b, nil).Weight() / 4) }

// TestVerdicts are histories of one session and what each last request must be called.
func TestVerdicts(t *testing.T) {
	first, second := body("a", "q1"), body("a", "q1", "a1", "q2")
	third := body("a", "q1", "a1", "q2", "a2", "q3")
	n := tokens(second)

	c := newChat()
	v, _ := c.ask(first, 3)
	want(t, "the first", v, Cold, "")
	v, _ = c.ask(second, tokens(first))
	want(t, "the second", v, Hit, "")
	if v.Lost != meter.Some(0) || v.Predecessor != "1" {
		t.Errorf("%+v", v)
	}
	v, _ = c.ask(third, n+12) // with the answer
	want(t, "more than the prompt", v, Hit, "")

	c = newChat()
	c.ask(second, 0)
	v, _ = c.ask(body("b", "q1", "a1", "q2", "a2", "q3"), 2)
	want(t, "a changed system prompt", v, Client, prompt.SystemChanged)
	if d := v.Expected.V - n; d < -8 || d > 8 || v.Lost.V != v.Expected.V-2 || v.Part != "system" || v.Offset != meter.Some(0) {
		t.Errorf("expected %d of %d: %+v", v.Expected.V, n, v)
	}

	c = newChat()
	c.ask(second, 0, one)
	v, _ = c.ask(third, 0, one, func(q *Request) { q.CachePrompt = meter.Some(0) })
	want(t, "cache_prompt", v, Server, CachePromptFalse)

	c = newChat()
	c.ask(second, 0, one)
	v, _ = c.ask(third, 0, one, func(q *Request) { q.Generation = 1 })
	want(t, "a restart", v, Server, Restarted)
	v, _ = c.ask(body("a", "q1", "a1", "q2", "a2", "q3", "a3", "q4"), 0, one, func(q *Request) { q.Generation, q.LoadUs = 1, meter.Some(5e6) })
	want(t, "a load", v, Server, Restarted)

	c = newChat()
	c.ask(second, 0, func(q *Request) { q.ConfigID = "a" })
	v, _ = c.ask(third, 0, func(q *Request) { q.ConfigID = "b" })
	want(t, "another configuration", v, Server, Restarted)

	c = newChat()
	c.ask(second, 0, one)
	_, x := c.ask(body("other", "x1"), 0, one)
	v, _ = c.ask(third, 1, one)
	want(t, "the only slot", v, Server, SlotTaken)
	if v.TakenBy != x.ID || v.Lost.V < n-20 {
		t.Errorf("%+v", v)
	}
	for ram, cause := range map[int64]string{0: PromptCacheOff, 8: PromptCacheFull} {
		c = newChat()
		c.ask(second, 0, one)
		c.ask(body("other", "x1"), 0, one)
		v, _ = c.ask(third, 1, one, func(q *Request) { q.Facts.CacheRAM = meter.Some(ram) })
		want(t, "no RAM", v, Server, cause)
	}

	c = newChat()
	c.ask(second, 0, slot(2))
	v, _ = c.ask(third, 1, slot(3))
	want(t, "another slot", v, Server, SlotChosen)

	c = newChat()
	c.ask(second, 0, one, func(q *Request) { q.Facts.ContextTokens = meter.Some(q.PromptTokens.V + 10) })
	v, _ = c.ask(third, 20, one)
	want(t, "a full context", v, Server, ContextShifted)

	c = newChat()
	c.ask(second, 0, one)
	v, _ = c.ask(body("a", "q1", "a1", "other"), 0, one)
	want(t, "no checkpoint", v, Server, NotCutBack)

	c = newChat()
	c.ask(body("other", "x1"), 0, one)
	c.ask(second, 0, one)
	v, _ = c.ask(third, 0, one)
	want(t, "another came before, not between", v, Server, NotCutBack)

	c = newChat()
	c.ask(second, 0)
	v, _ = c.ask(third, 1)
	want(t, "nothing known of slots", v, Server, Undetermined)
	if !v.Ask {
		t.Error("slots are not asked for")
	}
}

// TestUnknown: what cannot be known is said, with its reason.
func TestUnknown(t *testing.T) {
	for reason, b := range map[string][]byte{
		"previous_response_id": []byte(`{"input":"x","previous_response_id":"r"}`),
		"several prompts":      []byte(`{"prompt":["a","b"]}`),
		"no prompt":            []byte(`{"model":"m"}`),
	} {
		v, _ := newChat().ask(b, 0)
		want(t, reason, v, Unknown, "")
		if !strings.Contains(v.Why, reason) {
			t.Errorf("%q does not say %s", v.Why, reason)
		}
	}
	v, _ := newChat().ask(body("a", "q"), 0, func(q *Request) { q.CachedTokens = meter.Int{} })
	want(t, "no counts", v, Unknown, "")
	v, _ = newChat().ask(body("a", "q"), 90)
	want(t, "an unknown prompt", v, Unknown, "")
	v, _ = newChat().ask(body("a", "q"), 0, func(q *Request) { q.Unread = "encoding" })
	want(t, "an unread body", v, Unknown, "")
}

// TestConcurrentRequests: a request that has not ended when another begins is no predecessor.
func TestConcurrentRequests(t *testing.T) {
	c := newChat()
	c.ask(body("a", "q1"), 0, func(q *Request) { q.Ended = 5e9 })
	v, _ := c.ask(body("a", "q1", "a1", "q2"), 0)
	want(t, "two at once", v, Cold, "")
}

// TestOtherSessionsPrefix: the best predecessor may be of another session.
func TestOtherSessionsPrefix(t *testing.T) {
	c := newChat()
	c.ask(body("a", "q1", "a1", "q2"), 0, func(q *Request) { q.Session = "one" })
	v, _ := c.ask(body("a", "something else"), tokens(body("a")), func(q *Request) { q.Session = "two" })
	want(t, "a sub-agent", v, Hit, "")
	v, _ = c.ask(body("a", "and a third"), 0, func(q *Request) { q.Session = "three" })
	want(t, "a sub-agent that found nothing", v, Server, Undetermined)
}

// TestRefine: slots read behind a loss tell what became of the earlier prompt.
func TestRefine(t *testing.T) {
	begin := func() (*chat, Verdict, *Request, *Request) {
		c := newChat()
		_, p := c.ask(body("a", "q1", "a1", "q2"), 0)
		c.ask(body("other", "x1", "x2", "x3", "x4"), 0)
		c.ask(body("others", "y1"), 0)
		v, q := c.ask(body("a", "q1", "a1", "q2", "a2", "q3"), 1)
		return c, v, p, q
	}
	seen := func(id int, task, tokens int64) SlotSeen {
		return SlotSeen{id, meter.Some(task), meter.Some(tokens + 9)}
	}
	c, v, p, q := begin()
	c.h.Refine(&v, q, []SlotSeen{seen(0, 1, p.PromptTokens.V), seen(1, 9, q.PromptTokens.V)})
	want(t, "another slot still has it", v, Server, SlotChosen)
	c, v, _, q = begin()
	c.h.Refine(&v, q, []SlotSeen{seen(0, 1, q.PromptTokens.V)})
	want(t, "fewer tasks than requests", v, Server, Restarted)
	c, v, _, q = begin()
	c.h.Refine(&v, q, []SlotSeen{seen(0, 9, q.PromptTokens.V)})
	want(t, "the only slot", v, Server, SlotTaken)
	c, v, _, q = begin()
	x := tokens(body("others", "y1"))
	c.h.Refine(&v, q, []SlotSeen{seen(0, 8, x), seen(1, 9, q.PromptTokens.V)})
	want(t, "a slot that another has", v, Server, SlotTaken)
	c, v, _, q = begin()
	c.h.Refine(&v, q, nil)
	want(t, "nothing", v, Server, Undetermined)
}

// TestMemory: texts and fingerprints are bounded, and what lost its text is still compared.
func TestMemory(t *testing.T) {
	c := newChat()
	c.h.TextBytes = 20_000
	for i := range 600 {
		c.ask(body(fmt.Sprint("system ", i%70), fmt.Sprint("q", i)), 0, func(q *Request) { q.Server = fmt.Sprint("up\n", i%90) })
	}
	held := int64(0)
	for _, list := range c.h.servers {
		for _, q := range list {
			held += int64(cap(q.Prompt.Text))
		}
	}
	if held != c.h.texts || held > 20_000 || len(c.h.servers) > maxServers {
		t.Errorf("%d bytes of text, %d counted; %d servers", held, c.h.texts, len(c.h.servers))
	}
	c = newChat()
	for i := range maxPerServer + 40 {
		c.ask(body("a", fmt.Sprint("q", i)), 0)
	}
	if n := len(c.h.servers["up\nmodel"]); n != maxPerServer {
		t.Errorf("%d requests are remembered", n)
	}
	c.h.Shrink(0)
	v, _ := c.ask(body("b", "q1", "a1", "q2"), 0)
	if v.Verdict == Client && v.Offset.Valid {
		t.Errorf("an exact place without a text: %+v", v)
	}
}

// TestPrice: lost tokens cost this request's own time and joules, with an error.
func TestPrice(t *testing.T) {
	some := meter.Some
	rec := &meter.Record{
		PromptTokens: some(1000), CachedTokens: some(100), PrefillUs: some(900_000), GPUPrefillUj: some(9_000_000), GPUActiveUj: some(18_000_000), GPUActiveSigmaUj: some(360_000),
		Details: &meter.Details{Slot: some(2)},
	}
	shared := rec.Details
	v := Verdict{Verdict: Client, Cause: prompt.VolatileLine, Part: "system", Why: "x", Expected: some(700), Lost: some(600), Sigma: 30}
	v.Fill(rec)
	Price(rec)
	if rec.CacheLostUs != some(600_000) || rec.CacheLostUj != some(6_000_000) || shared.CacheWhy != "" || rec.Details.Slot != some(2) {
		t.Errorf("%v us, %v uJ", rec.CacheLostUs, rec.CacheLostUj)
	}
	// 30 tokens are 0.3 J, the prefill's part of the error 0.17 J, the place in the prompt up to (1 - 800/1100) / sqrt 12 of 6 J.
	if s := rec.CacheLostSigmaUj.V; s < 1_550_000 || s > 1_630_000 {
		t.Errorf("sigma %d", s)
	}
	hit := Verdict{Verdict: Hit, Expected: some(100), Lost: some(0)}
	hit.Fill(rec)
	Price(rec)
	if rec.CacheLostUj != some(0) || rec.CacheLostSigmaUj != some(0) || rec.CacheLostUs != some(0) || rec.CacheCause != "" {
		t.Errorf("a hit costs %v, %v", rec.CacheLostUj, rec.CacheLostUs)
	}
	rec.GPUPrefillUj = meter.Int{}
	Price(rec)
	if rec.CacheLostUj.Valid || rec.CacheLostSigmaUj.Valid {
		t.Error("joules that were not measured")
	}
}

// TestAdvice: each cause has a sentence.
func TestAdvice(t *testing.T) {
	for _, c := range Causes() {
		if Advice(c) == "" {
			t.Errorf("no advice for %s", c)
		}
	}
	if len(advice) != len(Causes()) {
		t.Error("advice for what is no cause")
	}
}

func TestFactsOf(t *testing.T) {
	for flags, ram := range map[string]meter.Int{"-np 4": {}, "--cache-ram 0 -np 1": meter.Some(0), "-cram 512": meter.Some(512), "--cache-ram=7": meter.Some(7), "--cache-ram": {}} {
		if got := FactsOf(meter.Some(4), meter.Int{}, strings.Fields(flags)).CacheRAM; got != ram {
			t.Errorf("%s: %v", flags, got)
		}
	}
}
