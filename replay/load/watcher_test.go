package load

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// fakeDevice draws watts(t) and has the temperature temp(t), t seconds after it began.
type fakeDevice struct {
	began       time.Time
	watts, temp func(seconds float64) float64
	gone        bool

	mu    sync.Mutex // guards asked
	asked int
}

func (c *fakeDevice) InFlight(context.Context) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.gone {
		return 0, errors.New("gone")
	}
	return 3, nil
}

func (c *fakeDevice) Energy(_ context.Context, from, to time.Time) (replay.Power, error) {
	if c.gone {
		return replay.Power{}, errors.New("gone")
	}
	var p replay.Power
	if c.watts == nil {
		return p, nil
	}
	for at := from.Truncate(time.Second); !at.After(to); at = at.Add(time.Second) {
		s := at.Sub(c.began).Seconds()
		sample := replay.Sample{At: at, Device: "GPU-0", MeanMw: meter.Some(int64(c.watts(s) * 1000))}
		if c.temp != nil {
			sample.TempC = meter.Some(int64(c.temp(s)))
		}
		p.Samples = append(p.Samples, sample)
	}
	return p, nil
}

const idleLimit = 2 * time.Minute

func constant(v float64) func(float64) float64 { return func(float64) float64 { return v } }

func TestWatcherReadsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), &fakeDevice{began: time.Now(), watts: constant(120)})
		if got := w.Watts(); got != replay.Some(120) {
			t.Errorf("%v before anything ran", got)
		}
		time.Sleep(10 * time.Second)
		g := w.Stop()
		if len(g) < 95 || len(g) > 101 || g[50].InFlight != 3 || !g[51].At.After(g[50].At) {
			t.Errorf("%d readings in 10 s", len(g))
		}
	})
}

func TestWatcherWithoutAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), &fakeDevice{gone: true})
		time.Sleep(5 * time.Second)
		if idle, err := w.WaitIdle(t.Context(), replay.Cell{PromptTokens: 100000}, idleLimit); !idle || err != nil {
			t.Errorf("without power there is nothing to wait for: %v, %v", idle, err)
		}
		if w.Watts().Valid || w.Steady() || len(w.Stop()) != 0 {
			t.Error("something was read of nothing")
		}
	})
}

func TestWaitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hot := 30.0 // seconds until it is at rest again
		c := &fakeDevice{began: time.Now(), watts: func(s float64) float64 {
			if s > 0.5 && s < hot {
				return 140
			}
			return 121.5
		}}
		w := Watch(t.Context(), c)
		time.Sleep(5 * time.Second)
		began := time.Now()
		if idle, err := w.WaitIdle(t.Context(), replay.Cell{PromptTokens: 1000}, idleLimit); !idle || err != nil || time.Since(began) > 0 {
			t.Errorf("after a small prompt: %v, %v, %v", idle, err, time.Since(began))
		}
		if idle, err := w.WaitIdle(t.Context(), replay.Cell{PromptTokens: 100000}, idleLimit); !idle || err != nil || time.Since(began) < 24*time.Second || time.Since(began) > 28*time.Second {
			t.Errorf("after a long one: %v, %v, %v", idle, err, time.Since(began))
		}
		hot = 1e9
		time.Sleep(2 * time.Second)
		began = time.Now()
		if idle, err := w.WaitIdle(t.Context(), replay.Cell{PromptTokens: 100000}, idleLimit); idle || err != nil || time.Since(began) < idleLimit {
			t.Errorf("a card that stays hot: %v, %v, %v", idle, err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.WaitIdle(ctx, replay.Cell{PromptTokens: 100000}, idleLimit); err == nil {
			t.Error("it waits on although it was interrupted")
		}
		w.Stop()
	})
}

func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeDevice{began: time.Now(), watts: constant(590), temp: func(s float64) float64 { return min(40+s/6, 75) }} // warms up for 210 s
		w := Watch(t.Context(), c)
		first := 0.0
		for range 400 {
			time.Sleep(time.Second)
			if w.Steady() {
				first = time.Since(c.began).Seconds()
				break
			}
		}
		w.Stop()
		// At 204 s it is 1 °C from its end, which is the band; a minute in the band makes it steady.
		if first < 204+59 || first > 204+75 {
			t.Errorf("steady after %g s; the temperature was within 1 °C of its end from 204 s on", first)
		}
	})
}
