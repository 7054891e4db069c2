package sim

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"wattline/gpu"
	"wattline/meter"
)

// Config says what to simulate.
type Config struct {
	Clock   gpu.Clock
	Seed    uint64
	Model   Model         // zero: H100
	Faults  *Faults       // nil: Healthy
	Devices int           // 0 means 1; all do the same work
	Keep    time.Duration // how much of the truth is remembered; 0 means an hour
}

// Source is a gpu.Source of simulated devices and a gpu.Activity that moves their power.
type Source struct {
	cfg Config

	// mu guards all below: Observe, Read and the truth run on different goroutines.
	mu     sync.Mutex
	power  *TruePower
	faults Faults
	procs  []gpu.Process
	open   int
	events []gpu.Event // that power does not have yet
}

// New makes a source. Its past is idle.
func New(cfg Config) *Source {
	cfg.Devices = max(cfg.Devices, 1)
	if cfg.Keep == 0 {
		cfg.Keep = time.Hour
	}
	s := &Source{cfg: cfg, faults: Healthy()}
	if cfg.Faults != nil {
		s.faults = *cfg.Faults
	}
	// Sensors show the past: let there be some, at idle.
	s.power = NewTruePower(cfg.Model, cfg.Clock.Now()-int64(10*time.Second))
	return s
}

// Observe implements gpu.Activity.
func (s *Source) Observe(e gpu.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events = append(s.events, e); len(s.events) == 1024 {
		s.played().trim(s.cfg.Clock.Now() - int64(s.cfg.Keep))
	}
}

// played returns the power with all events applied. Events are applied when the power is read, because Observe
// is called on the data path.
func (s *Source) played() *TruePower {
	for _, e := range s.events {
		s.power.Apply(e)
	}
	s.events = s.events[:0]
	return s.power
}

// TruthUj returns the energy that one device took in [from, to], in microjoules.
func (s *Source) TruthUj(from, to int64) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (s.played().EnergyJ(to) - s.played().EnergyJ(from)) * 1e6
}

// SetFaults changes the sensors from now on.
func (s *Source) SetFaults(change func(*Faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}

// SetProcs sets the processes that compute on the devices.
func (s *Source) SetProcs(p ...gpu.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs = p
}

// OpenDevices returns how many devices are open, for tests of leaks.
func (s *Source) OpenDevices() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Name implements gpu.Source.
func (s *Source) Name() string { return "sim" }

// Close implements gpu.Source.
func (s *Source) Close() error { return nil }

// List implements gpu.Source.
func (s *Source) List() ([]gpu.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]gpu.Info, s.cfg.Devices)
	for i := range out {
		out[i] = s.info(i)
	}
	return out, nil
}

// info describes a device as its sensors allow. The caller holds mu.
func (s *Source) info(i int) gpu.Info {
	in := gpu.Info{
		UUID: fmt.Sprintf("SIM-%d", i), Index: i, Name: "simulated GPU", Kind: gpu.KindGPU, Source: "sim",
		Driver: "simulated", Simulated: true,
		Supported: gpu.MetricStatus | gpu.MetricProcesses, Expected: map[gpu.Channel]gpu.ChannelSpec{}, Unavailable: map[string]string{},
	}
	add := func(name string, w gpu.Metrics, c gpu.Channel, x Sensor, expected gpu.ChannelSpec) {
		switch {
		case x.Off:
			in.Unavailable[name] = "not supported by this card"
		case x.Denied:
			in.Unavailable[name] = "no permission: simulated"
		default:
			in.Supported |= w
			in.Expected[c] = expected
		}
	}
	// What a driver's documentation would say, not what the sensors are set to.
	add("energy counter", gpu.MetricEnergy, gpu.ChannelCounter, s.faults.Counter, gpu.ChannelSpec{LagNs: 30e6})
	add("power samples", gpu.MetricBuffer, gpu.ChannelBuffer, s.faults.Buffer, gpu.ChannelSpec{StepNs: 20e6, WindowNs: 20e6, LagNs: 10e6})
	add("instant power", gpu.MetricPower, gpu.ChannelInstant, s.faults.Instant, gpu.ChannelSpec{StepNs: 100e6, WindowNs: 25e6, LagNs: 60e6})
	add("average power", gpu.MetricPower, gpu.ChannelAverage, s.faults.Average, gpu.ChannelSpec{StepNs: 100e6, WindowNs: 1e9, LagNs: 550e6})
	return in
}

// Open implements gpu.Source.
func (s *Source) Open(uuid string) (gpu.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.cfg.Devices {
		if in := s.info(i); in.UUID == uuid {
			if s.lost(s.cfg.Clock.Now()) {
				return nil, errGone
			}
			s.open++
			return &device{s: s, info: in}, nil
		}
	}
	return nil, fmt.Errorf("sim: %w: %s", gpu.ErrNone, uuid)
}

var errGone = errors.Join(errors.New("sim: the simulated device does not answer"), gpu.ErrLost)

func (s *Source) lost(now int64) bool {
	return s.faults.LostFrom > 0 && now >= s.faults.LostFrom && now < s.faults.LostTo
}

// device is one opened device.
type device struct {
	s      *Source
	info   gpu.Info
	seen   int64 // number of the newest buffered sample given
	closed bool
}

func (d *device) Info() gpu.Info { return d.info }

func (d *device) Close() error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if !d.closed {
		d.closed = true
		d.s.open--
	}
	return nil
}

// Read implements gpu.Device.
func (d *device) Read(w gpu.Metrics, r *gpu.Reading) error {
	s := d.s
	now := s.cfg.Clock.Now()
	r.Before = now
	s.mu.Lock()
	if s.lost(now) {
		s.mu.Unlock()
		return errGone
	}
	f := s.faults
	if w&gpu.MetricBuffer != 0 && !f.Buffer.Off && !f.Buffer.Denied {
		d.buffer(now, r)
	}
	if w&gpu.MetricPower != 0 {
		d.power(now, r)
	}
	if w&gpu.MetricStatus != 0 {
		d.status(now, r)
	}
	if w&gpu.MetricProcesses != 0 {
		r.Procs, r.ProcsKnown = append(r.Procs[:0], s.procs...), true
	}
	if w&gpu.MetricEnergy != 0 && !f.Counter.Off && !f.Counter.Denied {
		r.Energy = gpu.Tick{Before: now, OK: true}
		r.Energy.Uj = d.counter(now + int64(f.EnergyCall)/2)
	}
	s.mu.Unlock()
	if r.Energy.OK && w&gpu.MetricEnergy != 0 {
		if f.EnergyCall > 0 {
			time.Sleep(f.EnergyCall)
		}
		r.Energy.After = s.cfg.Clock.Now()
	}
	r.After = s.cfg.Clock.Now()
	return nil
}

// counter returns what the counter shows at t.
func (d *device) counter(t int64) int64 {
	f := &d.s.faults
	if f.CounterFrozenFrom > 0 {
		t = min(t, f.CounterFrozenFrom)
	}
	_, at := f.Counter.update(t)
	// A counter counts from when the driver was loaded, long before the simulation began.
	uj := 12345e9 + f.Counter.uj(d.s.played(), at)
	if f.CounterResetAt > 0 && t >= f.CounterResetAt {
		_, reset := f.Counter.update(f.CounterResetAt)
		uj = f.Counter.uj(d.s.played(), at) - f.Counter.uj(d.s.played(), reset)
	}
	if f.CounterJumpAt > 0 && t >= f.CounterJumpAt {
		uj += 100e9
	}
	return uj
}

// buffer returns the updates since the last read that the buffer still holds.
func (d *device) buffer(now int64, r *gpu.Reading) {
	f := &d.s.faults
	newest, _ := f.Buffer.update(now - int64(f.BufferAge))
	first := max(d.seen+1, newest-int64(f.BufferDepth)+1)
	for k := first; k <= newest; k++ {
		at := k*int64(f.Buffer.Period) + int64(f.Buffer.Phase)
		r.Buffer = append(r.Buffer, gpu.Sample{
			At: at + int64(f.Buffer.Lag), // the driver stamps what it reads when it reads it
			Mw: f.Buffer.mw(d.s.played(), d.s.cfg.Seed, k, at),
		})
	}
	d.seen = max(d.seen, newest)
}

// power reads the two polled channels.
func (d *device) power(now int64, r *gpu.Reading) {
	f := &d.s.faults
	read := func(x *Sensor, salt uint64) meter.Int {
		if x.Off || x.Denied {
			return meter.Int{}
		}
		k, at := x.update(now)
		return meter.Some(x.mw(d.s.played(), d.s.cfg.Seed+salt, k, at))
	}
	r.PowerAt, r.InstantMw, r.AverageMw = now, read(&f.Instant, 1), read(&f.Average, 2)
}

// status tells the rest.
func (d *device) status(now int64, r *gpu.Reading) {
	s := d.s
	var util int64
	for _, q := range s.played().requests {
		if q.phase == meter.PhasePrefill || q.phase == meter.PhaseDecode {
			util = 100
		}
	}
	const gib = 1 << 30
	r.Status = gpu.Status{
		UtilPct: meter.Some(util), MemUtilPct: meter.Some(util / 2),
		MemUsedB: meter.Some(40 * gib), MemTotalB: meter.Some(80 * gib),
		TempC: meter.Some(int64(s.played().TempC(now))), SMClockMHz: meter.Some(1980), MemClockMHz: meter.Some(2619),
		LimitMw: meter.Some(700e3), Throttle: meter.Some(0),
	}
}
