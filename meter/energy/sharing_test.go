package energy

import (
	"math"
	"testing"
	"time"
)

// cached is a server with decoders that draw exactly as the model of a shared cache says.
type cached struct {
	l       *Ledger
	c       Coefficients
	now     int64
	decoded map[uint64]float64 // tokens each has in the cache
	left    float64
	results map[uint64]Result
	at      map[uint64]int64 // when each result came
}

const cachedStep = 20 * ms

func newCached(cfg Config, told, is Coefficients) *cached {
	cfg.NoCounter, cfg.Lag = true, time.Nanosecond
	cfg.Baseline = Baseline{BaseMW: 100_000, Windows: 100}
	s := &cached{l: New(cfg), c: is, now: 1e9, decoded: map[uint64]float64{}, results: map[uint64]Result{}, at: map[uint64]int64{}}
	s.l.AddUpstream(told, false)
	s.l.Power(s.now, 100_000)
	return s
}

func (s *cached) power(mw int64) {
	s.l.Power(s.now, mw)
	s.l.Advance(s.now)
	for r, ok := s.l.Next(); ok; r, ok = s.l.Next() {
		s.results[r.Request], s.at[r.Request] = r, s.now
	}
}

// start gives a request a slot; its prompt was all cached, so that only decoding costs anything.
func (s *cached) start(key uint64, slot int, cells float64) {
	s.left = 0
	s.l.Event(Event{Kind: Arrive, Request: key, At: s.now, PromptHint: int64(cells)})
	s.l.Event(Event{Kind: SlotStart, Request: key, At: s.now, Slot: slot, SlotKnown: true})
	s.l.Event(Event{Kind: FirstToken, Request: key, At: s.now + 1})
	s.decoded[key] = cells
}

// step lets every request decode one token; it returns the cost.
func (s *cached) step() float64 {
	n := float64(len(s.decoded))
	cells := s.left
	for _, v := range s.decoded {
		cells += v
	}
	uj := s.c.StepUJ + n*s.c.TokenUJ + s.c.ContextUJ*cells/1000
	s.now += cachedStep
	for key := range s.decoded {
		s.l.Event(Event{Kind: Decode, Request: key, At: s.now, Tokens: 1})
		s.decoded[key]++
	}
	s.power(100_000 + int64(uj/float64(cachedStep)*1e6))
	return uj
}

func (s *cached) end(key uint64, prompt int64) {
	cells := s.decoded[key]
	delete(s.decoded, key)
	s.l.Event(Event{Kind: End, Request: key, At: s.now, Counts: Counts{
		Known: true, PromptTokens: prompt, CachedTokens: prompt, OutputTokens: int64(cells) - prompt}})
	s.left += cells
}

func (s *cached) quiet(d int64) {
	for end := s.now + d; s.now < end; {
		s.now += cachedStep
		s.power(100_000)
	}
}

// A request with many cells ends while another goes on reading them: each pays half of that, and the first one's
// result is final once they are cleared.
func TestLeftoverCells(t *testing.T) {
	for _, next := range []string{"nobody", "a new task"} {
		t.Run(next, func(t *testing.T) {
			c := oneCache()
			s := newCached(Config{Frozen: true}, c, c)
			s.start(1, 0, 8000)
			s.quiet(cachedStep) // prefills that overlap would wait for each other
			s.start(2, 2, 1000)
			var first, both, second float64
			for range 50 {
				both += s.step()
			}
			s.end(1, 8000)
			ended := s.now
			for range 100 {
				second += s.step()
			}
			const half = 100 * 8050 * 0.001 / 2
			extra := half * c.ContextUJ
			if next == "a new task" {
				s.start(3, 1, 10)
				s.quiet(5 * cachedStep)
			} else {
				s.end(2, 1000)
			}
			cleared := s.now
			s.quiet(1e9)
			if s.at[1] < cleared-5*cachedStep || s.at[1] > cleared+int64(time.Second) {
				t.Errorf("the one who left is final %.2f s after its end, its cells were cleared after %.2f s",
					float64(s.at[1]-ended)/1e9, float64(cleared-ended)/1e9)
			}
			// Together: half a read each, one token each, each its own cells.
			own := func(cells float64) float64 { return 50 * (c.StepUJ/2 + c.TokenUJ + c.ContextUJ*(cells+25)/1000) }
			first = own(8000) + extra
			near(t, "who left", float64(s.results[1].DecodeUJ), first)
			if next == "nobody" {
				near(t, "who went on", float64(s.results[2].DecodeUJ), both+second-first)
			}
		})
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.01*want {
		t.Errorf("%s pays %.2f J, want %.2f", what, got/1e6, want/1e6)
	}
}

// No result waits longer than SettleMax.
func TestLeftoverCellsExpiry(t *testing.T) {
	c := oneCache()
	s := newCached(Config{Frozen: true, SettleMax: 3 * time.Second}, c, c)
	s.start(1, 0, 8000)
	s.start(2, 2, 1000)
	for range 10 {
		s.step()
	}
	s.end(1, 8000)
	ended := s.now
	for range 500 {
		s.step()
	}
	if late := s.at[1] - ended; s.at[1] == 0 || late < 3e9 || late > 4e9 {
		t.Errorf("final %.2f s after its end, want a little more than 3 s", float64(late)/1e9)
	}
}

// What the slots share is learnt from one request that goes on alone after another has ended.
func TestLearntSharing(t *testing.T) {
	for name, split := range map[string]bool{"one cache": false, "split caches": true} {
		t.Run(name, func(t *testing.T) {
			c := defaultCoefficients()
			s := newCached(Config{}, Coefficients{}, c)
			for k := range uint64(12) {
				cells := 2000 + 1500*float64(k*5%12)
				s.start(2*k+1, 0, cells)
				s.start(2*k+2, 1, 500)
				for range 30 {
					s.step()
				}
				s.end(2*k+1, int64(cells))
				if split {
					s.left = 0
				}
				for range 120 {
					s.step()
				}
				s.end(2*k+2, 500)
				s.quiet(2e9)
			}
			got := s.l.Coefficients(0)
			if got.SharedCache == split {
				t.Errorf("learnt %+v", got)
			}
			if math.Abs(got.ContextUJ/c.ContextUJ-1) > 0.25 {
				t.Errorf("a token costs %.1f mJ per 1,000 cells, want %.1f", got.ContextUJ/1e3, c.ContextUJ/1e3)
			}
		})
	}
}
