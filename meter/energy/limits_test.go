package energy

import (
	"testing"
	"time"
)

// TestUpstreamsOverLimit: requests of a ninth and tenth upstream get results from the eighth's coefficients, and
// Stats counts the two, however many requests they send.
func TestUpstreamsOverLimit(t *testing.T) {
	const upstreams, rounds = MaxUpstreams + 2, 3
	l := New(Config{})
	for k := range upstreams {
		if got, want := l.AddUpstream(Coefficients{}, false), min(k, MaxUpstreams-1); got != want {
			t.Errorf("upstream %d has index %d, want %d", k, got, want)
		}
	}
	for k := range int64(upstreams * rounds) {
		at := 1e9 + k*20*ms
		l.Power(at, 100_000)
		l.Event(Event{Kind: Arrive, Request: uint64(k + 1), At: at, Upstream: int(k % upstreams)})
		l.Event(Event{Kind: End, Request: uint64(k + 1), At: at + 10*ms})
	}
	if n := l.Stats().UpstreamsOverLimit; n != 2 {
		t.Errorf("%d upstreams counted beyond the limit, want 2", n)
	}
	l.Close(3e9)
	if n := len(l.results); n != upstreams*rounds || l.Stats().UnknownEvents != 0 {
		t.Errorf("%d results of %d requests, %+v", n, upstreams*rounds, l.Stats())
	}
}

// If more prefills pass than are remembered before the first window gets its energy, Stats counts the lost ones.
func TestForgottenPrefills(t *testing.T) {
	for _, n := range []int{maxPrefillSpans / 2, 2 * maxPrefillSpans} {
		l := New(Config{})
		l.AddUpstream(Coefficients{}, false)
		l.Power(1e9, 100_000)
		for k := range n {
			at := 2e9 + int64(k)*20*ms
			key := uint64(k + 1)
			l.Event(Event{Kind: Arrive, Request: key, At: at, PromptHint: 400})
			l.Event(Event{Kind: SlotStart, Request: key, At: at})
			l.Event(Event{Kind: FirstToken, Request: key, At: at + 5*ms})
			l.Event(Event{Kind: End, Request: key, At: at + 10*ms})
			l.Advance(at + 15*ms)
		}
		if got := l.Stats().ForgottenPrefills; (got > 0) != (n > maxPrefillSpans) {
			t.Errorf("%d prefills: %d counted as dropped", n, got)
		}
	}
}

// A 1 s average read every 20 ms is held whole; one read every 10 ms is not, and Stats says so.
func TestEarlyAverageCells(t *testing.T) {
	for _, every := range []int64{20 * ms, 10 * ms} {
		l := New(Config{Shape: ShapeAverage, NoCounter: true, Average: time.Second})
		l.AddUpstream(Coefficients{}, false)
		for k := range int64(300) {
			now := 1e9 + k*every
			l.Power(now, 100_000+k) // a value that changes: it was refreshed
			l.Advance(now)
		}
		l.Close(10e9)
		if got := l.Stats().EarlyAverageCells; (got > 0) != (every < 20*ms) {
			t.Errorf("read every %v: %d parts counted as dropped", time.Duration(every), got)
		}
	}
}
