package attribution

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
)

// sampledDevice is a device that can be sampled. It is sampled while a route uses it.
type sampledDevice struct {
	target  gpu.Target
	history powerHistory
	sampler atomic.Pointer[gpu.Sampler] // nil: no route uses it
	endedAt int64                       // when the sampler's last epoch ended; read once it has stopped

	// Owned by the code that attaches routes: Start, then the search for devices, then Stop.
	lock io.Closer // tells other wattlines that this one measures the device; nil: not held
	late io.Closer // tells the successor, after Yield, that requests still compute for this one
	idle bool      // at the last batch after Yield nothing was in flight

	mu    sync.Mutex // guards users
	users []*routeDevices
}

// listDevices lists every device that could be sampled, the machine's processors last. It opens none.
func listDevices(cfg Config) (out []*sampledDevice, err error) {
	for _, src := range cfg.GPUs {
		list, err := src.List()
		if err != nil {
			return nil, err
		}
		for _, in := range list {
			out = append(out, &sampledDevice{target: gpu.Target{Source: src, Info: in}})
		}
	}
	if cfg.CPU == nil {
		return out, nil
	}
	list, err := cfg.CPU.List()
	if err != nil || len(list) == 0 {
		return out, err
	}
	return append(out, &sampledDevice{target: gpu.Target{Source: cfg.CPU, Info: list[0]}}), nil
}

// cpu is the device that stands for the machine's processors; nil where there is none.
func (p *Pipeline) cpu() *sampledDevice {
	if n := len(p.devices); n > 0 && p.devices[n-1].target.Info.Kind == gpu.KindCPU {
		return p.devices[n-1]
	}
	return nil
}

// gpuCount is how many GPUs could be sampled.
func (p *Pipeline) gpuCount() int {
	if p.cpu() != nil {
		return len(p.devices) - 1
	}
	return len(p.devices)
}

// isUpstreamProcess reports whether a process belongs to an upstream that uses the device.
func (d *sampledDevice) isUpstreamProcess(pid int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.users, func(r *routeDevices) bool { return r.processes != nil && r.processes.Has(pid) })
}

// ownerKnown reports whether a process's owner can be determined from here: the process is visible, and so are those of
// every upstream that uses the device. The driver may count in another PID namespace.
func (d *sampledDevice) ownerKnown(pid int) bool {
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(d.users, func(r *routeDevices) bool {
		if r.processes == nil {
			return true
		}
		pids, err := r.processes.PIDs()
		return err != nil || len(pids) == 0
	})
}

// use begins to sample the device for one more route.
func (p *Pipeline) use(index int, r *routeDevices) (*gpu.Sampler, error) {
	d := p.devices[index]
	d.mu.Lock()
	if !slices.Contains(d.users, r) {
		d.users = append(d.users, r)
	}
	d.mu.Unlock()
	if s := d.sampler.Load(); s != nil {
		return s, nil
	}
	target := d.target
	if r.processes != nil {
		target.IsUpstreamProcess, target.OwnerKnown = d.isUpstreamProcess, d.ownerKnown
	}
	if err := d.acquire(); err != nil {
		p.cfg.Log.Warn("two wattlines count the same joules: requests are marked contended until one of them ends", "device", target.Info.UUID, "error", err)
	}
	cfg := gpu.Config{
		Clock: p.cfg.Clock, Targets: []gpu.Target{target}, Handle: func(b *gpu.Batch) { p.handle(index, b) },
		WakeSleeping: p.cfg.Wake, Log: p.cfg.Log,
	}
	if rec := p.recorder.of(index); rec != nil {
		cfg.Recorders = []*gpu.Recorder{rec}
	} else if p.recorder != nil && target.Info.Kind == gpu.KindGPU {
		p.cfg.Log.Warn("the device is not recorded: no route used it when the recording began", "device", target.Info.UUID)
	}
	s, err := gpu.Start(cfg)
	if err == nil {
		d.sampler.Store(s)
	}
	return s, err
}

// leave ends a route's use of a device, and its sampling if no other route uses it. The sampler's last batch tells the ledger
// that requests which still count on the device are partial.
func (p *Pipeline) leave(index int, r *routeDevices) error {
	d := p.devices[index]
	d.mu.Lock()
	d.users = slices.DeleteFunc(d.users, func(u *routeDevices) bool { return u == r })
	unused := len(d.users) == 0
	d.mu.Unlock()
	if !unused {
		return nil
	}
	err := d.stop()
	if rec := p.recorder.of(index); rec != nil && d.endedAt > 0 {
		rec.Lost(d.endedAt) // as the ledger was told
	}
	return err
}

// stop ends the sampling and releases the device for other wattlines.
func (d *sampledDevice) stop() (err error) {
	if s := d.sampler.Swap(nil); s != nil {
		s.Stop()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(release(&d.lock), release(&d.late))
}

func release(lock *io.Closer) (err error) {
	if *lock != nil {
		err = (*lock).Close()
		*lock = nil
	}
	return err
}

// lateLock names the second lock of a device, which a process that has handed over holds while requests compute for it.
const lateLock = "-late"

// retire leaves the device to the successor, and tells it of requests that are still in flight here, until a batch after
// their end. A kept connection may bring one long after the handover.
func (d *sampledDevice) retire(inFlight bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.target.Info.Simulated {
		return
	}
	_ = release(&d.lock)
	if !inFlight && d.idle {
		_ = release(&d.late)
	} else if inFlight && d.late == nil {
		d.late, _ = discover.AcquireAdvisoryLock(d.target.Info.UUID + lateLock) // else another old process holds it
	}
	d.idle = !inFlight
}

// predecessorComputes reports whether a process that has handed over still has requests in flight on the device.
func (d *sampledDevice) predecessorComputes() bool {
	if d.target.Info.Simulated {
		return false
	}
	lock, err := discover.AcquireAdvisoryLock(d.target.Info.UUID + lateLock)
	if err == nil {
		_ = lock.Close()
	}
	return errors.Is(err, discover.ErrLocked)
}

// othersCompute reports whether another wattline's requests compute on the device.
func (p *Pipeline) othersCompute(d *sampledDevice) bool {
	if p.yielded.Load() {
		inFlight := slices.ContainsFunc(p.observers, (*RouteObserver).busy)
		d.retire(inFlight)
		return true
	}
	return d.acquire() != nil || d.predecessorComputes()
}

// acquire takes the device's lock, unless it is held already. A simulated device has none.
func (d *sampledDevice) acquire() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lock != nil || d.target.Info.Simulated {
		return nil
	}
	lock, err := discover.AcquireAdvisoryLock(d.target.Info.UUID)
	if err == nil {
		d.lock = lock
	}
	return err
}

// state returns the facts known about the device: from its sampler, else from the list.
func (d *sampledDevice) state() gpu.State {
	if s := d.sampler.Load(); s != nil {
		if st := s.States(); len(st) > 0 {
			return st[0] // one device each
		}
	}
	return gpu.State{Info: d.target.Info}
}

// shapeOf is how the ledger takes a channel of the sampler.
func shapeOf(c gpu.Channel) energy.Shape {
	switch c {
	case gpu.ChannelAverage:
		return energy.ShapeAverage
	case gpu.ChannelCounter:
		return energy.ShapeCounter
	default:
		return energy.ShapeSamples
	}
}

// handle passes a batch of the device on: to the ledger, and its seconds to the store. It runs on the device's goroutine.
// The ledger gets millijoules and microseconds, as a recording holds them.
func (p *Pipeline) handle(index int, b *gpu.Batch) {
	d := p.devices[index]
	for i := range b.Rows {
		p.cfg.Rows.OfferPower(p.powerRow(&b.Rows[i]))
	}
	d.history.add(b)
	if b.Ended != "" {
		d.endedAt = b.At
	}
	if b.Info.Kind == gpu.KindCPU {
		p.divideCPU(b)
		return
	}
	r := &reading{
		Source: b.Info.Source, Shape: shapeOf(b.Profile), Average: time.Duration(b.WindowNs),
		At: b.At, Lost: b.Ended != "",
		TempC: b.Status.TempC, MemB: b.Status.MemUsedB, LimitMw: b.Status.LimitMw,
		Others: contended(b.Contention),
	}
	if b.Info.Kind == gpu.KindGPU && p.othersCompute(d) {
		r.Others = meter.Some(1)
	}
	for _, t := range b.Ticks {
		r.Ticks = append(r.Ticks, tick{Before: t.Before, After: t.After, Lo: t.Lo, Hi: t.Hi, UJ: t.Uj / 1000 * 1000})
	}
	if b.Profile != gpu.ChannelCounter {
		for _, s := range b.Samples {
			r.Samples = append(r.Samples, sample{At: s.At / 1000 * 1000, MW: s.Mw})
		}
	}
	if b.UpstreamMemB.Valid { // else what everybody's processes hold
		r.MemB = b.UpstreamMemB
	}
	p.settler.add(index, r)
}

// permille turns a percentage into thousandths.
func permille(pct meter.Int) meter.Int { return meter.Int{V: pct.V * 10, Valid: pct.Valid} }

// contended is 1 where another process computes on the device, 0 where none does, and null where that is not known.
func contended(c gpu.Contention) meter.Int {
	switch c {
	case gpu.ContentionNone:
		return meter.Some(0)
	case gpu.ContentionOther:
		return meter.Some(1)
	default:
		return meter.Int{}
	}
}

// powerRow is one second for table power.
func (p *Pipeline) powerRow(r *gpu.Row) *sink.Power {
	row := &sink.Power{
		At: p.cfg.Clock.Time(r.From).UTC(), Instance: p.cfg.Instance, Device: r.Device, Source: r.Source, Channel: string(r.Channel), Marked: r.Marked,
		SpanUs: meter.Some(r.DurationNs / 1000), EnergyUj: r.EnergyUj, ErrorUj: r.ErrorUj,
		MeanMw: r.MeanMw, MinMw: r.MinMw, MaxMw: r.MaxMw, LimitMw: r.LimitMw,
		TempC: r.TempC, MemTempC: r.MemTempC, SMClockMHz: r.SMClockMHz, MemClockMHz: r.MemClockMHz,
		VRAMBytes: r.MemUsedB, UpstreamVRAMBytes: r.UpstreamMemB,
		UtilPermille: permille(r.UtilPct), MemUtilPermille: permille(r.MemUtilPct),
		Simulated: meter.Some(0), Contended: contended(r.Contention),
	}
	if r.Simulated {
		row.Simulated = meter.Some(1)
	}
	if r.Throttle.Valid {
		row.Throttle = gpu.Throttle(r.Throttle.V).Strings()
		row.ThrottledUs = meter.Some(0)
		if len(row.Throttle) > 0 {
			row.ThrottledUs = row.SpanUs
		}
	}
	return row
}

// candidates lists the GPUs with the processes that compute on each, in the order of the pipeline's devices.
func (p *Pipeline) candidates() (all []gpu.Candidate, err error) {
	for _, src := range p.cfg.GPUs {
		list, err := gpu.Candidates(src, p.cfg.SysRoot)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}
