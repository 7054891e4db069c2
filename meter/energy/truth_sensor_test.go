package energy_test

import (
	"math"
	"math/rand/v2"
	"time"

	"wattline/meter/energy"
	"wattline/meter/energy/recording"
)

// profile is a card's sensors, with the faults that such cards are known for.
type profile struct {
	name string
	cfg  energy.Config
	feed func(*sensors)
}

// sensors play a simulated trace to a ledger.
type sensors struct {
	r                  *rand.Rand
	power              []float64 // W per ms, as the board draws it
	cum                []float64 // J before each ms
	facts              []fact
	looks              []recording.Reading // what was read of the counter, or of the average
	samples            []recording.Sample
	resetAt            float64 // s at which the counter starts again, 0 never
	stillFrom, stillTo float64 // s between which the counter does not move
}

type fact struct {
	at   int64
	tell func(*energy.Ledger)
}

func newSensors(r *rand.Rand, s *server) *sensors {
	n := &sensors{r: r}
	// What the sensors see comes 12 ms late and smoothed over some 10 ms.
	seen := s.p.idleW
	const delay = 8
	for i := range s.power {
		seen += (s.power[max(0, i-delay)] - seen) * 0.2
		n.power = append(n.power, seen)
	}
	n.cum = make([]float64, len(n.power)+1)
	for i, w := range n.power {
		n.cum[i+1] = n.cum[i] + w/1000
	}
	return n
}

// joules is the energy up to t seconds.
func (n *sensors) joules(t float64) float64 {
	x := min(max(t*1000, 0), float64(len(n.cum)-1))
	i := int(x)
	if i >= len(n.power) {
		return n.cum[len(n.cum)-1]
	}
	return n.cum[i] + (x-float64(i))*n.power[i]/1000
}

func (n *sensors) seconds() float64 { return float64(len(n.power)) / 1000 }

func (n *sensors) add(t float64, tell func(*energy.Ledger)) {
	n.facts = append(n.facts, fact{int64(t * 1e9), tell})
}

// ring is a driver's ring: a mean every 20 ms, its stamps jittering, fetched once a second.
func (n *sensors) ring() {
	gain := 1 + 0.004*n.r.NormFloat64()
	last := 0.0
	for t := 0.02; t < n.seconds(); t += 0.02 {
		at := t + 0.002*(n.r.Float64()-0.5)
		mw := int64((n.joules(at) - n.joules(last)) / (at - last) * gain * (1 + 0.004*n.r.NormFloat64()) * 1000)
		ns := int64(at * 1e9)
		last = at
		n.samples = append(n.samples, recording.Sample{At: ns, MW: mw})
		n.add(math.Ceil(t), func(l *energy.Ledger) { l.Power(ns, mw) })
	}
}

// counter ticks every 100 ms and is polled every poll seconds. duty is the part of each tick's span that
// its sensor looks at (an A100's a quarter).
func (n *sensors) counter(poll, lag, duty float64) {
	var ticks []float64 // J at each tick
	var sum float64
	for t := 0.1; t < n.seconds(); t += 0.1 {
		sum += (n.joules(t) - n.joules(t-0.1*duty)) / duty
		ticks = append(ticks, sum)
	}
	phase := 0.1 * n.r.Float64()
	for t := 0.05; t < n.seconds(); t += poll {
		t += 0.002 * (n.r.Float64() - 0.5)
		seen := t
		if t > n.stillFrom && t < n.stillTo {
			seen = n.stillFrom
		}
		k := int((seen - lag - phase) / 0.1)
		uj := int64(0)
		if k > 0 && k <= len(ticks) {
			// Tick k happened at phase + 0.1 k and covers up to 0.1 k of the trace moved by phase.
			uj = int64(n.tickJ(ticks, k, phase, duty) * 1e6)
		}
		if n.resetAt > 0 && t > n.resetAt {
			uj = max(0, uj-int64(n.joules(n.resetAt)*1e6))
		}
		before, after := int64(t*1e9), int64((t+0.003)*1e9)
		uj = uj / 1000 * 1000
		n.looks = append(n.looks, recording.Reading{Before: before, After: after, EnergyUJ: uj, HasEnergy: true})
		n.add(t+0.003, func(l *energy.Ledger) { l.Counter(before, after, uj) })
	}
}

func (n *sensors) tickJ(ticks []float64, k int, phase, duty float64) float64 {
	if duty == 1 {
		return n.joules(phase + 0.1*float64(k))
	}
	return ticks[k-1]
}

// average is a sensor that shows the mean of the last second, refreshed every 100 ms.
func (n *sensors) average() {
	gain := 1 + 0.01*n.r.NormFloat64()
	for t := 0.1; t < n.seconds(); t += 0.1 {
		at := t + 0.003*(n.r.Float64()-0.5)
		from := max(0, at-1+0.006*(n.r.Float64()-0.5))
		mw := int64((n.joules(at)-n.joules(from))/(at-from)*gain*1000 + 300*n.r.NormFloat64())
		ns := int64((t + 0.01) * 1e9)
		n.looks = append(n.looks, recording.Reading{Before: ns, After: ns, AverageMW: mw, HasAverage: true})
		n.add(t+0.01, func(l *energy.Ledger) { l.Power(ns, mw) })
	}
}

func profiles() []profile {
	return []profile{
		{"H100 ring", energy.Config{Shape: energy.ShapeSamples}, func(n *sensors) { n.ring(); n.counter(0.05, 0.02, 1) }},
		{"A100 100 ms", energy.Config{Shape: energy.ShapeCounter, Duty: 0.25}, func(n *sensors) { n.counter(0.02, 0.01, 0.25) }},
		{"RTX 1 s average", energy.Config{Shape: energy.ShapeAverage, NoCounter: true, Average: time.Second}, (*sensors).average},
		{"counter only", energy.Config{Shape: energy.ShapeCounter}, func(n *sensors) { n.counter(0.02, 0.02, 1) }},
	}
}
