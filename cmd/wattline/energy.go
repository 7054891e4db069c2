package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"wattline/gpu"
	"wattline/gpu/sources"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
	"wattline/sink/attribution"
	"wattline/sink/metrics"
)

// energyFlags say which devices' power is read.
type energyFlags struct {
	GPU     string   `name:"gpu" help:"Whose power is read: ${enum}. sim is a simulated card, whatever runs." enum:"${gpu_sources}" default:"auto" group:"Energy"`
	GPUs    []string `name:"gpus" help:"The upstream's devices: indices, UUIDs or PCI addresses. Default: those on which its processes compute." placeholder:"GPU" group:"Energy"`
	Wake    bool     `help:"Also read cards that are powered down, which wakes them." group:"Energy"`
	Slots   string   `help:"Ask the upstream's GET /slots which slot serves a request, at most twice a second: ${enum}. auto does so while requests overlap and the upstream's power is read; on also for one alone." enum:"auto,on,off" default:"auto" group:"Energy"`
	SysRoot string   `hidden:"" default:"/sys" help:"Where the kernel shows devices."`
	Record  string   `help:"Write a recording of power and requests to this empty folder, for wattline attribute." placeholder:"DIR" group:"Energy"`
}

// power is where energy comes from: sources, the samplers, and the settler that divides it.
type power struct {
	clock    gpu.Clock
	sources  *sources.Set
	devices  []*powered
	bindings []*binding // by route
	settler  *attribution.Settler
	recorder *recorder // nil: nothing is recorded
	queue    *sink.Queue
	instance string
	wake     bool
	log      *slog.Logger
	found    string // for the start-up line
	slots    string // --slots
	watching []*watched
	seeking  func() // ends the search for devices and waits; nil: nothing is sought

	mu     sync.Mutex // guards claims
	claims []func() error
}

// startPower finds the devices of all routes and begins to sample them. That there are none is no error:
// the rows then say so. state is the folder of the store.
func startPower(a *app, c *serveCmd, routes []*servedRoute, q *sink.Queue, instance, state string) (p *power, err error) {
	p = &power{clock: gpu.NewClock(), queue: q, instance: instance, slots: c.Slots, wake: c.Wake, log: a.log}
	if p.sources, err = sources.Open(c.GPU, sources.Config{Clock: p.clock, Wake: c.Wake, Log: a.log, SysRoot: c.SysRoot}); err != nil {
		return nil, err
	}
	started := p // p is nil where an error is returned
	defer func() {
		if err != nil {
			started.stopSamplers()
			err = errors.Join(err, started.sources.Close())
		}
	}()
	if err = p.list(); err != nil {
		return nil, err
	}
	found, err := p.bind(c, routes)
	if err != nil {
		return nil, err
	}
	if c.Record != "" {
		if p.recorder, err = newRecorder(c.Record, distinct(found)); err != nil {
			return nil, err
		}
	}
	p.settler = attribution.New(p.settling(a, routes, state), p.names(routes)...)
	for i, devices := range found {
		if err = p.attach(p.bindings[i], devices); err != nil {
			return nil, err
		}
	}
	p.seek(a.ctx)
	return p, nil
}

// memoryName is the file beside the store in which what was learnt of devices and models is kept.
const memoryName = "energy.json"

// settling configures the settler.
func (p *power) settling(a *app, routes []*servedRoute, state string) attribution.Config {
	memory, err := attribution.OpenMemory(filepath.Join(state, memoryName))
	if err != nil {
		a.log.Warn("coefficients and idle draw will be learnt anew", "error", err)
	}
	cfg := attribution.Config{Rows: p.queue, Instance: p.instance, Now: p.clock.Now, Wall: p.clock.Time, Log: a.log, Memory: memory}
	for _, r := range routes {
		cfg.Upstreams = append(cfg.Upstreams, r.Upstream)
	}
	if p.recorder != nil {
		cfg.Opened = func(device int, with attribution.Opening) {
			if device < len(p.devices) {
				p.recorder.opened(device, p.devices[device].target.Info, with)
			}
		}
	}
	if p.processor() != nil {
		cfg.Processors = 1 + len(routes) // the machine's, which is not read as such, and each route's part
	}
	return cfg
}

func deviceName(in gpu.Info) string {
	if in.Simulated {
		return "SIMULATED " + in.Name
	}
	return in.Name
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

// handle hands a batch of the device in that place on: to the ledger, and its seconds to the store. It runs
// on the device's goroutine. The ledger gets millijoules and microseconds, which is what a recording holds.
func (p *power) handle(place int, b *gpu.Batch) {
	d := p.devices[place]
	for i := range b.Rows {
		p.queue.OfferPower(p.powerRow(&b.Rows[i]))
	}
	d.curve.add(b)
	if b.Info.Kind == gpu.KindCPU {
		p.divideProcessor(b)
		return
	}
	r := &attribution.Reading{
		Source: b.Info.Source, Shape: shape(b.Shape), Average: time.Duration(b.WindowNs),
		At: b.At, Lost: b.Ended != "",
		TempC: b.Status.TempC, MemB: b.Status.MemUsedB, LimitMw: b.Status.LimitMw,
	}
	switch b.Contention {
	case gpu.ContentionNone:
		r.Others = meter.Some(0)
	case gpu.ContentionOther:
		r.Others = meter.Some(1)
	case gpu.ContentionUnknown:
	}
	for _, t := range b.Ticks {
		r.Ticks = append(r.Ticks, attribution.Tick{Before: t.Before, After: t.After, Lo: t.Lo, Hi: t.Hi, UJ: t.Uj / 1000 * 1000})
	}
	if b.Shape != gpu.ChannelCounter {
		for _, s := range b.Samples {
			r.Samples = append(r.Samples, attribution.Sample{At: s.At / 1000 * 1000, MW: s.Mw})
		}
	}
	if b.OursMemB.Valid { // else what everybody's processes hold
		r.MemB = b.OursMemB
	}
	p.settler.Read(place, r)
}

// tenfold is a percentage in thousandths.
func tenfold(pct meter.Int) meter.Int { return meter.Int{V: pct.V * 10, Valid: pct.Valid} }

// powerRow is one second for table power.
func (p *power) powerRow(r *gpu.Row) *sink.Power {
	row := &sink.Power{
		At: p.clock.Time(r.From).UTC(), Instance: p.instance, Device: r.Device, Source: r.Source, Channel: string(r.Channel), Marked: r.Marked,
		SpanUs: meter.Some(r.DurationNs / 1000), EnergyUj: r.EnergyUj, ErrorUj: r.ErrorUj,
		MeanMw: r.MeanMw, MinMw: r.MinMw, MaxMw: r.MaxMw, LimitMw: r.LimitMw,
		TempC: r.TempC, MemTempC: r.MemTempC, SMClockMHz: r.SMClockMHz, MemClockMHz: r.MemClockMHz,
		VRAMBytes: r.MemUsedB, UpstreamVRAMBytes: r.OursMemB,
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
	if r.Throttle.Valid {
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
		w.facts.stop()
		if w.slots != nil {
			w.slots.Stop()
		}
	}
	if p.seeking != nil {
		p.seeking()
	}
	err := p.settler.Stop(ctx) // needs samples until the last request is covered
	p.stopSamplers()
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
	for _, st := range p.states() {
		out = append(out, metrics.Device{
			ID: st.Info.UUID, Kind: string(st.Info.Kind), Readable: st.Condition == gpu.Live || st.Condition == gpu.Probing,
			AgreementPPM: st.Agreement, Reopened: st.Reopens, Errors: st.Errors, Missed: st.Missed, Demoted: st.Demotions,
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
			Route: w.name, Looks: s.Polls, Failed: s.Failed, Bytes: s.Bytes, Found: s.Found, Unknown: s.NotFound, Waited: s.PollTime,
		})
	}
	return out
}
