package sim

import (
	"math"
	"slices"
	"time"

	"wattline/meter"
)

// Model says what the simulated card draws. All in watts, degrees Celsius and durations; the zero value
// is replaced by H100.
type Model struct {
	IdleW     float64 // loaded and idle at RefC
	LeakWPerC float64 // what idle draws more per degree
	RefC      float64

	DecodeW    float64 // one run of adjacent slots that decode: the weight read
	PerDecodeW float64 // each decoding request
	ContextW   float64 // each 1,000 tokens of a decoding request's context
	PrefillW   float64 // one prompt being processed
	SecondW    float64 // each further one: they are batched together
	CeilingW   float64 // active power saturates towards this
	TokensPerS float64 // by which a decoding request's context grows

	DroopPart float64       // part of active power that is lost as clocks droop
	DroopTau  time.Duration // how fast
	RelaxTau  time.Duration // how fast power follows a change of load

	AmbientC   float64
	CPerW      float64 // steady warming per watt
	ThermalTau time.Duration
}

// H100 resembles the card of the recordings: 120 W loaded and idle, about 215 W decoding one request,
// 590 W in prefill, idle drift 0.77 W per degree.
var H100 = Model{
	IdleW: 118, LeakWPerC: 0.77, RefC: 37,
	DecodeW: 72, PerDecodeW: 26, ContextW: 2.5, PrefillW: 690, SecondW: 60, CeilingW: 900, TokensPerS: 120,
	DroopPart: 0.06, DroopTau: 1500 * time.Millisecond, RelaxTau: 15 * time.Millisecond,
	AmbientC: 28, CPerW: 0.075, ThermalTau: 25 * time.Second,
}

// request holds what the model knows about a request in flight.
type request struct {
	phase   meter.Phase
	slot    int
	context float64 // tokens at since
	since   int64
}

// active returns the steady active power of the requests at t, and by how many watts per second it
// grows with their contexts.
func (m *Model) active(rs map[uint64]request, t int64) (watts, perSecond float64) {
	var raw, slope float64
	var slots []int
	var prefills, unknown int
	for _, r := range rs {
		switch r.phase {
		case meter.PhasePrefill:
			prefills++
		case meter.PhaseDecode:
			tokens := r.context + m.TokensPerS*float64(t-r.since)/1e9
			raw += m.PerDecodeW + m.ContextW*tokens/1000
			slope += m.ContextW * m.TokensPerS / 1000
			if r.slot < 0 {
				unknown++
			} else {
				slots = append(slots, r.slot)
			}
		}
	}
	raw += m.DecodeW * float64(runs(slots, unknown))
	if prefills > 0 {
		raw += m.PrefillW + m.SecondW*float64(prefills-1)
	}
	// Saturation, and its derivative for the growth.
	gone := math.Exp(-raw / m.CeilingW)
	return m.CeilingW * (1 - gone), slope * gone
}

// runs counts the runs of adjacent slots; requests without a known slot are one run.
func runs(slots []int, unknown int) int {
	slices.Sort(slots)
	n := min(unknown, 1)
	for i, s := range slots {
		if i == 0 || s > slots[i-1]+1 {
			n++
		}
	}
	return n
}
