package gpu

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"wattline/meter"
)

func TestIntJSON(t *testing.T) {
	b, err := json.Marshal(struct{ A, B, C meter.Int }{meter.Some(0), meter.Int{}, meter.Some(-7)})
	if err != nil || string(b) != `{"A":0,"B":null,"C":-7}` {
		t.Errorf("%s, %v", b, err)
	}
}

func TestThrottle(t *testing.T) {
	got := (ThrottleIdle | ThrottlePowerCap | ThrottleHwThermal).Strings()
	if !slices.Equal(got, []string{"power cap", "hardware thermal"}) {
		t.Errorf("%q", got)
	}
}

// TestClock: stamps are the wall clock's, and do not depend on when they are made from a time.
func TestClock(t *testing.T) {
	c := NewClock()
	now := time.Now()
	if d := c.At(now) - now.UnixNano(); d > 1e6 || d < -1e6 {
		t.Errorf("off the wall clock by %d ns", d)
	}
	if d := c.FromReal(now.UnixNano()) - c.At(now); d > 1e6 || d < -1e6 {
		t.Errorf("the driver's stamps are off by %d ns", d)
	}
	if a, b := c.Now(), c.Now(); b < a {
		t.Errorf("%d after %d", b, a)
	}
	if got := c.Time(c.At(now)); got.Sub(now).Abs() > time.Millisecond {
		t.Errorf("%v became %v", now, got)
	}
}

// TestCallStats: quantiles are right to an eighth.
func TestCallStats(t *testing.T) {
	var s callStats
	for i := range int64(1000) {
		s.add((i + 1) * 10_000) // 10 us to 10 ms
	}
	for q, want := range map[float64]float64{0.5: 5e6, 0.99: 9.9e6} {
		if got := float64(s.quantile(q)); got < want || got > want*1.13 {
			t.Errorf("p%g is %.0f, want %.0f", 100*q, got, want)
		}
	}
	if s.maxNs != 1e7 || s.quantile(1) != 1e7 {
		t.Errorf("max %d, p100 %d", s.maxNs, s.quantile(1))
	}
	for _, ns := range []int64{0, 1, 999, 1000, 1 << 62} {
		if i := bucketOf(ns); i < 0 || i >= len(s.bucket) {
			t.Errorf("%d ns fall into bucket %d", ns, i)
		}
	}
}

// TestIntervals: each group's pace, busy and idle.
func TestIntervals(t *testing.T) {
	h100 := paceInputs{profile: ChannelBuffer, profileStep: 20e6, bufferSpan: 2.4e9, tickPeriod: 100e6, energyCost: 200 * time.Microsecond, budget: 0.003}
	busy := h100
	busy.busy = true
	dear := busy
	dear.energyCost = 3500 * time.Microsecond
	cpu := paceInputs{busy: true, profile: ChannelCounter, energyCost: 10 * time.Microsecond, budget: 0.003}
	coarse := busy
	coarse.profile, coarse.energyCost = ChannelAverage, 100*time.Microsecond
	slowList, slowerList := busy, busy
	slowList.procsCost, slowerList.procsCost = 200e3, 60e6
	polled := paceInputs{busy: true, profile: ChannelInstant, profileStep: 100e6, budget: 0.003}
	for _, x := range []struct {
		name string
		f    paceInputs
		w    Metrics
		want int64
	}{
		{"the sample buffer once a second", busy, MetricBuffer, 960e6},
		{"before it overflows when idle", h100, MetricBuffer, 1680e6},
		{"the counter once a second", busy, MetricEnergy, 1e9},
		{"five times where power is polled", coarse, MetricEnergy, 200e6},
		{"less often where a read is dear", dear, MetricEnergy, 1_400_000_000},
		{"a counter that is all there is", cpu, MetricEnergy, 20e6},
		{"idle", h100, MetricEnergy, 4e9},
		{"polled power four times a step", polled, MetricPower, 25e6},
		{"power that is only shown", busy, MetricPower, 1e9},
		{"processes twice a second where a list costs nothing", busy, MetricProcesses, 500e6},
		{"and every 2 s when idle", h100, MetricProcesses, 2e9},
		{"less often where a list takes time", slowList, MetricProcesses, 1e9},
		{"seldom where it takes long", slowerList, MetricProcesses, 10e9},
	} {
		if got := x.f.interval(x.w); got != x.want {
			t.Errorf("%s: every %.0f ms, want %.0f", x.name, float64(got)/1e6, float64(x.want)/1e6)
		}
	}
}

// square is a load that goes on and off, and a curve that follows it late.
func square(lag int64) (*load, *powerHistory) {
	l, c := &load{}, &powerHistory{}
	on := func(t int64) bool { return t/1e6%1703 < 611 || t/1e6%4327 < 907 }
	was := false
	for t := int64(0); t < 60e9; t += 1e6 {
		if now := on(t); now != was {
			was = now
			level := 0.0
			if now {
				level = 1
			}
			l.set(t, level)
		}
	}
	for t := int64(20e6); t < 60e9; t += 20e6 {
		var sum int64
		for u := t - 20e6; u < t; u += 1e6 {
			sum += 100e3
			if u >= lag && on(u-lag) {
				sum += 200e3
			}
		}
		c.add(Sample{At: t, Mw: sum / 20})
	}
	return l, c
}

func TestLagOf(t *testing.T) {
	for _, lag := range []int64{0, 12e6, 40e6, 333e6, 1200e6} {
		l, c := square(lag)
		got, corr := lagOf(l, c, 5e9, 50e9, (lagMaxNs+lagMinNs)/2, (lagMaxNs-lagMinNs)/2)
		if math.Abs(float64(got-lag)) > 3e6 || corr < 0.9 || corr > 1.001 {
			t.Errorf("lag %d ms: found %d ms, correlation %.2f", lag/1e6, got/1e6, corr)
		}
	}
	_, c := square(0)
	if _, corr := lagOf(&load{}, c, 5e9, 50e9, 0, 100e6); corr != 0 {
		t.Errorf("without a load, a correlation of %.2f", corr)
	}
	other, _ := square(777e6)
	if _, corr := lagOf(other, &powerHistory{}, 5e9, 50e9, 0, 100e6); corr != 0 {
		t.Errorf("without power, a correlation of %.2f", corr)
	}
}

// TestCounterFit: the slope is right whatever the counter lags the samples by.
func TestCounterFit(t *testing.T) {
	_, c := square(0)
	for _, lag := range []int64{-200e6, 0, 20e6, 90e6} {
		var steps []counterStep
		for at := int64(5e9); at < 50e9; at += 1e8 {
			steps = append(steps, counterStep{lo: at - 1e6, hi: at + 1e6, uj: int64(1.25 * c.energy(at-lag))})
		}
		slope, rms, ok := counterFit(steps, c)
		if !ok || math.Abs(slope-1.25) > 0.001 || rms > 1e6 {
			t.Errorf("lag %d ms: slope %.4f, rms %.0f, %v", lag/1e6, slope, rms, ok)
		}
	}
}

// TestPowerHistory: the integral of steps, its ends, a gap, and what is forgotten.
func TestPowerHistory(t *testing.T) {
	c := powerHistory{gapNs: 1e9}
	c.add(Sample{0, 1000}, Sample{100e6, 2000}, Sample{200e6, 4000}, Sample{150e6, 9}, Sample{200e6, 9})
	for at, want := range map[int64]float64{0: 0, 50e6: 100_000, 100e6: 200_000, 200e6: 600_000, 300e6: 1_000_000, -100e6: -100_000} {
		if got := c.energy(at); math.Abs(got-want) > 1 {
			t.Errorf("energy up to %d ms is %.0f uJ, want %.0f", at/1e6, got, want)
		}
	}
	if low, high := c.extremes(60e6, 150e6); low != 2000 || high != 4000 {
		t.Errorf("between %d and %d", low, high)
	}
	c.add(Sample{2200e6, 8000})
	if got := c.energy(2200e6) - c.energy(200e6); math.Abs(got-12e6) > 1 || c.gaps != 1 || !c.gapIn(1e9, 1.1e9) || c.gapIn(0, 100e6) {
		t.Errorf("a gap holds %.0f uJ, %d gaps", got, c.gaps)
	}
	before := c.energy(2200e6) - c.energy(2100e6)
	c.trim(2150e6)
	if len(c.at) > 3 || math.Abs(c.energy(2200e6)-c.energy(2100e6)-before) > 1e-6 {
		t.Errorf("%d samples kept", len(c.at))
	}
}

// TestPowerAlone: without a counter energies are told, marked, and with the vendor's tolerance in the
// bound.
func TestPowerAlone(t *testing.T) {
	tr := NewTrace(time.Minute)
	b := &Batch{Epoch: 1, Profile: ChannelAverage, StepNs: 100e6, WindowNs: 1e9, LagsLearnt: true, ProfileErrNs: lagErrLearntNs}
	for at := int64(0); at <= 20e9; at += 100e6 {
		b.Samples = append(b.Samples, Sample{At: at, Mw: 200e3})
	}
	tr.Add(b)
	e := tr.Energy(5e9, 15e9)
	if !e.OK || e.Uj != 2_000_000_000 || e.ErrorUj < 100e6 || e.Marked != MarkNoCounter || e.Channel != ChannelAverage {
		t.Errorf("%+v", e)
	}
	if e := tr.Energy(15e9, 25e9); e.OK {
		t.Errorf("beyond the last sample: %+v", e)
	}
	if e := tr.Energy(5e9, 5e9); e.OK {
		t.Errorf("of no time: %+v", e)
	}
	tr.Add(&Batch{Epoch: 2, Profile: ChannelAverage})
	if e := tr.Energy(5e9, 15e9); e.OK {
		t.Errorf("of an epoch that has ended: %+v", e)
	}
}

// TestListsAtARequest: a request has the processes listed at once, and many short ones at most twice a second.
func TestListsAtARequest(t *testing.T) {
	var p pacer
	p.start(MetricProcesses, 0)
	f := paceInputs{profile: ChannelBuffer}
	p.done(MetricProcesses, 0, f, nil)
	busy := f
	busy.busy = true
	p.bringForward(1e9, busy)
	if w, _ := p.take(MetricProcesses, 1e9); w != MetricProcesses {
		t.Error("a request after a pause: no list")
	}
	lists := 0
	for now := int64(1e9); now < 3e9; now += 5e6 { // 200 requests a second
		p.bringForward(now, busy)
		if w, _ := p.take(MetricProcesses, now); w != 0 {
			lists++
			p.done(w, now, f, nil)
		}
	}
	if lists != 4 {
		t.Errorf("%d lists in 2 s of short requests", lists)
	}
}

// TestTwoSuspendedChannels: both channels that were left out one after the other get another chance.
func TestTwoSuspendedChannels(t *testing.T) {
	var l learner
	l.begin(Info{Supported: MetricBuffer | MetricPower, Expected: map[Channel]ChannelSpec{ChannelBuffer: {StepNs: 20e6}, ChannelInstant: {StepNs: 100e6}}})
	l.probing = false
	first := l.profile
	l.suspend()
	if second := l.profile; second == first || second == "" {
		t.Fatalf("after %q comes %q", first, second)
	}
	l.suspend()
	l.nextAttempt = 1 << 62
	l.improve(l.retryAt+1, &Trace{}, nil)
	if l.profile != first || len(l.demoted) != 0 {
		t.Errorf("profile %q, left out: %v", l.profile, l.demoted)
	}
}
