package load

import (
	"context"
	"sync"
	"time"

	"wattline/replay"
)

// Admin is the part of a wattline's admin listener that a Watcher asks.
type Admin interface {
	InFlight(ctx context.Context) (int, error)
	Energy(ctx context.Context, from, to time.Time) (replay.Power, error)
}

// Polling intervals.
const (
	inFlightEvery = 100 * time.Millisecond
	powerEvery    = time.Second // samples of power come once a second
	// maxPowerDelay is how far the newest sample may lag behind.
	maxPowerDelay = 10 * time.Second
)

// Watcher polls the proxy and the device while a run is under way: how many requests the proxy has in
// flight, other clients' included, what the device draws, and its temperature. It runs until Stop. Its
// methods may be called from any goroutine.
type Watcher struct {
	admin  Admin
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	gauge  []replay.GaugePoint
	newest map[string]replay.Sample // by device
	temps  []tempReading
	idle   replay.Num
}

type tempReading struct {
	at    time.Time
	tempC float64
}

// Watch starts a Watcher. It reads the power once before it returns: that is the idle power to which
// WaitIdle compares.
func Watch(ctx context.Context, admin Admin) *Watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{admin: admin, cancel: cancel, newest: map[string]replay.Sample{}}
	w.readPower(ctx)
	w.idle = w.Watts()
	w.done.Go(func() { every(ctx, inFlightEvery, w.readInFlight) }) // both end with Stop, which waits
	w.done.Go(func() { every(ctx, powerEvery, w.readPower) })
	return w
}

// Stop ends the polling and returns the readings of the in-flight gauge.
func (w *Watcher) Stop() []replay.GaugePoint {
	w.cancel()
	w.done.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gauge
}

func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f(ctx)
		}
	}
}

// readInFlight dates a reading at the middle of its request. A failed request leaves no reading.
func (w *Watcher) readInFlight(ctx context.Context) {
	from := time.Now()
	n, err := w.admin.InFlight(ctx)
	if err != nil {
		return
	}
	at := from.Add(time.Since(from) / 2).UTC()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gauge = append(w.gauge, replay.GaugePoint{At: at, InFlight: n})
}

// readPower reads the newest sample of every device.
func (w *Watcher) readPower(ctx context.Context) {
	now := time.Now()
	p, err := w.admin.Energy(ctx, now.Add(-maxPowerDelay), now)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range p.Samples {
		if s.At.After(w.newest[s.Device].At) {
			w.newest[s.Device] = s
		}
	}
	hottest := replay.Num{}
	for _, s := range w.newest {
		if s.TempC.Valid && (!hottest.Valid || float64(s.TempC.V) > hottest.V) {
			hottest = replay.Some(float64(s.TempC.V))
		}
	}
	if hottest.Valid {
		w.temps = append(w.temps, tempReading{now, hottest.V})
	}
}

// Watts is the power of all devices together in their newest samples; null where none is measured.
func (w *Watcher) Watts() replay.Num {
	w.mu.Lock()
	defer w.mu.Unlock()
	total := replay.Num{}
	for _, s := range w.newest {
		if s.MeanMw.Valid {
			total = replay.Some(total.V + float64(s.MeanMw.V)/1e3)
		}
	}
	return total
}

// When a device counts as idle again, and when its temperature counts as steady.
const (
	heavyPrompt = 50000 // tokens; smaller prompts hardly heat the device
	idleWatts   = 2.0
	steadyFor   = time.Minute
	steadyAfter = 2 * time.Minute
	steadyBand  = 1.0 // °C
)

// WaitIdle waits after a cell until the devices' power is within 2 W of the idle power before the run, at
// most for limit. It reports whether that was reached. It returns at once after a cell of smaller prompts,
// or where no power is measured.
func (w *Watcher) WaitIdle(ctx context.Context, after replay.Cell, limit time.Duration) (idle bool, err error) {
	if !w.idle.Valid || after.PromptTokens < heavyPrompt {
		return true, nil
	}
	tick := time.NewTicker(powerEvery)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if now := w.Watts(); now.Valid && now.V <= w.idle.V+idleWatts {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
	return false, nil
}

// Steady reports whether the hottest device stayed within 1 °C for the last minute, after at least two
// minutes of readings. Without a temperature it is false.
func (w *Watcher) Steady() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.temps) == 0 {
		return false
	}
	last := w.temps[len(w.temps)-1]
	if last.at.Sub(w.temps[0].at) < steadyAfter {
		return false
	}
	low, high := last.tempC, last.tempC
	for i := len(w.temps) - 1; i >= 0 && last.at.Sub(w.temps[i].at) <= steadyFor; i-- {
		low, high = min(low, w.temps[i].tempC), max(high, w.temps[i].tempC)
	}
	return high-low <= steadyBand
}
