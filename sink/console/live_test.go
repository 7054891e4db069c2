package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/console"
)

// bench is what a Live follows in a test: one device that draws 200 W above 60 W of idle, and requests that the test sets.
type bench struct {
	mu       sync.Mutex
	inflight []console.LiveRequest
	asked    int
	reason   string
}

func (b *bench) config(rows ...*meter.Record) console.LiveConfig {
	return console.LiveConfig{
		Inflight: func() []console.LiveRequest {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked++
			return append([]console.LiveRequest(nil), b.inflight...)
		},
		Devices: func() []console.LiveDevice {
			b.mu.Lock()
			defer b.mu.Unlock()
			return []console.LiveDevice{{Device: "GPU-0", Name: "bench", IdleMw: meter.Some(60_000), Reason: b.reason}}
		},
		DevicesOf: func(string) []string { return []string{"GPU-0"} },
		Power: func(from, to time.Time) []console.Curve {
			const step = 20 * time.Millisecond
			c := console.Curve{Device: "GPU-0", From: from.Truncate(step), StepUs: step.Microseconds()}
			for at := c.From; at.Add(step).Before(to.Add(-200 * time.Millisecond)); at = at.Add(step) {
				c.MilliWatts = append(c.MilliWatts, 260_000)
			}
			return []console.Curve{c}
		},
		Past: func(context.Context, time.Time) (*console.Past, error) {
			return &console.Past{Rows: rows, Configs: []*sink.ServerConfig{{ConfigID: "a", Upstream: "u", ServerBuild: "b1", Slots: meter.Some(4)}}}, nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

// liveEvent is one event as a page gets it.
type liveEvent struct {
	kind string
	data map[string]any
}

// reader reads a page's events.
type eventReader struct {
	t *testing.T
	r *bufio.Reader
}

func open(t *testing.T, url string) *eventReader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatal(resp.Status, resp.Header)
	}
	return &eventReader{t, bufio.NewReader(resp.Body)}
}

// next returns the next event of one of the kinds that is as wanted; the rest is passed over.
func (e *eventReader) next(kind string, wanted func(map[string]any) bool) map[string]any {
	e.t.Helper()
	for {
		ev, err := e.event()
		if err != nil {
			e.t.Fatalf("no %s: %v", kind, err)
		}
		if ev.kind == kind && (wanted == nil || wanted(ev.data)) {
			return ev.data
		}
	}
}

func (e *eventReader) event() (ev liveEvent, err error) {
	for {
		line, err := e.r.ReadString('\n')
		if err != nil {
			return ev, err
		}
		line = strings.TrimSuffix(line, "\n")
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			ev.kind = text
		} else if text, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(text), &ev.data); err != nil {
				return ev, err
			}
		} else if line == "" && ev.kind != "" {
			return ev, nil
		}
	}
}

func liveServer(t *testing.T, b *bench, rows ...*meter.Record) (string, *console.Live, sink.Observer) {
	l := console.NewLive()
	l.Follow(b.config(rows...))
	return serve(t, console.Config{Live: l, Log: slog.New(slog.DiscardHandler)}), l, l.Observer(sink.NopObserver{})
}

// row is a finished request of two seconds that ended just now.
func finished(id string, end time.Time, quality string, activeUj int64) *meter.Record {
	some := meter.Some
	rec := &meter.Record{
		ID: id, StartedAt: end.Add(-2 * time.Second), Route: "default", Dialect: "chat", Stream: some(1), Outcome: meter.OK, TTFTUs: some(600_000), UpstreamTTFTUs: some(600_000),
		QueueUs: some(100_000), PrefillUs: some(500_000), DecodeUs: some(1_400_000), DurationUs: some(2_000_000), EnergyQuality: quality,
	}
	if quality == meter.EnergyMeasured {
		rec.GPUDevices, rec.GPUUj, rec.GPUActiveUj, rec.GPUUjByDevice = []string{"GPU-0"}, some(activeUj+1), some(activeUj), []int64{activeUj + 1}
		rec.GPUPrefillUj, rec.GPUDecodeUj = some(activeUj/2), some(activeUj-activeUj/2)
	}
	return rec
}

// TestLiveFollows: a page gets the past, then a request's phases as they come, its row, the row again with its joules, and
// the power divided: every step adds up, and the settled steps of a request add up to its joules.
func TestLiveFollows(t *testing.T) {
	now := time.Now()
	const uj = 300_000_000
	b := &bench{inflight: []console.LiveRequest{{ID: "running", Route: "default", Agent: "<b>", StartedAt: now, SentAt: now, Streams: true, Computes: true}}}
	url, l, rows := liveServer(t, b, finished("before", now.Add(-10*time.Second), meter.EnergyMeasured, uj))
	e := open(t, url)
	if h := e.next("hello", nil); h["devices"].([]any)[0].(map[string]any)["idle_mw"] != 60_000.0 {
		t.Error(h)
	}
	e.next("config", nil)
	e.next("row", func(d map[string]any) bool { return d["id"] == "before" })
	drawn := 0.0
	sum := func(d map[string]any) {
		mw, idle, residual := d["mw"].([]any), d["idle_mw"].([]any), d["residual_mw"].([]any)
		for i := range mw {
			total := idle[i].(float64) + residual[i].(float64)
			for id, list := range d["requests"].(map[string]any) {
				share := list.([]any)[i].(float64)
				if total += share; id == "before" && d["settled"] == true {
					drawn += share * 100 // mW x 100 ms in uJ
				}
			}
			if total != mw[i] {
				t.Fatalf("step %d of %v does not add up", i, d)
			}
		}
	}
	for {
		ev, err := e.event()
		if err != nil {
			t.Fatal(err)
		}
		if ev.kind == "power" {
			sum(ev.data)
		}
		if ev.kind == "request" && (ev.data["phase"] != "queue" || ev.data["agent"] != "<b>" || ev.data["slot"] != nil) {
			t.Error(ev.data)
		}
		if ev.kind == "ready" {
			break
		}
	}
	if drawn < 0.999*uj || drawn > 1.001*uj {
		t.Errorf("the settled steps of a request have %.0f uJ, its row %d", drawn, uj)
	}
	for _, step := range []struct {
		set  func(r *console.LiveRequest)
		want string
	}{
		{func(r *console.LiveRequest) { r.HeadedAt, r.Slot = time.Now(), meter.Some(2) }, "prefill"},
		{func(r *console.LiveRequest) { r.FirstAt, r.Events = time.Now(), 3 }, "decode"},
	} {
		b.mu.Lock()
		step.set(&b.inflight[0])
		b.mu.Unlock()
		d := e.next("request", func(d map[string]any) bool { return d["phase"] == step.want })
		if d["slot"] != 2.0 || d["done"] != false {
			t.Error(d)
		}
	}
	e.next("power", func(d map[string]any) bool {
		sum(d)
		return d["settled"] == false && d["requests"].(map[string]any)["running"] != nil
	})
	b.mu.Lock()
	b.inflight = nil
	b.mu.Unlock()
	e.next("request", func(d map[string]any) bool { return d["id"] == "running" && d["done"] == true })
	rows.Offered(finished("running", time.Now(), meter.EnergyPending, 0))
	e.next("row", func(d map[string]any) bool { return d["id"] == "running" && d["energy_quality"] == "pending" })
	rows.Settled(finished("running", time.Now(), meter.EnergyMeasured, uj))
	e.next("row", func(d map[string]any) bool { return d["id"] == "running" && d["gpu_active_uj"] == float64(uj) })
	l.Config(&sink.ServerConfig{ConfigID: "b", Upstream: "u", ServerBuild: "b2", Slots: meter.Some(4)})
	if d := e.next("config", nil); len(d["changed"].([]any)) != 1 || d["changed"].([]any)[0] != "server_build" {
		t.Error(d)
	}
	b.mu.Lock()
	b.reason = "fell off the bus"
	b.mu.Unlock()
	if d := e.next("gap", nil); d["reason"] != "fell off the bus" || d["to"] != nil {
		t.Error(d)
	}
	e.next("power", func(d map[string]any) bool {
		return d["settled"] == true && d["requests"].(map[string]any)["running"] != nil
	})
	l.Stop("an upgrade")
	if d := e.next("bye", nil); d["reason"] != "an upgrade" {
		t.Error(d)
	}
	if _, err := e.event(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestLiveNobodyListens: without a page nothing is asked and nothing is kept.
func TestLiveNobodyListens(t *testing.T) {
	b := &bench{}
	url, l, rows := liveServer(t, b)
	rec := finished("x", time.Now(), meter.EnergyPending, 0)
	if n := testing.AllocsPerRun(100, func() { rows.Offered(rec); rows.Settled(rec); rows.Power(&sink.Power{}) }); n != 1 || b.asked != 0 { // one: the row of power
		t.Errorf("%v allocations, asked %d times", n, b.asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/live", nil)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	e := &eventReader{t, bufio.NewReader(resp.Body)}
	e.next("ready", nil)
	cancel()
	_ = resp.Body.Close()
	for l.Pages() > 0 {
		runtime.Gosched()
	}
	b.mu.Lock()
	asked := b.asked
	b.mu.Unlock()
	if rows.Offered(rec); b.asked != asked {
		t.Error("asked without a page")
	}
}
