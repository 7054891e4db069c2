package energy

import "testing"

// steady is a ledger in the midst of traffic: n requests decode, a ring is read once a second and the
// counter every 100 ms.
type steady struct {
	l    *Ledger
	n    int
	now  int64
	uj   int64
	next uint64
}

func newSteady(n int) *steady {
	s := &steady{l: New(Config{}), n: n, now: 10e9, next: uint64(n)}
	s.l.AddUpstream(Coefficients{}, true)
	for key := range uint64(n) {
		s.begin(key + 1)
	}
	for range 400 { // longer than settle_max: everything has its greatest size
		s.tenth()
	}
	return s
}

func (s *steady) begin(key uint64) {
	s.l.Event(Event{Kind: Arrive, Request: key, At: s.now, PromptHint: 4000})
	s.l.Event(Event{Kind: SlotStart, Request: key, At: s.now + 1, Slot: int(key) % s.n, SlotKnown: true})
	s.l.Event(Event{Kind: FirstToken, Request: key, At: s.now + 2})
}

// tenth is a tenth of a second: ten tokens of every request, one request ends and one begins.
func (s *steady) tenth() (events int) {
	old := s.next + 1 - uint64(s.n)
	for range 10 {
		s.now += 10 * ms
		for key := old; key < old+uint64(s.n); key++ {
			s.l.Event(Event{Kind: Decode, Request: key, At: s.now, Tokens: 1})
			events++
		}
	}
	s.l.Event(Event{Kind: End, Request: old, At: s.now, Counts: Counts{Known: true, PromptTokens: 1000, OutputTokens: 10 * int64(s.n)}})
	s.next++
	s.begin(s.next)
	s.uj += 40e6
	s.l.Counter(s.now, s.now+3*ms, s.uj)
	if s.now%1e9 == 0 {
		for at := s.now - 1e9 + 20*ms; at <= s.now; at += 20 * ms {
			s.l.Power(at, 400_000)
		}
	}
	for _, ok := s.l.Next(); ok; _, ok = s.l.Next() {
	}
	return events + 4
}

func TestNoAllocationPerEvent(t *testing.T) {
	for _, n := range []int{1, 32, 512} {
		s := newSteady(n)
		if a := testing.AllocsPerRun(100, func() { s.tenth() }); a > 0 {
			t.Errorf("%d live: %.2f allocations per tenth of a second", n, a)
		}
	}
}

func benchmarkEvents(b *testing.B, n int) {
	s := newSteady(n)
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		events += s.tenth()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

// The cost of an event, its share of samples, windows and results included, does not grow with how many
// requests are live.
func BenchmarkEvents1(b *testing.B)    { benchmarkEvents(b, 1) }
func BenchmarkEvents32(b *testing.B)   { benchmarkEvents(b, 32) }
func BenchmarkEvents512(b *testing.B)  { benchmarkEvents(b, 512) }
func BenchmarkEvents4096(b *testing.B) { benchmarkEvents(b, 4096) }

// BenchmarkSample is the cost of a power sample of an idle device, its share of the counter's ticks and
// of the windows included.
func BenchmarkSample(b *testing.B) {
	for name, cfg := range shapes() {
		b.Run(name, func(b *testing.B) {
			l := New(cfg)
			l.AddUpstream(Coefficients{}, true)
			b.ReportAllocs()
			var now, uj int64 = 1e9, 0
			for b.Loop() {
				now += 20 * ms
				l.Power(now, 120_000)
				if uj += 2_400_000; now%(100*ms) == 0 {
					l.Counter(now, now+3*ms, uj)
				}
				l.Advance(now)
			}
		})
	}
}

// late is a ledger in the midst of short unstreamed requests: n are in flight, one ends and one begins every
// tenth of a millisecond, and their phases show at their ends.
type late struct {
	l    *Ledger
	n    uint64
	now  int64
	uj   int64
	next uint64
}

func newLate(n int) *late {
	s := &late{l: New(Config{}), n: uint64(n), now: 10e9}
	for range MaxUpstreams { // as sink/attribution registers them
		s.l.AddUpstream(Coefficients{}, false)
	}
	for range 50_000 {
		s.request()
	}
	return s
}

func (s *late) request() {
	s.now += ms / 10
	s.next++
	s.l.Event(Event{Kind: Arrive, Request: s.next, At: s.now, PromptHint: 200, Late: true})
	if s.next > s.n {
		s.l.Event(Event{Kind: End, Request: s.next - s.n, At: s.now, Counts: Counts{
			Known: true, PromptTokens: 48, OutputTokens: 16, Prefill: 10_000, Decode: 10_000,
		}})
	}
	if s.now%(100*ms) != 0 {
		return
	}
	for at := s.now - 100*ms + 20*ms; at <= s.now; at += 20 * ms {
		s.l.Power(at, 400_000)
	}
	s.uj += 40e6
	s.l.Counter(s.now, s.now+3*ms, s.uj)
	s.l.Advance(s.now)
	for _, ok := s.l.Next(); ok; _, ok = s.l.Next() {
	}
}

func TestNoAllocationPerLateRequest(t *testing.T) {
	s := newLate(32)
	if a := testing.AllocsPerRun(20, func() {
		for range 1000 {
			s.request()
		}
	}); a > 0 {
		t.Errorf("%.2f allocations per thousand unstreamed requests", a)
	}
}

// BenchmarkLate32 is the cost of a short unstreamed request of 16 tokens, all its windows included.
func BenchmarkLate32(b *testing.B) {
	s := newLate(32)
	b.ReportAllocs()
	for b.Loop() {
		s.request()
	}
}
