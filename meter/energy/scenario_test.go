package energy_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"wattline/meter/energy"
)

// scene is a simulated H100-like server with four slots that has warmed up: the ledger has seen one and
// several requests at a time.
type scene struct {
	*server
	key uint64
	all []*job
}

func newScene(seed uint64, unified bool) *scene { return newSceneOf(seed, h100Like(unified)) }

func newSceneOf(seed uint64, p physics) *scene {
	s := &scene{server: &server{p: p, slots: 4, rng: rand.New(rand.NewPCG(seed, 21))}}
	s.idle(4)
	for _, n := range []int{1, 1, 2, 3, 4, 1} {
		var jobs []*job
		for k := range n {
			jobs = append(jobs, s.job(0.3*float64(k), 400+600*k, 120))
		}
		s.play(jobs...)
	}
	return s
}

// job makes a request that arrives so many seconds from now.
func (s *scene) job(after float64, prompt, output int) *job {
	s.key++
	return &job{key: s.key, arrive: s.now + after, prompt: prompt, output: output, ratio: 4}
}

// play serves the jobs and rests.
func (s *scene) play(jobs ...*job) {
	s.all = append(s.all, jobs...)
	s.run(jobs, 2)
}

// settle feeds everything to a ledger with an H100's sensors and returns its results.
func (s *scene) settle(t *testing.T) map[uint64]energy.Result {
	t.Helper()
	got, _ := play(4, s.server, profiles()[0])
	if len(got) != len(s.all) {
		t.Fatalf("%d results of %d requests", len(got), len(s.all))
	}
	return got
}

// near fails unless have is within part of want joules.
func near(t *testing.T, what string, haveUJ int64, wantJ, part float64) {
	t.Helper()
	if off := float64(haveUJ)/1e6/wantJ - 1; math.Abs(off) > part || wantJ == 0 {
		t.Errorf("%s: %.1f J, want %.1f (off by %+.1f %%, %.0f %% allowed)", what, float64(haveUJ)/1e6, wantJ, 100*off, 100*part)
	}
}

// Eight equal requests on four slots: the four that waited cost what the first four cost.
func TestQueuedRequest(t *testing.T) {
	s := newScene(1, false)
	var jobs []*job
	for range 8 {
		jobs = append(jobs, s.job(0, 1000, 128))
	}
	s.play(jobs...)
	got := s.settle(t)
	var first, second float64
	for i, j := range jobs {
		near(t, "one of eight", got[j.key].TotalUJ, j.trueJ(), 0.03)
		if i < 4 {
			first += float64(got[j.key].TotalUJ) / 4
		} else {
			second += float64(got[j.key].TotalUJ) / 4
		}
	}
	if math.Abs(second/first-1) > 0.02 {
		t.Errorf("those that waited cost %.1f J, those that did not %.1f", second/1e6, first/1e6)
	}
}

// A long prompt among short requests pays for its own work, and they pay what they would without it.
func TestLongPrompt(t *testing.T) {
	s := newScene(2, false)
	neighbours := []*job{s.job(0, 1000, 512), s.job(0.7, 1000, 64), s.job(2, 1000, 128)}
	long := s.job(1.1, 30_000, 64)
	s.play(neighbours[0], neighbours[1], long, neighbours[2])
	alone := s.job(0, 30_000, 64)
	s.play(alone)
	got := s.settle(t)
	near(t, "the long prompt", got[long.key].PrefillUJ, long.promptJ, 0.02)
	near(t, "the long prompt against itself alone", got[long.key].PrefillUJ, float64(got[alone.key].PrefillUJ)/1e6, 0.04)
	for _, j := range neighbours {
		near(t, "a neighbour", got[j.key].ActiveUJ, j.activeJ, 0.05)
	}
}

// An unstreamed reply tells its phases at its end only; it and its neighbour cost what they should.
func TestUnstreamedReply(t *testing.T) {
	s := newScene(3, true)
	late, neighbour := s.job(0, 2000, 300), s.job(0.5, 1000, 300)
	late.late = true
	s.play(late, neighbour)
	got := s.settle(t)
	near(t, "the unstreamed", got[late.key].TotalUJ, late.trueJ(), 0.03)
	near(t, "its neighbour", got[neighbour.key].TotalUJ, neighbour.trueJ(), 0.03)
}

// Tokens that a parser withholds are charged too.
func TestWithheldTokens(t *testing.T) {
	s := newScene(4, true)
	silent, loud := s.job(0, 800, 300), s.job(0.1, 800, 300)
	silent.silent = true
	s.play(silent, loud)
	lone := s.job(0, 800, 300)
	lone.silent = true
	s.play(lone)
	got := s.settle(t)
	near(t, "the silent", got[silent.key].TotalUJ, silent.trueJ(), 0.04)
	near(t, "the loud", got[loud.key].TotalUJ, loud.trueJ(), 0.04)
	near(t, "the silent alone", got[lone.key].TotalUJ, lone.trueJ(), 0.02)
}

// The server finishes a prefill after its client has left; that request is charged for it.
func TestCancelledPrefill(t *testing.T) {
	s := newScene(5, true)
	gone, stays := s.job(0, 20_000, 100), s.job(0.2, 500, 200)
	gone.leave = 0.8
	s.play(gone, stays)
	cut := s.job(0, 500, 2000)
	cut.leave = 1
	s.play(cut)
	got := s.settle(t)
	near(t, "who left in prefill", got[gone.key].ActiveUJ, gone.activeJ, 0.1)
	near(t, "who stayed", got[stays.key].ActiveUJ, stays.activeJ, 0.1)
	near(t, "who left while decoding", got[cut.key].TotalUJ, cut.trueJ(), 0.03)
	if q := got[gone.key].Quality; q != energy.Estimated {
		t.Errorf("the prefill's end was guessed, but it is called %v", q)
	}
}

// Another process computes on the card, and the sampler reports it: the request is contended, and its error small.
func TestContendedDevice(t *testing.T) {
	s := newScene(6, true)
	alone := s.job(0, 1000, 256)
	s.play(alone)
	s.foreignW, s.foreignJ = 150, 0
	s.tell(energy.Event{Kind: energy.Contended, On: true}, s.now)
	s.idle(1)
	ours := s.job(0, 1000, 256)
	s.play(ours)
	s.foreignW = 0
	s.tell(energy.Event{Kind: energy.Contended}, s.now)
	s.idle(1)
	got := s.settle(t)
	if q := got[ours.key].Quality; q != energy.IsContended {
		t.Errorf("it is called %v", q)
	}
	near(t, "ours", got[ours.key].TotalUJ, ours.trueJ(), 0.15)
	near(t, "ours against itself alone", got[ours.key].TotalUJ, float64(got[alone.key].TotalUJ)/1e6, 0.15)
}

// A counter that starts again from zero: what was in flight is partial, what comes later is not.
func TestCounterReset(t *testing.T) {
	s := newScene(7, true)
	during, after := s.job(0, 1000, 256), s.job(0, 1000, 256)
	at := s.now + 1
	s.play(during)
	after.arrive = s.now + 0.1
	s.play(after)
	p := profiles()[0]
	p.feed = func(n *sensors) {
		n.resetAt = at
		n.ring()
		n.counter(0.05, 0.02, 1)
	}
	got, _ := play(4, s.server, p)
	if q := got[during.key].Quality; q != energy.Partial {
		t.Errorf("what was in flight is called %v", q)
	}
	if q := got[after.key].Quality; q != energy.Measured {
		t.Errorf("what came later is called %v", q)
	}
	near(t, "what came later", got[after.key].TotalUJ, after.trueJ(), 0.02)
}

// Without a quiet second the idle draw is unknown: only totals are given.
func TestBaselineUnknown(t *testing.T) {
	s := &scene{server: &server{p: h100Like(true), slots: 4, rng: rand.New(rand.NewPCG(8, 21))}}
	j := s.job(0.2, 1000, 200)
	s.all = append(s.all, j)
	s.run([]*job{j}, 0.4)
	got := s.settle(t)[j.key]
	if got.Split {
		t.Error("active and idle are told apart before the device was ever seen idle")
	}
	near(t, "the total", got.TotalUJ, j.trueJ(), 0.05)
}

// A counter that stands still for twenty seconds does not delay results, and what it shows later is not charged
// twice.
func TestStandingCounter(t *testing.T) {
	s := newScene(9, true)
	from := s.now
	jobs := []*job{s.job(0.5, 1000, 256), s.job(6, 1000, 256), s.job(14, 1000, 256)}
	s.play(jobs...)
	s.idle(10)
	last := s.job(0, 1000, 256)
	s.play(last)
	p := profiles()[0]
	p.feed = func(n *sensors) {
		n.stillFrom, n.stillTo = from, from+20
		n.ring()
		n.counter(0.05, 0.02, 1)
	}
	got, _ := play(4, s.server, p)
	for _, j := range append(jobs, last) {
		near(t, "a request", got[j.key].TotalUJ, j.trueJ(), 0.03)
	}
}

// Two servers compute on one card: each has its own batch and its own coefficients, and the card's idle
// draw is shared by all requests that hold a slot of either.
func TestTwoServersOnOneCard(t *testing.T) {
	small := h100Like(true)
	small.token, small.read, small.idleW, small.leak = 0.2, 0.2, 0, 0 // the card idles once
	a, b := newScene(10, true), newSceneOf(11, small)
	jobs := []*job{a.job(1, 1000, 300), a.job(1.2, 500, 300)}
	a.play(jobs...)
	b.key = 1000
	others := []*job{b.job(a.now-b.now-3, 1500, 250), b.job(a.now-b.now+1, 800, 100)}
	b.play(others...)
	a.idle(b.now - a.now)
	b.idle(a.now - b.now)
	for i := range a.power {
		if i < len(b.power) {
			a.power[i] += b.power[i]
		}
	}
	for _, e := range b.events {
		if e.Request < 1000 && e.Request > 0 {
			e.Request += 2000 // the warm-ups of both have the same keys
		}
		if e.Request > 0 {
			e.Upstream = 1
			a.events = append(a.events, e)
		}
	}
	a.upstream = 1
	got, _ := play(4, a.server, profiles()[0])
	for _, j := range append(jobs, others...) {
		near(t, "a request", got[j.key].ActiveUJ, j.activeJ, 0.13)
	}
}

// Prompts overlap without a break for longer than SettleMax: the pool is closed in between, each request has parts
// in two pools, and together they are charged with all of the energy.
func TestUnbrokenPrefill(t *testing.T) {
	s := newScene(12, true)
	var jobs []*job
	for k := range 7 {
		jobs = append(jobs, s.job(9*float64(k), 60_000, 8))
	}
	s.play(jobs...)
	got := s.settle(t)
	var have, want float64
	for _, j := range jobs {
		near(t, "a prompt", got[j.key].PrefillUJ, j.promptJ, 0.25)
		if q := got[j.key].Quality; q != energy.Estimated {
			t.Errorf("a prompt in a pool that was cut is called %v", q)
		}
		have += float64(got[j.key].PrefillUJ) / 1e6
		want += j.promptJ
	}
	if math.Abs(have/want-1) > 0.02 {
		t.Errorf("all prompts cost %.0f J, %.0f are true", have, want)
	}
}

// The samples fail in the middle: the counter's steps are used instead.
func TestFailingSamples(t *testing.T) {
	s := newScene(13, true)
	fails := s.now
	s.idle(8)
	j := s.job(0, 1000, 256)
	s.play(j)
	s.idle(8)
	p := profiles()[0]
	p.feed = func(n *sensors) {
		n.ring()
		kept := n.facts[:0]
		for _, f := range n.facts {
			if f.at < int64(fails*1e9) {
				kept = append(kept, f)
			}
		}
		n.facts = kept
		n.counter(0.02, 0.02, 1)
	}
	got, _ := play(4, s.server, p)
	near(t, "the request", got[j.key].TotalUJ, j.trueJ(), 0.05)
	if q := got[j.key].Quality; q != energy.Estimated {
		t.Errorf("its shape in time was not seen, but it is called %v", q)
	}
}
