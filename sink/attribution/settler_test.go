package attribution

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
)

// kept is a Rows that keeps what it is given.
type kept struct {
	mu      sync.Mutex
	offered []*meter.Record
	settled map[string]*meter.Record
	ledger  []*sink.Ledger
	power   []*sink.Power
}

func newKept() *kept { return &kept{settled: map[string]*meter.Record{}} }

func (k *kept) Offer(r *meter.Record) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.offered = append(k.offered, r)
	return true
}

func (k *kept) Settle(r *meter.Record) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settled[r.ID] = r
	return true
}

func (k *kept) OfferPower(p *sink.Power) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.power = append(k.power, p)
	return true
}

func (k *kept) OfferLedger(l *sink.Ledger) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ledger = append(k.ledger, l)
	return true
}

// plant is a simulated device: it draws idle milliwatts, and busy more during a request.
type plant struct {
	idle, busy int64
	from, to   int64 // busy
}

func (p plant) mw(at int64) int64 {
	if at > p.from && at <= p.to {
		return p.idle + p.busy
	}
	return p.idle
}

// feed reads the plant from start to end every 20 ms, handing over a reading a second as a sampler does.
func (p plant) feed(s *settler, device int, start, end int64) { feed(s, device, start, end, p.mw) }

func feed(s *settler, device int, start, end int64, draw func(at int64) int64) {
	const step = int64(20 * time.Millisecond)
	var uj int64
	r := &reading{Source: "test", At: start, TempC: meter.Some(40), LimitMw: meter.Some(700000)}
	r.Ticks = append(r.Ticks, tick{Before: start, After: start})
	for at := start + step; at <= end; at += step {
		mw := draw(at)
		uj += mw * (step / 1e6)
		r.Samples = append(r.Samples, sample{at, mw})
		r.Ticks = append(r.Ticks, tick{Before: at, After: at, UJ: uj})
	}
	s.add(device, r)
}

// bubble runs f with a settler on fake time and returns what it kept.
func bubble(t *testing.T, devices []string, f func(s *settler, now func() int64)) *kept {
	t.Helper()
	k := newKept()
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now()
		now := func() int64 { return int64(time.Since(epoch)) + 1 }
		s := newSettler(settlerConfig{Rows: k, Instance: "test", Now: now, Wall: func(ns int64) time.Time { return epoch.Add(time.Duration(ns)) }}, devices...)
		f(s, now)
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return k
}

// sec is a stamp.
func sec(s float64) int64 { return int64(s * 1e9) }

// request plays one request of 100 prompt and 50 output tokens through an upstream.
func request(u *ledgerSet, key uint64, id string, start, first, end float64) {
	u.Observe(energy.Event{Kind: energy.Arrive, Request: key, At: sec(start)})
	u.Observe(energy.Event{Kind: energy.SlotStart, Request: key, At: sec(start), Slot: -1})
	u.Observe(energy.Event{Kind: energy.FirstToken, Request: key, At: sec(first)})
	for i := range 50 {
		u.Observe(energy.Event{Kind: energy.Decode, Request: key, At: sec(first + (end-first)*float64(i)/50), Tokens: 1})
	}
	u.Done(&meter.Record{ID: id}, energy.Event{
		Kind: energy.End, Request: key, At: sec(end),
		Counts: energy.Counts{Known: true, PromptTokens: 100, OutputTokens: 50},
	})
}

// TestPendingThenSettled: one request alone; its joules are the draw above idle plus its
// idle share, the ledger's rows balance, and their sum is the counter's delta.
func TestPendingThenSettled(t *testing.T) {
	k := bubble(t, []string{"GPU-0"}, func(s *settler, _ func() int64) {
		p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
		p.feed(s, 0, sec(0.02), sec(20))
		request(s.ledgers(0, 0), 7, "a", 10, 10.5, 13)
		time.Sleep(25 * time.Second)
	})
	if len(k.offered) != 1 || k.offered[0].EnergyQuality != meter.EnergyPending {
		t.Fatalf("offered %+v", k.offered)
	}
	rec := k.settled["a"]
	if rec == nil {
		t.Fatal("the row was not settled")
	}
	const want = 3 * 300_000_000 // 3 s at 300 W
	if got := rec.GPUUj.V; !rec.GPUUj.Valid || got < want*97/100 || got > want*103/100 {
		t.Errorf("gpu_uj is %+v, the plant drew %d", rec.GPUUj, want)
	}
	if rec.GPUUj.V != rec.GPUActiveUj.V+rec.GPUIdleUj.V || rec.GPUActiveUj.V != rec.GPUPrefillUj.V+rec.GPUDecodeUj.V {
		t.Errorf("parts do not add up: %+v", rec)
	}
	if rec.GPUTempC != meter.Some(40) || rec.GPUPowerLimitMw != meter.Some(700000) || len(rec.GPUDevices) != 1 {
		t.Errorf("gauges: %+v", rec)
	}
	balances(t, k.ledger)
}

// balances checks every row and that rows were written.
func balances(t *testing.T, rows []*sink.Ledger) {
	t.Helper()
	if len(rows) == 0 {
		t.Fatal("the ledger left no row")
	}
	for _, l := range rows {
		sum := l.RequestsActiveUj.V + l.RequestsIdleUj.V + l.PoolsUj.V + l.IdleUj.V + l.ResidualUj.V
		if sum != l.CounterUj.V {
			t.Errorf("row at %v: parts sum to %d, the counter says %d", l.At, sum, l.CounterUj.V)
		}
	}
}

// TestTwoDevices: the row has the sum and each device's part.
func TestTwoDevices(t *testing.T) {
	k := bubble(t, []string{"GPU-0", "GPU-1"}, func(s *settler, _ func() int64) {
		p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
		p.feed(s, 0, sec(0.02), sec(20))
		p.busy = 100_000
		p.feed(s, 1, sec(0.02), sec(20))
		request(s.ledgers(0, 0, 1), 7, "a", 10, 10.5, 13)
		time.Sleep(25 * time.Second)
	})
	rec := k.settled["a"]
	if rec == nil || len(rec.GPUUjByDevice) != 2 || rec.GPUUjByDevice[0]+rec.GPUUjByDevice[1] != rec.GPUUj.V {
		t.Fatalf("row %+v", rec)
	}
	if rec.GPUUjByDevice[0] <= rec.GPUUjByDevice[1] {
		t.Errorf("by device %v, the first drew more", rec.GPUUjByDevice)
	}
}

// TestNoDeviceNoWait: rows are final at once; a device that was never read makes them so at the next look.
func TestNoDeviceNoWait(t *testing.T) {
	k := bubble(t, nil, func(s *settler, _ func() int64) { request(s.ledgers(0), 7, "a", 1, 2, 3) })
	if len(k.offered) != 1 || k.offered[0].EnergyQuality != meter.EnergyUnavailable {
		t.Errorf("offered %+v", k.offered)
	}
	k = bubble(t, []string{"GPU-0"}, func(s *settler, _ func() int64) {
		request(s.ledgers(0, 0), 7, "b", 1, 2, 3)
		time.Sleep(time.Second)
	})
	if rec := k.settled["b"]; rec == nil || rec.EnergyQuality != meter.EnergyUnavailable || rec.GPUUj.Valid {
		t.Errorf("settled %+v", rec)
	}
}

// TestStopPartial: readings end while a request is still on; Stop does not wait for ever.
func TestStopPartial(t *testing.T) {
	k := bubble(t, []string{"GPU-0"}, func(s *settler, _ func() int64) {
		p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
		p.feed(s, 0, sec(0.02), sec(12))
		request(s.ledgers(0, 0), 7, "a", 10, 10.5, 13)
		time.Sleep(14 * time.Second)
	})
	rec := k.settled["a"]
	if rec == nil || (rec.EnergyQuality != meter.EnergyPartial && rec.EnergyQuality != meter.EnergyUnavailable) {
		t.Errorf("settled %+v", rec)
	}
	balances(t, k.ledger)
}

// TestCPUEnergy: a machine without a GPU has its energy from the processor; beside a GPU, even one that the
// request's upstream is not known to use, the processor's joules are only cpu_uj.
func TestCPUEnergy(t *testing.T) {
	run := func(devices []string, on ...int) *meter.Record {
		k := &kept{settled: map[string]*meter.Record{}}
		synctest.Test(t, func(t *testing.T) {
			epoch := time.Now()
			s := newSettler(settlerConfig{
				Rows: k, CPULedgers: 1, Now: func() int64 { return int64(time.Since(epoch)) + 1 },
				Wall: func(ns int64) time.Time { return epoch.Add(time.Duration(ns)) },
			}, devices...)
			p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
			for i := range devices {
				p.feed(s, i, sec(0.02), sec(20))
			}
			request(s.ledgers(0, on...), 7, "a", 10, 10.5, 13)
			time.Sleep(25 * time.Second)
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
		return k.settled["a"]
	}
	alone, beside, unknown := run([]string{"RAPL"}, 0), run([]string{"GPU-0", "RAPL"}, 0, 1), run([]string{"GPU-0", "RAPL"}, 1)
	for _, r := range []*meter.Record{alone, beside, unknown} {
		if r == nil || r.CPUUj.V < 850e6 || r.CPUUj.V > 950e6 {
			t.Fatalf("cpu_uj of %+v", r)
		}
	}
	if alone.EnergySource != "rapl/ring" || alone.EnergyQuality != "measured" || alone.GPUUj.Valid || alone.EnergyUj() != alone.CPUUj {
		t.Errorf("without a GPU: %+v", alone)
	}
	if beside.EnergySource != "test/ring" || !beside.GPUUj.Valid || beside.EnergyUj() != beside.GPUUj || len(beside.GPUDevices) != 1 || len(beside.GPUUjByDevice) != 1 {
		t.Errorf("beside a GPU: %+v", beside)
	}
	if unknown.EnergyQuality != meter.EnergyUnavailable || unknown.EnergyUj().Valid {
		t.Errorf("on a GPU that cannot be told: %+v", unknown)
	}
}

// TestDeviceOrder: results come in whatever order, gpu_uj_by_device is gpu_devices'.
func TestDeviceOrder(t *testing.T) {
	k := bubble(t, []string{"GPU-0", "GPU-1"}, func(s *settler, _ func() int64) {
		p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
		p.feed(s, 0, sec(0.02), sec(20))
		p.busy = 100_000
		p.feed(s, 1, sec(0.02), sec(20))
		request(s.ledgers(0, 1, 0), 7, "a", 10, 10.5, 13)
		time.Sleep(25 * time.Second)
	})
	r := k.settled["a"]
	if r == nil || r.GPUDevices[0] != "GPU-1" || r.GPUUjByDevice[0] >= r.GPUUjByDevice[1] {
		t.Errorf("row %+v", r)
	}
}

// TestWaitingIdle: of two equal requests one waits 6.8 s for its slot while nobody works. It shares more of the idle draw,
// which stands apart; the joules of the slots are alike.
func TestWaitingIdle(t *testing.T) {
	run := func(arrive float64, rec *meter.Record) *meter.Record {
		k := bubble(t, []string{"GPU-0"}, func(s *settler, _ func() int64) {
			p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
			p.feed(s, 0, sec(0.02), sec(20))
			u := s.ledgers(0, 0)
			u.Observe(energy.Event{Kind: energy.Arrive, Request: 7, At: sec(arrive)})
			u.Observe(energy.Event{Kind: energy.SlotStart, Request: 7, At: sec(10), Slot: -1})
			u.Observe(energy.Event{Kind: energy.FirstToken, Request: 7, At: sec(10.5)})
			for i := range 50 {
				u.Observe(energy.Event{Kind: energy.Decode, Request: 7, At: sec(10.5 + 0.05*float64(i)), Tokens: 1})
			}
			u.Done(rec, energy.Event{Kind: energy.End, Request: 7, At: sec(13), Counts: energy.Counts{Known: true, PromptTokens: 100, OutputTokens: 50}})
			time.Sleep(25 * time.Second)
		})
		balances(t, k.ledger)
		return k.settled["a"]
	}
	direct, waited := run(10, &meter.Record{ID: "a"}), run(3.2, &meter.Record{ID: "a"})
	for _, r := range []*meter.Record{direct, waited} {
		if r.GPUIdleUj.V != r.GPUIdleHeldUj.V+r.GPUIdleWaitingUj.V || !r.GPUIdleHeldUj.Valid {
			t.Errorf("idle %+v is not held %+v + waiting %+v", r.GPUIdleUj, r.GPUIdleHeldUj, r.GPUIdleWaitingUj)
		}
		if off := float64(r.SlotUj().V)/900e6 - 1; math.Abs(off) > 0.02 {
			t.Errorf("the slot's joules are %.1f J, the device drew 900", float64(r.SlotUj().V)/1e6)
		}
		if span := 3 * float64(r.GPUMeanMw.V) * 1e3; math.Abs(float64(r.SlotUj().V)/span-1) > 0.02 {
			t.Errorf("the slot's joules are %.1f J, its mean power says %.1f", float64(r.SlotUj().V)/1e6, span/1e6)
		}
	}
	if w := float64(waited.GPUIdleWaitingUj.V) / 1e6; math.Abs(w/680-1) > 0.02 || direct.GPUIdleWaitingUj.V != 0 {
		t.Errorf("waited %.1f J, of 680; the other %.1f J", w, float64(direct.GPUIdleWaitingUj.V)/1e6)
	}
	// The reply's head came late, and the row begins the slot earlier than the ledger did.
	late := run(3.2, &meter.Record{ID: "a", Stream: meter.Some(1), Details: &meter.Details{QueueSource: meter.SourceServer}})
	if late.GPUIdleHeldUj.Valid || late.GPUIdleWaitingUj.Valid || !late.GPUIdleUj.Valid {
		t.Errorf("held %+v, waiting %+v of another span than the row's", late.GPUIdleHeldUj, late.GPUIdleWaitingUj)
	}
}

// TestFirstLedgerRow: the first row says when its energy was drawn: no row has more power than the device, and the spans join.
func TestFirstLedgerRow(t *testing.T) {
	k := bubble(t, []string{"GPU-0"}, func(s *settler, _ func() int64) {
		p := plant{idle: 100_000, busy: 200_000, from: sec(10), to: sec(13)}
		p.feed(s, 0, sec(0.02), sec(20))
		request(s.ledgers(0, 0), 7, "a", 10, 10.5, 13)
		time.Sleep(25 * time.Second)
	})
	begin := k.ledger[0].At.Add(-20 * time.Millisecond) // the plant's first sample
	for i, l := range k.ledger {
		from := l.At.Sub(begin).Seconds()
		span := float64(l.SpanUs.V) / 1e6
		truth := 100*span + 200*max(0, min(from+span, 13)-max(from, 10))
		if have := float64(l.CounterUj.V) / 1e6; math.Abs(have-truth) > 0.01*truth+20 {
			t.Errorf("row %d: %.1f J in %.3f s, the device drew %.1f", i, have, span, truth)
		}
		if i > 0 {
			if end := k.ledger[i-1].At.Add(time.Duration(k.ledger[i-1].SpanUs.V) * time.Microsecond); l.At.Sub(end).Abs() > time.Millisecond {
				t.Errorf("row %d begins at %v, the one before ends at %v", i, l.At, end)
			}
		}
	}
}
