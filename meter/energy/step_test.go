package energy

import (
	"math"
	"testing"
	"time"
)

// busy is a device that idles at 100 W and draws 300 W from one moment to another, in ns.
type busy struct{ from, to int64 }

// uj is its energy until then.
func (b busy) uj(at int64) int64 {
	return at/10 + max(0, min(at, b.to)-b.from)/5
}

func at(s float64) int64 { return int64(s * 1e9) }

// idle100 is a ledger that knows the idle draw.
func idle100(shape Shape) *Ledger {
	return New(Config{Shape: shape, Lag: 1, Baseline: Baseline{BaseMW: 100e3, SigmaMW: 100, Windows: 400}})
}

// only ends a ledger and returns the only request's result.
func only(t *testing.T, l *Ledger, end int64) Result {
	t.Helper()
	l.Close(end)
	r, ok := l.Next()
	if _, more := l.Next(); !ok || more {
		t.Fatal("not one result")
	}
	return r
}

// TestPlacedStep: a counter that steps every 100 ms is read once a second, 10 or 90 ms after a step. If it knows when
// the step was, the ledger finds a request's energy; else it errs by 50 ms of work.
func TestPlacedStep(t *testing.T) {
	work := busy{at(10.9), at(12.9)}
	off := func(placed bool) float64 {
		l := idle100(ShapeCounter)
		l.AddUpstream(Coefficients{}, false)
		for k := range 30 {
			step, look := at(float64(k)+0.9), at(float64(k)+0.99)
			if k%4 >= 2 {
				look -= 8e7
			}
			if placed {
				l.Tick(look, look, step-1e6, step+1e6, work.uj(step))
			} else {
				l.Counter(look, look, work.uj(step))
			}
			switch k {
			case 10:
				l.Event(Event{Kind: Arrive, Request: 1, At: work.from})
				l.Event(Event{Kind: SlotStart, Request: 1, At: work.from})
				l.Event(Event{Kind: FirstToken, Request: 1, At: work.from + 1e8})
			case 12:
				l.Event(Event{Kind: End, Request: 1, At: work.to, Counts: Counts{Known: true, PromptTokens: 10, OutputTokens: 10}})
			}
			l.Advance(look)
		}
		r := only(t, l, at(30))
		return math.Abs(float64(r.TotalUJ)/600e6 - 1)
	}
	placed, guessed := off(true), off(false)
	if placed > 0.01 || guessed < 2*placed || guessed < 0.01 {
		t.Errorf("with the step's place off by %.2f %%, without by %.2f %%", 100*placed, 100*guessed)
	}
}

// TestSlotSeenIdle: a client leaves during a prefill that the server continues for two seconds. The guess of its end
// is far too late; seeing the slot idle ends the charge.
func TestSlotSeenIdle(t *testing.T) {
	work := busy{at(10), at(13)}
	charged := func(seen bool) Result {
		l := idle100(ShapeSamples)
		l.AddUpstream(Coefficients{}, false)
		for now := int64(0); now < at(60); now += int64(20 * time.Millisecond) {
			switch now {
			case at(10):
				l.Event(Event{Kind: Arrive, Request: 1, At: now, PromptHint: 1_000_000})
				l.Event(Event{Kind: SlotStart, Request: 1, At: now})
			case at(11):
				l.Event(Event{Kind: End, Request: 1, At: now, Counts: Counts{Cancelled: true}})
			case at(13.06):
				if seen {
					l.Event(Event{Kind: SlotIdle, Request: 1, At: now})
				}
			}
			if now > 0 {
				l.Power(now, (work.uj(now)-work.uj(now-2e7))/20)
			}
			l.Counter(now, now, work.uj(now))
			l.Advance(now)
		}
		if u := l.Stats().UnknownEvents; u != 0 {
			t.Errorf("%d events were not taken", u)
		}
		return only(t, l, at(60))
	}
	r := charged(true)
	if want := 906e6; math.Abs(float64(r.TotalUJ)-want) > 0.03*want {
		t.Errorf("charged %.0f J, the prefill drew 900 J with its idle share", float64(r.TotalUJ)/1e6)
	}
	if r := charged(false); r.TotalUJ < 2000e6 {
		t.Errorf("not seen idle it is charged %.0f J: the test tells nothing", float64(r.TotalUJ)/1e6)
	}
}

// TestSilentDecoder: two requests decode; then a parser withholds the tokens of one. For a while a token of the other
// still counts as half a step, then as a whole one.
func TestSilentDecoder(t *testing.T) {
	l := idle100(ShapeSamples)
	l.AddUpstream(Coefficients{}, false)
	l.Power(at(1), 100_000)
	for key := range uint64(2) {
		l.Event(Event{Kind: Arrive, Request: key + 1, At: at(1)})
		l.Event(Event{Kind: SlotStart, Request: key + 1, At: at(1)})
		l.Event(Event{Kind: FirstToken, Request: key + 1, At: at(1.1)})
	}
	now := at(1.2)
	token := func(key uint64) { l.Event(Event{Kind: Decode, Request: key, At: now, Tokens: 1}) }
	for range 10 {
		token(1)
		token(2)
		now += 10 * ms
	}
	for range 100 {
		token(1)
		now += 10 * ms
	}
	l.Advance(now + slack)
	counter := &l.busyGroups[0].stepCounter
	const half = 2*maxSilentSteps + 1 // tokens after which the silent one is more than maxSilentSteps behind
	if want := 10 + half/2.0 + (100 - half); math.Abs(counter.total-want) > 1.5 || counter.streaming != 1 {
		t.Errorf("%.1f steps, want %.1f; %d stream, want 1", counter.total, want, counter.streaming)
	}
	token(2)
	for key := range uint64(2) {
		l.Event(Event{Kind: End, Request: key + 1, At: now, Counts: Counts{Known: true, PromptTokens: 10, OutputTokens: 100}})
	}
	l.Advance(now + 2*slack)
	if counter.streaming != 0 || counter.oldest != -1 || counter.newest != -1 {
		t.Errorf("after the last end %d stream, list from %d to %d", counter.streaming, counter.oldest, counter.newest)
	}
}
