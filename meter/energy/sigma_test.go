package energy

import (
	"math"
	"testing"
)

// lone is a request that decodes alone for two seconds at 300 W on a device that idles at 100 W, then a
// tenth of a second of 200 W more.
func lone(t *testing.T) Result {
	t.Helper()
	l := idle100(ShapeSamples)
	l.AddUpstream(Coefficients{}, false)
	work := busy{at(10), at(12.04)}
	for now := int64(20 * ms); now < at(30); now += 20 * ms {
		switch now {
		case at(10):
			l.Event(Event{Kind: Arrive, Request: 1, At: now})
			l.Event(Event{Kind: SlotStart, Request: 1, At: now})
			l.Event(Event{Kind: FirstToken, Request: 1, At: now + 1})
		case at(12):
			l.Event(Event{Kind: End, Request: 1, At: now, Counts: Counts{Known: true, PromptTokens: 10, OutputTokens: 10}})
		}
		l.Power(now, (work.uj(now)-work.uj(now-20*ms))/20)
		l.Counter(now, now, work.uj(now))
		l.Advance(now)
	}
	return only(t, l, at(30))
}

// Alone, the standard error of the active part is 0.4 % of it and the idle draw's 0.3 % over two seconds.
func TestActiveSigma(t *testing.T) {
	r := lone(t)
	want := math.Hypot(0.004*float64(r.ActiveUJ), 0.003*float64(r.IdleUJ))
	if got := float64(r.ActiveSigmaUJ); math.Abs(got/want-1) > 0.05 {
		t.Errorf("the active part's sigma is %.3f J, want %.3f", got/1e6, want/1e6)
	}
}

// The energy drawn just after the last token, 40 ms at 200 W, is charged to the request.
func TestTail(t *testing.T) {
	if r := lone(t); math.Abs(float64(r.ActiveUJ)-408e6) > 2e6 {
		t.Errorf("%.1f J active, want 408 with the tail", float64(r.ActiveUJ)/1e6)
	}
}
