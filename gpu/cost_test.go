package gpu

import (
	"runtime"
	"testing"
	"time"

	"wattline/meter"
)

// busySource is a source of one device with an H100's sample buffer and counter and calls that cost nothing: what
// is left is the sampler's own cost.
type busySource struct{ clock *Clock }

func (s busySource) Name() string          { return "busy" }
func (s busySource) List() ([]Info, error) { return []Info{s.info()}, nil }
func (s busySource) Close() error          { return nil }
func (s busySource) Open(string) (Device, error) {
	return &busyDevice{s: s, last: s.clock.Now()}, nil
}

func (s busySource) info() Info {
	return Info{
		UUID: "BUSY", Kind: KindGPU, Source: "busy", Supported: MetricEnergy | MetricBuffer | MetricPower | MetricStatus | MetricProcesses,
		Expected: map[Channel]ChannelSpec{ChannelBuffer: {StepNs: 20e6, WindowNs: 20e6, LagNs: 12e6}, ChannelCounter: {StepNs: 100e6, LagNs: 30e6}},
	}
}

type busyDevice struct {
	s    busySource
	last int64
}

func (d *busyDevice) Info() Info   { return d.s.info() }
func (d *busyDevice) Close() error { return nil }

func (d *busyDevice) Read(w Metrics, r *Reading) error {
	now := d.s.clock.Now()
	r.Before, r.After = now, now
	if w&MetricEnergy != 0 {
		r.Energy = Tick{Before: now, After: now + 3e6, Uj: now / 1e8 * 1e8 / 1e6 * 300, OK: true}
	}
	if w&MetricBuffer != 0 {
		for ; d.last+20e6 < now; d.last += 20e6 {
			r.Buffer = append(r.Buffer, Sample{At: d.last + 20e6, Mw: 250e3 + d.last/20e6%7*25e3})
		}
	}
	if w&MetricStatus != 0 {
		r.Status = Status{TempC: meter.Some(40), LimitMw: meter.Some(700e3)}
	}
	return nil
}

// second samples one second of a busy device: one fetch of the buffer, one read of the counter, one
// status, and the row that comes of it.
func second(r *runner) {
	r.cfg.Clock.wall += 1e9
	r.Observe(Event{At: r.cfg.Clock.Now(), Request: 1, Phase: meter.PhaseDecode})
	r.round(MetricBuffer | MetricPower | MetricStatus)
	r.round(MetricEnergy)
	r.Observe(Event{At: r.cfg.Clock.Now(), Request: 1, Phase: meter.PhaseDone})
}

func busyRunner(tb testing.TB) *runner {
	cfg := Config{Clock: NewClock(), Budget: defaultBudget, WakeSleeping: true, Handle: func(*Batch) {}, cpu: threadCPU}
	src := busySource{}
	cfg.Targets = []Target{{Source: &src, Info: src.info()}}
	s, err := Start(Config{Clock: cfg.Clock})
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Log = discard()
	r := newRunner(cfg, 0, s.quit)
	src.clock = &r.cfg.Clock
	if err := r.tryOpen(); err != nil {
		tb.Fatal(err)
	}
	for range 3 {
		second(r)
	}
	for !r.learn.probeOver(r.cfg.Clock.Now()) {
		r.learn.probe.want(r.info.Supported, r.cfg.Clock.Now())
		r.cfg.Clock.wall += 1e9
	}
	for range 120 {
		second(r)
	}
	return r
}

// BenchmarkSecond measures one second of sampling a busy H100 without the driver's calls. One
// core has 1e9 ns a second: 100,000 ns are 0.01 % of it.
func BenchmarkSecond(b *testing.B) {
	r := busyRunner(b)
	b.ReportAllocs()
	for b.Loop() {
		second(r)
	}
}

// TestCost guards the cost: a second may allocate the snapshot for State and little else, and the mean
// over ten minutes, learning included, stays far below 0.5 % of a core.
func TestCost(t *testing.T) {
	r := busyRunner(t)
	if n := testing.AllocsPerRun(600, func() { second(r) }); n > 30 {
		t.Errorf("a second allocates %g times", n)
	}
	const seconds = 600
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadCPU() // not the wall clock: other load on the machine does not count
	for range seconds {
		second(r)
	}
	mean := (threadCPU() - began) / seconds
	if t.Logf("a second costs %v", mean); mean > time.Millisecond {
		t.Errorf("a second costs %v of a core", mean)
	}
}
