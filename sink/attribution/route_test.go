package attribution

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/gpu/sim"
)

// processes are those of a fake upstream.
type processes []int

func (p processes) PIDs() ([]int, error) { return p, nil }
func (p processes) Has(pid int) bool     { return slices.Contains(p, pid) }

// realCard is a simulated card that passes for a real one, so that it is locked against other wattlines. It counts how
// often it is open.
type realCard struct {
	*sim.Source
	uuid string
	open atomic.Int64
}

func (c *realCard) List() ([]gpu.Info, error) {
	list, err := c.Source.List()
	list = slices.Clone(list)
	for i := range list {
		list[i].UUID, list[i].Simulated = c.uuid, false
	}
	return list, err
}

func (c *realCard) Open(uuid string) (gpu.Device, error) {
	list, err := c.Source.List()
	if err != nil || uuid != c.uuid {
		return nil, errors.Join(err, gpu.ErrLost)
	}
	d, err := c.Source.Open(list[0].UUID)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &realDevice{d, c}, nil
}

type realDevice struct {
	gpu.Device
	card *realCard
}

func (d *realDevice) Info() gpu.Info {
	in := d.Device.Info()
	in.UUID, in.Simulated = d.card.uuid, false
	return in
}

func (d *realDevice) Close() error {
	d.card.open.Add(-1)
	return d.Device.Close()
}

// locked reports whether a wattline measures the card.
func (c *realCard) locked(t *testing.T) bool {
	t.Helper()
	l, err := discover.AcquireAdvisoryLock(c.uuid)
	if errors.Is(err, discover.ErrLocked) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return false
}

// twoCards is a machine with two GPUs and a wattline with routes to upstreams that may run on either.
func twoCards(t *testing.T, upstreams ...processes) (*Pipeline, []*realCard, *kept) {
	t.Helper()
	clock := gpu.NewClock()
	cards := []*realCard{{uuid: "TEST-" + t.Name() + "-0"}, {uuid: "TEST-" + t.Name() + "-1"}}
	k := newKept()
	cfg := Config{Rows: k, Clock: clock, SysRoot: t.TempDir(), Slots: "off", Instance: "test"}
	for _, c := range cards {
		c.Source = sim.New(sim.Config{Clock: clock})
		cfg.GPUs = append(cfg.GPUs, c)
	}
	for i, pids := range upstreams {
		cfg.Routes = append(cfg.Routes, Route{Name: string(rune('a' + i)), Local: true, Processes: pids})
	}
	p, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, cards, k
}

// gpusOf returns the GPUs that a route is bound to.
func gpusOf(p *Pipeline, route int) []int {
	if set := p.routes[route].current.Load(); set != nil {
		return set.gpus
	}
	return nil
}

// stopNow stops a pipeline without waiting for rows.
func stopNow(t *testing.T, p *Pipeline) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// TestRouteMoves: on a machine with two GPUs the upstream runs on neither when wattline starts. The route is
// bound to the one on which its processes appear, stays there, and moves when they do. The GPU that it has left is not
// sampled any more and is free for another wattline.
func TestRouteMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, cards, _ := twoCards(t, processes{42})
		time.Sleep(searchEvery + time.Second)
		if got := gpusOf(p, 0); got != nil || len(p.States()) != 0 {
			t.Errorf("bound to %v, %d sampled, before the upstream runs anywhere", got, len(p.States()))
		}
		cards[1].SetProcs(gpu.Process{PID: 42})
		time.Sleep(searchEvery)
		if got := gpusOf(p, 0); !slices.Equal(got, []int{1}) {
			t.Fatalf("bound to %v, the upstream computes on 1", got)
		}
		time.Sleep(4 * searchEvery)
		if s := p.States(); len(s) != 1 || s[0].Info.UUID != cards[1].uuid || s[0].Contention == gpu.ContentionOther || !p.computesWhereBound(p.routes[0]) {
			t.Errorf("%+v", s)
		}
		if cards[0].locked(t) || !cards[1].locked(t) {
			t.Error("not exactly the card that is sampled is locked")
		}

		cards[1].SetProcs()
		cards[0].SetProcs(gpu.Process{PID: 42})
		var gone time.Time // when the sampler saw that they are; it lists processes every 30 s while nothing is in flight
		for began := time.Now(); slices.Equal(gpusOf(p, 0), []int{1}) && time.Since(began) < 2*time.Minute; time.Sleep(100 * time.Millisecond) {
			if gone.IsZero() && !p.computesWhereBound(p.routes[0]) {
				gone = time.Now()
			}
		}
		if waited := time.Since(gone); gone.IsZero() || waited < (moveAfter-1)*searchEvery-time.Second || waited > (moveAfter+1)*searchEvery {
			t.Errorf("moved %v after the processes were gone, not after %d searches", waited, moveAfter)
		}
		time.Sleep(searchEvery)
		synctest.Wait()
		if got := gpusOf(p, 0); !slices.Equal(got, []int{0}) {
			t.Fatalf("bound to %v, the upstream has moved to 0", got)
		}
		if s := p.States(); len(s) != 1 || s[0].Info.UUID != cards[0].uuid {
			t.Errorf("%d devices are sampled after the move: %+v", len(s), s)
		}
		if n := len(p.devices[1].users); n != 0 || cards[1].open.Load() != 0 || cards[1].locked(t) || !cards[0].locked(t) {
			t.Errorf("the card that was left has %d users, is open %d times, locked: %v; the new one is locked: %v",
				n, cards[1].open.Load(), cards[1].locked(t), cards[0].locked(t))
		}

		cards[0].SetProcs()
		cards[1].SetProcs(gpu.Process{PID: 42})
		time.Sleep(40*time.Second + moveAfter*searchEvery)
		if got := gpusOf(p, 0); !slices.Equal(got, []int{1}) || cards[1].open.Load() != 1 || cards[0].open.Load() != 0 {
			t.Errorf("bound to %v after the way back; open %d and %d times", got, cards[0].open.Load(), cards[1].open.Load())
		}
		stopNow(t, p)
		if cards[0].locked(t) || cards[1].locked(t) || cards[0].open.Load()+cards[1].open.Load() != 0 {
			t.Error("a card is locked or open after Stop")
		}
	})
}

// TestSharedGPU: of two routes on one GPU one moves away; the GPU is sampled on, without a break.
func TestSharedGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, cards, _ := twoCards(t, processes{42}, processes{43})
		cards[0].SetProcs(gpu.Process{PID: 42}, gpu.Process{PID: 43})
		time.Sleep(searchEvery + time.Second)
		if a, b := gpusOf(p, 0), gpusOf(p, 1); !slices.Equal(a, []int{0}) || !slices.Equal(b, []int{0}) {
			t.Fatalf("bound to %v and %v", a, b)
		}
		cards[0].SetProcs(gpu.Process{PID: 42})
		cards[1].SetProcs(gpu.Process{PID: 43})
		time.Sleep(40*time.Second + moveAfter*searchEvery)
		synctest.Wait()
		if a, b := gpusOf(p, 0), gpusOf(p, 1); !slices.Equal(a, []int{0}) || !slices.Equal(b, []int{1}) {
			t.Fatalf("bound to %v and %v", a, b)
		}
		if users := p.devices[0].users; len(users) != 1 || users[0] != p.routes[0] || !cards[0].locked(t) || !cards[1].locked(t) || len(p.States()) != 2 {
			t.Errorf("%d users of the first card, %d sampled", len(users), len(p.States()))
		}
		if s := p.devices[0].state(); s.Reopens != 0 || s.WallNs < int64(60*time.Second) || cards[0].open.Load() != 1 {
			t.Errorf("the first card's sampling was interrupted: %+v", s)
		}
		stopNow(t, p)
	})
}
