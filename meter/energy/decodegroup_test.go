package energy

import (
	"math"
	"testing"
	"time"
)

// TestTwoServersDuringPrefill: two servers decode on one card while one of them prefills a short prompt. How well each
// server's decoding is known decides who pays for what the model does not explain, so it does not matter which
// server was registered first.
func TestTwoServersDuringPrefill(t *testing.T) {
	exact, vague := known(), known()
	exact.Rho, vague.Rho = 0.02, 0.5
	play := func(upstreams [2]Coefficients, exactAt int) map[uint64]Result {
		l := New(Config{NoCounter: true, Frozen: true, Lag: time.Nanosecond, Baseline: Baseline{BaseMW: 100_000, Windows: 100}})
		for _, c := range upstreams {
			l.AddUpstream(c, false)
		}
		l.Power(at(1), 100_000)
		events := map[int64][]Event{}
		add := func(when float64, e Event) {
			e.At = at(1) + int64((when-1)*50)*20*ms
			events[e.At] = append(events[e.At], e)
		}
		request := func(key uint64, upstream int, start, first, end float64) {
			add(start, Event{Kind: Arrive, Request: key, Upstream: upstream, PromptHint: 1600})
			add(start, Event{Kind: SlotStart, Request: key})
			add(first, Event{Kind: FirstToken, Request: key})
			add(end, Event{Kind: End, Request: key, Counts: Counts{Known: true, PromptTokens: 400, OutputTokens: 100}})
		}
		request(1, exactAt, 2, 2.1, 4.1)
		request(2, 1-exactAt, 2, 2.1, 4.1)
		request(3, exactAt, 3, 3.06, 3.1)
		for now := at(1) + 20*ms; now < at(6); now += 20 * ms {
			for _, e := range events[now] {
				l.Event(e)
			}
			mw := int64(100_000)
			if now > at(2) && now <= at(4.1) {
				mw = 350_000
				l.Event(Event{Kind: Decode, Request: 1, At: now, Tokens: 1})
				l.Event(Event{Kind: Decode, Request: 2, At: now, Tokens: 1})
			}
			l.Power(now, mw)
			l.Advance(now)
		}
		l.Close(at(6))
		got := map[uint64]Result{}
		for r, ok := l.Next(); ok; r, ok = l.Next() {
			got[r.Request] = r
		}
		return got
	}
	first, last := play([2]Coefficients{exact, vague}, 0), play([2]Coefficients{vague, exact}, 1)
	if len(first) != 3 || first[3].PrefillUJ == 0 {
		t.Fatalf("results %+v", first)
	}
	for key := range first {
		if a, b := first[key].ActiveUJ, last[key].ActiveUJ; math.Abs(float64(a-b)) > 1000 {
			t.Errorf("request %d is charged %d uJ, and %d if its server is registered in the other order", key, a, b)
		}
	}
}
