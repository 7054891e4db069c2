package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/meter/energy"
	"wattline/sink/attribution"
)

// powered is one device that can be sampled. It is, from when a route is bound to it.
type powered struct {
	target  gpu.Target
	curve   curve
	sampler atomic.Pointer[gpu.Sampler] // nil: no route uses it

	mu    sync.Mutex // guards users
	users []*binding // routes that use it
}

// ours says whether a process is that of an upstream that uses the device; nil where none can be told.
func (d *powered) ours(pid int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.users, func(b *binding) bool { return b.wish.Ours != nil && b.wish.Ours(pid) })
}

// known says whether it can be told of a process whose it is: the processes of every upstream that uses the
// device can be seen, and so can this one (the driver may count in another PID namespace).
func (d *powered) known(pid int) bool {
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(d.users, func(b *binding) bool {
		if b.family == nil {
			return b.wish.Ours == nil
		}
		pids, err := b.family.PIDs()
		return err != nil || len(pids) == 0
	})
}

// binding is a route's devices. They may be found only once its upstream computes on one.
type binding struct {
	index  int // of the route
	name   string
	wish   gpu.Wish
	family *discover.ProcessTree // the upstream's processes; nil where they cannot be known
	cpu    *processor            // nil: the machine counts no CPU energy, or the upstream is elsewhere
	why    string                // how the devices were found; "" while they were not
	bound  atomic.Pointer[bound]
}

// bound is what a route is bound to.
type bound struct {
	gpus     []int // places among power's devices
	devices  []int // those, and the route's processor, as the settler counts them
	upstream *attribution.Upstream
	activity gpu.Activities
}

// processor divides the machine's CPU energy between a route's upstream and the rest of the host.
type processor struct {
	device int // as the settler counts
	family *discover.ProcessTree
	host   *discover.Host

	// Owned by the goroutine of the processors' device.
	share       energy.Processor
	last        int64 // the counter, uJ
	at          int64
	theirs, all float64 // CPU seconds so far
}

// list opens nothing and lists every device that could be sampled, the machine's processors last.
func (p *power) list() error {
	for _, src := range p.sources.GPUs {
		list, err := src.List()
		if err != nil {
			return err
		}
		for _, in := range list {
			p.devices = append(p.devices, &powered{target: gpu.Target{Source: src, Info: in}})
		}
	}
	if p.sources.CPU == nil {
		return nil
	}
	list, err := p.sources.CPU.List()
	if err != nil || len(list) == 0 {
		return err
	}
	p.devices = append(p.devices, &powered{target: gpu.Target{Source: p.sources.CPU, Info: list[0]}})
	return nil
}

// processor is the device that stands for the machine's processors; nil where there is none.
func (p *power) processor() *powered {
	if n := len(p.devices); n > 0 && p.devices[n-1].target.Info.Kind == gpu.KindCPU {
		return p.devices[n-1]
	}
	return nil
}

// candidates lists the GPUs with who computes on each, in the order of power's devices.
func (p *power) candidates(sysRoot string) (all []gpu.Candidate, err error) {
	for _, src := range p.sources.GPUs {
		list, err := gpu.Candidates(src, sysRoot)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// bind finds each route's devices among all; a device that nobody uses is not sampled.
func (p *power) bind(c *serveCmd, routes []*servedRoute) (found [][]int, err error) {
	all, err := p.candidates(c.SysRoot)
	if err != nil {
		return nil, err
	}
	found = make([][]int, len(routes))
	var said []string
	for i, r := range routes {
		b := &binding{index: i, name: r.Name}
		b.wish, b.family = p.wishOf(r, c.GPUs)
		p.bindings = append(p.bindings, b)
		if p.processor() != nil {
			b.cpu = newProcessor(r, len(p.devices)+i)
		}
		if b.cpu != nil {
			said = append(said, fmt.Sprintf("%s by %s", p.processor().target.Info.Name, p.processor().target.Info.Source))
		}
		if len(all) == 0 && len(b.wish.GPUs) == 0 {
			continue
		}
		chosen, why, err := gpu.Mine(b.wish, all)
		switch {
		case errors.Is(err, gpu.ErrNotMine):
			said = append(said, fmt.Sprintf("%s: %v", r.Name, err))
			continue
		case err != nil:
			return nil, usageError("%w", err)
		}
		found[i], b.why = chosen, why
		for _, d := range chosen {
			p.devices[d].target.Info = all[d].Info
			said = append(said, fmt.Sprintf("%s by %s (%s)", deviceName(all[d].Info), all[d].Info.Source, why))
		}
	}
	if p.found = strings.Join(said, "; "); p.found == "" {
		p.found = "no source (gpu_uj stays null; wattline gpu says why)"
	}
	return found, nil
}

// distinct lists the devices of all routes, ascending, each once.
func distinct(found [][]int) []int {
	seen := map[int]bool{}
	for _, devices := range found {
		for _, d := range devices {
			seen[d] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// names are the settler's devices: those that could be sampled, and a processor for each route.
func (p *power) names(routes []*servedRoute) []string {
	var out []string
	for _, d := range p.devices {
		out = append(out, d.target.Info.UUID)
	}
	if cpu := p.processor(); cpu != nil {
		for _, r := range routes {
			out = append(out, cpu.target.Info.UUID+"/"+r.Name)
		}
	}
	return out
}

// attach binds a route to devices (none: only to its processor, if there is one) and begins to sample those
// that are not sampled yet.
func (p *power) attach(b *binding, gpus []int) error {
	to := &bound{gpus: gpus, devices: slices.Clone(gpus)}
	places := slices.Clone(gpus)
	if b.cpu != nil {
		to.devices = append(to.devices, b.cpu.device)
		places = append(places, len(p.devices)-1)
	}
	if len(places) == 0 {
		return nil
	}
	for _, i := range places {
		s, err := p.sample(i, b)
		if err != nil {
			return err
		}
		to.activity = append(to.activity, s)
	}
	if p.sources.Activity != nil {
		to.activity = append(to.activity, p.sources.Activity)
	}
	to.upstream = p.settler.Upstream(b.index, to.devices...)
	b.bound.Store(to)
	return nil
}

// sample begins to sample the device in a place for one more route.
func (p *power) sample(place int, b *binding) (*gpu.Sampler, error) {
	d := p.devices[place]
	d.mu.Lock()
	if !slices.Contains(d.users, b) {
		d.users = append(d.users, b)
	}
	d.mu.Unlock()
	if s := d.sampler.Load(); s != nil {
		return s, nil
	}
	target := d.target
	if b.wish.Ours != nil {
		target.Ours, target.Known = d.ours, d.known
	}
	if !target.Info.Simulated {
		p.claim(target.Info.UUID)
	}
	cfg := gpu.Config{Clock: p.clock, Targets: []gpu.Target{target}, Handle: func(b *gpu.Batch) { p.handle(place, b) }, WakeSleeping: p.wake, Log: p.log}
	if rec := p.recorder.of(place); rec != nil {
		cfg.Recorders = []*gpu.Recorder{rec}
	}
	s, err := gpu.Start(cfg)
	if err == nil {
		d.sampler.Store(s)
	}
	return s, err
}

// stopSamplers ends all sampling.
func (p *power) stopSamplers() {
	for _, d := range p.devices {
		if s := d.sampler.Load(); s != nil {
			s.Stop()
		}
	}
}

// states tells what is known of the devices that are sampled.
func (p *power) states() (out []gpu.State) {
	for _, d := range p.devices {
		if s := d.sampler.Load(); s != nil {
			out = append(out, s.States()...)
		}
	}
	return out
}

// How often devices are sought for a route that has none, and looked whether a route's still are its own.
const (
	seekEvery = 10 * time.Second
	moveAfter = 3 // so many times in a row its processes were seen only elsewhere
)

// seek looks for devices of routes whose upstream was not seen on one yet, or may move to another: it may be
// started, or load its model, long after wattline. One GPU is nobody else's, and what gpus: names stays.
func (p *power) seek(ctx context.Context) {
	var open []*binding
	for _, b := range p.bindings {
		if b.wish.Local && len(b.wish.GPUs) == 0 && b.wish.Ours != nil && p.gpus() > 1 {
			open = append(open, b)
		}
	}
	if len(open) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	p.seeking = func() { cancel(); <-done }
	go func() { // ended by seeking, which waits
		defer close(done)
		tick := time.NewTicker(seekEvery)
		defer tick.Stop()
		elsewhere := map[*binding]int{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.look(open, elsewhere)
			}
		}
	}()
}

// gpus is how many GPUs could be sampled.
func (p *power) gpus() int {
	if p.processor() != nil {
		return len(p.devices) - 1
	}
	return len(p.devices)
}

// look binds those routes whose processes compute on devices that the routes are not bound to.
func (p *power) look(open []*binding, elsewhere map[*binding]int) {
	var all []gpu.Candidate
	for _, b := range open {
		if p.settled(b) {
			elsewhere[b] = 0
			continue
		}
		if all == nil {
			var err error
			if all, err = p.candidates(p.sources.SysRoot); err != nil {
				p.log.Debug("devices could not be looked through", "error", err)
				return
			}
		}
		chosen, why, err := gpu.Mine(b.wish, all)
		was := b.bound.Load()
		if err != nil || was != nil && slices.Equal(was.gpus, chosen) {
			continue
		}
		if elsewhere[b]++; was != nil && len(was.gpus) > 0 && elsewhere[b] < moveAfter {
			continue
		}
		elsewhere[b], b.why = 0, why
		if err := p.attach(b, chosen); err != nil {
			p.log.Error("the route's devices cannot be sampled", "route", b.name, "error", err)
			continue
		}
		for _, d := range chosen {
			p.log.Info("the route's device was found", "route", b.name, "device", all[d].Info.UUID, "why", why)
		}
	}
}

// settled says that a route is bound, and that nothing says that its processes compute elsewhere.
func (p *power) settled(b *binding) bool {
	to := b.bound.Load()
	if to == nil || len(to.gpus) == 0 {
		return false
	}
	for _, i := range to.gpus {
		s := p.devices[i].sampler.Load()
		if s == nil {
			return false
		}
		for _, st := range s.States() {
			if st.Procs == nil || slices.ContainsFunc(st.Procs, func(q gpu.Process) bool { return b.wish.Ours(q.PID) }) {
				return true
			}
		}
	}
	return false
}

// newProcessor makes a route's part of the processors; nil for an upstream that is not on this machine.
func newProcessor(r *servedRoute, device int) *processor {
	port, ok := localPort(r.Upstream)
	if !ok {
		return nil
	}
	machine, err := discover.New("/proc")
	if err != nil {
		return nil
	}
	return &processor{device: device, family: discover.NewProcessTree(machine, port, 10*time.Second), host: machine}
}

// divideEvery is how often CPU time is read: it is told in hundredths of a second.
const divideEvery = int64(100 * time.Millisecond)

// divideProcessor gives each route's upstream its part of the CPU energy, by CPU time.
func (p *power) divideProcessor(b *gpu.Batch) {
	for _, t := range b.Ticks {
		for _, r := range p.bindings {
			if c := r.cpu; c != nil && (t.After-c.at >= divideEvery || b.Ended != "") {
				p.settler.Read(c.device, c.divide(b, t))
			}
		}
	}
}

// divide takes one look at the counter and returns what the server's part of it was.
func (c *processor) divide(b *gpu.Batch, t gpu.Tick) *attribution.Reading {
	pids, _ := c.family.PIDs() // none while nothing listens there: all is the host's then
	theirs, all, ok := c.host.CPUTime(pids)
	if c.at > 0 && ok && t.Uj >= c.last {
		c.share.Add(t.Uj-c.last, theirs-c.theirs, all-c.all)
	}
	c.last, c.at, c.theirs, c.all = t.Uj, t.After, theirs, all
	return &attribution.Reading{
		Source: b.Info.Source, Shape: energy.ShapeCounter, At: b.At, Lost: b.Ended != "",
		Ticks: []attribution.Tick{{Before: t.Before, After: t.After, Lo: t.Lo, Hi: t.Hi, UJ: c.share.Server}},
	}
}

// wishOf says what is known of where a route's upstream computes.
func (p *power) wishOf(r *servedRoute, flag []string) (gpu.Wish, *discover.ProcessTree) {
	w := gpu.Wish{GPUs: r.GPUs}
	if len(w.GPUs) == 0 {
		w.GPUs = flag
	}
	if p.sources.Activity != nil && len(w.GPUs) == 0 {
		return gpu.Wish{Local: true, Ours: func(int) bool { return true }}, nil
	}
	u, err := url.Parse(r.Upstream)
	if err != nil {
		return w, nil
	}
	w.Local = u.Scheme == "unix" || discover.IsLocal(u.Hostname())
	port, ok := localPort(r.Upstream)
	if !ok {
		return w, nil
	}
	machine, err := discover.New("/proc")
	if err != nil {
		return w, nil
	}
	family := discover.NewProcessTree(machine, port, 10*time.Second)
	w.Ours = family.Has
	return w, family
}

// processesOf are the processes of an upstream on this machine; nil where they cannot be known.
func processesOf(upstream string) (*discover.ProcessTree, *discover.Host) {
	port, ok := localPort(upstream)
	if !ok {
		return nil, nil
	}
	machine, err := discover.New("/proc")
	if err != nil {
		return nil, nil
	}
	return discover.NewProcessTree(machine, port, residentWhose), machine
}

// localPort is the port of this machine that an upstream listens on.
func localPort(upstream string) (port int, ok bool) {
	u, err := url.Parse(upstream)
	if err != nil || u.Scheme == "unix" || !discover.IsLocal(u.Hostname()) {
		return 0, false
	}
	port, err = strconv.Atoi(u.Port())
	return port, err == nil
}

// claim tells other wattlines that this one measures the device, and says if another does.
func (p *power) claim(uuid string) {
	held, err := discover.AcquireAdvisoryLock(uuid)
	if err != nil {
		p.log.Warn("two wattlines count the same joules", "device", uuid, "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = append(p.claims, held.Close)
}
