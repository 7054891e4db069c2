package attribution

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"wattline/gpu"
	"wattline/gpu/sim"
	"wattline/meter"
	"wattline/meter/energy/recording"
	"wattline/proxy"
	"wattline/proxy/llama"
)

// recorded is a wattline with one simulated card that records.
type recorded struct {
	*Pipeline
	kept *kept
	dir  string
}

func startRecorded(t *testing.T, dir string, changes ...func(*Config)) *recorded {
	t.Helper()
	clock := gpu.NewClock()
	card := sim.New(sim.Config{Clock: clock})
	r := &recorded{kept: newKept(), dir: dir}
	var err error
	cfg := Config{
		Rows: r.kept, Clock: clock, GPUs: []gpu.Source{card}, Simulator: card, SysRoot: t.TempDir(), Slots: "off", Record: r.dir,
		Routes: []Route{{Name: "default"}},
	}
	for _, change := range changes {
		change(&cfg)
	}
	r.Pipeline, err = Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Observer(0).Synchronise(clock.Time(1), 1)
	return r
}

// play sends one request that computes for a while in a prefill and then generates tokens, one every 20 ms and 137 ns: a
// recording holds microseconds.
func (r *recorded) play(seq uint64, work meter.Work, prefill time.Duration, tokens int, rec *meter.Record) {
	o, clock := r.Observer(0), r.cfg.Clock
	step := func(e proxy.Event) {
		e.Seq, e.At = seq, clock.Now()
		o.Observe(e)
	}
	work.Computes = true
	step(proxy.Event{Step: proxy.RequestArrived})
	step(proxy.Event{Step: proxy.RequestSent, Work: work, Bytes: 4000})
	time.Sleep(137)
	if work.Streams {
		step(proxy.Event{Step: proxy.HeadersReceived, Status: int(rec.Status.V)})
	}
	time.Sleep(prefill / 2)
	if work.Streams && tokens > 0 {
		step(proxy.Event{Step: proxy.OutputReceived, Progress: meter.Progress{PrefillTotal: 800}})
	}
	time.Sleep(prefill / 2)
	for i := range tokens {
		time.Sleep(20*time.Millisecond + 137)
		if work.Streams {
			step(proxy.Event{Step: proxy.OutputReceived, Progress: meter.Progress{Outputs: 1, First: i == 0}})
		}
	}
	rec.PrefillUs, rec.DecodeUs = meter.Some(prefill.Microseconds()), meter.Some(int64(tokens)*20_000)
	o.Done(seq, clock.Now(), rec)
}

// TestManyDeparted: the last of 1,100 requests whose clients have left is followed as the first, also where nothing was seen of
// the others.
func TestManyDeparted(t *testing.T) {
	up, err := proxy.ParseUpstream("http://127.0.0.1:1") // never tells its slots
	if err != nil {
		t.Fatal(err)
	}
	r := startRecorded(t, filepath.Join(t.TempDir(), "recording"), func(c *Config) {
		c.Slots, c.Routes[0].Client = "auto", llama.NewClient(up)
	})
	o, clock := r.Observer(0), r.cfg.Clock
	const n = 1100
	var last any
	for seq := range uint64(n) {
		o.Observe(proxy.Event{Seq: seq, Step: proxy.RequestSent, At: clock.Now(), Work: meter.Work{Streams: true, Computes: true}})
		last = r.live(seq)
		o.Done(seq, clock.Now(), &meter.Record{ID: "left", Outcome: meter.Cancelled})
	}
	for _, idle := range []bool{false, true} {
		o.slotSeen(llama.SlotObservation{Request: o.keyBase | (n - 1), Of: last, At: clock.Now(), Look: true, Working: true, Idle: idle})
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	_ = r.Stop(now) // the others are not awaited
	back, err := ReadRecording(r.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Traffic.Looks) != 1 || len(back.Traffic.Idles) != 1 {
		t.Errorf("recorded: %d looks, %d idle slots", len(back.Traffic.Looks), len(back.Traffic.Idles))
	}
}

// live is what the observer keeps of a request.
func (r *recorded) live(seq uint64) any {
	o := r.Observer(0)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.live[seq]
}

// TestInLineIsOffline: streams, unstreamed requests, one that is refused, one with a client that leaves, with
// slots that are known in every way, one after the other (together: TestEnergyEndToEnd). attribute gives each from the recording exactly what its row got
// in line: a recording holds what the ledger was told, in the same units.
func TestInLineIsOffline(t *testing.T) {
	var r *recorded
	dir := filepath.Join(t.TempDir(), "recording") // outlives the bubble
	synctest.Test(t, func(t *testing.T) {
		r = startRecorded(t, dir)
		o := r.Observer(0)
		row := func(id string, status, out int64) *meter.Record {
			return &meter.Record{
				ID: id, Status: meter.Some(status), Outcome: meter.OK, PromptTokens: meter.Some(800), CachedTokens: meter.Some(100), OutputTokens: meter.Some(out),
			}
		}
		stream := meter.Work{Streams: true}
		time.Sleep(6 * time.Second) // the idle draw is learnt
		for i := range uint64(3) {
			r.play(1+i, stream, 400*time.Millisecond, 150, row("alone "+string(rune('a'+i)), 200, 150))
			time.Sleep(time.Second)
		}
		go func() { // ends before the request does
			time.Sleep(1001_039 * time.Microsecond)
			o.slotSeen(llama.SlotObservation{Request: o.keyBase | 10, Of: r.live(10), At: o.stamp(r.cfg.Clock.Now()), Slot: 1})
		}()
		r.play(10, stream, 500*time.Millisecond, 150, row("seen in a slot", 200, 150))
		time.Sleep(time.Second)
		r.play(11, meter.Work{Streams: true, Slot: meter.Some(2)}, 500*time.Millisecond, 150, row("asks for a slot", 200, 150))
		time.Sleep(time.Second)
		var left any
		go func() {
			time.Sleep(100 * time.Millisecond)
			left = r.live(12)
		}()
		r.play(12, stream, 500*time.Millisecond, 40, &meter.Record{ID: "left", Status: meter.Some(200), Outcome: meter.Cancelled})
		time.Sleep(200 * time.Millisecond)
		o.slotSeen(llama.SlotObservation{Request: o.keyBase | 12, Of: left, At: o.stamp(r.cfg.Clock.Now()), Slot: 3, Idle: true})
		time.Sleep(time.Second)
		r.play(13, stream, 100*time.Millisecond, 0, &meter.Record{ID: "refused", Status: meter.Some(400)})
		time.Sleep(time.Second)
		named := row("unstreamed", 200, 100)
		named.Details = &meter.Details{Slot: meter.Some(4)}
		r.play(14, meter.Work{}, 500*time.Millisecond, 100, named)
		failed := row("failed unstreamed", 500, 100)
		r.play(15, meter.Work{}, 500*time.Millisecond, 100, failed)
		time.Sleep(10 * time.Second)
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	back, err := ReadRecording(r.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	got := back.Attribute(method, recording.Best)
	if len(got.Rows) != 9 || len(r.kept.settled) != 9 || !back.Opening.Simulated {
		t.Fatalf("%d requests recorded, %d settled, opening %+v", len(got.Rows), len(r.kept.settled), back.Opening)
	}
	slots := map[string]int{"seen in a slot": 1, "asks for a slot": 2, "unstreamed": 4}
	for i, q := range back.Traffic.Requests {
		in, off := r.kept.settled[q.Tag], got.Rows[i]
		for name, v := range map[string][2]meter.Int{
			"gpu_uj": {in.GPUUj, off.GPUUj}, "gpu_active_uj": {in.GPUActiveUj, off.GPUActiveUj}, "gpu_idle_uj": {in.GPUIdleUj, off.GPUIdleUj},
			"gpu_prefill_uj": {in.GPUPrefillUj, off.GPUPrefillUj}, "gpu_decode_uj": {in.GPUDecodeUj, off.GPUDecodeUj},
			"gpu_estimate_uj": {in.GPUEstimateUj, off.GPUEstimateUj}, "gpu_mean_mw": {in.GPUMeanMw, off.GPUMeanMw},
			"gpu_time_uj": {in.GPUTimeUj, off.GPUTimeUj}, "gpu_token_uj": {in.GPUTokenUj, off.GPUTokenUj},
			"gpu_sigma_uj": {in.GPUSigmaUj, off.GPUSigmaUj}, "gpu_active_sigma_uj": {in.GPUActiveSigmaUj, off.GPUActiveSigmaUj},
		} {
			if v[0] != v[1] {
				t.Errorf("%s: %s is %+v in line, %+v offline", q.Tag, name, v[0], v[1])
			}
		}
		if in.EnergyQuality != off.EnergyQuality || in.EnergySource != off.EnergySource || in.EnergyMethod != off.EnergyMethod {
			t.Errorf("%s: %s %s %s in line, %s %s %s offline", q.Tag, in.EnergyQuality, in.EnergySource, in.EnergyMethod, off.EnergyQuality, off.EnergySource, off.EnergyMethod)
		}
		if computes := q.Tag != "refused"; computes != (in.GPUActiveUj.V > 0) || q.Timings != nil && q.Timings.PromptN != 700 {
			t.Errorf("%s has %+v uJ, active %+v, timings %+v", q.Tag, in.GPUUj, in.GPUActiveUj, q.Timings)
		}
		if want, ok := slots[q.Tag]; ok != (q.Slot != nil) || ok && *q.Slot != want {
			t.Errorf("%s is recorded with the slot %v, want %d", q.Tag, q.Slot, want)
		}
	}
	if len(back.Traffic.Idles) != 1 {
		t.Errorf("%d slots were seen idle", len(back.Traffic.Idles))
	}
}

// TestSimpleRules: divided by time or by tokens, a row has that total and neither active nor idle joules.
func TestSimpleRules(t *testing.T) {
	back, err := ReadRecording("../../gpu/testdata/h100", "")
	if err != nil {
		t.Fatal(err)
	}
	phase := back.Attribute("phase", recording.Best)
	for rule, total := range map[string]func(*meter.Record) meter.Int{
		"time":  func(r *meter.Record) meter.Int { return r.GPUTimeUj },
		"token": func(r *meter.Record) meter.Int { return r.GPUTokenUj },
	} {
		for i, r := range back.Attribute(rule, recording.CounterOnly).Rows {
			if r.GPUUj != total(&r) || r.GPUActiveUj.Valid || r.GPUSigmaUj.Valid || r.EnergyMethod != rule || r.EnergyQuality == "" {
				t.Errorf("%s, request %d: %+v", rule, i, r.GPUUj)
			}
			if p := &phase.Rows[i]; !p.GPUActiveUj.Valid || p.GPUUj.V == r.GPUUj.V && p.GPUUj.Valid {
				t.Errorf("request %d by phase: %+v", i, p.GPUUj)
			}
		}
	}
}
