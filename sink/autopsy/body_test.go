package autopsy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/meter/prompt"
	"wattline/sink"
)

func requestBody() []byte {
	return []byte(`{"model":"m","messages":[{"role":"system","content":"` + strings.Repeat("be brief \\u00e9\\n", 60) + `"},{"role":"user","content":[{"type":"text","text":"q \"1\""},{"type":"image_url","image_url":{"url":"data:x"}}]}],"tools":[{"name":"f"}]}`)
}

// TestSplitBodies: however a body's pieces come, its fingerprint is the same, also if its end is late.
func TestSplitBodies(t *testing.T) {
	a := New(Config{Secret: []byte("s"), Memory: 1 << 20})
	b := requestBody()
	want := fmt.Sprint(prompt.Parse(a.key, b, nil).Fingerprint)
	for at := range len(b) + 1 {
		c := &body{a: a}
		for _, p := range [][]byte{b[:at], b[at:]} {
			if _, err := c.Write(p); err != nil {
				t.Fatal(err)
			}
			if at%50 == 0 {
				c.parse()
			}
		}
		if p, _ := c.take(); fmt.Sprint(p.Fingerprint) != want {
			t.Fatalf("split at %d: another fingerprint", at)
		}
	}
	if a.inFlight.Load() != 0 {
		t.Errorf("%d bytes are still counted", a.inFlight.Load())
	}
}

// TestBodyMemory: bodies in flight and remembered texts have one bound. What does not fit is said to be unknown.
func TestBodyMemory(t *testing.T) {
	a := New(Config{Secret: []byte("s"), Memory: 100_000, Offer: func(*sink.Prompt) bool { return true }})
	r := a.Route(nil, nil)
	rec := func(id string) *meter.Record {
		return &meter.Record{ID: id, Status: meter.Some(200), Outcome: meter.OK, PromptTokens: meter.Some(100), CachedTokens: meter.Some(0)}
	}
	send := func(seq uint64, n int) *meter.Record {
		w := r.Bodies()(seq, int64(n))
		for rest := n; rest > 0; rest -= 1000 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), min(rest, 1000))); err != nil {
				t.Fatal(err)
			}
		}
		out := rec(fmt.Sprint(seq))
		r.Done(seq, int64(seq), out)
		return out
	}
	if got := send(1, 60_000); got.CacheVerdict != "unknown" || !strings.Contains(got.Details.CacheWhy, "--autopsy-memory") {
		t.Errorf("a body that does not fit: %s %v", got.CacheVerdict, got.Details)
	}
	for seq := uint64(2); seq < 60; seq++ {
		w := r.Bodies()(seq, 0)
		_, _ = w.Write(requestBody())
		r.Done(seq, int64(seq), rec(fmt.Sprint(seq)))
		if a.inFlight.Load() != 0 || a.history.Texts() > 100_000 {
			t.Fatalf("%d in flight, %d remembered", a.inFlight.Load(), a.history.Texts())
		}
	}
	if a.history.Texts() < 30_000 {
		t.Errorf("%d bytes of text are remembered of 100,000", a.history.Texts())
	}
	if len(r.bodies) != 0 {
		t.Errorf("%d bodies are left", len(r.bodies))
	}
}

// TestWriteDuringVerdict: a body is copied while a verdict is under way.
func TestWriteDuringVerdict(t *testing.T) {
	a := New(Config{Secret: []byte("s"), Memory: 1 << 20})
	r := a.Route(nil, nil)
	w := r.Bodies()(1, 0)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := w.Write(requestBody()); err != nil { // hangs where it waits for the verdict
		t.Fatal(err)
	}
	if a.inFlight.Load() == 0 {
		t.Error("no memory is counted")
	}
}

// TestEarlierRun: prompts of an earlier run are known again; what became of them meanwhile is not.
func TestEarlierRun(t *testing.T) {
	a := New(Config{Secret: []byte("s"), Memory: 1 << 20})
	p := prompt.Parse(a.key, requestBody(), nil)
	old := &meter.Record{ID: "old", Upstream: "up", Model: "m", PromptTokens: meter.Some(300), CachedTokens: meter.Some(0)}
	a.Remember(old, p.Append(nil))
	a.Remember(old, []byte("damaged"))
	r := a.Route(nil, nil)
	for seq, want := range map[uint64]string{1: "hit", 2: "server"} {
		_, _ = r.Bodies()(seq, 0).Write(requestBody())
		rec := &meter.Record{ID: fmt.Sprint(seq), Upstream: "up", Model: "m", Status: meter.Some(200), Outcome: meter.OK, PromptTokens: meter.Some(300), CachedTokens: meter.Some(299 * int64(2-seq))}
		r.Done(seq, 0, rec)
		if rec.CacheVerdict != want || want == "server" && !strings.Contains(rec.Details.CacheWhy, "not running") && rec.Details.CachePredecessor == "old" {
			t.Errorf("%d: %s %s %s", seq, rec.CacheVerdict, rec.CacheCause, rec.Details.CacheWhy)
		}
	}
}

// TestEarlierCancelled: what the server had computed of a prompt of an earlier run whose client left is not known.
func TestEarlierCancelled(t *testing.T) {
	a := New(Config{Secret: []byte("s"), Memory: 1 << 20})
	a.Remember(&meter.Record{ID: "old", Upstream: "up", Model: "m", Outcome: meter.Cancelled}, prompt.Parse(a.key, requestBody(), nil).Append(nil))
	r := a.Route(nil, nil)
	_, _ = r.Bodies()(1, 0).Write(requestBody())
	rec := &meter.Record{ID: "new", Upstream: "up", Model: "m", Status: meter.Some(200), Outcome: meter.OK, PromptTokens: meter.Some(300), CachedTokens: meter.Some(0)}
	r.Done(1, 0, rec)
	if rec.CacheVerdict != "cold" {
		t.Errorf("%s %s %s", rec.CacheVerdict, rec.CacheCause, rec.Details.CacheWhy)
	}
}

// TestNoAutopsy: nothing is judged without one.
func TestNoAutopsy(t *testing.T) {
	var a *Autopsy
	r := a.Route(nil, nil)
	if r.Bodies() != nil {
		t.Error("bodies are copied for nobody")
	}
	rec := &meter.Record{}
	r.Done(1, 1, rec)
	a.Stop(t.Context())
	if rec.CacheVerdict != "" {
		t.Error("judged")
	}
}

// TestStoreWithoutKey: who has a store and the text of a prompt, but not the key, cannot confirm that the prompt was sent: no
// hash in the stored fingerprint is that of the text under another key, and texts of one length cannot be told apart.
func TestStoreWithoutKey(t *testing.T) {
	text := requestBody()
	stored := prompt.Parse(prompt.NewKey([]byte("the installation's own secret")), text, nil).Append(nil)
	there := map[string]bool{}
	for i := range len(stored) - 7 {
		there[string(stored[i:i+8])] = true
	}
	for _, guess := range []string{"", "wattline", "prompt fingerprints", strings.Repeat("\x00", 32), "the installation's own secreu"} {
		q := prompt.Parse(prompt.NewKey([]byte(guess)), text, nil)
		other := q.Append(nil)
		for _, p := range q.Parts {
			for _, h := range append(p.Blocks, p.Sum) {
				var b [8]byte
				for i := range b {
					b[i] = byte(h >> (8 * i))
				}
				if there[string(b[:])] {
					t.Fatalf("key %q confirms the text", guess)
				}
			}
		}
		if len(other) != len(stored) {
			t.Error("the form says more than lengths")
		}
	}
	for _, word := range []string{"brief", "image_url", "data:x", "messages"} {
		if bytes.Contains(stored, []byte(word)) {
			t.Errorf("%q is in the store", word)
		}
	}
}
