package gpu

import (
	"time"

	"wattline/meter"
)

// probe finds out how often a device's channels update, just after it was opened.
//
// The counter's period is found with few reads, because on an H100 each costs 3 to 6 ms of CPU: reads grow
// apart until the counter has moved once, go on at that distance until it has moved again, and then only halve
// and close the interval in which the next step must lie. Polled power is read at a steady pace, and only where
// it gives the profile: elsewhere its update time is only shown.
type probe struct {
	counter bool // the counter's period is sought
	polled  bool // polled power's update time is
	began   int64
	next    int64 // read of the counter
	nextMw  int64 // read of power
	asked   int
	gap     int64 // between reads while the counter's period is not known

	reads  []Tick
	moved  span   // in which two reads last saw it move
	steps  []span // that followed one another, each placed as well as is known
	period span   // what they allow
	failed bool   // they contradict each other, or there is no more to spend

	instant, average changes
}

const (
	probeGapNs   = 5e6   // the first distance between reads
	probeGapMost = 250e6 // the largest
	probeMostNs  = 6e9   // a counter that steps less often is not waited for
	probeReads   = 60
	probeSteps   = 5 // that must agree on a period before it is used

	probePowerNs   = 1200e6 // polled power is watched for so long
	probePowerEach = 10e6   // no source is polled faster than this

	// probeCPU bounds the cost of reads beyond the regular pace at first: the probe, and what narrows a step
	// down. Later they are paid from a sixth of the budget.
	probeCPU   = 100 * time.Millisecond
	extraShare = 1.0 / 6
)

// newProbe begins. expected is the counter's period as its source is known to have it, 0 if it is not: it
// chooses the first moments only.
func newProbe(supported Metrics, profile Channel, expected int64) probe {
	p := probe{counter: supported&MetricEnergy != 0, gap: min(max(probeGapNs, expected/5), probeGapMost)}
	p.polled = supported&MetricPower != 0 && (profile == ChannelInstant || profile == ChannelAverage)
	return p
}

// want returns what to read now, and when to ask again.
func (p *probe) want(supported Metrics, now int64) (w Metrics, next int64) {
	if p.began == 0 {
		p.began = now
	}
	next = now + probeMostNs
	if p.counter {
		if now >= p.next {
			w |= MetricEnergy | supported&MetricPower // power costs nothing beside it
			p.next = now + p.gap                      // counterRead may choose another moment
			if p.asked++; p.asked > 2*probeReads {
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

// over reports that the probe has ended.
func (p *probe) over(now int64) bool {
	if p.began == 0 {
		return false
	}
	return now-p.began > probeMostNs || !p.counter && (!p.polled || now-p.began > probePowerNs)
}

// power takes polled values.
func (p *probe) power(r *Reading) {
	p.instant.see(r.PowerAt, r.InstantMw)
	p.average.see(r.PowerAt, r.AverageMw)
	if now := r.PowerAt; p.polled && now-p.began > probePowerNs {
		p.polled = false
	}
}

// counterRead takes a read of the counter and plans the next; paid is false where the account is empty.
func (p *probe) counterRead(t Tick, paid bool) {
	p.reads = append(p.reads, t)
	if n := len(p.reads); n > 1 && t.Uj != p.reads[n-2].Uj {
		p.step(span{p.reads[n-2].Before, t.After})
	}
	p.failed = p.failed || !paid || len(p.reads) >= probeReads
	if p.failed || p.found() || p.movesEveryRead() {
		p.counter = false
		return
	}
	p.next = p.plan(t)
}

// found reports whether the period is known.
func (p *probe) found() bool {
	return len(p.steps) >= probeSteps && p.period.width() <= p.period.lo/8
}

// movesEveryRead reports whether the counter moves at nearly every read: its period is too short to be seen.
func (p *probe) movesEveryRead() bool {
	n, moved := len(p.reads), 0
	for i := 1; i < n; i++ {
		if p.reads[i].Uj != p.reads[i-1].Uj {
			moved++
		}
	}
	return n >= 20 && moved > n*9/10
}

// step takes the interval in which two reads saw the counter move: once, or more often where the thread did
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

// unmistakable is until when a read that sees the counter move has seen the next step and not the one behind
// it, given that a read at before had not seen it move.
func (p *probe) unmistakable(before int64) int64 { return max(p.expected().lo, before) + p.period.lo }

// plan returns when to read again after t.
func (p *probe) plan(t Tick) int64 {
	if len(p.steps) == 0 || p.period.width() > p.period.lo {
		n := len(p.reads)
		if n > 2 && t.Uj != p.reads[n-2].Uj && p.reads[n-2].Uj != p.reads[n-3].Uj {
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
