package attribution

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
)

// settlerConfig configures a settler.
type settlerConfig struct {
	Rows     Rows
	Instance string
	Now      func() int64             // the clock of all stamps, ns
	Wall     func(ns int64) time.Time // a stamp's wall time
	Log      *slog.Logger

	// Upstreams are the servers' addresses, by their index. Memory, where set, knows what was learnt of
	// their models before, and is told what has been learnt; nil: every start is a first one.
	Upstreams []string
	Memory    *Memory

	// Processors is how many of the devices, the last ones, are processors: a request's part of their joules
	// is its cpu_uj.
	Processors int

	// Opened is told how a device's ledger begins, on the settler's goroutine; nil: nobody asks.
	Opened func(device int, with opening)

	Pace    time.Duration // from a reading to the look at the buffer; 250 ms
	MaxWait time.Duration // longest wait for a row's joules; 45 s, above the ledger's own settle_max
}

// opening is how a ledger begins: what attribute must begin with to come to the same.
type opening struct {
	Config       energy.Config
	Coefficients []energy.Coefficients // by upstream
}

// Reading is what a device told: one batch of it, in order of time.
type reading struct {
	Source  string
	Shape   energy.Shape
	Average time.Duration // with energy.ShapeAverage
	Ticks   []tick        // looks at the energy counter
	Samples []sample
	Lost    bool // the device or its counter's continuity was lost before this
	At      int64
	TempC   meter.Int
	MemB    meter.Int
	LimitMw meter.Int
	Others  meter.Int // 1 another process computes there, 0 none, null not known
}

// Tick is one look at an energy counter, which took its value after Lo and not after Hi (0, 0: not known).
// Sample is one power value with its own time.
type (
	tick   struct{ Before, After, Lo, Hi, UJ int64 }
	sample struct{ At, MW int64 }
)

// settler joins rows with joules.
type settler struct {
	cfg     settlerConfig
	devices []*deviceLedger
	called  chan struct{} // room for one: look at the buffer
	crowded chan struct{} // room for one: at once
	quit    chan struct{}
	done    chan struct{}
	once    sync.Once
	open    atomic.Int64 // rows whose joules are not final

	mu      sync.Mutex // guards the buffers that others append to
	steps   []step
	bounded int64 // steps dropped because the buffer was full

	// Owned by the goroutine.
	kept    int64 // when what was learnt was last kept
	spare   []step
	waiting map[uint64]*waiting
	unused  []*waiting // settled ones, to be used again
	ended   line       // requests that are over, in the order in which they ended
	ready   []uint64   // of them, since the last look, those that may not have to wait
}

// step is one thing that happened, in the order in which it was told.
type step struct {
	device  int // of reading
	reading *reading
	to      *ledgerSet // of event
	event   energy.Event
	rec     *meter.Record // with End: the row
}

// maxSteps bounds the buffer, which is taken over when crowd have come: the rest is for a goroutine that does
// not get to run.
const maxSteps = 50000

// waiting is a row whose joules are not final.
type waiting struct {
	rec     *meter.Record // nil until the request is over
	to      *ledgerSet
	results []energy.Result // of its devices, where got says so
	got     []bool
	missing int // results that have not come
	until   int64
	maxTemp meter.Int
}

// maxUnused is how many are kept to be used again: what a second of brisk traffic needs.
const maxUnused = 1 << 14

// wait begins to wait for a request's results.
func (s *settler) wait(key uint64, to *ledgerSet) *waiting {
	var w *waiting
	if n := len(s.unused); n > 0 {
		w, s.unused = s.unused[n-1], s.unused[:n-1]
	} else {
		w = &waiting{}
	}
	n := len(to.devices)
	*w = waiting{to: to, results: slices.Grow(w.results[:0], n)[:n], got: slices.Grow(w.got[:0], n)[:n], missing: n}
	clear(w.results)
	clear(w.got)
	s.waiting[key] = w
	return w
}

// line is requests in the order in which they ended.
type line struct {
	keys []uint64
	gone int // of them, from the front on
}

func (l *line) push(key uint64) { l.keys = append(l.keys, key) }

// first returns the one that ended first.
func (l *line) first() (uint64, bool) {
	if l.gone == len(l.keys) {
		return 0, false
	}
	return l.keys[l.gone], true
}

// pop takes it out; room that is not used any more is used again now and then.
func (l *line) pop() {
	if l.gone++; l.gone > 1024 && 2*l.gone > len(l.keys) {
		l.keys = l.keys[:copy(l.keys, l.keys[l.gone:])]
		l.gone = 0
	}
}

// New returns a settler for the named devices (as they stand in gpu_devices). Stop ends it.
func newSettler(cfg settlerConfig, devices ...string) *settler {
	if cfg.Pace <= 0 {
		cfg.Pace = defaultPace
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 45 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &settler{
		cfg: cfg, called: make(chan struct{}, 1), crowded: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		waiting: map[uint64]*waiting{},
	}
	for i, name := range devices {
		s.devices = append(s.devices, &deviceLedger{index: i, name: name, processor: i >= len(devices)-cfg.Processors, models: make([]string, maxUpstreams), cfg: &s.cfg})
	}
	if len(devices) == 0 {
		close(s.done)
		return s
	}
	go s.run() // ended by Stop, which waits on done
	return s
}

// Read hands a device's readings over. The Reading belongs to the settler.
func (s *settler) add(device int, r *reading) { s.push(&step{device: device, reading: r}) }

// Upstream is a server that runs on some of the devices.
type ledgerSet struct {
	s       *settler
	devices []int
	names   []string // of those that are no processors: as it stands in its rows
	index   int
}

// Upstream registers a server. No devices: its rows have no energy.
func (s *settler) ledgers(index int, devices ...int) *ledgerSet {
	u := &ledgerSet{s: s, devices: devices, index: index}
	for _, i := range devices {
		if d := s.devices[i]; !d.processor {
			u.names = append(u.names, d.name)
		}
	}
	return u
}

// Observe tells of a request's step. Its key is the Event's Request, unique over all upstreams.
func (u *ledgerSet) Observe(e energy.Event) {
	if len(u.devices) == 0 {
		return
	}
	e.Upstream = u.index
	u.s.push(&step{to: u, event: e})
}

// Done takes a finished request's row, which belongs to the settler from then on, with the End event that
// closes its account. It never blocks.
func (u *ledgerSet) Done(rec *meter.Record, end energy.Event) {
	if len(u.devices) == 0 || end.Request == 0 {
		rec.EnergyQuality = meter.EnergyUnavailable
		u.s.cfg.Rows.Offer(rec)
		return
	}
	rec.EnergyQuality = meter.EnergyPending
	settled := *rec
	u.s.cfg.Rows.Offer(rec)
	u.s.open.Add(1)
	end.Upstream = u.index
	u.s.push(&step{to: u, event: end, rec: &settled})
}

// push appends a step. Ends and readings always find room, so that a flood of events costs accuracy
// (which is counted) and never a row.
func (s *settler) push(st *step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.steps) >= maxSteps && st.rec == nil && st.reading == nil {
		s.bounded++
		return
	}
	s.steps = append(s.steps, *st)
	if size := len(s.steps); st.calls(size, s.open.Load()) {
		s.call(size)
	}
}

// Dropped is how many events did not fit.
func (s *settler) Dropped() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bounded
}

// Stop settles what can be settled until ctx ends; rows without joules then become partial.
func (s *settler) Stop(ctx context.Context) error {
	if len(s.devices) == 0 {
		return nil
	}
	for s.Waiting() > 0 && ctx.Err() == nil {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	s.once.Do(func() { close(s.quit) })
	<-s.done
	if n := s.Dropped(); n > 0 {
		return fmt.Errorf("settle: %d events did not fit and were not accounted for", n)
	}
	return nil
}
