package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/gpu/sources"
	"wattline/meter/energy"
	"wattline/sink"
	"wattline/sink/attribution"
)

// nowhere is a store that forgets.
type nowhere struct{}

func (nowhere) Write(context.Context, *sink.Rows) error { return nil }

// TestDevicesAreFoundLater: a machine with two GPUs whose upstream runs on neither when wattline starts. It is
// bound to the one on which its processes come up, stays there, and moves when they do. Rows of before have no
// energy, and nothing is sampled that nobody uses.
func TestDevicesAreFoundLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := gpu.NewClock()
		cards := []*sim.Source{sim.New(sim.Config{Clock: clock}), sim.New(sim.Config{Clock: clock})}
		p := &power{
			clock: clock, queue: sink.New(sink.Config{Store: nowhere{}}), log: slog.New(slog.DiscardHandler), slots: "off",
			sources: &sources.Set{GPUs: []gpu.Source{cards[0], cards[1]}, SysRoot: t.TempDir()},
		}
		routes := []*servedRoute{{route: route{Name: "default", Upstream: "http://127.0.0.1:1"}}}
		if err := p.list(); err != nil {
			t.Fatal(err)
		}
		found, err := p.bind(&serveCmd{energyFlags: energyFlags{SysRoot: p.sources.SysRoot}}, routes)
		if err != nil || len(found[0]) != 0 {
			t.Fatalf("bound to %v, %v", found, err)
		}
		p.settler = attribution.New(attribution.Config{Rows: p.queue, Now: clock.Now, Wall: clock.Time}, p.names(routes)...)
		b := p.bindings[0]
		b.wish.Ours = func(pid int) bool { return pid == 42 }
		elsewhere := map[*binding]int{}
		gpus := func() []int {
			p.look(p.bindings, elsewhere)
			if to := b.bound.Load(); to != nil {
				return to.gpus
			}
			return nil
		}
		if got := gpus(); got != nil || len(p.states()) != 0 {
			t.Errorf("bound to %v, %d sampled, before the upstream runs anywhere", got, len(p.states()))
		}
		cards[1].SetProcs(gpu.Process{PID: 42})
		if got := gpus(); !slices.Equal(got, []int{1}) {
			t.Fatalf("bound to %v, the upstream computes on 1", got)
		}
		time.Sleep(40 * time.Second)
		if s := p.states(); len(s) != 1 || s[0].Contention != gpu.ContentionNone || !p.settled(b) {
			t.Errorf("%+v", s)
		}
		cards[1].SetProcs()
		cards[0].SetProcs(gpu.Process{PID: 42})
		time.Sleep(40 * time.Second)
		var got []int
		for range moveAfter {
			if got = gpus(); slices.Equal(got, []int{0}) {
				break
			}
		}
		if !slices.Equal(got, []int{0}) || len(p.states()) != 2 {
			t.Errorf("bound to %v, the upstream has moved to 0", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.stop(ctx); err != nil {
			t.Error(err)
		}
		if err := p.queue.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestAProcessorIsDivided: by CPU time, cumulatively, and nothing of it is lost.
func TestAProcessorIsDivided(t *testing.T) {
	var share energy.Processor
	var total int64
	for i := range int64(1000) {
		uj := 1000 + i%7
		total += uj
		share.Add(uj, float64(i%3), float64(i%3)+1)
	}
	if share.Server+share.Host != total || share.Server == 0 || share.Host == 0 {
		t.Errorf("%d and %d of %d", share.Server, share.Host, total)
	}
	b := &gpu.Batch{Info: gpu.Info{Source: "rapl"}, At: 1}
	c := newProcessor(&servedRoute{route: route{Upstream: "http://127.0.0.1:1"}}, 0)
	if c == nil {
		t.Fatal("an upstream on this machine has no processor")
	}
	first := c.divide(b, gpu.Tick{Before: 1, After: 2, Uj: 5000, OK: true})
	second := c.divide(b, gpu.Tick{Before: 3, After: 4, Uj: 9000, OK: true})
	if first.Ticks[0].UJ != 0 || second.Ticks[0].UJ != 0 || c.share.Host != 4000 {
		t.Errorf("nothing listens there, so all is the host's: %+v", c.share)
	}
	if newProcessor(&servedRoute{route: route{Upstream: "http://192.0.2.1:8080"}}, 0) != nil {
		t.Error("an upstream elsewhere has this machine's processor")
	}
}
