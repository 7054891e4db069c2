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

	Upstreams  []string // the servers' addresses, by index
	Memory     *Memory  // what was learnt in earlier runs; nil: nothing, and nothing is kept
	CPULedgers int      // how many of the ledgers, the last ones, are the processors': they give cpu_uj

	// Opened is told how a device's ledger begins, on the settler's goroutine; may be nil.
	Opened func(device int, with opening)

	Pace    time.Duration // how long a pass waits for more events after a reading; 250 ms
	MaxWait time.Duration // longest wait for a row's joules; 45 s, above the ledger's own settle_max
}

// opening is how a ledger begins. attribute must begin with the same to get the same joules.
type opening struct {
	Config       energy.Config
	Coefficients []energy.Coefficients // by upstream
}

// reading is one batch from a device, in order of time.
type reading struct {
	Source  string
	Shape   energy.Shape
	Average time.Duration // with energy.ShapeAverage
	Ticks   []tick        // readings of the energy counter
	Samples []sample
	Lost    bool // the device or its counter's continuity was lost before this
	At      int64
	TempC   meter.Int
	MemB    meter.Int
	LimitMw meter.Int
	Others  meter.Int // 1: another process computes there; 0: none; null: not known
}

// tick is one reading of an energy counter, asked for at Before and answered at After. The counter took the value after Lo
// and not after Hi; both are 0 where that is not known.
type tick struct{ Before, After, Lo, Hi, UJ int64 }

// sample is one power value with its own time.
type sample struct{ At, MW int64 }

// settler joins rows with joules. It owns one goroutine and one energy.Ledger a device. Samplers and the data path only
// append to a buffer under a short lock; the goroutine takes the buffer over when a device was read.
type settler struct {
	cfg     settlerConfig
	devices []*deviceLedger
	wake    chan struct{} // room for one: process the buffer soon
	wakeNow chan struct{} // room for one: process it at once
	quit    chan struct{}
	done    chan struct{}
	once    sync.Once
	open    atomic.Int64 // finished requests without final joules

	mu      sync.Mutex // guards buffer and dropped
	buffer  []input
	dropped int64 // events that did not fit

	// Owned by the goroutine.
	savedAt int64 // when what was learnt was last saved
	spare   []input
	waiting map[uint64]*waitingRow
	unused  []*waitingRow // to be used again
	ended   fifo          // requests that have ended and wait
	left    fifo          // those of them whose client has left, while the server may go on
	ready   []uint64      // of those that ended since the last pass, the ones that may be settled at once
}

// input is an event of a request or a device's reading, in the order of arrival.
type input struct {
	device  int // of reading
	reading *reading
	to      *ledgerSet // of event
	event   energy.Event
	rec     *meter.Record // with energy.End: the row
	first   bool          // no other row waited
}

// maxBuffer bounds the buffer. It is taken over at wakeNowSize; the rest is for a goroutine that is not scheduled in time.
const maxBuffer = 50000

// waitingRow is a request without final joules.
type waitingRow struct {
	rec     *meter.Record // nil until the request is over
	to      *ledgerSet
	results []energy.Result // by device; valid where got is set
	got     []bool
	missing int   // results that have not come
	unheard bool  // a device had no ledger when it arrived: no result will come
	until   int64 // when to give up
	maxTemp meter.Int
}

// maxUnused bounds the waitingRows that are kept to be used again: what a second of brisk traffic needs.
const maxUnused = 1 << 14

// wait begins to wait for a request's results.
func (s *settler) wait(key uint64, to *ledgerSet) *waitingRow {
	var w *waitingRow
	if n := len(s.unused); n > 0 {
		w, s.unused = s.unused[n-1], s.unused[:n-1]
	} else {
		w = &waitingRow{}
	}
	n := len(to.devices)
	*w = waitingRow{to: to, results: slices.Grow(w.results[:0], n)[:n], got: slices.Grow(w.got[:0], n)[:n], missing: n}
	clear(w.results)
	clear(w.got)
	s.waiting[key] = w
	return w
}

// fifo is a queue of requests' keys.
type fifo struct {
	keys []uint64
	head int // index of the first key
}

func (f *fifo) push(key uint64) { f.keys = append(f.keys, key) }

// first returns the oldest key.
func (f *fifo) first() (uint64, bool) {
	if f.head == len(f.keys) {
		return 0, false
	}
	return f.keys[f.head], true
}

// pop removes the oldest key, and moves the rest to the front once half of the slice is unused.
func (f *fifo) pop() {
	if f.head++; f.head > 1024 && 2*f.head > len(f.keys) {
		f.keys = f.keys[:copy(f.keys, f.keys[f.head:])]
		f.head = 0
	}
}

// newSettler returns a settler with a ledger for each of the named devices (as they stand in gpu_devices). Stop ends it.
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
		cfg: cfg, wake: make(chan struct{}, 1), wakeNow: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		waiting: map[uint64]*waitingRow{},
	}
	for i, name := range devices {
		s.devices = append(s.devices, &deviceLedger{index: i, name: name, processor: i >= len(devices)-cfg.CPULedgers, models: make([]string, maxUpstreams), cfg: &s.cfg})
	}
	if len(devices) == 0 {
		close(s.done)
		return s
	}
	go s.run() // ended by Stop, which waits on done
	return s
}

// add hands a device's reading over, which belongs to the settler from then on.
func (s *settler) add(device int, r *reading) { s.push(&input{device: device, reading: r}) }

// ledgerSet is the ledgers of the devices on which a route's upstream computes.
type ledgerSet struct {
	s       *settler
	devices []int
	names   []string // of the GPUs, as they stand in gpu_devices
	index   int      // of the upstream
}

// ledgers returns the ledgers of some devices for an upstream. Without devices its rows have no energy.
func (s *settler) ledgers(index int, devices ...int) *ledgerSet {
	u := &ledgerSet{s: s, devices: devices, index: index}
	for _, i := range devices {
		if d := s.devices[i]; !d.processor {
			u.names = append(u.names, d.name)
		}
	}
	return u
}

// Observe passes an event on. Its Request is unique over all upstreams.
func (u *ledgerSet) Observe(e energy.Event) {
	if len(u.devices) == 0 {
		return
	}
	e.Upstream = u.index
	u.s.push(&input{to: u, event: e})
}

// Done takes over a finished request's row, with the End event that closes its account. It never blocks.
func (u *ledgerSet) Done(rec *meter.Record, end energy.Event) {
	if len(u.devices) == 0 || end.Request == 0 {
		rec.EnergyQuality = meter.EnergyUnavailable
		u.s.cfg.Rows.Offer(rec)
		return
	}
	rec.EnergyQuality = meter.EnergyPending
	settled := *rec
	u.s.cfg.Rows.Offer(rec)
	open := u.s.open.Add(1)
	end.Upstream = u.index
	u.s.push(&input{to: u, event: end, rec: &settled, first: open == 1})
}

// push appends to the buffer. Ends and readings always find room: a flood of events costs accuracy, which is counted, and
// never a row.
func (s *settler) push(in *input) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buffer) >= maxBuffer && in.rec == nil && in.reading == nil {
		s.dropped++
		for _, i := range in.to.devices {
			s.devices[i].dropped.Add(1)
		}
		return
	}
	s.buffer = append(s.buffer, *in)
	if size := len(s.buffer); in.wakes(size) {
		s.signal(size)
	}
}

// Dropped is how many events did not fit into the buffer.
func (s *settler) Dropped() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Stop waits until all rows are settled or ctx ends; those that are left become partial.
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
		return fmt.Errorf("attribution: %d events did not fit into the buffer and were not attributed", n)
	}
	return nil
}
