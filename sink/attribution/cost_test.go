package attribution

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
	"wattline/sink"
)

// dropped is a Rows that keeps nothing.
type dropped struct{ settled int }

func (d *dropped) Offer(*meter.Record) bool      { return true }
func (d *dropped) Settle(*meter.Record) bool     { d.settled++; return true }
func (d *dropped) OfferPower(*sink.Power) bool   { return true }
func (d *dropped) OfferLedger(*sink.Ledger) bool { return true }

// traffic is short unstreamed requests, one a tenth of a millisecond, on devices that are read all along.
type traffic struct {
	s    *settler
	up   *ledgerSet
	rows dropped
	rec  meter.Record
	now  int64
	next uint64
	uj   int64
}

func newTraffic(devices int) *traffic {
	f := &traffic{}
	var names []string
	var indices []int
	for i := range devices {
		names, indices = append(names, fmt.Sprintf("GPU-%d", i)), append(indices, i)
	}
	f.s = newSettler(settlerConfig{
		Rows: &f.rows, Now: func() int64 { return f.now }, Wall: func(ns int64) time.Time { return time.Unix(0, ns) },
		Pace: time.Hour, // rounds are the test's
	}, names...)
	f.up = f.s.ledgers(0, indices...)
	f.now = sec(1)
	return f
}

// round is a twentieth of a second: 500 requests, and what the sampler reads meanwhile.
func (f *traffic) round() {
	r := &reading{Source: "test", At: f.now, TempC: meter.Some(40)}
	for range 500 {
		f.now += 100_000
		f.next++
		f.up.Observe(energy.Event{Kind: energy.Arrive, Request: f.next, At: f.now, Late: true})
		f.up.Done(&f.rec, energy.Event{Kind: energy.End, Request: f.next, At: f.now + 50_000, Counts: energy.Counts{
			Known: true, PromptTokens: 48, OutputTokens: 16, Prefill: 10 * time.Microsecond, Decode: 10 * time.Microsecond,
		}})
	}
	f.uj += 10e6
	r.Samples = []sample{{f.now - 30e6, 200_000}, {f.now - 10e6, 200_000}}
	r.Ticks = []tick{{Before: f.now, After: f.now, UJ: f.uj}}
	for i := range f.up.devices {
		own := *r
		f.s.add(i, &own)
	}
	f.s.process(f.now)
}

// TestARequestAllocatesItsRow: on its way through the settler a request allocates the copy of its row that
// becomes final and what that says of each device, and nothing else.
func TestARequestAllocatesItsRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTraffic(1)
		for range 200 {
			f.round()
		}
		before := f.rows.settled
		a := testing.AllocsPerRun(20, f.round) / 500
		if f.rows.settled-before < 19*500 {
			t.Errorf("%d rows were settled in 21 rounds of 500", f.rows.settled-before)
		}
		if a > 2.05 {
			t.Errorf("%.2f allocations a request", a)
		}
		f.now += sec(60)
		f.s.process(f.now) // gives up on those that are left
		if n := f.s.Waiting(); n != 0 {
			t.Errorf("%d rows still wait", n)
		}
		if err := f.s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkRequest is the cost of a short unstreamed request in the settler and its ledger.
func BenchmarkRequest(b *testing.B) {
	f := newTraffic(1)
	defer f.s.Stop(b.Context())
	for range 200 {
		f.round()
	}
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for b.Loop() {
		f.round()
		n += 500
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/request")
	f.now += sec(60)
	f.s.process(f.now)
}
