package gpu

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
)

// runner is the sampling of one device.
type runner struct {
	cfg    Config
	target Target
	index  int
	log    *slog.Logger
	quit   <-chan struct{}
	rec    *Recorder // or nil
	state  atomic.Pointer[State]

	// wake has room for one: a request came in while nothing was in flight.
	wake chan struct{}

	// mu guards load and busy, which Observe writes and run reads.
	mu       sync.Mutex
	load     load
	busy     bool
	lastBusy int64 // when something was last in flight

	// Owned by run.
	dev         Device
	info        Info
	reading     Reading
	pace        pacer
	learn       learner
	trace       *Trace
	rows        rowMaker
	batch       Batch
	epoch       int
	began       int64
	lastTick    Tick
	lastSample  int64
	procsCost   int64    // what a list of the processes takes lately, ns
	ownSamples  []Sample // made from polled values
	ownTick     [1]Tick
	contention  Contention
	upstreamMem meter.Int
	calls       [5]callStats
	reopens     int
	errs        int // since the last success
	errsTotal   int
	missed      int
	cpuBase     time.Duration
	startedAt   int64
	published   int64
	condition   Condition
	why         string
	latest      Reading // last values, for State
}

// traceKeep covers the windows that lags are learnt in.
const traceKeep = 60 * time.Second

func newRunner(cfg Config, i int, quit <-chan struct{}) *runner {
	t := cfg.Targets[i]
	r := &runner{
		cfg: cfg, target: t, index: i, quit: quit, info: t.Info,
		log:  cfg.Log.With("device", t.Info.UUID, "source", t.Source.Name()),
		wake: make(chan struct{}, 1),
	}
	if len(cfg.Recorders) > 0 {
		r.rec = cfg.Recorders[i]
	}
	r.trace = NewTrace(traceKeep)
	r.learn.budget = cfg.Budget
	r.state.Store(&State{Info: t.Info, Condition: Lost, Why: "not opened yet"})
	return r
}

// Observe implements Activity for this device alone.
func (r *runner) Observe(e Event) {
	r.mu.Lock()
	was := r.busy
	r.busy = r.load.observe(e)
	r.lastBusy = e.At
	woken := r.busy && !was
	r.mu.Unlock()
	if woken {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// isBusy reports whether to poll fast: something is in flight, or was just now.
func (r *runner) isBusy(now int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy || (r.lastBusy > 0 && now-r.lastBusy < tailNs)
}

// run is the device's goroutine. Start starts it, closing quit stops it, Stop waits for it. It keeps an
// OS thread to itself: calls into a driver block for tens of milliseconds, and the thread's CPU time is
// what the sampling costs.
func (r *runner) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r.cpuBase, r.startedAt = r.cfg.cpu(), r.cfg.Clock.Now()
	defer func() {
		if r.dev != nil {
			r.end("stopped")
		}
	}()
	pause := shortestPause
	for r.open() {
		if !r.sample() {
			return
		}
		// A device that opens well and is lost at once must not be opened in a tight loop.
		if r.cfg.Clock.Now()-r.began > steadyNs {
			pause = shortestPause
		}
		if !r.waitLost(pause) {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// Pauses between two attempts to open, and how long an epoch must last to count as well.
const (
	shortestPause = time.Second
	longestPause  = time.Minute
	steadyNs      = 5e9
)

// open opens the device, with back-off until it succeeds; false when the sampler is stopped.
func (r *runner) open() bool {
	pause := shortestPause
	for {
		err := r.tryOpen()
		if err == nil {
			return true
		}
		next := Lost
		if errors.Is(err, ErrAsleep) {
			next = Asleep
		}
		if r.condition != next || r.why != err.Error() {
			r.log.Warn("device is not read; trying again", "err", err)
		}
		r.setCondition(next, err.Error())
		if !r.waitLost(pause) {
			return false
		}
		pause = min(2*pause, longestPause)
	}
}

// tryOpen opens the device once and begins an epoch.
func (r *runner) tryOpen() error {
	if r.asleep() {
		return ErrAsleep
	}
	dev, err := r.target.Source.Open(r.target.Info.UUID)
	if err != nil {
		return err
	}
	if r.epoch > 0 {
		r.reopens++
	}
	if r.condition == Lost || r.condition == Asleep {
		r.log.Info("device is read again", "epoch", r.epoch+1)
	}
	r.dev, r.info = dev, dev.Info()
	r.learn.begin(r.info)
	r.beginEpoch()
	r.pace.start(r.info.Supported, r.cfg.Clock.Now())
	if r.learn.probing {
		r.setCondition(Probing, "")
	} else {
		r.setCondition(Live, "")
	}
	return nil
}

// waitLost waits between two attempts to open, and goes on telling that there is nothing to tell.
func (r *runner) waitLost(d time.Duration) bool {
	const second = time.Second
	for ; d > 0; d -= second {
		if !wait(r.quit, min(d, second)) {
			return false
		}
		r.batch.Rows = r.rows.missing(r.batch.Rows[:0], r.cfg.Clock.Now(), r.info, r.epoch, r.why)
		if len(r.batch.Rows) > 0 {
			r.emit()
		}
	}
	return true
}

// asleep reports whether the kernel has powered the device down.
func (r *runner) asleep() bool {
	if r.cfg.WakeSleeping || r.target.Info.PCI == "" {
		return false
	}
	return RuntimeSuspended(r.cfg.SysRoot, r.target.Info.PCI)
}

// sample reads the device until it is lost (true: open it again) or the sampler is stopped (false).
func (r *runner) sample() bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := r.cfg.Clock.Now()
		if r.learn.probing && r.learn.probeOver(now) {
			r.setCondition(Live, "")
			r.pace.done(r.info.Supported&MetricEnergy, now, r.paceInputs(r.isBusy(now)), &r.learn.edges) // its period is known now
		}
		want, next := r.due(now)
		if want == 0 {
			timer.Reset(time.Duration(next - now))
			select {
			case <-r.quit:
				return false
			case <-r.wake:
				r.pace.bringForward(r.cfg.Clock.Now(), r.paceInputs(true))
			case <-timer.C:
			}
			continue
		}
		if reason := r.round(want); reason != "" {
			r.end(reason)
			return true
		}
		select {
		case <-r.quit:
			return false
		default:
		}
	}
}

// due returns what to ask for now; while the device is being probed, its counter and power all the time.
func (r *runner) due(now int64) (Metrics, int64) {
	if !r.learn.probing {
		return r.pace.take(r.info.Supported, now)
	}
	want, next := r.pace.take(r.info.Supported&^(MetricEnergy|MetricPower), now)
	fast, soon := r.learn.probe.want(r.info.Supported, now)
	return want | fast, min(next, soon)
}

// round reads the groups in want and hands on what came. A reason means that the device is lost.
func (r *runner) round(want Metrics) (lost string) {
	busy := r.isBusy(r.cfg.Clock.Now())
	if !busy && r.asleep() {
		return ErrAsleep.Error()
	}
	err := r.read(want)
	now := r.cfg.Clock.Now()
	if err != nil {
		r.pace.done(want, now, r.paceInputs(busy), &r.learn.edges)
		return r.failed(err)
	}
	r.errs = 0
	if reason := r.take(want, now); reason != "" {
		r.log.Warn("energy counter is not continuous; a new epoch begins", "reason", reason)
		r.emitEnd(reason)
		r.beginEpoch()
		r.take(want, now)
	}
	r.pace.done(want, now, r.paceInputs(busy), &r.learn.edges) // after take, which places the counter's step and judges it
	if r.rec != nil {
		r.record(want) // after take, which places the counter's step
	}
	r.emit()
	r.publish(now, false)
	return ""
}

// record writes the reading down as it was handed on.
func (r *runner) record(want Metrics) {
	var contended meter.Int
	if want&MetricProcesses != 0 && r.contention != ContentionUnknown {
		contended = meter.Some(int64(r.contention - ContentionNone))
	}
	if r.learn.demoted[ChannelCounter] != "" {
		r.reading.Energy.OK = false
	}
	r.rec.Add(&r.reading, contended)
}

// failed decides what a failed read means.
func (r *runner) failed(err error) (lost string) {
	const tolerated = 5
	switch {
	case errors.Is(err, ErrNotReady):
		return ""
	case errors.Is(err, ErrLost), errors.Is(err, ErrAsleep):
		return err.Error()
	}
	r.errs++
	r.errsTotal++
	if r.errs >= tolerated {
		return err.Error()
	}
	return ""
}

// read asks for one group after the other, so that each one's cost is known.
func (r *runner) read(want Metrics) (err error) {
	r.reading.Reset()
	var began int64
	want.groups(func(i int, g Metrics) {
		if err != nil {
			return
		}
		cpu := r.cfg.cpu()
		if err = r.dev.Read(g, &r.reading); err != nil {
			return
		}
		if began == 0 {
			began = r.reading.Before
		}
		r.calls[i].add(r.reading.After - r.reading.Before)
		if g == MetricProcesses { // a mean that fades: the list grows dear when processes come
			r.procsCost += (r.reading.After - r.reading.Before - r.procsCost) / 8
		}
		if g == MetricEnergy {
			r.learn.costs(r.cfg.cpu()-cpu, r.learn.probing || r.pace.early)
		}
	})
	r.reading.Before = began
	return err
}

func (r *runner) paceInputs(busy bool) paceInputs {
	f := r.learn.paceInputs()
	f.busy, f.budget, f.recording = busy, r.cfg.Budget, r.rec != nil
	f.procsCost = r.procsCost
	f.extra = r.learn.extraReads(r.cfg.Clock.Now())
	f.needsCounter = r.trace.needsCounter()
	f.starting = r.cfg.Clock.Now()-r.began < startNs
	return f
}

// counts reports whether the device has an energy counter that is used.
func (r *runner) counts() bool {
	return r.info.Supported&MetricEnergy != 0 && r.learn.demoted[ChannelCounter] == ""
}

// setCondition publishes a change at once.
func (r *runner) setCondition(c Condition, why string) {
	r.condition, r.why = c, why
	r.publish(r.cfg.Clock.Now(), true)
}
