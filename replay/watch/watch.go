// Package watch looks at the proxy and the device while a run is under way: how many requests the proxy
// has in flight (everybody's, which no client can know), what the device draws, and when it is back at
// rest or as hot as it will get.
package watch

import (
	"context"
	"sync"
	"time"

	"wattline/replay"
)

// Source answers for a wattline's admin listener.
type Source interface {
	InFlight(ctx context.Context) (int, error)
	Energy(ctx context.Context, from, to time.Time) (replay.Power, error)
}

// How often is asked. The gauge is cheap; the power comes by the second.
const (
	gaugeEvery = 100 * time.Millisecond
	powerEvery = time.Second
	// powerDelay is by how much the newest sample may lag behind.
	powerDelay = 10 * time.Second
)

// Watcher watches until Stop. Its methods may be called from any goroutine.
type Watcher struct {
	src    Source
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	gauge  []replay.GaugePoint
	newest map[string]replay.Sample // by device
	temps  []reading
	idle   replay.Num
}

type reading struct {
	at    time.Time
	tempC float64
}

// Start begins to watch. It asks for the power once before it returns, so that Rest means "before
// anything was sent".
func Start(ctx context.Context, src Source) *Watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{src: src, cancel: cancel, newest: map[string]replay.Sample{}}
	w.power(ctx)
	w.idle = w.Watts()
	w.done.Go(func() { every(ctx, gaugeEvery, w.look) }) // ends with Stop, which waits
	w.done.Go(func() { every(ctx, powerEvery, w.power) })
	return w
}

// Stop ends the watching and returns what the gauge showed.
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

// look reads the gauge; the reading's time is the middle of the question. One that failed is no reading.
func (w *Watcher) look(ctx context.Context) {
	from := time.Now()
	n, err := w.src.InFlight(ctx)
	if err != nil {
		return
	}
	at := from.Add(time.Since(from) / 2).UTC()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gauge = append(w.gauge, replay.GaugePoint{At: at, InFlight: n})
}

// power reads the newest sample of every device.
func (w *Watcher) power(ctx context.Context) {
	now := time.Now()
	p, err := w.src.Energy(ctx, now.Add(-powerDelay), now)
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
		w.temps = append(w.temps, reading{now, hottest.V})
	}
}

// Watts is what all devices drew in their newest second; absent where nothing measures it.
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

// When the device counts as back at rest, and as steady.
const (
	heavyPrompt = 50000 // tokens; smaller prompts heat nothing for long
	restWatts   = 2.0
	steadyFor   = time.Minute
	steadyAfter = 2 * time.Minute
	steadyBand  = 1.0 // °C
)

// Rest returns after a cell when the device's power is within 2 W of what it was before the run, or
// after limit; at once after a cell of small prompts, or where nothing measures power. It reports
// whether the power came back.
func (w *Watcher) Rest(ctx context.Context, after replay.Cell, limit time.Duration) (back bool, err error) {
	if !w.idle.Valid || after.PromptTokens < heavyPrompt {
		return true, nil
	}
	tick := time.NewTicker(powerEvery)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if now := w.Watts(); now.Valid && now.V <= w.idle.V+restWatts {
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

// Steady reports whether the hottest device stayed within 1 °C for the last minute, after two minutes of
// watching at least. Without a temperature it never is.
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
