package energy

import (
	"testing"
	"time"
)

// A ninth upstream shares the eighth's coefficients, and Stats says so.
func TestUpstreamsBeyondTheLimitAreCounted(t *testing.T) {
	l := New(Config{})
	for k := range maxUpstreams + 2 {
		if got, want := l.AddUpstream(Coefficients{}, false), min(k, maxUpstreams-1); got != want {
			t.Errorf("upstream %d has index %d, want %d", k, got, want)
		}
	}
	if n := l.Stats().UpstreamsOver; n != 2 {
		t.Errorf("%d upstreams counted beyond the limit, want 2", n)
	}
}

// More prefills than are remembered pass before the first window gets its energy: Stats counts the lost ones.
func TestDroppedSpansAreCounted(t *testing.T) {
	for _, n := range []int{maxSpans / 2, 2 * maxSpans} {
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
		if got := l.Stats().SpansDropped; (got > 0) != (n > maxSpans) {
			t.Errorf("%d prefills: %d counted as dropped", n, got)
		}
	}
}

// A 1 s average read every 20 ms is held whole; one read every 10 ms is not, and Stats says so.
func TestDroppedAverageCellsAreCounted(t *testing.T) {
	for _, every := range []int64{20 * ms, 10 * ms} {
		l := New(Config{Shape: ShapeAverage, NoCounter: true, Average: time.Second})
		l.AddUpstream(Coefficients{}, false)
		for k := range int64(300) {
			now := 1e9 + k*every
			l.Power(now, 100_000+k) // a value that changes: it was refreshed
			l.Advance(now)
		}
		l.Close(10e9)
		if got := l.Stats().CellsDropped; (got > 0) != (every < 20*ms) {
			t.Errorf("read every %v: %d parts counted as dropped", time.Duration(every), got)
		}
	}
}
