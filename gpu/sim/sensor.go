package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Sensor is how a channel sees the truth.
type Sensor struct {
	Off    bool // the card has no such channel
	Denied bool // it has, and this user may not read it

	Period time.Duration // between updates
	Window time.Duration // what an update averages over; shorter than Period is partial coverage
	Lag    time.Duration // by which an update shows late
	Phase  time.Duration // of the updates within Period

	Gain      float64 // 0 means 1
	NoiseMw   float64 // standard deviation of each update
	QuantumMw int64   // resolution; for the counter, in mJ; 0 means 1
}

// Faults are the sensors of a card and what happens to it. The zero value is replaced by Healthy.
type Faults struct {
	Counter Sensor // Window and NoiseMw are not used
	Buffer  Sensor
	Instant Sensor
	Average Sensor

	BufferDepth int           // samples that the buffer holds
	BufferAge   time.Duration // age of the newest sample that a read returns

	// Moments on the source's Clock; 0 means never.
	CounterFrozenFrom int64 // the counter stands still from then on
	CounterResetAt    int64 // the counter begins at 0 again
	CounterJumpAt     int64 // the counter jumps by 100 kJ
	LostFrom, LostTo  int64 // the device does not answer

	EnergyCall time.Duration // how long a read of the counter blocks
}

// Healthy are the sensors of the recorded H100, without faults.
func Healthy() Faults {
	return Faults{
		Counter:     Sensor{Period: 100 * time.Millisecond, Lag: 30 * time.Millisecond},
		Buffer:      Sensor{Period: 20 * time.Millisecond, Window: 20 * time.Millisecond},
		Instant:     Sensor{Period: 100 * time.Millisecond, Window: 25 * time.Millisecond},
		Average:     Sensor{Period: 100 * time.Millisecond, Window: time.Second},
		BufferDepth: 119, BufferAge: 12 * time.Millisecond,
	}
}

// update returns the number and the moment of the last update that shows at t. Numbers begin at the
// epoch of t's clock.
func (s *Sensor) update(t int64) (k, at int64) {
	p := int64(max(s.Period, 100*time.Microsecond))
	shown := t - int64(s.Lag) - int64(s.Phase)
	k = shown / p
	return k, k*p + int64(s.Phase)
}

// mw returns what update k, which measured up to at, shows.
func (s *Sensor) mw(c *TruePower, seed uint64, k, at int64) int64 {
	window := max(int64(s.Window), 1e5)
	watts := (c.EnergyJ(at) - c.EnergyJ(at-window)) / (float64(window) / 1e9)
	mw := watts * 1000 * s.gain()
	if s.NoiseMw > 0 {
		mw += rand.New(rand.NewPCG(seed, uint64(k))).NormFloat64() * s.NoiseMw
	}
	return max(0, quantise(mw, s.QuantumMw))
}

// uj returns what the counter shows after the update at a moment.
func (s *Sensor) uj(c *TruePower, at int64) int64 {
	return quantise(c.EnergyJ(at)*1000*s.gain(), s.QuantumMw) * 1000
}

func (s *Sensor) gain() float64 {
	if s.Gain == 0 {
		return 1
	}
	return s.Gain
}

func quantise(v float64, q int64) int64 {
	if q <= 1 {
		return int64(math.Round(v))
	}
	return int64(math.Floor(v/float64(q))) * q
}
