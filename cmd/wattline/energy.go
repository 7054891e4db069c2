package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"wattline/gpu"
	"wattline/gpu/host"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/proxy"
	"wattline/sink"
	"wattline/sink/settle"
)

// energyFlags say which devices' power is read.
type energyFlags struct {
	GPU    string   `name:"gpu" help:"Whose power is read: ${enum}. sim is a simulated card, whatever runs." enum:"auto,nvml,smi,amd,sim,none" default:"auto" group:"Energy"`
	GPUs   []string `name:"gpus" help:"The upstream's devices: indices, UUIDs or PCI addresses. Default: those on which its processes compute." placeholder:"GPU" group:"Energy"`
	Wake   bool     `help:"Also read cards that are powered down, which wakes them." group:"Energy"`
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
}

// startPower finds the devices of all routes and begins to sample them. That there are none is no error:
// the rows then say so.
func startPower(a *app, c *serveCmd, routes []*servedRoute, q *sink.Queue, instance string) (p *power, err error) {
	p = &power{clock: gpu.NewClock(), queue: q, instance: instance}
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
		p.claim(a, t.Info.UUID)
	}
	if c.Record != "" {
		if p.recorder, err = newRecorder(c.Record, len(p.targets)); err != nil {
			return nil, err
		}
	}
	p.curves = make([]curve, len(p.targets))
	p.settler = settle.New(settle.Config{Rows: q, Instance: instance, Now: p.clock.Now, Wall: p.clock.Time, Log: a.log}, names...)
	cfg := gpu.Config{Clock: p.clock, Targets: p.targets, Handle: p.handle, WakeSleeping: c.Wake, Log: a.log}
	if p.recorder != nil {
		cfg.Recorders = p.recorder.devices
	}
	if p.sampler, err = gpu.Start(cfg); err != nil {
		return nil, err
	}
	return p, nil
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
func (p *power) handle(b *gpu.Batch) {
	r := &settle.Reading{
		Source: b.Info.Source, Shape: shape(b.Shape), Average: time.Duration(b.WindowNs),
		At: p.clock.Now(), Lost: b.Ended != "",
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
		r.Ticks = append(r.Ticks, settle.Tick{Before: t.Before, After: t.After, UJ: t.Uj})
	}
	if b.Shape != gpu.ChannelCounter {
		for _, s := range b.Samples {
			r.Samples = append(r.Samples, settle.Sample{At: s.At, MW: s.Mw})
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

// watched is a route's exchanges as energy sees them: it is the route's proxy.Observer.
type watched struct {
	rows     *rows
	power    *power
	route    uint64 // in the upper bits of every request's key
	upstream *settle.Upstream
	activity gpu.Activities
	offset   int64 // from the proxy's clock to power's

	mu   sync.Mutex // guards live; a request's entry is used by one goroutine at a time
	live map[uint64]*liveRequest
}

// liveRequest is a request that makes the server compute.
type liveRequest struct {
	work meter.Work
	tape tape
}

// watch makes a route's observer.
func (p *power) watch(r *rows, index int, route *servedRoute) *watched {
	w := &watched{rows: r, power: p, route: uint64(index+1) << 48, live: map[uint64]*liveRequest{}}
	w.upstream = p.settler.Upstream(index, route.devices...)
	if len(route.devices) > 0 {
		w.activity = append(w.activity, p.sampler.Activity(route.devices...))
		if p.sources.Sim != nil {
			w.activity = append(w.activity, p.sources.Sim)
		}
	}
	return w
}

// synchronise learns the proxy's clock.
func (w *watched) synchronise(s *proxy.Server) {
	wall, mono := s.Clock()
	w.offset = w.power.clock.At(wall) - mono
}

// Observe passes a step on to the ledger and to whoever watches activity. Only requests that make the
// server compute count: a route that is not metered costs the device nothing that could be told.
func (w *watched) Observe(e proxy.Event) {
	if len(w.activity) == 0 {
		return
	}
	w.mu.Lock()
	if e.Phase == proxy.Sent && e.Work.Computes {
		w.live[e.Seq] = &liveRequest{work: e.Work}
	}
	q := w.live[e.Seq]
	w.mu.Unlock()
	if q == nil {
		return
	}
	step := energy.Event{Request: w.route | e.Seq, At: e.At + w.offset}
	switch e.Phase {
	case proxy.Sent:
		q.tape.sent = step.At
		step.Kind, step.Late, step.PromptHint = energy.Arrive, !q.work.Streams, e.Bytes
		w.upstream.Observe(step)
		w.tell(step, gpu.PhaseWaiting)
		if !q.work.Streams { // its phases show only at its end; that it works now is still worth knowing
			w.tell(step, gpu.PhasePrefill)
		}
	case proxy.Headed:
		if q.work.Streams {
			q.tape.headed = step.At
			step.Kind, step.Slot = energy.SlotStart, -1
			w.upstream.Observe(step)
			w.tell(step, gpu.PhasePrefill)
		}
	case proxy.Produced:
		if e.Progress.Outputs > 0 && w.power.recorder != nil {
			q.tape.produced(step.At, e.Progress.Outputs)
		}
		w.produced(step, e.Progress)
	case proxy.Arrived:
	}
}

func (w *watched) produced(step energy.Event, p meter.Progress) {
	if p.PrefillTotal > 0 {
		step.Kind, step.Tokens, step.Total = energy.Progress, p.PrefillDone, p.PrefillTotal
		w.upstream.Observe(step)
	}
	if p.Outputs == 0 {
		return
	}
	if p.First {
		step.Kind = energy.FirstToken
		w.upstream.Observe(step)
		w.tell(step, gpu.PhaseDecode)
	}
	step.Kind, step.Tokens = energy.Decode, int64(p.Outputs)
	w.upstream.Observe(step)
}

func (w *watched) tell(step energy.Event, phase gpu.Phase) {
	w.activity.Observe(gpu.Event{At: step.At, Request: step.Request, Phase: phase, Slot: -1})
}

// Done prices a finished row and hands it to the settler, with the counts that close its account.
func (w *watched) Done(seq uint64, at int64, rec *meter.Record) {
	w.rows.price(rec)
	w.rows.keepGaps(rec)
	w.mu.Lock()
	q := w.live[seq]
	delete(w.live, seq)
	w.mu.Unlock()
	if q == nil {
		w.upstream.Done(rec, energy.Event{})
		return
	}
	end := energy.Event{Kind: energy.End, Request: w.route | seq, At: at + w.offset}
	end.Counts = energy.Counts{
		Known:        rec.PromptTokens.Valid && rec.OutputTokens.Valid && rec.TokenSource != meter.TokensFromEvents,
		PromptTokens: rec.PromptTokens.V, CachedTokens: rec.CachedTokens.V, OutputTokens: rec.OutputTokens.V,
		Cancelled: rec.Outcome == meter.Cancelled,
		Prefill:   time.Duration(rec.PrefillUs.V) * time.Microsecond, Decode: time.Duration(rec.DecodeUs.V) * time.Microsecond,
	}
	w.tell(end, gpu.PhaseDone)
	if w.power.recorder != nil {
		w.power.recorder.request(&q.tape, rec, end.At)
	}
	w.upstream.Done(rec, end)
}
