package attribution

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"wattline/gpu"
)

// routeDevices is which devices a route's upstream computes on. They may be found only once it computes on one, and it may
// move to others.
type routeDevices struct {
	index     int // of the route
	name      string
	selector  gpu.Selector
	processes Processes // the upstream's; nil where they cannot be known
	share     *cpuShare // nil: the machine counts no CPU energy, or the upstream is elsewhere
	current   atomic.Pointer[deviceSet]
}

// deviceSet is the devices that a route is bound to. It is not changed once stored.
type deviceSet struct {
	gpus     []int      // indices of the pipeline's devices
	ledgers  *ledgerSet // theirs, and that of the route's part of the processors
	activity gpu.Activities
}

// simulatorProcesses are the processes of an upstream with a simulated device, on which no other process computes.
type simulatorProcesses struct{}

func (simulatorProcesses) PIDs() ([]int, error) { return []int{os.Getpid()}, nil }
func (simulatorProcesses) Has(int) bool         { return true }

func (p *Pipeline) newRoute(index int, r *Route) *routeDevices {
	out := &routeDevices{index: index, name: r.Name, processes: r.Processes, selector: gpu.Selector{GPUs: r.GPUs, Local: r.Local}}
	if p.cpu() != nil && r.Processes != nil && p.cfg.CPUTime != nil {
		out.share = &cpuShare{ledger: len(p.devices) + index, processes: r.Processes, cpuTime: p.cfg.CPUTime}
	}
	if p.cfg.Simulator != nil && len(r.GPUs) == 0 {
		out.processes, out.selector.Local = simulatorProcesses{}, true
	}
	if out.processes != nil {
		out.selector.IsUpstreamProcess = out.processes.Has
	}
	return out
}

// chooseDevices finds each route's GPUs. A device that no route uses is not sampled.
func (p *Pipeline) chooseDevices() (chosen [][]int, err error) {
	all, err := p.candidates()
	if err != nil {
		return nil, err
	}
	chosen = make([][]int, len(p.cfg.Routes))
	var said []string
	for i := range p.cfg.Routes {
		r := p.newRoute(i, &p.cfg.Routes[i])
		p.routes = append(p.routes, r)
		if r.share != nil {
			in := p.cpu().target.Info
			said = append(said, fmt.Sprintf("%s by %s", in.Name, in.Source))
		}
		if len(all) == 0 && len(r.selector.GPUs) == 0 {
			continue
		}
		gpus, why, err := gpu.SelectDevices(r.selector, all)
		switch {
		case errors.Is(err, gpu.ErrUndetermined):
			said = append(said, fmt.Sprintf("%s: %v", r.name, err))
			continue
		case err != nil:
			return nil, UsageError{err}
		}
		chosen[i] = gpus
		for _, d := range gpus {
			in := all[d].Info
			p.devices[d].target.Info = in
			said = append(said, fmt.Sprintf("%s by %s (%s)", in.DisplayName(), in.Source, why))
		}
	}
	if p.summary = strings.Join(said, "; "); p.summary == "" {
		p.summary = "no source (gpu_uj stays null; wattline gpu says why)"
	}
	return chosen, nil
}

// union lists the devices of all routes, ascending, each once.
func union(chosen [][]int) []int {
	seen := map[int]bool{}
	for _, devices := range chosen {
		for _, d := range devices {
			seen[d] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// ledgerNames names the settler's ledgers: one for each device that could be sampled, then the processors' part of each
// route.
func (p *Pipeline) ledgerNames() []string {
	var out []string
	for _, d := range p.devices {
		out = append(out, d.target.Info.UUID)
	}
	if cpu := p.cpu(); cpu != nil {
		for _, r := range p.routes {
			out = append(out, cpu.target.Info.UUID+"/"+r.name)
		}
	}
	return out
}

// attach binds a route to GPUs (none: only to the processors, if they are read), begins to sample those that are not
// sampled yet, and leaves those that it was bound to before.
func (p *Pipeline) attach(r *routeDevices, gpus []int) error {
	was := r.current.Load()
	to := &deviceSet{gpus: gpus}
	devices, ledgers := slices.Clone(gpus), slices.Clone(gpus)
	if r.share != nil {
		devices, ledgers = append(devices, len(p.devices)-1), append(ledgers, r.share.ledger)
	}
	if len(devices) == 0 {
		return nil
	}
	for _, i := range devices {
		s, err := p.use(i, r)
		if err != nil {
			return err
		}
		to.activity = append(to.activity, s)
	}
	if p.cfg.Simulator != nil {
		to.activity = append(to.activity, p.cfg.Simulator)
	}
	to.ledgers = p.settler.ledgers(r.index, ledgers...)
	r.current.Store(to)
	if was == nil {
		return nil
	}
	var err error
	for _, i := range was.gpus {
		if !slices.Contains(gpus, i) {
			err = errors.Join(err, p.leave(i, r))
		}
	}
	return err
}

// How often devices are searched for a route that has none or may have moved.
const (
	searchEvery = 10 * time.Second
	moveAfter   = 3 // searches in a row that found the route's processes only elsewhere
)

// searchDevices looks for the devices of routes with an upstream that was not seen on one yet, or may move to another: it may be
// started, or load its model, long after wattline. A machine's only GPU needs no search, nor do devices that were named.
func (p *Pipeline) searchDevices() {
	var open []*routeDevices
	for _, r := range p.routes {
		if r.selector.Local && len(r.selector.GPUs) == 0 && r.processes != nil && p.gpuCount() > 1 {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p.endSearch = func() { cancel(); <-done }
	go func() { // ended by endSearch, which waits
		defer close(done)
		ticker := time.NewTicker(searchEvery)
		defer ticker.Stop()
		elsewhere := map[*routeDevices]int{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				p.search(open, elsewhere)
			}
		}
	}()
}

// search binds routes to the GPUs on which their processes compute. elsewhere counts how often
// in a row they computed elsewhere.
func (p *Pipeline) search(open []*routeDevices, elsewhere map[*routeDevices]int) {
	var all []gpu.Candidate
	for _, r := range open {
		if p.computesWhereBound(r) {
			elsewhere[r] = 0
			continue
		}
		if all == nil {
			var err error
			if all, err = p.candidates(); err != nil {
				p.cfg.Log.Debug("the processes on the GPUs could not be listed", "error", err)
				return
			}
		}
		chosen, why, err := gpu.SelectDevices(r.selector, all)
		was := r.current.Load()
		if err != nil || was != nil && slices.Equal(was.gpus, chosen) {
			continue
		}
		if elsewhere[r]++; was != nil && len(was.gpus) > 0 && elsewhere[r] < moveAfter {
			continue
		}
		elsewhere[r] = 0
		if err := p.attach(r, chosen); err != nil {
			p.cfg.Log.Error("the route's devices cannot be sampled", "route", r.name, "error", err)
			continue
		}
		for _, d := range chosen {
			p.cfg.Log.Info("the route's device was found", "route", r.name, "device", all[d].Info.UUID, "why", why)
		}
	}
}

// computesWhereBound reports whether a route is bound to GPUs and nothing says that its processes compute elsewhere.
func (p *Pipeline) computesWhereBound(r *routeDevices) bool {
	to := r.current.Load()
	if to == nil || len(to.gpus) == 0 {
		return false
	}
	for _, i := range to.gpus {
		s := p.devices[i].sampler.Load()
		if s == nil {
			return false
		}
		for _, st := range s.States() {
			if st.Procs == nil || slices.ContainsFunc(st.Procs, func(q gpu.Process) bool { return r.processes.Has(q.PID) }) {
				return true
			}
		}
	}
	return false
}
