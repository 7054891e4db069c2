package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/meter"
	"wattline/proxy/llama"
	"wattline/sink"
)

// How often an upstream is asked what it is.
const (
	factsEvery = time.Minute     // at most, and only behind a request
	factsRetry = 5 * time.Second // while nobody answers, which costs no server anything
	factsAlive = 2 * time.Second // between looks whether the server's process is still there
	factsLimit = 2 * time.Second // at most, for the first status of a device
)

// facts learns a route's row of table configs. It asks at the start, and then behind the first request that
// finishes when what it knows is old; once a local server's process has ended, nothing is known of the next.
type facts struct {
	client   *llama.Client
	route    string // address of the upstream, as rows have it
	power    *power
	binding  *binding
	machine  *discover.Host
	whose    *discover.ProcessTree // the upstream's processes; nil: they cannot be known
	instance string
	log      *slog.Logger

	known atomic.Pointer[knownFacts]
	wake  chan struct{} // room for one
	quit  context.CancelFunc
	ended chan struct{}

	// Owned by the goroutine.
	offered string               // the last row that was handed over
	pid     int                  // the server's process; 0: not known
	limits  map[string]meter.Int // last known, by device
}

// knownFacts is what a finished row needs of them.
type knownFacts struct {
	id  string // "" while they are not known
	ask bool   // they are old: ask behind the next request
}

// learnFacts begins to learn; stop ends it.
func (p *power) learnFacts(r *rows, route *servedRoute, b *binding, whose *discover.ProcessTree, machine *discover.Host) *facts {
	ctx, quit := context.WithCancel(context.Background())
	f := &facts{
		client: route.client, route: route.client.Upstream().String(), power: p, binding: b, whose: whose, machine: machine, instance: r.instance, log: p.log,
		wake: make(chan struct{}, 1), quit: quit, ended: make(chan struct{}), limits: map[string]meter.Int{},
	}
	f.known.Store(&knownFacts{})
	go f.run(ctx) // ends with stop, which waits
	return f
}

func (f *facts) stop() {
	f.quit()
	<-f.ended
}

// stamp names the facts in a finished row.
func (f *facts) stamp(rec *meter.Record) {
	k := f.known.Load()
	rec.ConfigID = k.id
	if !k.ask {
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *facts) run(ctx context.Context) {
	defer close(f.ended)
	for {
		pause := factsEvery
		if err := f.look(ctx); err != nil {
			level := slog.LevelDebug
			if errors.Is(err, llama.ErrReplyTooLong) {
				level = slog.LevelWarn
			}
			f.log.Log(ctx, level, "cannot learn what the upstream is", "upstream", f.route, "error", err)
			if errors.Is(err, llama.ErrNotReady) {
				pause = factsRetry
				f.known.Store(&knownFacts{})
			}
		}
		if !f.await(ctx, pause) {
			return
		}
	}
}

// await waits until the facts are old and a request has finished; false when ctx ended first.
func (f *facts) await(ctx context.Context, pause time.Duration) bool {
	old := time.NewTimer(pause)
	defer old.Stop()
	tick := time.NewTicker(factsAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-old.C:
			f.known.Store(&knownFacts{id: f.known.Load().id, ask: true})
		case <-tick.C:
			if f.pid != 0 && !f.machine.IsAlive(f.pid) {
				f.pid = 0
				f.known.Store(&knownFacts{ask: true})
			}
		case <-f.wake:
			if f.known.Load().ask { // else a request that finished while it was asked
				return true
			}
		}
	}
}

// look gathers the facts, and hands a row over where one has changed. An error means that nothing is known
// of what is there now; what was known may still hold.
func (f *facts) look(ctx context.Context) error {
	c := &sink.ServerConfig{At: time.Now().UTC(), Instance: f.instance, Upstream: f.route, WattlineVersion: version()}
	c.GPUs, c.Driver, c.GPUPowerLimitMw = f.devices(ctx)
	said, err := f.client.Info(ctx)
	if err != nil {
		return err
	}
	c.ServerBuild, c.Model, c.Quantisation = said.Build, said.Model, said.Quantisation
	c.ContextTokens, c.Slots = said.ContextTokens, said.Slots
	f.pid, c.ServerFlags = f.process()
	c.Identify()
	if c.ConfigID != f.offered {
		if !f.power.queue.OfferConfig(c) {
			f.known.Store(&knownFacts{})
			return errors.New("the queue of rows is full")
		}
		f.offered = c.ConfigID
	}
	f.known.Store(&knownFacts{id: c.ConfigID})
	return nil
}

// process finds the server's process and its flags, where that can be seen from here.
func (f *facts) process() (pid int, flags []string) {
	if f.whose == nil {
		return 0, nil
	}
	pids, err := f.whose.Renew()
	if err != nil {
		return 0, nil
	}
	return f.machine.Server(pids)
}

// devices tells of the GPUs that the route is bound to. Their power limit, the sum, is null where one of them
// does not say its own; the first look waits a little for that.
func (f *facts) devices(ctx context.Context) (names []string, driver string, limit meter.Int) {
	to := f.binding.bound.Load()
	if to == nil || len(to.gpus) == 0 {
		return nil, "", meter.Int{}
	}
	var drivers []string
	limit = meter.Some(0)
	for _, i := range to.gpus {
		in, mw := f.device(ctx, f.power.devices[i])
		names = append(names, deviceName(in))
		if in.Driver != "" && !slices.Contains(drivers, in.Driver) {
			drivers = append(drivers, in.Driver)
		}
		limit.V, limit.Valid = limit.V+mw.V, limit.Valid && mw.Valid
	}
	if !limit.Valid {
		limit.V = 0
	}
	return names, strings.Join(drivers, ", "), limit
}

// device returns a device's facts and its power limit, the last known one where it does not answer now.
func (f *facts) device(ctx context.Context, d *powered) (in gpu.Info, limit meter.Int) {
	id := d.target.Info.UUID
	in, limit = d.now()
	if _, asked := f.limits[id]; !asked {
		ctx, cancel := context.WithTimeout(ctx, factsLimit)
		defer cancel()
		for tick := time.Tick(50 * time.Millisecond); !limit.Valid && ctx.Err() == nil; in, limit = d.now() {
			select {
			case <-tick:
			case <-ctx.Done():
			}
		}
	}
	if !limit.Valid {
		limit = f.limits[id]
	}
	f.limits[id] = limit
	return in, limit
}

// now is what the device's sampler knows: its facts, and the power limit once it has read it.
func (d *powered) now() (gpu.Info, meter.Int) {
	if s := d.sampler.Load(); s != nil {
		if st := s.States(); len(st) > 0 { // one device each
			return st[0].Info, st[0].Status.LimitMw
		}
	}
	return d.target.Info, meter.Int{}
}
