// Package serverconfig learns what an upstream is, as a row of table configs: what the server says of itself, the flags of
// its process, and the devices that it computes on. Finished requests name that row in config_id.
package serverconfig

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

// How often an upstream is asked.
const (
	askEvery    = time.Minute     // at most, and only behind a request
	retryEvery  = 5 * time.Second // while the upstream does not answer
	aliveEvery  = 2 * time.Second // between checks that the server's process still lives
	limitWait   = 2 * time.Second // for the first power limit of a device
	limitPeriod = 50 * time.Millisecond
)

// Config configures a Tracker.
type Config struct {
	Client   *llama.Client // asks the upstream
	Instance string        // names this wattline in rows
	Version  string        // of wattline
	Offer    func(*sink.ServerConfig) bool
	Devices  func() []gpu.State // that the upstream computes on, as far as they are known now

	Host      *discover.Host
	Processes *discover.ProcessTree // the upstream's; nil where they cannot be known
	Log       *slog.Logger
}

// Tracker keeps a route's row of table configs up to date. It asks at the start, and then behind the first request that
// finishes once its answer is old. When a local server's process has ended, nothing is known of the next one until it has
// been asked.
type Tracker struct {
	cfg     Config
	address string // of the upstream, as rows have it
	current atomic.Pointer[answer]
	wake    chan struct{} // room for one

	processEnds atomic.Int64 // times that the server's process was seen to have ended

	cancel context.CancelFunc
	ended  chan struct{}

	// Owned by the goroutine.
	offered string               // id of the last row that was handed over
	pid     int                  // the server's process; 0: not known
	limits  map[string]meter.Int // last known power limits, by device
}

// answer holds what a finished row needs.
type answer struct {
	id     string // "" while it is not known
	old    bool   // ask again behind the next request
	config *sink.ServerConfig
}

// Config returns what is known of the server now, nil if nothing is, and how often its process was seen to end.
func (t *Tracker) Config() (c *sink.ServerConfig, ended int64) {
	return t.current.Load().config, t.processEnds.Load()
}

// Start begins to ask. Stop ends it.
func Start(cfg Config) *Tracker {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Tracker{
		cfg: cfg, address: cfg.Client.Upstream().String(), wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
		limits: map[string]meter.Int{},
	}
	t.current.Store(&answer{})
	go t.run(ctx) // ends with Stop, which waits
	return t
}

// Stop ends the tracker.
func (t *Tracker) Stop() {
	t.cancel()
	<-t.ended
}

// Stamp writes a finished row's config_id. It never blocks.
func (t *Tracker) Stamp(rec *meter.Record) {
	a := t.current.Load()
	rec.ConfigID = a.id
	if !a.old {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *Tracker) run(ctx context.Context) {
	defer close(t.ended)
	for {
		pause := askEvery
		if err := t.ask(ctx); err != nil {
			level := slog.LevelDebug
			if errors.Is(err, llama.ErrReplyTooLong) {
				level = slog.LevelWarn
			}
			t.cfg.Log.Log(ctx, level, "cannot learn what the upstream is", "upstream", t.address, "error", err)
			if errors.Is(err, llama.ErrNotReady) {
				pause = retryEvery
				t.current.Store(&answer{})
			}
		}
		if !t.await(ctx, pause) {
			return
		}
	}
}

// await waits until the answer is old and a request has finished; false when ctx ended first.
func (t *Tracker) await(ctx context.Context, pause time.Duration) bool {
	old := time.NewTimer(pause)
	defer old.Stop()
	ticker := time.NewTicker(aliveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-old.C:
			known := *t.current.Load()
			known.old = true
			t.current.Store(&known)
		case <-ticker.C:
			if t.pid != 0 && !t.cfg.Host.IsAlive(t.pid) {
				t.pid = 0
				t.processEnds.Add(1)
				t.current.Store(&answer{old: true})
			}
		case <-t.wake:
			if t.current.Load().old { // else the request finished while the upstream was asked
				return true
			}
		}
	}
}

// ask collects the row, and hands it over if anything in it has changed. After an error nothing new is known; what was
// known may still hold.
func (t *Tracker) ask(ctx context.Context) error {
	c := &sink.ServerConfig{At: time.Now().UTC(), Instance: t.cfg.Instance, Upstream: t.address, WattlineVersion: t.cfg.Version}
	c.GPUs, c.Driver, c.GPUPowerLimitMw = t.devices(ctx)
	info, err := t.cfg.Client.Info(ctx)
	if err != nil {
		return err
	}
	c.ServerBuild, c.Model, c.Quantisation = info.Build, info.Model, info.Quantisation
	c.ContextTokens, c.Slots = info.ContextTokens, info.Slots
	before := t.pid
	if t.pid, c.ServerFlags = t.process(); before != 0 && t.pid != 0 && t.pid != before {
		t.processEnds.Add(1)
	}
	c.Identify()
	if c.ConfigID != t.offered {
		if !t.cfg.Offer(c) {
			t.current.Store(&answer{})
			return errors.New("the queue of rows is full")
		}
		t.offered = c.ConfigID
	}
	t.current.Store(&answer{id: c.ConfigID, config: c})
	return nil
}

// process finds the server's process and its flags, where they can be seen from here.
func (t *Tracker) process() (pid int, flags []string) {
	if t.cfg.Processes == nil {
		return 0, nil
	}
	pids, err := t.cfg.Processes.Renew()
	if err != nil {
		return 0, nil
	}
	return t.cfg.Host.Server(pids)
}

// devices describes the upstream's GPUs. Their power limit is the sum, null where one of them does not say its own; the
// first time it is waited for a little.
func (t *Tracker) devices(ctx context.Context) (names []string, driver string, limit meter.Int) {
	states := t.cfg.Devices()
	ctx, cancel := context.WithTimeout(ctx, limitWait)
	defer cancel()
	for tick := time.Tick(limitPeriod); t.firstLimitMissing(states) && ctx.Err() == nil; states = t.cfg.Devices() {
		select {
		case <-tick:
		case <-ctx.Done():
		}
	}
	if len(states) == 0 {
		return nil, "", meter.Int{}
	}
	var drivers []string
	limit = meter.Some(0)
	for i := range states {
		in := states[i].Info
		mw := states[i].Status.LimitMw
		if !mw.Valid {
			mw = t.limits[in.UUID]
		}
		t.limits[in.UUID] = mw
		names = append(names, in.DisplayName())
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

// firstLimitMissing reports whether a device that was not waited for before has not said its limit yet.
func (t *Tracker) firstLimitMissing(states []gpu.State) bool {
	return slices.ContainsFunc(states, func(s gpu.State) bool {
		_, waited := t.limits[s.Info.UUID]
		return !waited && !s.Status.LimitMw.Valid
	})
}
