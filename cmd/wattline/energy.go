package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"wattline/gpu"
	"wattline/gpu/host"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
	"wattline/sink/metrics"
	"wattline/sink/settle"
)

// energyFlags say which devices' power is read.
type energyFlags struct {
	GPU    string   `name:"gpu" help:"Whose power is read: ${enum}. sim is a simulated card, whatever runs." enum:"auto,nvml,smi,amd,sim,none" default:"auto" group:"Energy"`
	GPUs   []string `name:"gpus" help:"The upstream's devices: indices, UUIDs or PCI addresses. Default: those on which its processes compute." placeholder:"GPU" group:"Energy"`
	Wake   bool     `help:"Also read cards that are powered down, which wakes them." group:"Energy"`
	Slots  string   `help:"Ask the upstream's GET /slots which slot serves a request, at most twice a second: ${enum}. auto does so while requests overlap and the upstream's power is read; on also for one alone." enum:"auto,on,off" default:"auto" group:"Energy"`
	Record string   `help:"Write a recording of power and requests to this empty folder, for wattline attribute." placeholder:"DIR" group:"Energy"`
}

// power is where energy comes from: sources, the sampler, and the settler that divides it.
type power struct {
	clock    gpu.Clock
	sources  *gpuSources
	sampler  *gpu.Sampler
	settler  *settle.Settler
	recorder *recorder // nil: nothing is recorded
	curves   []curve   // by target
	queue    *sink.Queue
	instance string
	targets  []gpu.Target
	found    string // for the start-up line
	claims   []func() error
	slots    string // --slots
	watching []*watched
}

// startPower finds the devices of all routes and begins to sample them. That there are none is no error:
// the rows then say so. state is the folder of the store.
func startPower(a *app, c *serveCmd, routes []*servedRoute, q *sink.Queue, instance, state string) (p *power, err error) {
	p = &power{clock: gpu.NewClock(), queue: q, instance: instance, slots: c.Slots}
	if p.sources, err = openGPUSources(c.GPU, p.clock, c.Wake, a.log); err != nil {
		return nil, err
	}
	sources := p.sources // p is nil where an error is returned
	defer func() {
		if err != nil {
			err = errors.Join(err, sources.Close())
		}
	}()
	var all []gpu.Candidate
	for _, src := range p.sources.GPUs {
		list, err := gpu.Candidates(src, sysRoot)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if err = p.bind(c, routes, all); err != nil {
		return nil, err
	}
	names := make([]string, len(p.targets))
	for i, t := range p.targets {
		names[i] = t.Info.UUID
		if !t.Info.Simulated {
			p.claim(a, t.Info.UUID)
		}
	}
	if c.Record != "" {
		if p.recorder, err = newRecorder(c.Record, len(p.targets)); err != nil {
			return nil, err
		}
	}
	p.curves = make([]curve, len(p.targets))
	p.settler = settle.New(p.settling(a, routes, state), names...)
	cfg := gpu.Config{Clock: p.clock, Targets: p.targets, Handle: p.handle, WakeSleeping: c.Wake, Log: a.log}
	if p.recorder != nil {
		cfg.Recorders = p.recorder.devices
	}
	if p.sampler, err = gpu.Start(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// memoryName is the file beside the store in which what was learnt of devices and models is kept.
const memoryName = "energy.json"

// settling configures the settler.
func (p *power) settling(a *app, routes []*servedRoute, state string) settle.Config {
	memory, err := settle.OpenMemory(filepath.Join(state, memoryName))
	if err != nil {
		a.log.Warn("coefficients and idle draw will be learnt anew", "error", err)
	}
	cfg := settle.Config{Rows: p.queue, Instance: p.instance, Now: p.clock.Now, Wall: p.clock.Time, Log: a.log, Memory: memory}
	for _, r := range routes {
		cfg.Upstreams = append(cfg.Upstreams, r.Upstream)
	}
	if p.recorder != nil {
		cfg.Opened = func(device int, with settle.Opening) { p.recorder.opened(device, p.targets[device].Info, with) }
	}
	return cfg
}

// bind chooses each route's devices among all; a device that nobody uses is not sampled.
func (p *power) bind(c *serveCmd, routes []*servedRoute, all []gpu.Candidate) error {
	place := map[int]int{} // candidate -> target
	var said []string
	for _, r := range routes {
		wish := wishOf(r, c.GPUs)
		if p.sources.Sim != nil && len(wish.GPUs) == 0 {
			wish = gpu.Wish{Local: true, Ours: func(int) bool { return true }}
		}
		chosen, why, err := gpu.Mine(wish, all)
		switch {
		case len(all) == 0 && len(wish.GPUs) == 0:
			continue
		case errors.Is(err, gpu.ErrNotMine):
			said = append(said, fmt.Sprintf("%s: %v", r.Name, err))
			continue
		case err != nil:
			return usageError("%w", err)
		}
		for _, i := range chosen {
			at, ok := place[i]
			if !ok {
				at = len(p.targets)
				place[i] = at
				p.targets = append(p.targets, gpu.Target{Source: all[i].Source, Info: all[i].Info, Ours: wish.Ours})
			}
			r.devices = append(r.devices, at)
			said = append(said, fmt.Sprintf("%s by %s (%s)", deviceName(all[i].Info), all[i].Info.Source, why))
		}
	}
	p.found = strings.Join(said, "; ")
	if p.found == "" {
		p.found = "no source (gpu_uj stays null; wattline gpu says why)"
	}
	return nil
}

func deviceName(in gpu.Info) string {
	if in.Simulated {
		return "SIMULATED " + in.Name
	}
	return in.Name
}

// wishOf says what is known of where a route's upstream computes.
func wishOf(r *servedRoute, flag []string) gpu.Wish {
	w := gpu.Wish{GPUs: r.GPUs}
	if len(w.GPUs) == 0 {
		w.GPUs = flag
	}
	u, err := url.Parse(r.Upstream)
	if err != nil {
		return w
	}
	w.Local = u.Scheme == "unix" || host.IsLocal(u.Hostname())
	port, err := strconv.Atoi(u.Port())
	if !w.Local || err != nil {
		return w
	}
	machine, err := host.New("/proc")
	if err != nil {
		return w
	}
	w.Ours = host.NewFamily(machine, port, 10*time.Second).Has
	return w
}

// claim tells other wattlines that this one measures the device, and says if another does.
func (p *power) claim(a *app, uuid string) {
	held, err := host.Claim(uuid)
	if err != nil {
		a.log.Warn("two wattlines count the same joules", "device", uuid, "error", err)
		return
	}
	p.claims = append(p.claims, held.Close)
}

// shapes are how the ledger takes the sampler's channels.
func shape(c gpu.Channel) energy.Shape {
	switch c {
	case gpu.ChannelAverage:
		return energy.ShapeAverage
	case gpu.ChannelCounter:
		return energy.ShapeCounter
	default:
		return energy.ShapeSteps
	}
}

// handle hands a batch on: to the ledger, and its seconds to the store. It runs on the device's goroutine.
// The ledger gets millijoules and microseconds, which is what a recording holds.
func (p *power) handle(b *gpu.Batch) {
	r := &settle.Reading{
		Source: b.Info.Source, Shape: shape(b.Shape), Average: time.Duration(b.WindowNs),
		At: b.At, Lost: b.Ended != "",
		TempC: optional(b.Status.TempC), MemB: optional(b.Status.MemUsedB), LimitMw: optional(b.Status.LimitMw),
	}
	switch b.Contention {
	case gpu.ContentionNone:
		r.Others = meter.Some(0)
	case gpu.ContentionOther:
		r.Others = meter.Some(1)
	case gpu.ContentionUnknown:
	}
	for _, t := range b.Ticks {
		r.Ticks = append(r.Ticks, settle.Tick{Before: t.Before, After: t.After, Lo: t.Lo, Hi: t.Hi, UJ: t.Uj / 1000 * 1000})
	}
	if b.Shape != gpu.ChannelCounter {
		for _, s := range b.Samples {
			r.Samples = append(r.Samples, settle.Sample{At: s.At / 1000 * 1000, MW: s.Mw})
		}
	}
	p.settler.Read(b.Device, r)
	p.curves[b.Device].add(b)
	for i := range b.Rows {
		p.queue.OfferPower(p.powerRow(&b.Rows[i]))
	}
}

func optional(v gpu.Int) meter.Int { return meter.Int{V: v.V, Valid: v.OK} }

// tenfold is a percentage in thousandths.
func tenfold(pct gpu.Int) meter.Int { return meter.Int{V: pct.V * 10, Valid: pct.OK} }

// powerRow is one second for table power.
func (p *power) powerRow(r *gpu.Row) *sink.Power {
	row := &sink.Power{
		At: p.clock.Time(r.From).UTC(), Instance: p.instance, Device: r.Device, Source: r.Source, Channel: string(r.Channel), Marked: r.Marked,
		SpanUs: meter.Some(r.DurationNs / 1000), EnergyUj: optional(r.EnergyUj), ErrorUj: optional(r.ErrorUj),
		MeanMw: optional(r.MeanMw), MinMw: optional(r.MinMw), MaxMw: optional(r.MaxMw), LimitMw: optional(r.LimitMw),
		TempC: optional(r.TempC), MemTempC: optional(r.MemTempC), SMClockMHz: optional(r.SMClockMHz), MemClockMHz: optional(r.MemClockMHz),
		VRAMBytes: optional(r.MemUsedB), UpstreamVRAMBytes: optional(r.OursMemB),
		UtilPermille: tenfold(r.UtilPct), MemUtilPermille: tenfold(r.MemUtilPct), Simulated: meter.Some(0),
	}
	if r.Simulated {
		row.Simulated = meter.Some(1)
	}
	switch r.Contention {
	case gpu.ContentionNone:
		row.Contended = meter.Some(0)
	case gpu.ContentionOther:
		row.Contended = meter.Some(1)
	case gpu.ContentionUnknown:
	}
	if r.Throttle.OK {
		row.Throttle = gpu.Throttle(r.Throttle.V).Strings()
		row.ThrottledUs = meter.Some(0)
		if len(row.Throttle) > 0 {
			row.ThrottledUs = row.SpanUs
		}
	}
	return row
}

// stop ends the sampling and settles the rest; its context bounds the wait.
func (p *power) stop(ctx context.Context) error {
	for _, w := range p.watching {
		w.resident.stop()
		if w.slots != nil {
			w.slots.Stop()
		}
	}
	err := p.settler.Stop(ctx) // needs samples until the last request is covered
	p.sampler.Stop()
	if p.recorder != nil {
		err = errors.Join(err, p.recorder.Close())
	}
	for _, release := range p.claims {
		err = errors.Join(err, release())
	}
	return errors.Join(err, p.sources.Close())
}

// deviceStates tells the metrics how well the devices are read.
func (p *power) deviceStates() (out []metrics.Device) {
	for _, st := range p.sampler.States() {
		out = append(out, metrics.Device{
			ID: st.Info.UUID, Kind: string(st.Info.Kind), Readable: st.Condition == gpu.Live || st.Condition == gpu.Probing,
			AgreementPPM: optional(st.Agreement), Reopened: st.Reopens, Errors: st.Errors, Missed: st.Missed, Demoted: st.Demotions,
			CPU: time.Duration(st.CPUNs),
		})
	}
	return out
}

// slotReads tells the metrics what asking for slots has cost.
func (p *power) slotReads() (out []metrics.Slots) {
	for _, w := range p.watching {
		if w.slots == nil {
			continue
		}
		s := w.slots.Stats()
		out = append(out, metrics.Slots{
			Route: w.name, Looks: s.Looks, Failed: s.Failed, Bytes: s.Bytes, Found: s.Found, Unknown: s.Unknown, Waited: s.Waited,
		})
	}
	return out
}
