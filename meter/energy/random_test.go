package energy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// timeline is random traffic and random power, unrelated to each other: a ledger's properties must hold for any
// input.
type timeline struct {
	events  []Event
	power   [][2]int64 // at, mW
	counter [][3]int64 // before, after, uJ
	end     int64
}

const ms = int64(1e6)

// randomTimeline draws traffic of up to n requests in arbitrary order of phases, some of which never get
// a slot, never end, are cancelled or tell their phases late.
func randomTimeline(r *rand.Rand, n int) timeline {
	var t timeline
	start := int64(1e9)
	span := int64(2e9) + r.Int64N(8e9)
	for key := uint64(1); key <= uint64(n); key++ {
		t.events = append(t.events, randomRequest(r, key, start+r.Int64N(span))...)
	}
	for range r.IntN(6) {
		kind := []Kind{Temperature, Contended, Lost}[r.IntN(3)]
		t.events = append(t.events, Event{Kind: kind, At: start + r.Int64N(span), MilliC: 30_000 + r.Int64N(40_000), On: r.IntN(2) == 0})
	}
	slices.SortStableFunc(t.events, func(a, b Event) int { return int(a.At - b.At) })
	t.end = start + span + 2e9
	t.draw(r)
	return t
}

func randomRequest(r *rand.Rand, key uint64, at int64) []Event {
	late := r.IntN(8) == 0
	e := []Event{{Kind: Arrive, Request: key, At: at, Upstream: r.IntN(2), PromptHint: r.Int64N(5000), Late: late}}
	step := func() int64 { at += r.Int64N(300 * ms); return at }
	if r.IntN(10) > 0 {
		e = append(e, Event{Kind: SlotStart, Request: key, At: step(), Slot: r.IntN(6), SlotKnown: r.IntN(2) == 0})
		if r.IntN(4) == 0 {
			e = append(e, Event{Kind: Progress, Request: key, At: step(), Tokens: 10, Total: 900})
		}
		if r.IntN(8) > 0 {
			e = append(e, Event{Kind: FirstToken, Request: key, At: step()})
			for range r.IntN(60) {
				at += r.Int64N(20 * ms)
				e = append(e, Event{Kind: Decode, Request: key, At: at, Tokens: 1 + r.Int64N(2)})
			}
			if r.IntN(3) == 0 {
				e = append(e, Event{Kind: SlotSeen, Request: key, At: at, Slot: r.IntN(6)})
			}
		}
	}
	if r.IntN(12) == 0 {
		return e // never ends
	}
	c := Counts{Known: r.IntN(5) > 0, PromptTokens: r.Int64N(9000), OutputTokens: r.Int64N(60), Cancelled: r.IntN(5) == 0,
		Prefill: 50e6, Decode: 100e6}
	c.CachedTokens = c.PromptTokens / (1 + r.Int64N(5))
	return append(e, Event{Kind: End, Request: key, At: step(), Counts: c}, Event{Kind: SlotIdle, Request: key, At: step()})
}

// draw adds a ring of samples and a counter of any values, the counter once reset.
func (t *timeline) draw(r *rand.Rand) {
	var uj int64
	reset := int64(-1)
	if r.IntN(3) == 0 {
		reset = r.Int64N(t.end)
	}
	for at := int64(0); at < t.end; at += 20 * ms {
		if r.IntN(200) == 0 {
			at += r.Int64N(1500 * ms)
		}
		mw := 100_000 + r.Int64N(500_000)
		t.power = append(t.power, [2]int64{at, mw})
		uj += mw * 20 / 1
		if reset >= 0 && at > reset {
			uj, reset = 0, -1
		}
		if at/(100*ms) != (at-20*ms)/(100*ms) {
			t.counter = append(t.counter, [3]int64{at, at + 3*ms, uj})
		}
	}
}

// feed hands the timeline to a ledger in order of time, the samples in batches, and calls each after
// every fact.
func (t *timeline) feed(l *Ledger, batch int64, each func()) {
	var p, c, e int
	for now := int64(0); now <= t.end; now += 10 * ms {
		for ; e < len(t.events) && t.events[e].At <= now; e++ {
			l.Event(t.events[e])
			each()
		}
		for ; c < len(t.counter) && t.counter[c][1] <= now; c++ {
			l.Counter(t.counter[c][0], t.counter[c][1], t.counter[c][2])
			each()
		}
		if now%batch == 0 {
			for ; p < len(t.power) && t.power[p][0] <= now; p++ {
				l.Power(t.power[p][0], t.power[p][1])
				each()
			}
		}
		l.Advance(now)
		each()
	}
	l.Close(t.end)
	each()
}

func twoUpstreams(cfg Config) *Ledger {
	l := New(cfg)
	l.AddUpstream(Coefficients{}, false)
	l.AddUpstream(oneCache(), true)
	return l
}

// oneCache are coefficients of a server with one cache for all slots.
func oneCache() Coefficients {
	c := defaultCoefficients()
	c.Decode, c.Prefill, c.Unified, c.SharedCache, c.HintTokens = 100, 100, true, true, 1
	return c
}

func shapes() map[string]Config {
	return map[string]Config{
		"ring":       {Shape: ShapeSamples},
		"ring alone": {Shape: ShapeSamples, NoCounter: true},
		"counter":    {Shape: ShapeCounter},
		"average":    {Shape: ShapeAverage, NoCounter: true},
	}
}

// checkBalance fails unless the account is exact and the parts that cannot be negative are not.
func checkBalance(t *testing.T, b Balance) {
	t.Helper()
	if sum := b.RequestsActive + b.RequestsIdle + b.Pools + b.Idle + b.Residual + b.Pending; sum != b.Counter {
		t.Fatalf("account is off by %d uJ: %+v", b.Counter-sum, b)
	}
	for _, v := range []int64{b.RequestsActive, b.RequestsIdle, b.Pools, b.Idle} {
		if v < 0 {
			t.Fatalf("negative part: %+v", b)
		}
	}
}

// checkAll feeds a timeline and checks all properties.
func checkAll(t *testing.T, tl timeline, cfg Config) map[uint64]Result {
	t.Helper()
	l := twoUpstreams(cfg)
	got := map[uint64]Result{}
	var sum int64
	n := 0
	tl.feed(l, 500*ms, func() {
		if n++; n%7 == 0 {
			checkBalance(t, l.Balance())
		}
		for r, ok := l.Next(); ok; r, ok = l.Next() {
			if _, twice := got[r.Request]; twice {
				t.Fatalf("request %d has two results", r.Request)
			}
			got[r.Request] = r
			sum += r.TotalUJ
			if r.ActiveUJ < 0 || r.IdleUJ < 0 || r.PrefillUJ < 0 || r.DecodeUJ < 0 || r.TimeUJ < 0 || r.TokenUJ < 0 || r.SigmaUJ < 0 {
				t.Fatalf("negative share: %+v", r)
			}
			if r.TotalUJ != r.ActiveUJ+r.IdleUJ || r.ActiveUJ != r.PrefillUJ+r.DecodeUJ {
				t.Fatalf("parts do not sum: %+v", r)
			}
		}
	})
	b := l.Balance()
	checkBalance(t, b)
	if b.Pools != 0 || b.Pending != 0 {
		t.Fatalf("not empty at the end: %+v", b)
	}
	if sum != b.Phase || sum != b.RequestsActive+b.RequestsIdle {
		t.Fatalf("results sum to %d, the account says %+v", sum, b)
	}
	arrived := map[uint64]bool{}
	for _, e := range tl.events {
		if e.Kind == Arrive {
			arrived[e.Request] = true
		}
	}
	if len(arrived) != len(got) {
		t.Fatalf("%d requests, %d results", len(arrived), len(got))
	}
	return got
}

func TestConservation(t *testing.T) {
	for name, cfg := range shapes() {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				r := rand.New(rand.NewPCG(seed, 6))
				checkAll(t, randomTimeline(r, 1+r.IntN(40)), cfg)
			}
		})
	}
}

func FuzzConservation(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, uint8(seed*5), uint8(seed))
	}
	f.Add(uint64(9), uint8(239), uint8(135)) // windows with next to no energy: their relative errors overflowed
	f.Fuzz(func(t *testing.T, seed uint64, n, shape uint8) {
		names := []string{"ring", "ring alone", "counter", "average"}
		cfg := shapes()[names[int(shape)%len(names)]]
		r := rand.New(rand.NewPCG(seed, 1))
		checkAll(t, randomTimeline(r, int(n%48)), cfg)
	})
}
