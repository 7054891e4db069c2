package energy_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"wattline/meter/energy"
)

// job is one request of a simulated mix, and in the end the truth about it.
type job struct {
	key            uint64
	arrive         float64 // s
	prompt, output int
	ratio          float64 // bytes per token of its prompt

	slot              int
	start, first, end float64
	done, generated   int
	activeJ, idleJ    float64
	promptJ           float64 // of activeJ
	sticky            int     // 1 + the slot that holds its prompt from before; 0 none
	late              bool    // an unstreamed reply: its phases show at its end
	silent            bool    // its tokens are withheld until the end (a parser's doing)
	leave             float64 // s after arrival at which the client leaves; 0 never
	left              bool
	runsOn            bool // the server does not notice that the client has left
	untimed           bool // its reply tells token counts and no times
	hangs             int  // tokens after which the server has ended, and the stream only seems to go on; 0 never
	concurrent        int  // most requests that held a slot at the same time, itself included
}

func (j *job) trueJ() float64 { return j.activeJ + j.idleJ }

// server simulates llama-server's batching on a card: iterations of one token for every decoding slot
// and as many prompt tokens as the batch still holds, slots in order.
type server struct {
	p     physics
	slots int
	rng   *rand.Rand
	now   float64
	board float64 // C above ambient, of the board
	load  float64 // recent active power, drives droop

	follow   bool    // every half second a look at the slots tells what nothing else tells
	lookedAt float64 // when it last did

	upstream               int
	foreignW               float64 // drawn by another process
	foreignFrom, foreignTo float64 // only then; 0, 0: all the time
	foreignJ               float64

	events []energy.Event
	power  []float64 // W, one value a millisecond from 0 on
}

const ambientC = 30

func (s *server) ns(t float64) int64 { return int64(t * 1e9) }

func (s *server) tell(e energy.Event, t float64) {
	e.At = s.ns(t)
	s.events = append(s.events, e)
}

// show sends an event that only a stream shows while it happens, if the client is still there.
func (s *server) show(j *job, e energy.Event, t float64) {
	if !j.late && !j.left {
		s.tell(e, t)
	}
}

// run serves jobs, in order of arrival, until all are done, then rests.
func (s *server) run(jobs []*job, rest float64) {
	free := make([]bool, s.slots)
	for i := range free {
		free[i] = true
	}
	var waiting, live []*job
	next := 0
	var parts []part
	share := make([]float64, s.slots)
	var shown []part // composition that share was computed for
	age := 0
	for next < len(jobs) || len(waiting)+len(live) > 0 {
		for next < len(jobs) && jobs[next].arrive <= s.now {
			j := jobs[next]
			s.tell(energy.Event{Kind: energy.Arrive, Request: j.key, Upstream: s.upstream, PromptHint: int64(float64(j.prompt) * j.ratio), Late: j.late, Followed: s.follow, Slots: s.slots}, j.arrive)
			waiting = append(waiting, j)
			next++
		}
		for len(waiting) > 0 {
			i := slices.Index(free, true)
			if k := waiting[0].sticky - 1; k >= 0 && free[k] {
				i = k // the server prefers the slot with the cache most like the prompt
			}
			if i < 0 {
				break
			}
			j := waiting[0]
			waiting = waiting[1:]
			free[i], j.slot, j.start = false, i, s.now
			s.show(j, energy.Event{Kind: energy.SlotStart, Request: j.key, Slot: i, SlotKnown: true}, s.now+0.0005*s.rng.Float64())
			live = append(live, j)
		}
		if len(live) == 0 {
			s.idle(jobs[next].arrive - s.now + 1e-4)
			continue
		}
		slices.SortFunc(live, func(a, b *job) int { return a.slot - b.slot })
		parts = s.batch(live, parts[:0])
		seconds := s.duration(parts)
		if age--; age <= 0 || !sameParts(parts, shown) {
			clear(share)
			s.p.shapley(s.rng, parts, seconds, s.slots, share[:len(parts)])
			shown = append(shown[:0], parts...)
			age = 8
		}
		s.iterate(live, parts, share, seconds)
		live = s.progress(live, parts, free)
		s.leaveQueue(waiting)
		s.look(live, waiting)
	}
	s.idle(rest)
}

// leaveQueue lets clients leave whose requests have no slot yet.
func (s *server) leaveQueue(waiting []*job) {
	for _, j := range waiting {
		if j.leave > 0 && !j.left && s.now >= j.arrive+j.leave {
			j.left = true
			s.tell(energy.Event{Kind: energy.End, Request: j.key, Counts: energy.Counts{Cancelled: true, MaxTokens: int64(j.output)}}, s.now)
		}
	}
}

// look tells the state of requests that nothing else tells.
func (s *server) look(live, waiting []*job) {
	if !s.follow || s.now < s.lookedAt+0.5 {
		return
	}
	s.lookedAt = s.now
	for _, j := range live {
		if j.late || j.left {
			s.tell(energy.Event{Kind: energy.Working, Request: j.key, Slot: j.slot, Tokens: int64(j.generated)}, s.now)
		}
	}
	for _, j := range waiting {
		if j.late || j.left {
			s.tell(energy.Event{Kind: energy.Waiting, Request: j.key, Slot: -1}, s.now)
		}
	}
}

func sameParts(a, b []part) bool {
	return slices.EqualFunc(a, b, func(x, y part) bool {
		return x.req == y.req && x.slot == y.slot && x.decode == y.decode && x.tokens == y.tokens && (x.decode || x.at == y.at)
	})
}

func (s *server) batch(live []*job, parts []part) []part {
	room := s.p.batch
	for i, j := range live {
		if j.first > 0 {
			parts = append(parts, part{req: i, slot: j.slot, decode: true, context: float64(j.prompt + j.generated)})
			room--
		}
	}
	for i, j := range live {
		if j.first == 0 && room > 0 {
			n := min(room, j.prompt-j.done)
			parts = append(parts, part{req: i, slot: j.slot, tokens: float64(n), at: float64(j.done)})
			room -= n
		}
	}
	return parts
}

func (s *server) duration(parts []part) float64 {
	var prompt float64
	decoders := 0
	for i := range parts {
		x := &parts[i]
		if x.decode {
			decoders++
		} else {
			prompt += x.tokens / s.p.promptRate * (1 + s.p.slowdown*x.at/1000)
		}
	}
	t := prompt
	if decoders > 0 {
		t += s.p.stepTime * (1 + s.p.perSeq*float64(decoders-1)) * (0.93 + 0.14*s.rng.Float64())
	}
	return max(t, 0.002)
}

// iterate draws the iteration's power and gives each its share.
func (s *server) iterate(live []*job, parts []part, share []float64, seconds float64) {
	loss := 1 - s.p.droop*min(1, s.load/s.p.fullW)
	var active float64
	for k := range parts {
		j := share[k] * loss
		active += j
		x := live[parts[k].req]
		x.activeJ += j
		if !parts[k].decode {
			x.promptJ += j
		}
	}
	idle := s.p.idleW + s.p.leak*s.board
	for _, j := range live {
		j.idleJ += idle * seconds / float64(len(live))
		j.concurrent = max(j.concurrent, len(live))
	}
	s.draw(active/seconds, seconds)
}

// draw appends power: the idle draw of the board's temperature, and the active power given, smoothed as
// regulators do and 12 ms late.
func (s *server) draw(activeW, seconds float64) {
	end := s.now + seconds
	for t := float64(len(s.power)) / 1000; t < end; t += 0.001 {
		foreign := s.foreignW
		if s.foreignTo > 0 && (t < s.foreignFrom || t > s.foreignTo) {
			foreign = 0
		}
		s.power = append(s.power, s.p.idleW+s.p.leak*s.board+activeW+foreign)
		s.foreignJ += foreign * 0.001
		if len(s.power)%250 == 0 {
			c := math.Round(ambientC + s.board + s.p.rise*s.load)
			s.tell(energy.Event{Kind: energy.Temperature, MilliC: int64(c) * 1000}, t)
		}
		s.board += (activeW*s.p.warm - s.board) * 0.001 / 20
		s.load += (activeW - s.load) * 0.001 / 1.5
	}
	s.now = end
}

func (s *server) idle(seconds float64) {
	if seconds > 0 {
		s.draw(0, seconds)
	}
}

// progress advances the requests by the iteration that has ended and shows their tokens.
func (s *server) progress(live []*job, parts []part, free []bool) []*job {
	late := func() float64 { return s.now + 0.0004*s.rng.Float64() }
	for k := range parts {
		j := live[parts[k].req]
		switch {
		case parts[k].decode:
			j.generated++
			if !j.silent {
				s.show(j, energy.Event{Kind: energy.Decode, Request: j.key, Tokens: 1}, late())
			}
		default:
			if j.done += int(parts[k].tokens); j.done == j.prompt {
				j.first, j.generated = s.now, 1
				s.show(j, energy.Event{Kind: energy.FirstToken, Request: j.key}, late())
			}
		}
	}
	return slices.DeleteFunc(live, func(j *job) bool {
		if j.leave > 0 && !j.left && s.now >= j.arrive+j.leave {
			j.left = true
			s.tell(energy.Event{Kind: energy.End, Request: j.key, Counts: energy.Counts{Cancelled: true, MaxTokens: int64(j.output)}}, s.now)
		}
		hung := j.hangs > 0 && j.generated >= j.hangs
		if j.first == 0 || j.generated < j.output && (!j.left || j.runsOn) && !hung {
			return false
		}
		j.end = s.now
		free[j.slot] = true
		if j.left {
			if s.follow {
				s.tell(energy.Event{Kind: energy.SlotIdle, Request: j.key}, s.now+0.3)
			}
			return true
		}
		c := energy.Counts{
			Known: true, PromptTokens: int64(j.prompt), OutputTokens: int64(j.output),
			Prefill: time.Duration((j.first - j.start) * 1e9), Decode: time.Duration((j.end - j.first) * 1e9),
		}
		if j.untimed {
			c.Prefill, c.Decode = 0, 0
		}
		if hung {
			s.tell(energy.Event{Kind: energy.End, Request: j.key}, s.now+600)
			return true
		}
		s.tell(energy.Event{Kind: energy.End, Request: j.key, Counts: c}, s.now+0.0006)
		return true
	})
}

// drawMix draws a mix of n jobs for so many slots, beginning at from.
func drawMix(r *rand.Rand, key *uint64, n, slots int, from float64) []*job {
	var jobs []*job
	gap := math.Exp(math.Log(0.05)+r.Float64()*math.Log(40)) / float64(slots)
	t := from
	for range n {
		*key++
		prompt := int(math.Exp(math.Log(60) + r.Float64()*math.Log(150)))
		output := int(math.Exp(math.Log(8) + r.Float64()*math.Log(50)))
		jobs = append(jobs, &job{key: *key, arrive: t, prompt: prompt, output: output, ratio: 3.6 + 0.8*r.Float64()})
		if r.IntN(3) > 0 {
			t += r.ExpFloat64() * gap
		}
	}
	return jobs
}
