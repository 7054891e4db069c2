package attribution

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"wattline/gpu"
	"wattline/meter"
	"wattline/proxy/llama"
	"wattline/sink"
)

// Rows is where rows go; *sink.Queue satisfies it.
type Rows interface {
	Offer(rec *meter.Record) bool
	Settle(rec *meter.Record) bool
	OfferPower(p *sink.Power) bool
	OfferLedger(l *sink.Ledger) bool
}

// Processes are an upstream's processes on this machine; *discover.ProcessTree satisfies it.
type Processes interface {
	PIDs() ([]int, error)
	Has(pid int) bool
}

// Route is a listener's upstream, as far as energy is concerned.
type Route struct {
	Name      string
	Address   string        // of the upstream, as the user wrote it
	Client    *llama.Client // asks it for its slots
	GPUs      []string      // its devices: indices, UUIDs or PCI addresses; empty: those on which Processes compute
	Local     bool          // the upstream is on this machine
	Processes Processes     // nil where they cannot be known
}

// Config configures a Pipeline. Rows, Clock and Routes are required.
type Config struct {
	Rows     Rows
	Clock    gpu.Clock
	Routes   []Route
	Instance string // names this wattline in rows

	GPUs      []gpu.Source
	CPU       gpu.Source   // the machine's processors; nil where they count no energy
	Simulator gpu.Activity // a simulated device: its power follows from the requests in flight; nil: all are real
	SysRoot   string       // where the kernel shows devices
	Wake      bool         // also read cards that are powered down

	// CPUTime returns the CPU seconds that processes and that the whole machine have used so far. It is needed with CPU.
	CPUTime func(pids []int) (theirs, all float64, ok bool)

	Slots    string      // whether upstreams are asked for their slots: "auto", "on" or "off"
	Watched  func() bool // somebody looks at the requests in flight; nil: nobody ever
	Record   string      // an empty folder for a recording; "": nothing is recorded
	StateDir string      // the folder of MemoryFile; "": nothing is remembered
	Log      *slog.Logger
}

// UsageError is a setting that cannot be followed, such as a GPU that does not exist.
type UsageError struct{ error }

// Unwrap returns the error itself.
func (e UsageError) Unwrap() error { return e.error }

// Pipeline samples devices, listens to the proxy and completes rows with their energy. Start begins it, Stop ends it.
type Pipeline struct {
	cfg       Config
	devices   []*sampledDevice // the GPUs in the order of their sources, then the processors
	routes    []*routeDevices
	observers []*RouteObserver
	settler   *settler
	recorder  *recorder // nil: nothing is recorded
	summary   string
	endSearch func() // ends the search for devices and waits; nil: there is none
	yielded   atomic.Bool
}

// Yield leaves the devices to a successor, which measures them already: its rows of power and ledger are the ones that
// count. Requests that are still in flight here are measured on, and contended, since the successor's compute beside them.
func (p *Pipeline) Yield() { p.yielded.Store(true) }

// devicesRows drops the rows of power and ledger after Yield.
type devicesRows struct {
	Rows
	yielded *atomic.Bool
}

// OfferPower passes a row on before Yield.
func (r devicesRows) OfferPower(p *sink.Power) bool { return !r.yielded.Load() && r.Rows.OfferPower(p) }

// OfferLedger passes a row on before Yield.
func (r devicesRows) OfferLedger(l *sink.Ledger) bool {
	return !r.yielded.Load() && r.Rows.OfferLedger(l)
}

// Start finds the devices of all routes and begins to sample them. That there are none is no error: the rows say so.
func Start(cfg Config) (_ *Pipeline, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pipeline{cfg: cfg}
	p.cfg.Rows = devicesRows{cfg.Rows, &p.yielded}
	if p.devices, err = listDevices(cfg); err != nil {
		return nil, err
	}
	chosen, err := p.chooseDevices()
	if err != nil {
		return nil, err
	}
	if cfg.Record != "" {
		if p.recorder, err = newRecorder(cfg.Record, union(chosen)); err != nil {
			return nil, err
		}
	}
	p.settler = newSettler(p.settlerConfig(), p.ledgerNames()...)
	for i, r := range p.routes {
		if err = p.attach(r, chosen[i]); err != nil {
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			return nil, errors.Join(err, p.Stop(ended))
		}
	}
	for i := range p.routes {
		p.observers = append(p.observers, newObserver(p, i))
	}
	p.searchDevices()
	return p, nil
}

// MemoryFile is the file beside the store in which what was learnt of devices and models is kept.
const MemoryFile = "energy.json"

func (p *Pipeline) settlerConfig() settlerConfig {
	cfg := settlerConfig{Rows: p.cfg.Rows, Instance: p.cfg.Instance, Now: p.cfg.Clock.Now, Wall: p.cfg.Clock.Time, Log: p.cfg.Log}
	if p.cfg.StateDir != "" {
		var err error
		if cfg.Memory, err = OpenMemory(filepath.Join(p.cfg.StateDir, MemoryFile)); err != nil {
			p.cfg.Log.Warn("coefficients and idle draw will be learnt anew", "error", err)
		}
	}
	for _, r := range p.cfg.Routes {
		cfg.Upstreams = append(cfg.Upstreams, r.Address)
	}
	if p.recorder != nil {
		cfg.Opened = func(device int, with opening) {
			if device < len(p.devices) {
				p.recorder.opened(device, p.devices[device].target.Info, with)
			}
		}
	}
	if p.cpu() != nil {
		cfg.CPULedgers = 1 + len(p.routes) // the machine's, which has no ledger, and each route's part
	}
	return cfg
}

// Observer returns the observer of the route at that place in Config.Routes.
func (p *Pipeline) Observer(route int) *RouteObserver { return p.observers[route] }

// Summary says in one line which devices were found.
func (p *Pipeline) Summary() string { return p.summary }

// Stop ends the sampling and settles the rows that wait; ctx bounds the wait.
func (p *Pipeline) Stop(ctx context.Context) error {
	for _, o := range p.observers {
		if o.slots != nil {
			o.slots.Stop()
		}
	}
	if p.endSearch != nil {
		p.endSearch()
	}
	err := p.settler.Stop(ctx) // needs samples until the last request is covered
	for _, d := range p.devices {
		err = errors.Join(err, d.stop())
	}
	if p.recorder != nil {
		err = errors.Join(err, p.recorder.Close())
		if n := p.recorder.cut.Load(); n > 0 {
			p.cfg.Log.Warn("requests of the recording had more outputs than gaps are kept; attribute spreads the others evenly",
				"requests", n, "limit", sink.MaxGaps)
		}
	}
	return err
}

// States tells what is known of the devices that are sampled.
func (p *Pipeline) States() (out []gpu.State) {
	for _, d := range p.devices {
		if s := d.sampler.Load(); s != nil {
			out = append(out, s.States()...)
		}
	}
	return out
}

// RouteStates tells what is known of the GPUs that a route is bound to now.
func (p *Pipeline) RouteStates(route int) (out []gpu.State) {
	set := p.routes[route].current.Load()
	if set == nil {
		return nil
	}
	for _, i := range set.gpus {
		out = append(out, p.devices[i].state())
	}
	return out
}

// SlotStats is the cost of asking a route's upstream for its slots.
type SlotStats struct {
	Route string
	llama.SlotTrackerStats
}

// SlotStats returns those of all routes with an upstream that is asked.
func (p *Pipeline) SlotStats() (out []SlotStats) {
	for _, o := range p.observers {
		if o.slots != nil {
			out = append(out, SlotStats{o.devices.name, o.slots.Stats()})
		}
	}
	return out
}
