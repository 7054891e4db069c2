package sim

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"wattline/gpu"
	"wattline/meter"
)

// randomEvents is a schedule of n requests on four slots.
func randomEvents(r *rand.Rand, n int) []gpu.Event {
	var out []gpu.Event
	at := int64(1e9)
	type ending struct {
		at int64
		id uint64
	}
	var ends []ending
	for i := range n {
		at += r.Int64N(2e9)
		for len(ends) > 0 && ends[0].at < at {
			out = append(out, gpu.Event{At: ends[0].at, Request: ends[0].id, Phase: meter.PhaseDone})
			ends = ends[1:]
		}
		id := uint64(i)
		out = append(out, gpu.Event{At: at, Request: id, Phase: meter.PhasePrefill, Slot: i % 4, Tokens: 1000})
		at += r.Int64N(1e9)
		out = append(out, gpu.Event{At: at, Request: id, Phase: meter.PhaseDecode, Slot: i % 4, Tokens: 1000})
		end := at + r.Int64N(3e9)
		if len(ends) > 0 {
			end = max(end, ends[len(ends)-1].at)
		}
		ends = append(ends, ending{end, id})
	}
	for _, e := range ends {
		out = append(out, gpu.Event{At: max(e.at, out[len(out)-1].At), Request: e.id, Phase: meter.PhaseDone})
	}
	return out
}

// played returns the power of a whole schedule on the default card.
func played(events []gpu.Event) *TruePower {
	c := NewTruePower(Model{}, 0)
	for _, e := range events {
		c.Apply(e)
	}
	return c
}

// TestIntegral: the closed form is the integral of the power.
func TestIntegral(t *testing.T) {
	for seed := range uint64(20) {
		c := played(randomEvents(rand.New(rand.NewPCG(seed, 0)), 12))
		var sum float64
		const step = 50_000
		for at := int64(0); at < 20e9; at += step {
			sum += c.PowerW(at+step/2) * step / 1e9
		}
		if got := c.EnergyJ(20e9); math.Abs(got-sum) > 1e-4*sum {
			t.Errorf("seed %d: closed form %f J, numeric %f J", seed, got, sum)
		}
	}
}

// TestContinuous: power does not jump where one segment ends and the next begins.
func TestContinuous(t *testing.T) {
	events := randomEvents(rand.New(rand.NewPCG(3, 0)), 12)
	c := played(events)
	for _, e := range events {
		if a, b := c.PowerW(e.At-1000), c.PowerW(e.At+1000); math.Abs(a-b) > 0.2 {
			t.Errorf("power jumps from %f to %f W at %d", a, b, e.At)
		}
	}
}

// TestLevels: the default model stands where the recorded H100 stood.
func TestLevels(t *testing.T) {
	at := func(phases ...meter.Phase) float64 {
		c := NewTruePower(Model{}, 0)
		for i, p := range phases {
			c.Apply(gpu.Event{At: 1e9, Request: uint64(i), Phase: p, Slot: i, Tokens: 1000})
		}
		return c.PowerW(2e9)
	}
	for _, x := range []struct {
		name     string
		got      float64
		low, top float64
	}{
		{"idle", at(), 115, 125},
		{"waiting costs nothing", at(meter.PhaseWaiting), 115, 125},
		{"decode", at(meter.PhaseDecode), 200, 230},
		{"prefill", at(meter.PhasePrefill), 550, 650},
	} {
		if x.got < x.low || x.got > x.top {
			t.Errorf("%s: %.1f W, want %.0f to %.0f", x.name, x.got, x.low, x.top)
		}
	}
	one, two := at(meter.PhaseDecode)-at(), at(meter.PhaseDecode, meter.PhaseDecode)-at()
	if two > 1.6*one {
		t.Errorf("two neighbours decode at %.0f W, one at %.0f: the weight read is not shared", two, one)
	}
	apart := NewTruePower(Model{}, 0)
	for i, slot := range []int{0, 2} {
		apart.Apply(gpu.Event{At: 1e9, Request: uint64(i), Phase: meter.PhaseDecode, Slot: slot, Tokens: 1000})
	}
	if gap := apart.PowerW(2e9) - at(); gap < 1.3*two {
		t.Errorf("slots 0 and 2 decode at %.0f W, slots 0 and 1 at %.0f: the gap costs nothing", gap, two)
	}
}

// TestSensors: each sensor setting does to the truth what it says.
func TestSensors(t *testing.T) {
	c := NewTruePower(Model{}, 0)
	c.Apply(gpu.Event{At: 5e9, Request: 1, Phase: meter.PhasePrefill, Slot: 0})
	idle, busy := c.PowerW(4.9e9)*1000, c.PowerW(9.9e9)*1000
	read := func(s Sensor, at int64) float64 {
		k, seen := s.update(at)
		return float64(s.mw(c, 1, k, seen))
	}
	ms := time.Millisecond
	if got := read(Sensor{Period: 100 * ms, Window: 100 * ms, Lag: 300 * ms}, 5.25e9); math.Abs(got-idle) > 1000 {
		t.Errorf("a sensor that lags 300 ms shows %.0f mW 250 ms after the step", got)
	}
	if got := read(Sensor{Period: 100 * ms, Window: time.Second}, 5.5e9); math.Abs(got-(idle+busy)/2) > 0.06*busy {
		t.Errorf("a 1 s average shows %.0f mW half a second after the step from %.0f to %.0f", got, idle, busy)
	}
	if got := read(Sensor{Period: 100 * ms, Window: 10 * ms, Gain: 0.9}, 9.9e9); math.Abs(got-0.9*busy) > 2000 {
		t.Errorf("gain 0.9 shows %.0f of %.0f mW", got, busy)
	}
	if got := read(Sensor{Period: 100 * ms, Window: 10 * ms, QuantumMw: 5000}, 9.9e9); math.Mod(got, 5000) != 0 {
		t.Errorf("%.0f mW is no multiple of 5 W", got)
	}
	noisy := Sensor{Period: ms, Window: ms, NoiseMw: 3000}
	var sum, squares float64
	for i := range int64(2000) {
		d := read(noisy, 2e9+i*1e6) - idle
		sum, squares = sum+d, squares+d*d
	}
	if rms := math.Sqrt(squares / 2000); rms < 2700 || rms > 3300 || math.Abs(sum/2000) > 300 {
		t.Errorf("noise of 3 W has rms %.0f and mean %.0f mW", rms, sum/2000)
	}
}
