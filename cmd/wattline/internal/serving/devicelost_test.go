package serving

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/cmd/wattline/internal/term"
	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/gpu/sources"
	"wattline/meter"
	"wattline/proxy"
	"wattline/sink"
	"wattline/sink/attribution"
	"wattline/sink/metrics"
	"wattline/sink/telemetry"
)

// memoryStore keeps rows in memory.
type memoryStore struct {
	mu      sync.Mutex
	power   []*sink.Power
	settled []*meter.Record
}

func (k *memoryStore) Write(_ context.Context, rows *sink.Rows) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.power = append(k.power, rows.Power...)
	k.settled = append(k.settled, rows.Settled...)
	return nil
}

// faultyGPU is serve's energy pipeline with one simulated GPU that a test can make fail, with its rows and /metrics.
type faultyGPU struct {
	*energyPipeline
	clock gpu.Clock
	queue *sink.Queue
	card  *sim.Source
	store *memoryStore
	page  fasthttp.RequestHandler
	tel   *telemetry.Telemetry
}

func newFaultyGPU(t *testing.T, faults *sim.Faults) *faultyGPU {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	clock := gpu.NewClock()
	c := &faultyGPU{card: sim.New(sim.Config{Clock: clock, Faults: faults}), store: &memoryStore{}}
	tel, err := telemetry.Open(t.Context(), &telemetry.Config{Prometheus: true, Instance: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c.page, c.tel = tel.Page(), tel
	c.queue = sink.New(sink.Config{Store: c.store, Observer: tel, Log: log})
	pipeline, err := attribution.Start(attribution.Config{
		Rows: c.queue, Clock: clock, Instance: "test", GPUs: []gpu.Source{c.card}, Simulator: c.card, SysRoot: t.TempDir(), Slots: "off", Log: log,
		Routes: []attribution.Route{{Name: "default", Address: "http://127.0.0.1:1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	pipeline.Observer(0).Synchronise(clock.Time(1), 1)
	c.energyPipeline, c.clock = &energyPipeline{Pipeline: pipeline, sources: &sources.Set{GPUs: []gpu.Source{c.card}}}, clock
	tel.SetSources(metrics.Sources{Devices: c.deviceMetrics})
	return c
}

// scraped returns the page /metrics.
func (c *faultyGPU) scraped() string {
	var ctx fasthttp.RequestCtx
	ctx.Request.SetRequestURI("/metrics")
	c.page(&ctx)
	return string(ctx.Response.Body())
}

// request simulates a request of four seconds.
func (c *faultyGPU) request(seq uint64, id string) {
	o := c.Observer(0)
	step := func(e proxy.Event) {
		e.Seq, e.At = seq, c.clock.Now()
		o.Observe(e)
	}
	step(proxy.Event{Step: proxy.RequestSent, Work: meter.Work{Streams: true, Computes: true}})
	step(proxy.Event{Step: proxy.HeadersReceived, Status: 200})
	time.Sleep(time.Second)
	step(proxy.Event{Step: proxy.OutputReceived, Progress: meter.Progress{Outputs: 1, First: true}})
	for range 300 {
		time.Sleep(10 * time.Millisecond)
		step(proxy.Event{Step: proxy.OutputReceived, Progress: meter.Progress{Outputs: 1}})
	}
	o.Done(seq, c.clock.Now(), &meter.Record{ID: id, Status: meter.Some(200), PromptTokens: meter.Some(900), OutputTokens: meter.Some(301)})
}

// TestDeviceLost: while a GPU does not answer, its gauges are absent, its metric says unreadable, and its rows have no
// energy; a request during the loss is partial. When it is back, a request is measured again.
func TestDeviceLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := sim.Healthy()
		c := newFaultyGPU(t, &faults)
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
			(&term.DeviceReport{Devices: c.States()}).Print(&out)
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

// check compares the stored rows with the faults.
func (c *faultyGPU) check(t *testing.T, begin int64) {
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
