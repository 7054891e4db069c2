package gpu

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Config says what a Sampler samples, and how.
type Config struct {
	// Clock gives all stamps; the zero Clock is replaced by a new one. Events must be stamped on it.
	Clock Clock

	// Targets are the devices, in the order that Batch.Device counts in.
	Targets []Target

	// Handle gets every batch, on the device's own goroutine: it should hand on and return. nil: none.
	Handle func(*Batch)

	// Recorders, one a target or none, write down what is read. Recording reads energy counters every
	// 25 ms, or as often as 20 % of a core a device pays for.
	Recorders []*Recorder

	// Budget is the share of one core that reads of one device's energy counter may cost; 0 means
	// 0.3 %. The samples' own cost comes on top (0.05 % on an H100).
	Budget float64

	// WakeSleeping also reads devices that the kernel has powered down. By default they are left
	// asleep, which is read from SysRoot (default /sys).
	WakeSleeping bool
	SysRoot      string

	Log *slog.Logger // nil: silent

	cpu func() time.Duration // CPU time of the device\'s thread; tests set it
}

// Target is one device to sample.
type Target struct {
	Source Source
	Info   Info // as Source.List returned it

	// IsUpstreamProcess reports whether a process belongs to the upstream; nil where that is not known. Another
	// process that computes on the device makes its joules contended. It is asked at most every ten
	// seconds, on the device's goroutine.
	IsUpstreamProcess func(pid int) bool

	// OwnerKnown reports whether a process's owner can be determined: not where the upstream's processes are hidden,
	// nor where the driver's numbers belong to another PID namespace. nil: always.
	OwnerKnown func(pid int) bool
}

// Sampler samples devices until it is stopped. Each device has one goroutine on its own OS thread,
// started by Start and awaited by Stop.
type Sampler struct {
	runners []*runner
	quit    chan struct{}
	stop    sync.Once
	wg      sync.WaitGroup
}

const defaultBudget = 0.003

// Start begins to sample. Devices that cannot be opened now are tried again later, so an error means
// that the configuration makes no sense.
func Start(cfg Config) (*Sampler, error) {
	if len(cfg.Recorders) > 0 && len(cfg.Recorders) != len(cfg.Targets) {
		return nil, fmt.Errorf("gpu: %d recorders for %d devices", len(cfg.Recorders), len(cfg.Targets))
	}
	if cfg.Budget < 0 || cfg.Budget > 1 {
		return nil, fmt.Errorf("gpu: budget %g is not a share of a core between 0 and 1", cfg.Budget)
	}
	if cfg.Budget == 0 {
		cfg.Budget = defaultBudget
	}
	if !cfg.Clock.valid() {
		cfg.Clock = NewClock()
	}
	if cfg.Log == nil {
		cfg.Log = discard()
	}
	if cfg.cpu == nil {
		cfg.cpu = threadCPU
	}
	if cfg.SysRoot == "" {
		cfg.SysRoot = "/sys"
	}
	s := &Sampler{quit: make(chan struct{})}
	for i, t := range cfg.Targets {
		if t.Source == nil {
			return nil, errors.New("gpu: a target without a source")
		}
		s.runners = append(s.runners, newRunner(cfg, i, s.quit))
	}
	for _, r := range s.runners {
		s.wg.Go(r.run)
	}
	return s, nil
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Stop ends all sampling, closes the devices and waits for their goroutines. A call that hangs in a
// driver is waited for.
func (s *Sampler) Stop() {
	s.stop.Do(func() { close(s.quit) })
	s.wg.Wait()
}

// Observe passes an event to every device's sampling.
func (s *Sampler) Observe(e Event) {
	for _, r := range s.runners {
		r.Observe(e)
	}
}

// Activity returns an Activity for some devices only, for an upstream that is bound to them.
func (s *Sampler) Activity(devices ...int) Activity {
	var a Activities
	for i, r := range s.runners {
		if slices.Contains(devices, i) {
			a = append(a, r)
		}
	}
	return a
}

// States returns what is known of each device: immutable snapshots.
func (s *Sampler) States() []State {
	out := make([]State, len(s.runners))
	for i, r := range s.runners {
		out[i] = *r.state.Load()
	}
	return out
}

// wait returns false when the sampler was stopped before d had passed.
func wait(quit <-chan struct{}, d time.Duration) bool {
	select {
	case <-quit:
		return false
	case <-time.After(d):
		return true
	}
}
