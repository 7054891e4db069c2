package gpu

import (
	"time"

	"wattline/meter"
)

// probe finds out how often a device's channels update, just after it was opened.
//
// The counter's rhythm is found with few looks, because on an H100 each costs 3 to 6 ms of CPU: looks grow
// apart until the counter has moved once, go on at that distance until it has moved again, and then only halve
// and close the interval in which the next step must lie. Polled power is read at a steady pace, and only where
// it gives the shape: elsewhere its update time is only shown.
type probe struct {
	counter bool // the counter's rhythm is sought
	polled  bool // polled power's update time is
	began   int64
	next    int64 // look at the counter
	nextMw  int64 // look at power
	asked   int
	gap     int64 // between looks while the counter's rhythm is not known

	looks  []Tick
	moved  span   // in which two looks last saw it move
	steps  []span // that followed one another, each placed as well as is known
	period span   // what they allow
	failed bool   // they contradict each other, or there is no more to spend

	instant, average changes
}

const (
	probeGapNs   = 5e6   // the first distance between looks
	probeGapMost = 250e6 // the largest
	probeMostNs  = 6e9   // a counter that steps less often is not waited for
	probeLooks   = 60
	probeSteps   = 5 // of a rhythm before it is believed

	probePowerNs   = 1200e6 // polled power is watched for so long
	probePowerEach = 10e6   // no source is polled faster than this

	// probeCPU is what looks beyond the regular pace may cost at first: the probe, and what narrows a step
	// down. Later they are paid from a sixth of the budget.
	probeCPU   = 100 * time.Millisecond
	extraShare = 1.0 / 6
)

// newProbe begins. expected is the counter's period as its source is known to have it, 0 if it is not: it
// chooses the first moments and is not believed.
func newProbe(offers Metrics, shape Channel, expected int64) probe {
	p := probe{counter: offers&MetricEnergy != 0, gap: min(max(probeGapNs, expected/5), probeGapMost)}
	p.polled = offers&MetricPower != 0 && (shape == ChannelInstant || shape == ChannelAverage)
	return p
}

// want says what to ask for now, and when next.
func (p *probe) want(offers Metrics, now int64) (w Metrics, next int64) {
	if p.began == 0 {
		p.began = now
	}
	next = now + probeMostNs
	if p.counter {
		if now >= p.next {
			w |= MetricEnergy | offers&MetricPower // power costs nothing beside it
			p.next = now + p.gap                   // unless look, which is shown what came, knows better
			if p.asked++; p.asked > 2*probeLooks {
				p.counter = false // it does not answer
			}
		}
		next = p.next
	}
	if p.polled {
		if now >= p.nextMw {
			w |= MetricPower
			p.nextMw = now + probePowerEach
		}
		next = min(next, p.nextMw)
	}
	return w, next
}

// over says that there is no more to find out.
func (p *probe) over(now int64) bool {
	if p.began == 0 {
		return false
	}
	return now-p.began > probeMostNs || !p.counter && (!p.polled || now-p.began > probePowerNs)
}

// power is shown polled values.
func (p *probe) power(r *Reading) {
	p.instant.see(r.PowerAt, r.InstantMw)
	p.average.see(r.PowerAt, r.AverageMw)
	if now := r.PowerAt; p.polled && now-p.began > probePowerNs {
		p.polled = false
	}
}

// look is shown the counter and plans the next look; paid is false where there is no more to spend.
func (p *probe) look(t Tick, paid bool) {
	p.looks = append(p.looks, t)
	if n := len(p.looks); n > 1 && t.Uj != p.looks[n-2].Uj {
		p.step(span{p.looks[n-2].Before, t.After})
	}
	p.failed = p.failed || !paid || len(p.looks) >= probeLooks
	if p.failed || p.found() || p.restless() {
		p.counter = false
		return
	}
	p.next = p.plan(t)
}

// found says whether the rhythm is known.
func (p *probe) found() bool {
	return len(p.steps) >= probeSteps && p.period.width() <= p.period.lo/8
}

// restless says whether the counter moves at nearly every look: it has no rhythm that could be seen.
func (p *probe) restless() bool {
	n, moved := len(p.looks), 0
	for i := 1; i < n; i++ {
		if p.looks[i].Uj != p.looks[i-1].Uj {
			moved++
		}
	}
	return n >= 20 && moved > n*9/10
}

// step takes the interval in which two looks saw the counter move: once, or more often where the thread did
// not run.
func (p *probe) step(seen span) {
	if was := p.moved; was.known() { // from the last step in one to the first in the next it is one period
		apart := span{max(1, seen.lo-was.hi), seen.hi - was.lo}
		if p.period.known() {
			apart = apart.and(p.period)
		}
		p.period = apart
		if n := len(p.steps); n == 0 && was.width() < p.period.lo {
			p.steps = append(p.steps, was)
		}
	}
	p.moved = seen
	if !p.period.known() {
		return
	}
	n := len(p.steps)
	if n == 0 || seen.hi >= p.unmistakable(seen.lo) { // it cannot be told which step it is: count anew
		p.steps = p.steps[:0]
		if seen.width() < p.period.lo {
			p.steps = append(p.steps, seen)
		}
		return
	}
	seen = seen.and(p.expected())
	for i, s := range p.steps {
		k := int64(n - i)
		p.period = p.period.and(span{(seen.lo - s.hi) / k, (seen.hi - s.lo + k - 1) / k})
	}
	p.steps = append(p.steps, seen)
	p.failed = p.failed || seen.empty() || p.period.empty()
}

// expected is where the next step must lie.
func (p *probe) expected() span {
	n := len(p.steps)
	at := span{0, 1 << 62}
	for i, s := range p.steps {
		k := int64(n - i)
		at = at.and(s.shift(span{k * p.period.lo, k * p.period.hi}))
	}
	return at
}

// unmistakable is until when a look that sees the counter move has seen the next step and not the one behind
// it, given that a look at before had not seen it move.
func (p *probe) unmistakable(before int64) int64 { return max(p.expected().lo, before) + p.period.lo }

// plan returns when to look again behind t.
func (p *probe) plan(t Tick) int64 {
	if len(p.steps) == 0 || p.period.width() > p.period.lo {
		n := len(p.looks)
		if n > 2 && t.Uj != p.looks[n-2].Uj && p.looks[n-2].Uj != p.looks[n-3].Uj {
			p.gap = max(p.gap/2, probeGapNs) // it moves faster than was thought
		}
		if !p.period.known() {
			p.gap = min(max(p.gap, (t.After-max(p.began, p.moved.lo))/6), probeGapMost)
		}
		return t.After + p.gap
	}
	at := p.expected()
	next := at.hi + edgeRoomNs
	if t.Before < at.lo && at.width() > max(p.period.lo/10, 3e6) {
		next = at.mid()
	}
	next = min(next, p.unmistakable(t.Before)-2*(t.After-t.Before)-edgeRoomNs)
	if next < t.After { // it is late: the next step that shows will say by how much
		next = t.After + p.gap
	}
	return next
}

// changes collects when a polled value changed.
type changes struct {
	last  meter.Int
	times []int64
}

func (c *changes) see(at int64, v meter.Int) {
	if !v.Valid {
		return
	}
	if c.last.Valid && c.last.V != v.V {
		c.times = append(c.times, at)
	}
	c.last = v
}
