package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/gpu"
	"wattline/gpu/discover"
	"wattline/gpu/sim"
	"wattline/gpu/sources"
	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
	"wattline/sink/attribution"
	"wattline/sink/metrics"
	"wattline/sink/telemetry"
)

// keeping is a store that keeps what it is given.
type keeping struct {
	mu      sync.Mutex
	power   []*sink.Power
	settled []*meter.Record
}

func (k *keeping) Write(_ context.Context, rows *sink.Rows) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.power = append(k.power, rows.Power...)
	k.settled = append(k.settled, rows.Settled...)
	return nil
}

// watchedCard is serve's power with one simulated card whose faults a test sets, its rows and its /metrics.
type watchedCard struct {
	*power
	card  *sim.Source
	store *keeping
	page  fasthttp.RequestHandler
	tel   *telemetry.Telemetry
}

func newWatchedCard(t *testing.T, faults *sim.Faults) *watchedCard {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	clock := gpu.NewClock()
	c := &watchedCard{card: sim.New(sim.Config{Clock: clock, Faults: faults}), store: &keeping{}}
	tel, err := telemetry.Open(t.Context(), &telemetry.Config{Prometheus: true, Instance: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c.page, c.tel = tel.Page(), tel
	c.power = &power{
		clock: clock, log: log, slots: "off", instance: "test", queue: sink.New(sink.Config{Store: c.store, Observer: tel, Log: log}),
		sources: &sources.Set{GPUs: []gpu.Source{c.card}, SysRoot: t.TempDir()},
	}
	routes := []*servedRoute{{route: route{Name: "default", Upstream: "http://127.0.0.1:1"}}}
	if err := c.list(); err != nil {
		t.Fatal(err)
	}
	found, err := c.bind(&serveCmd{energyFlags: energyFlags{SysRoot: c.sources.SysRoot}}, routes)
	if err != nil {
		t.Fatal(err)
	}
	c.settler = attribution.New(attribution.Config{Rows: c.queue, Now: clock.Now, Wall: clock.Time}, c.names(routes)...)
	if err := c.attach(c.bindings[0], found[0]); err != nil {
		t.Fatal(err)
	}
	tel.SetSources(metrics.Sources{Devices: c.deviceStates})
	return c
}

// scraped is what Prometheus would be told now.
func (c *watchedCard) scraped() string {
	var ctx fasthttp.RequestCtx
	ctx.Request.SetRequestURI("/metrics")
	c.page(&ctx)
	return string(ctx.Response.Body())
}

// request plays one request of four seconds from now on.
func (c *watchedCard) request(key uint64, id string) {
	to := c.bindings[0].bound.Load()
	tell := func(k energy.Kind, p meter.Phase) {
		e := energy.Event{Kind: k, Request: key, At: c.clock.Now(), Tokens: 1}
		to.upstream.Observe(e)
		g := gpu.Event{At: e.At, Request: key, Phase: p, Slot: -1}
		to.activity.Observe(g)
		c.card.Observe(g)
	}
	tell(energy.Arrive, meter.PhaseWaiting)
	tell(energy.SlotStart, meter.PhasePrefill)
	time.Sleep(time.Second)
	tell(energy.FirstToken, meter.PhaseDecode)
	for range 300 {
		time.Sleep(10 * time.Millisecond)
		to.upstream.Observe(energy.Event{Kind: energy.Decode, Request: key, At: c.clock.Now(), Tokens: 1})
	}
	done := gpu.Event{At: c.clock.Now(), Request: key, Phase: meter.PhaseDone, Slot: -1}
	to.activity.Observe(done)
	c.card.Observe(done)
	to.upstream.Done(&meter.Record{ID: id}, energy.Event{
		Kind: energy.End, Request: key, At: done.At, Counts: energy.Counts{Known: true, PromptTokens: 900, OutputTokens: 301},
	})
}

// TestTheRowsAndMetricsOfALostDevice: while a card does not answer its gauges are absent rather than old, it is
// said to be unreadable, every second still has a row, without energy; a request that it was lost under is partial. When it
// is back all is as before, and a request has its joules.
func TestTheRowsAndMetricsOfALostDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := sim.Sound()
		c := newWatchedCard(t, &faults)
		begin := c.clock.Now()
		c.card.SetFaults(func(f *sim.Faults) { f.LostFrom, f.LostTo = begin+20e9, begin+50e9 })
		at := func(seconds int64) { time.Sleep(time.Duration(begin + seconds*1e9 - c.clock.Now())) }
		has := func(when string, want bool, pattern string) {
			if regexp.MustCompile(`(?m)^`+pattern).MatchString(c.scraped()) != want {
				t.Errorf("%s: /metrics matches %s: %v, want %v", when, pattern, !want, want)
			}
		}
		shown := func() string {
			var out bytes.Buffer
			(&gpuReport{Devices: c.states()}).print(&out)
			return out.String()
		}
		at(8)
		c.request(1, "before")
		at(18)
		has("before", true, `wattline_device_readable\{.*hw_id="SIM-0".*\} 1$`)
		has("before", true, `hw_power_watts\{.*hw_id="SIM-0".*\} 1[12]\d\.`)
		c.request(2, "lost under")
		at(35)
		has("while lost", true, `wattline_device_readable\{.*\} 0$`)
		has("while lost", false, `hw_power_watts`)
		has("while lost", true, `hw_energy_joules_total\{.*\} \d`)
		if got := shown(); !strings.Contains(got, "lost: ") || !strings.Contains(got, "SIMULATED") {
			t.Errorf("wattline gpu shows\n%s", got)
		}
		at(120)
		c.request(3, "after")
		at(140)
		has("after", true, `wattline_device_readable\{.*\} 1$`)
		has("after", true, `hw_power_watts\{.*\} 1[12]\d\.`)
		has("after", true, `wattline_sampler_events_total\{.*wattline_result="reopened".*\} 1$`)
		if got := shown(); strings.Contains(got, "lost: ") || !strings.Contains(got, "1 times lost") {
			t.Errorf("wattline gpu shows\n%s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := c.stop(ctx); err != nil {
			t.Error(err)
		}
		if err := c.queue.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		c.tel.Close(t.Context())
		c.check(t, begin)
	})
}

// check looks through the rows.
func (c *watchedCard) check(t *testing.T, begin int64) {
	t.Helper()
	missing := 0
	for i, p := range c.store.power {
		if i > 0 && !p.At.Equal(c.store.power[i-1].At.Add(time.Second)) {
			t.Errorf("power rows at %v and %v", c.store.power[i-1].At, p.At)
		}
		if since := p.At.UnixNano() - begin; p.EnergyUj.Valid && since > 20e9 && since < 49e9 {
			t.Errorf("second %d has energy while the card was gone", since/1e9)
		}
		if !p.EnergyUj.Valid {
			missing++
			if p.Marked == "" {
				t.Errorf("the row at %v has no energy and no reason", p.At)
			}
		}
		if p.Simulated != meter.Some(1) {
			t.Errorf("the row at %v does not say that it is simulated", p.At)
		}
	}
	if len(c.store.power) < 125 || missing < 29 || missing > 65 {
		t.Errorf("%d power rows, %d without energy", len(c.store.power), missing)
	}
	for _, r := range c.store.settled {
		want := map[string][]string{"before": {"measured"}, "lost under": {"partial", "unavailable"}, "after": {"measured"}}[r.ID]
		if !strings.Contains(strings.Join(want, " "), r.EnergyQuality) || r.EnergyQuality == "" {
			t.Errorf("the request %q is %s, want %v", r.ID, r.EnergyQuality, want)
		}
		if measured := r.EnergyQuality == "measured"; measured && (r.GPUUj.V < 100e6 || !strings.HasPrefix(r.EnergySource, "sim/")) {
			t.Errorf("the request %q has %+v from %s", r.ID, r.GPUUj, r.EnergySource)
		}
	}
	if n := len(c.store.settled); n != 3 {
		t.Errorf("%d requests settled", n)
	}
}

// TestContended: a process that is seen and is not the upstream's makes the requests of its time contended; one
// that cannot be told apart (it is of another PID namespace, or the upstream's own cannot be seen) does not.
func TestContended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := sim.Sound()
		c := newWatchedCard(t, &faults)
		own, other := gpu.Process{PID: os.Getpid(), MemB: meter.Some(5 << 30)}, gpu.Process{PID: os.Getppid(), MemB: meter.Some(1 << 30)}
		const elsewhere = 1 << 30 // no process of this machine
		know := func(ours func(int) bool, family *discover.ProcessTree) {
			d, b := c.devices[0], c.bindings[0]
			d.mu.Lock()
			defer d.mu.Unlock()
			b.wish.Ours, b.family = ours, family
		}
		know(func(pid int) bool { return pid == own.PID }, nil)
		play := func(key uint64, id string, procs ...gpu.Process) {
			c.card.SetProcs(procs...)
			time.Sleep(35 * time.Second) // processes are listed every 30 s while nothing is in flight
			c.request(key, id)
		}
		play(1, "alone", own)
		play(2, "beside", own, other)
		play(3, "alone again", own)
		play(4, "another namespace", own, gpu.Process{PID: elsewhere})
		machine, err := discover.New("/proc")
		if err != nil {
			t.Fatal(err)
		}
		know(func(int) bool { return false }, discover.NewProcessTree(machine, 1, time.Hour)) // nobody listens on port 1
		play(5, "upstream not seen", own)
		time.Sleep(10 * time.Second)
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.queue.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		c.tel.Close(t.Context())
		for _, r := range c.store.settled {
			want := "measured"
			if r.ID == "beside" {
				want = "contended"
			}
			if r.EnergyQuality != want {
				t.Errorf("the request %q is %s, want %s", r.ID, r.EnergyQuality, want)
			}
			if r.ID == "alone" && r.VRAMBytes != meter.Some(5<<30) {
				t.Errorf("the upstream's process holds 5 GiB, the row says %+v", r.VRAMBytes)
			}
		}
		if n := len(c.store.settled); n != 5 {
			t.Errorf("%d requests settled", n)
		}
	})
}
