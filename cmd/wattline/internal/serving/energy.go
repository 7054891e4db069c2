package serving

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/gpu/sources"
	"wattline/meter"
	"wattline/proxy"
	"wattline/sink"
	"wattline/sink/attribution"
	"wattline/sink/autopsy"
	"wattline/sink/console"
	"wattline/sink/metrics"
	"wattline/sink/serverconfig"
)

// EnergyFlags configure power sources, slots and recordings.
type EnergyFlags struct {
	GPU     string   `name:"gpu" help:"Source of power readings: ${enum}. sim is a simulated GPU, on any machine." enum:"${gpu_sources}" default:"auto" group:"Energy"`
	GPUs    []string `name:"gpus" help:"GPUs of the upstream: indices, UUIDs or PCI addresses, or all. Default: those that its processes use." placeholder:"GPU" group:"Energy"`
	Wake    bool     `help:"Also read GPUs that are powered down. This wakes them up." group:"Energy"`
	Slots   string   `help:"Poll the upstream's GET /slots to learn which slot serves a request, at most five times a second: ${enum}. auto polls while requests overlap and the upstream's power is read; on also polls for a single request." enum:"auto,on,off" default:"auto" group:"Energy"`
	SysRoot string   `hidden:"" default:"/sys" help:"Root of sysfs."`
	Record  string   `help:"Write a recording of power and requests to this empty folder, for wattline attribute." placeholder:"DIR" group:"Energy"`
}

// energyPipeline measures energy for the rows of all routes.
type energyPipeline struct {
	*attribution.Pipeline
	sources *sources.Set
	routes  []*routeObserver
}

// routeObserver adds price, memory and server configuration to a route's rows before attribution adds energy.
type routeObserver struct {
	*attribution.RouteObserver
	rows   *Rows
	rss    *discover.RSSPoller
	config *serverconfig.Tracker

	autopsy *autopsy.Route
}

// Observe receives a step of an exchange.
func (o *routeObserver) Observe(e proxy.Event) {
	o.autopsy.Observe(e)
	o.RouteObserver.Observe(e)
}

// Done receives the row of a finished request.
func (o *routeObserver) Done(seq uint64, at int64, rec *meter.Record) {
	o.rows.price(rec)
	o.rows.offerGaps(rec)
	rec.RAMBytes = o.rss.Bytes()
	o.config.Stamp(rec)
	o.autopsy.Done(seq, at, rec)
	o.RouteObserver.Done(seq, at, rec)
}

// startEnergy starts to sample the devices of all routes. stop ends it.
func startEnergy(h *Host, c *Flags, routes []*servedRoute, r *Rows) (_ *energyPipeline, err error) {
	p := &energyPipeline{}
	cfg := attribution.Config{
		Rows: r.autopsy.Rows(r.Queue), Clock: gpu.NewClock(), Instance: r.instance, SysRoot: c.SysRoot, Wake: c.Wake,
		Slots: c.Slots, Watched: func() bool { return r.live.Pages() > 0 }, Record: c.Record, StateDir: filepath.Dir(r.store.Path()), Log: h.Log,
	}
	if p.sources, err = sources.Open(c.GPU, sources.Config{Clock: cfg.Clock, Wake: c.Wake, Log: h.Log, SysRoot: c.SysRoot}); err != nil {
		return nil, err
	}
	cfg.GPUs, cfg.CPU, cfg.Simulator = p.sources.GPUs, p.sources.CPU, p.sources.Activity
	host, err := discover.New("/proc")
	if err != nil {
		h.Log.Warn("cannot read the processes of this machine", "error", err)
	} else {
		cfg.CPUTime = host.CPUTime
	}
	finder := discover.NewFinder(host)
	processes := make([]*discover.ProcessTree, len(routes))
	for i, route := range routes {
		to := attribution.Route{Name: route.Name, Address: route.Upstream, Client: route.client, GPUs: route.GPUs}
		if len(to.GPUs) == 0 {
			to.GPUs = c.GPUs
		}
		at := finder.Upstream(h.Ctx, to.Address)
		if to.Local = at.Local; at.Processes != nil && host != nil {
			processes[i], to.Processes = at.Processes, at.Processes
		}
		cfg.Routes = append(cfg.Routes, to)
	}
	if p.Pipeline, err = attribution.Start(cfg); err != nil {
		if e, ok := errors.AsType[attribution.UsageError](err); ok {
			err = usageError("%w", e.Unwrap())
		}
		return nil, errors.Join(err, p.sources.Close())
	}
	for i, route := range routes {
		o := &routeObserver{
			RouteObserver: p.Observer(i), rows: r, rss: discover.PollRSS(host, processes[i]),
			config: serverconfig.Start(serverconfig.Config{
				Client: route.client, Instance: r.instance, Version: h.Version, Offer: r.offerConfig,
				Devices: func() []gpu.State { return p.RouteStates(i) }, Host: host, Processes: processes[i], Log: h.Log,
			}),
		}
		o.autopsy = r.autopsy.Route(autopsyClient(c, route), serverFacts(o.config))
		p.routes = append(p.routes, o)
	}
	return p, nil
}

// stop waits until the energy of waiting rows is final, at most until ctx ends, and stops all goroutines.
func (p *energyPipeline) stop(ctx context.Context) error {
	for _, r := range p.routes {
		r.rss.Stop()
		r.config.Stop()
	}
	return errors.Join(p.Stop(ctx), p.sources.Close())
}

// deviceMetrics returns the health of each device's sampler.
func (p *energyPipeline) deviceMetrics() (out []metrics.Device) {
	for _, st := range p.States() {
		out = append(out, metrics.Device{
			ID: st.Info.UUID, Kind: string(st.Info.Kind), Readable: st.Condition == gpu.Live || st.Condition == gpu.Probing,
			AgreementPPM: st.Agreement, Reopened: st.Reopens, Errors: st.Errors, Missed: st.Missed,
			Demoted: st.Demotions, CPU: time.Duration(st.CPUNs), LedgerEvents: p.LedgerEvents(st.Info.UUID),
		})
	}
	return out
}

// slotMetrics returns the counters of polling /slots.
func (p *energyPipeline) slotMetrics() (out []metrics.Slots) {
	for _, s := range p.SlotStats() {
		out = append(out, metrics.Slots{
			Route: s.Route, Looks: s.Polls, Failed: s.Failed, Bytes: s.Bytes, Found: s.Found, Unknown: s.NotFound, Waited: s.PollTime,
		})
	}
	return out
}

// energyAnswer is the answer of /api/energy for a period.
func (s *Service) energyAnswer(ctx context.Context, from, to time.Time) (_ *console.Energy, err error) {
	e := &console.Energy{}
	for _, h := range s.energy.History(from, to) {
		in := h.Info
		e.Devices = append(e.Devices, console.EnergyDevice{
			Device: in.UUID, Name: in.Name, Driver: in.Driver, Source: in.Source, Simulated: in.Simulated,
		})
		if len(h.MilliWatts) > 0 {
			e.Curves = append(e.Curves, console.Curve{Device: in.UUID, From: h.From, StepUs: h.Step.Microseconds(), MilliWatts: h.MilliWatts})
		}
	}
	if e.Power, err = s.Rows.Reader.Power(ctx, from, to); err != nil {
		return nil, err
	}
	if e.Ledger, err = s.Rows.Reader.Ledger(ctx, from, to); err != nil {
		return nil, err
	}
	// The CPU's rows are left out, because its energy is that of the whole machine, not of the upstream.
	const cpu = attribution.CPUSource
	e.Power = slices.DeleteFunc(e.Power, func(p *sink.Power) bool { return p.Source == cpu })
	e.Ledger = slices.DeleteFunc(e.Ledger, func(l *sink.Ledger) bool { return l.Source == cpu })
	return e, nil
}
