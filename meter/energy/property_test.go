package energy

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

func (t timeline) requests() map[uint64][]Event {
	by := map[uint64][]Event{}
	for _, e := range t.events {
		if e.Request > 0 {
			by[e.Request] = append(by[e.Request], e)
		}
	}
	return by
}

func (t *timeline) sort() {
	slices.SortStableFunc(t.events, func(a, b Event) int { return int(a.At - b.At) })
}

func TestIdenticalRequests(t *testing.T) {
	for name, cfg := range shapes() {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40) {
				r := rand.New(rand.NewPCG(seed, 9))
				tl := randomTimeline(r, 2+r.IntN(12))
				// On one row of slots two requests cannot have the same neighbours, so slots are unknown here.
				tl.events = slices.DeleteFunc(tl.events, func(e Event) bool { return e.Kind == SlotSeen })
				for i := range tl.events {
					tl.events[i].SlotKnown = false
				}
				const twin = 1000
				for _, e := range tl.requests()[1] {
					e.Request = twin
					tl.events = append(tl.events, e)
				}
				tl.sort()
				got := checkAll(t, tl, cfg)
				a, b := got[1], got[twin]
				// The token rule pays out one after the other and is not symmetric to the microjoule.
				a.Request, a.TokenUJ, b.TokenUJ = b.Request, 0, 0
				if a != b {
					t.Fatalf("seed %d: twins differ:\n%+v\n%+v", seed, a, b)
				}
			}
		})
	}
}

// The two ends of a run of three slots have the same neighbours; the one in the middle saves both reads.
func TestSlotNeighbours(t *testing.T) {
	l := New(Config{Frozen: true, Lag: 1, NoCounter: true, Baseline: Baseline{BaseMW: 100_000, Windows: 100}})
	c := defaultCoefficients()
	c.Decode, c.Prefill = 100, 100
	l.AddUpstream(c, false)
	for slot := range 3 {
		key := uint64(slot + 1)
		l.Event(Event{Kind: Arrive, Request: key, At: 1e9, PromptHint: 4})
		l.Event(Event{Kind: SlotStart, Request: key, At: 1e9 + 1, Slot: slot, SlotKnown: true})
		l.Event(Event{Kind: FirstToken, Request: key, At: 1e9 + 2})
	}
	for at := int64(1e9); at < 3e9; at += 10 * ms {
		l.Power(at, 200_000)
		for key := range uint64(3) {
			l.Event(Event{Kind: Decode, Request: key + 1, At: at, Tokens: 1})
		}
	}
	for key := range uint64(3) {
		l.Event(Event{Kind: End, Request: key + 1, At: 3e9, Counts: Counts{Known: true, PromptTokens: 1, OutputTokens: 200}})
	}
	l.Close(4e9)
	got := map[uint64]Result{}
	for r, ok := l.Next(); ok; r, ok = l.Next() {
		got[r.Request] = r
	}
	if got[1].DecodeUJ != got[3].DecodeUJ || got[1].DecodeUJ == 0 {
		t.Errorf("the ends of a run pay %d and %d uJ, want the same", got[1].DecodeUJ, got[3].DecodeUJ)
	}
	// One read among three: the ends pay half each, the middle nothing but its own tokens.
	ctx := c.ContextUJ * 0.1 // some 100 tokens of context on average
	want := (c.TokenUJ + ctx) / (c.StepUJ/2 + c.TokenUJ + ctx)
	if have := float64(got[2].DecodeUJ) / float64(got[1].DecodeUJ); have < want-0.02 || have > want+0.02 {
		t.Errorf("the middle pays %.3f of an end, want %.3f", have, want)
	}
}

func TestRequestWithoutWork(t *testing.T) {
	for name, cfg := range shapes() {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40) {
				r := rand.New(rand.NewPCG(seed, 10))
				tl := randomTimeline(r, 2+r.IntN(12))
				const idler, refused = 1000, 1001
				at := int64(1e9) + r.Int64N(2e9)
				tl.events = append(tl.events,
					Event{Kind: Arrive, Request: idler, At: at}, Event{Kind: End, Request: idler, At: at + r.Int64N(3e9)},
					Event{Kind: Arrive, Request: refused, At: at, Late: true, PromptHint: 5000},
					Event{Kind: End, Request: refused, At: at + r.Int64N(3e9), Counts: Counts{Refused: true}})
				tl.sort()
				got := checkAll(t, tl, cfg)
				for _, key := range []uint64{idler, refused} {
					if got[key].Request != key || got[key].ActiveUJ != 0 {
						t.Fatalf("seed %d: a request that never had a slot is charged %+v", seed, got[key])
					}
				}
				if g := got[refused]; g.TotalUJ != 0 || g.TimeUJ != 0 || g.Quality == Measured {
					t.Fatalf("seed %d: a refused request is charged %+v", seed, g)
				}
			}
		})
	}
}

// A request with several completions holds several slots at the server: with other requests its result is estimated.
func TestSeveralCompletions(t *testing.T) {
	for _, withOther := range []bool{false, true} {
		l := New(Config{Frozen: true, Lag: 1, NoCounter: true, Baseline: Baseline{BaseMW: 100_000, Windows: 100}})
		c := defaultCoefficients()
		c.Decode, c.Prefill = 100, 100
		l.AddUpstream(c, false)
		for key := uint64(1); key == 1 || withOther && key == 2; key++ {
			l.Event(Event{Kind: Arrive, Request: key, At: 1e9})
			l.Event(Event{Kind: SlotStart, Request: key, At: 1e9})
			l.Event(Event{Kind: FirstToken, Request: key, At: 1010 * ms})
			for at := 1020 * ms; at < 3000*ms; at += 10 * ms {
				l.Event(Event{Kind: Decode, Request: key, At: at, Tokens: 1})
			}
			l.Event(Event{Kind: End, Request: key, At: 3e9, Counts: Counts{Known: true, PromptTokens: 10, OutputTokens: 199, Several: key == 1}})
		}
		for at := 900 * ms; at < 4e9; at += 20 * ms {
			mw := int64(100_000)
			if at > 1e9 && at <= 3e9 {
				mw = 200_000
			}
			l.Power(at, mw)
		}
		l.Close(4e9)
		for r, ok := l.Next(); ok; r, ok = l.Next() {
			want := map[uint64]Quality{1: Measured, 2: Shared}[r.Request]
			if withOther && r.Request == 1 {
				want = Estimated
			}
			if r.Quality != want {
				t.Errorf("with others %v: request %d is %v, want %v", withOther, r.Request, r.Quality, want)
			}
		}
	}
}

// A request with a fully cached prompt shares a pool with another: the other pays for all of the pool.
func TestCachedPrompt(t *testing.T) {
	l := New(Config{NoCounter: true, Lag: 1, Baseline: Baseline{BaseMW: 100_000, Windows: 100}})
	l.AddUpstream(Coefficients{}, false)
	for key := uint64(1); key <= 2; key++ {
		l.Event(Event{Kind: Arrive, Request: key, At: 1e9, PromptHint: 4000})
		l.Event(Event{Kind: SlotStart, Request: key, At: 1e9})
	}
	for at := int64(900 * ms); at < 3e9; at += 20 * ms {
		mw := int64(100_000)
		if at > 1e9 && at <= 1500*ms {
			mw = 400_000
		}
		l.Power(at, mw)
	}
	l.Event(Event{Kind: FirstToken, Request: 1, At: 1500 * ms})
	l.Event(Event{Kind: FirstToken, Request: 2, At: 1500 * ms})
	l.Event(Event{Kind: End, Request: 1, At: 1501 * ms, Counts: Counts{Known: true, PromptTokens: 1000, OutputTokens: 1}})
	l.Event(Event{Kind: End, Request: 2, At: 1501 * ms, Counts: Counts{Known: true, PromptTokens: 1000, CachedTokens: 1000, OutputTokens: 1}})
	l.Close(3e9)
	got := map[uint64]Result{}
	for r, ok := l.Next(); ok; r, ok = l.Next() {
		got[r.Request] = r
	}
	if got[2].PrefillUJ > got[1].PrefillUJ/100 || got[1].PrefillUJ < 140e6 {
		t.Errorf("the cached prompt pays %d uJ, the other %d, want none and 150 J", got[2].PrefillUJ, got[1].PrefillUJ)
	}
}

func TestEventOrderWithinStamp(t *testing.T) {
	for name, cfg := range shapes() {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40) {
				r := rand.New(rand.NewPCG(seed, 11))
				tl := randomTimeline(r, 2+r.IntN(20))
				for i := range tl.events { // many ties
					tl.events[i].At -= tl.events[i].At % (50 * ms)
				}
				want := checkAll(t, tl, cfg)
				for range 3 {
					shuffled := tl
					shuffled.events = shuffleTies(r, tl.events)
					got := checkAll(t, shuffled, cfg)
					for key, w := range want {
						if got[key] != w {
							t.Fatalf("seed %d: request %d differs:\n%+v\n%+v", seed, key, w, got[key])
						}
					}
				}
			}
		})
	}
}

// shuffleTies reorders the events of each stamp, a request's Arrive before and its End after its others:
// an event of a request that is not in flight is ignored.
func shuffleTies(r *rand.Rand, in []Event) []Event {
	out := slices.Clone(in)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	slices.SortStableFunc(out, func(a, b Event) int {
		if a.At != b.At {
			return int(a.At - b.At)
		}
		return life(a) - life(b)
	})
	return out
}

func life(e Event) int {
	switch e.Kind {
	case Arrive:
		return 0
	case End:
		return 2
	case SlotIdle:
		return 3
	}
	return 1
}

// known are coefficients that are taken as learnt.
func known() Coefficients {
	c := defaultCoefficients()
	c.Decode, c.Prefill, c.Rho, c.PeakMW, c.DecodeMW = 100, 100, 0.02, 300_000, 90_000
	c.StepTime, c.PromptSpeed, c.HintTokens = 9e6, 7700, 0.25
	return c
}

// Without learning, what happens at another time changes nothing.
func TestDistantRequest(t *testing.T) {
	cfg := Config{Frozen: true, Lag: 12e6, Baseline: Baseline{BaseMW: 100_000, Windows: 100}}
	run := func(tl timeline) map[uint64]Result {
		l := New(cfg)
		l.AddUpstream(known(), false)
		l.AddUpstream(known(), true)
		got := map[uint64]Result{}
		tl.feed(l, 500*ms, func() {
			for r, ok := l.Next(); ok; r, ok = l.Next() {
				got[r.Request] = r
			}
		})
		return got
	}
	compared := 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 12))
		near := randomTimeline(r, 1+r.IntN(8))
		near.events = slices.DeleteFunc(near.events, func(e Event) bool { return e.Request == 0 })
		const later = int64(60e9)
		near.end += later
		for i := range near.events {
			near.events[i].At += later
		}
		near.power, near.counter = nil, nil
		near.draw(rand.New(rand.NewPCG(seed, 13)))
		far := near
		far.events = append(slices.Clone(near.events), randomRequest(r, 500, 2e9)...)
		if far.events[len(far.events)-1].Kind != SlotIdle {
			continue // it never ends
		}
		far.sort()
		want, got := run(near), run(far)
		for key, w := range want {
			g := got[key]
			g.MeanMW = w.MeanMW // a difference of large sums
			if g != w {
				t.Fatalf("seed %d: request %d differs by what was a minute ago:\n%+v\n%+v", seed, key, w, g)
			}
			compared++
		}
	}
	if compared < 40 {
		t.Fatalf("only %d requests were compared", compared)
	}
}

func TestMemoryBound(t *testing.T) {
	const live = 5000
	l := New(Config{})
	l.AddUpstream(Coefficients{}, true)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	now := int64(1e9)
	for key := range uint64(live) {
		l.Event(Event{Kind: Arrive, Request: key + 1, At: now, PromptHint: 400})
		l.Event(Event{Kind: SlotStart, Request: key + 1, At: now + 1})
		l.Event(Event{Kind: FirstToken, Request: key + 1, At: now + 2})
	}
	var uj int64
	for s := range int64(30) { // each shows 20 tokens a second; the ring comes once a second
		for tick := range int64(20) {
			at := now + s*1e9 + tick*50*ms
			for key := range uint64(live) {
				l.Event(Event{Kind: Decode, Request: key + 1, At: at, Tokens: 1})
			}
			uj += 20e6
			l.Counter(at, at+3*ms, uj)
		}
		for k := range int64(50) {
			l.Power(now+s*1e9+k*20*ms, 400_000)
		}
	}
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("%d live requests hold %d MiB", live, grown>>20)
	}
	if n := l.queue.len(); n > maxQueuedEvents {
		t.Errorf("%d events wait, at most %d may", n, maxQueuedEvents)
	}
	checkBalance(t, l.Balance())
	if l.Balance().Settled < now+26e9 {
		t.Errorf("settled up to %.1f s of 30", float64(l.Balance().Settled-now)/1e9)
	}
	runtime.KeepAlive(l)
}
