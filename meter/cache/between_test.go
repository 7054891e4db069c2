package cache

import (
	"strings"
	"testing"

	"wattline/meter"
	"wattline/meter/prompt"
)

// TestUnknownBetween: a request of which it is not known what was computed may have taken the slot, so nothing is asserted.
func TestUnknownBetween(t *testing.T) {
	second, third := body("a", "q1", "a1", "q2"), body("a", "q1", "a1", "q2", "a2", "q3")
	unknown := func(c *chat, set ...func(*Request)) {
		x := &Request{ID: "cancelled", Server: "up\n", Started: c.now, Ended: c.now + 9e8}
		for _, f := range set {
			f(x)
		}
		c.h.Add(x)
		c.now += 1e9
	}
	for name, set := range map[string]func(*Request){"the only slot": one, "a named slot": slot(2)} {
		c := newChat()
		c.ask(second, 0, set)
		unknown(c)
		v, _ := c.ask(third, 0, set)
		want(t, name, v, Server, Undetermined)
		if !strings.Contains(v.Why, "request cancelled came between") {
			t.Errorf("%s: %s", name, v.Why)
		}
		c = newChat()
		c.ask(second, 0, set)
		unknown(c)
		c.ask(body("other", "x1"), 0, set)
		v, _ = c.ask(third, 0, set)
		want(t, name+", and a known one", v, Server, SlotTaken)
	}
	c := newChat()
	c.ask(second, 0, slot(2))
	unknown(c, slot(1))
	v, _ := c.ask(third, 0, slot(2))
	want(t, "on another slot", v, Server, NotCutBack)
	c = newChat()
	_, p := c.ask(second, 0)
	unknown(c)
	v, q := c.ask(third, 1)
	c.h.Refine(&v, q, []SlotSeen{{0, meter.Some(2), meter.Some(0)}, {1, meter.Some(9), meter.Some(q.PromptTokens.V + 9)}})
	want(t, "slots", v, Server, Undetermined)
	if v.Predecessor != p.ID || !strings.Contains(v.Why, "request cancelled came between") {
		t.Errorf("%+v", v)
	}
}

// TestNoLimit: --cache-ram -1 has no limit that a prompt could have met.
func TestNoLimit(t *testing.T) {
	c := newChat()
	c.ask(body("a", "q1", "a1", "q2"), 0, one)
	c.ask(body("other", "x1"), 0, one)
	v, _ := c.ask(body("a", "q1", "a1", "q2", "a2", "q3"), 1, one, func(q *Request) { q.Facts.CacheRAM = meter.Some(-1) })
	want(t, "no limit", v, Server, SlotTaken)
}

// TestTasks: requests of an earlier run, or of another model, are no tasks of this server's life; slots may tell none.
func TestTasks(t *testing.T) {
	c := newChat()
	for range 9 {
		c.ask(body("earlier", "x"), 0, func(q *Request) { q.Earlier = true })
		c.ask(body("other", "y"), 0, func(q *Request) { q.Server = "up\nother" })
	}
	c.ask(body("a", "q1", "a1", "q2"), 0)
	v, q := c.ask(body("a", "q1", "a1", "q2", "a2", "q3"), 1)
	for _, task := range []meter.Int{{}, meter.Some(1)} {
		got := v
		c.h.Refine(&got, q, []SlotSeen{{0, task, meter.Int{}}, {1, task, meter.Int{}}})
		if got.Cause == Restarted {
			t.Errorf("task %v: %s", task, got.Why)
		}
	}
}

// TestEarlierIsNotAsked: slots cannot tell what became of a prompt of an earlier run.
func TestEarlierIsNotAsked(t *testing.T) {
	c := newChat()
	c.ask(body("a", "q1", "a1", "q2"), 0, func(q *Request) { q.Earlier = true })
	v, _ := c.ask(body("a", "q1", "a1", "q2", "a2", "q3"), 1)
	want(t, "an earlier run", v, Server, Undetermined)
	if v.Ask {
		t.Error("slots are asked for")
	}
}

// TestSeveralAreNoAnchor: the counts of several completions do not tell the tokens of one prompt.
func TestSeveralAreNoAnchor(t *testing.T) {
	c := newChat()
	b := body("a", "q1", "a1", "q2")
	n := tokens(b)
	c.ask(append(append([]byte{}, b[:len(b)-1]...), `,"n":4}`...), 0, func(q *Request) { q.PromptTokens = meter.Some(4 * n) })
	v, _ := c.ask(body("a", "q1", "a1", "q2", "a2", "q3"), n)
	want(t, "after several", v, Hit, "")
	if d := v.Expected.V - n; d < -8 || d > 8 {
		t.Errorf("expected %d of %d", v.Expected.V, n)
	}
}

// TestManyPartsAreUnknown: the reason why a prompt was given up is told.
func TestManyPartsAreUnknown(t *testing.T) {
	v, _ := newChat().ask(body("a", "q"), 0, func(q *Request) {
		q.Prompt = &prompt.Prompt{Fingerprint: prompt.Fingerprint{Broken: true}, Unread: "too many"}
	})
	want(t, "given up", v, Unknown, "")
	if !strings.Contains(v.Why, "too many") {
		t.Error(v.Why)
	}
}
