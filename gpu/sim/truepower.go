package sim

import (
	"math"
	"sort"

	"wattline/gpu"
	"wattline/meter"
)

// TruePower is the exact power of a schedule of requests: a sequence of segments, each the sum of a
// constant, a ramp and three decaying exponentials, so that its integral has a closed form.
type TruePower struct {
	model    Model
	requests map[uint64]request
	segs     segments
}

// segments lie in chunks, so that growing moves none, and chunks are used again.
type segments struct {
	chunks [][]segment // all but the last are full
	spare  [][]segment
}

const segmentChunk = 256

func (s *segments) len() int {
	n := len(s.chunks)
	if n == 0 {
		return 0
	}
	return (n-1)*segmentChunk + len(s.chunks[n-1])
}

func (s *segments) at(i int) *segment { return &s.chunks[i/segmentChunk][i%segmentChunk] }

func (s *segments) push(v segment) {
	n := len(s.chunks)
	if n == 0 || len(s.chunks[n-1]) == segmentChunk {
		if k := len(s.spare); k > 0 {
			s.chunks, s.spare = append(s.chunks, s.spare[k-1][:0]), s.spare[:k-1]
		} else {
			s.chunks = append(s.chunks, make([]segment, 0, segmentChunk))
		}
		n++
	}
	s.chunks[n-1] = append(s.chunks[n-1], v)
}

// drop gives up those before the i-th, as far as they fill chunks.
func (s *segments) drop(i int) {
	if k := max(i, 0) / segmentChunk; k > 0 {
		s.spare = append(s.spare, s.chunks[:k]...)
		s.chunks = append(s.chunks[:0], s.chunks[k:]...)
	}
}

// segment holds from start until the next segment's. Times in it are seconds since start.
type segment struct {
	start  int64
	energy float64 // joules up to start
	c0, c1 float64 // W, W/s
	decay  [3]exponential
	target float64 // steady active power at start, before droop
	tempC  exponential
	finalC float64
}

// exponential is a * exp(-t / tau).
type exponential struct{ a, tau float64 }

func (e exponential) at(t float64) float64 {
	if e.a == 0 {
		return 0
	}
	return e.a * math.Exp(-t/e.tau)
}

func (e exponential) integral(t float64) float64 {
	if e.a == 0 {
		return 0
	}
	return e.a * e.tau * -math.Expm1(-t/e.tau)
}

// NewTruePower begins at start with nothing in flight and the card at its idle temperature.
func NewTruePower(m Model, start int64) *TruePower {
	if m == (Model{}) {
		m = H100
	}
	c := &TruePower{model: m, requests: map[uint64]request{}}
	idleC := m.AmbientC + m.CPerW*m.IdleW
	c.append(start, 0, idleC)
	return c
}

// Apply lets an event happen; one that is late happens at the last one's time.
func (c *TruePower) Apply(e gpu.Event) {
	last := c.segs.at(c.segs.len() - 1)
	at := max(e.At, last.start)
	if e.Phase == meter.PhaseDone {
		delete(c.requests, e.Request)
	} else {
		c.requests[e.Request] = request{phase: e.Phase, slot: e.Slot, context: float64(e.Tokens), since: at}
	}
	t := float64(at-last.start) / 1e9
	c.append(at, last.activeAt(t), last.tempAt(t))
}

// append begins a segment at a moment, from the active power and the temperature that it finds.
func (c *TruePower) append(at int64, activeW, tempC float64) {
	m := &c.model
	target, slope := m.active(c.requests, at)
	steadyW := m.IdleW + target*(1-m.DroopPart)
	s := segment{
		start: at, target: target,
		finalC: m.AmbientC + m.CPerW*steadyW,
	}
	s.tempC = exponential{tempC - s.finalC, m.ThermalTau.Seconds()}
	// Active power relaxes towards its target, and the target droops.
	s.c0 = m.IdleW + m.LeakWPerC*(s.finalC-m.RefC) + target*(1-m.DroopPart)
	s.c1 = slope
	s.decay = [3]exponential{
		{m.LeakWPerC * s.tempC.a, s.tempC.tau},
		{target * m.DroopPart, m.DroopTau.Seconds()},
		{activeW - target, m.RelaxTau.Seconds()},
	}
	if n := c.segs.len(); n > 0 {
		prev := c.segs.at(n - 1)
		s.energy = prev.energy + prev.integral(float64(at-prev.start)/1e9)
		if at == prev.start {
			*prev = s
			return
		}
	}
	c.segs.push(s)
}

func (s *segment) power(t float64) float64 {
	p := s.c0 + s.c1*t
	for _, d := range s.decay {
		p += d.at(t)
	}
	return p
}

func (s *segment) integral(t float64) float64 {
	e := s.c0*t + s.c1*t*t/2
	for _, d := range s.decay {
		e += d.integral(t)
	}
	return e
}

// activeAt returns the part of the power that is not idle.
func (s *segment) activeAt(t float64) float64 {
	droop, relax := s.decay[1], s.decay[2]
	return s.target - droop.a + s.c1*t + droop.at(t) + relax.at(t)
}

func (s *segment) tempAt(t float64) float64 { return s.finalC + s.tempC.at(t) }

// segment returns the one that holds at t; before the start that is the first.
func (c *TruePower) segment(t int64) *segment {
	i := sort.Search(c.segs.len(), func(i int) bool { return c.segs.at(i).start > t }) - 1
	return c.segs.at(max(i, 0))
}

// PowerW returns the power at a moment; before the start, that of the start.
func (c *TruePower) PowerW(t int64) float64 {
	s := c.segment(t)
	return s.power(max(0, float64(t-s.start)/1e9))
}

// TempC returns the temperature at a moment.
func (c *TruePower) TempC(t int64) float64 {
	s := c.segment(t)
	return s.tempAt(max(0, float64(t-s.start)/1e9))
}

// EnergyJ returns the energy from the start up to a moment; before the start it is negative.
func (c *TruePower) EnergyJ(t int64) float64 {
	s := c.segment(t)
	dt := float64(t-s.start) / 1e9
	if dt < 0 {
		return s.energy + dt*s.power(0)
	}
	return s.energy + s.integral(dt)
}

// trim forgets segments that ended before t.
func (c *TruePower) trim(t int64) {
	c.segs.drop(sort.Search(c.segs.len(), func(i int) bool { return c.segs.at(i).start >= t }) - 1)
}
