package gpu

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
)

// pricedSource is a card in a bubble. Its calls take the time that they take on the H100 of SAMPLING.md.
type pricedSource struct {
	clock Clock
	r     *rand.Rand
	spent atomic.Int64 // ns of CPU
	calls [5]atomic.Int64
	waken atomic.Int64

	energy    int64 // us of a read of the counter; 0: an H100's
	wandersAt int64 // from when on the counter's steps are irregular; 0: never
}

// What the groups cost there, in microseconds of CPU: the median, and what one call in ten costs. A read of the
// counter took 3 to 6 ms.
var h100Prices = map[Metrics]struct{ usual, tenth int64 }{
	MetricEnergy: {3600, 6000}, MetricBuffer: {512, 2000}, MetricPower: {4, 24}, MetricStatus: {72, 109}, MetricProcesses: {208, 1465},
}

// wakePrice is a round's cost beside its calls: the thread's waking and the sampler's own work.
const wakePrice = 100e3

func (s *pricedSource) Name() string                { return "priced" }
func (s *pricedSource) List() ([]Info, error)       { return []Info{s.info()}, nil }
func (s *pricedSource) Close() error                { return nil }
func (s *pricedSource) Open(string) (Device, error) { return &pricedDevice{s: s}, nil }
func (s *pricedSource) cpu() time.Duration          { return time.Duration(s.spent.Load()) }
func (s *pricedSource) info() Info                  { return busySource{}.info() }

type pricedDevice struct {
	s    *pricedSource
	last int64
	at   int64 // of the last call, to tell rounds apart
}

func (d *pricedDevice) Info() Info   { return d.s.info() }
func (d *pricedDevice) Close() error { return nil }

func (d *pricedDevice) Read(w Metrics, r *Reading) error {
	s := d.s
	r.Before = s.clock.Now()
	if r.Before != d.at {
		s.waken.Add(1)
		s.spent.Add(wakePrice)
	}
	price := h100Prices[w]
	if w == MetricEnergy && s.energy > 0 {
		price.usual, price.tenth = s.energy, s.energy*5/3
	}
	cost := price.usual * 1000
	if s.r.IntN(10) == 0 {
		cost = price.tenth * 1000
	}
	w.groups(func(i int, _ Metrics) { s.calls[i].Add(1) })
	time.Sleep(time.Duration(cost))
	s.spent.Add(cost)
	now := s.clock.Now()
	r.After, d.at = now, now
	switch w {
	case MetricEnergy:
		r.Energy = Tick{Before: r.Before, After: now, Uj: s.counter(now - cost/2), OK: true}
	case MetricBuffer:
		if d.last == 0 {
			d.last = now/20e6*20e6 - 119*20e6
		}
		for ; d.last+20e6 < now; d.last += 20e6 {
			r.Buffer = append(r.Buffer, Sample{At: d.last + 20e6, Mw: 300e3})
		}
	case MetricPower:
		r.PowerAt, r.InstantMw = now, meter.Some(300e3)
	case MetricStatus:
		r.Status = Status{TempC: meter.Some(40), LimitMw: meter.Some(700e3)}
	case MetricProcesses:
		r.ProcsKnown = true
	}
	return nil
}

// counter returns what the counter shows at t, in microjoules: 300 W in steps of 100 ms.
func (s *pricedSource) counter(t int64) int64 {
	step := t / 1e8
	if s.wandersAt > 0 && t > s.wandersAt && t%1e8 < int64(rand.New(rand.NewPCG(uint64(step), 1)).IntN(80e6)) {
		step-- // this one comes up to 80 ms late
	}
	return step * 30e6
}

// TestBudget: the calls that the sampler makes, at what they cost on an H100, are less than half a percent of a
// core while requests are in flight, far less while none is, and the start has its own bound.
func TestBudget(t *testing.T) {
	t.Run("H100", func(t *testing.T) { budget(t, 0, 1.6, 0.25) })
	t.Run("6 ms a read of the counter", func(t *testing.T) { budget(t, 6000, 2.6, 0.3) }) // an H200, 2026-11-30
}

// budget checks the shares of a core with reads of the counter at a price in microseconds (0: an H100's).
func budget(t *testing.T, price int64, start, idle float64) {
	synctest.Test(t, func(t *testing.T) {
		s := &pricedSource{clock: NewClock(), r: rand.New(rand.NewPCG(1, 2)), energy: price}
		sampler, err := Start(Config{Clock: s.clock, Targets: []Target{{Source: s, Info: s.info()}}, cpu: s.cpu})
		if err != nil {
			t.Fatal(err)
		}
		spell := func(name string, most float64, during func()) {
			before, waken, began := s.cpu(), s.waken.Load(), s.clock.Now()
			var calls [5]int64
			for i := range calls {
				calls[i] = s.calls[i].Load()
			}
			during()
			synctest.Wait()
			d := time.Duration(s.clock.Now() - began)
			part := 100 * float64(s.cpu()-before) / float64(d)
			each := func(i int) float64 { return float64(s.calls[i].Load()-calls[i]) / d.Seconds() }
			t.Logf("%-22s %.3f %% of a core (%.0f ms in %v); a second: %.2f reads of the counter, %.2f fetches of the buffer, %.2f status, %.2f processes, %.1f wake-ups", name, part,
				float64(s.cpu()-before)/1e6, d, each(0), each(1), each(3), each(4), float64(s.waken.Load()-waken)/d.Seconds())
			if part > most {
				t.Errorf("%s: %.3f %% of a core, at most %.2f", name, part, most)
			}
		}
		tell := func(id uint64, phase meter.Phase) {
			sampler.Observe(Event{At: s.clock.Now(), Request: id, Phase: phase})
		}
		spell("the first ten seconds", start, func() { time.Sleep(10 * time.Second) }) // 100 ms of them for the probe
		spell("idle", idle, func() { time.Sleep(10 * time.Minute) })
		spell("busy", 0.5, func() {
			tell(1, meter.PhaseDecode)
			time.Sleep(10 * time.Minute)
			tell(1, meter.PhaseDone)
		})
		spell("short ones now and then", 0.5, func() {
			for id := range uint64(100) {
				tell(2+id, meter.PhasePrefill)
				time.Sleep(time.Second)
				tell(2+id, meter.PhaseDone)
				time.Sleep(5 * time.Second)
			}
		})
		sampler.Stop()
	})
}

// TestStepPlacementOnBudget: at an H100's prices the counter's steps are followed too: three quarters of the reads
// place their step within 40 of the 100 ms between two, whatever is in flight.
func TestStepPlacementOnBudget(t *testing.T) {
	for _, busy := range []bool{true, false} {
		misplaced, _ := placement(t, busy, 12)
		if t.Logf("busy %v: %.1f %% of the reads place their step within 40 ms", busy, 100-misplaced); misplaced > 25 {
			t.Errorf("busy %v: only %.1f %%", busy, 100-misplaced)
		}
	}
}

// TestBoundOfAShortRead: after twelve seconds, what `wattline gpu --look 12s` prints of an idle card's last
// second is known within a quarter of its energy, also where a read of the counter takes 6 ms of CPU. The
// bound was up to 470 % of the energy while reads that prove the samples kept to the regular pace.
func TestBoundOfAShortRead(t *testing.T) {
	for _, price := range []int64{100, 1000, 2000, 3600, 6000} {
		worst := startBound(t, price)
		if t.Logf("%d us a read: at most ± %.1f %%", price, 100*worst); worst > 0.25 {
			t.Errorf("%d us a read: ± %.1f %%", price, 100*worst)
		}
	}
}
