package console

import (
	"testing"
	"time"

	"wattline/meter"
)

// TestDivision: where a row's joules stand among the device's steps, and what no row claims.
func TestDivision(t *testing.T) {
	began := time.Now().Truncate(time.Second)
	some := meter.Some
	row := func(change func(*meter.Record)) *meter.Record {
		rec := &meter.Record{
			ID: "a", StartedAt: began.Add(time.Second), Dialect: "chat", Stream: some(1), TTFTUs: some(600_000), UpstreamTTFTUs: some(600_000), QueueUs: some(100_000), PrefillUs: some(500_000),
			DecodeUs: some(1_400_000), DurationUs: some(2_000_000), EnergyQuality: meter.EnergyMeasured, GPUDevices: []string{"g"}, GPUUj: some(250e6), GPUUjByDevice: []int64{250e6},
			GPUActiveUj: some(240e6), GPUPrefillUj: some(100e6), GPUDecodeUj: some(140e6),
		}
		change(rec)
		return rec
	}
	for _, c := range []struct {
		name     string
		rec      *meter.Record
		idleFrom int     // the step from which the idle draw is known
		missing  int     // steps that the device did not tell, from the first on
		drawn    float64 // J of the request
		residual float64 // J while it ran
	}{
		{"as its row says", row(func(*meter.Record) {}), 0, 0, 240, 140},
		{"where the prompt was processed is not known", row(func(r *meter.Record) { r.QueueUs, r.PrefillUs = meter.Int{}, meter.Int{} }), 0, 0, 240, 140},
		{"one token, and where the prompt was processed is not known", row(func(r *meter.Record) {
			r.QueueUs, r.PrefillUs, r.DecodeUs, r.TTFTUs = meter.Int{}, meter.Int{}, some(0), some(2_000_000)
		}), 0, 0, 240, 152}, // over 20 steps, of which the first is before the 19 that are counted
		{"one token in no time", row(func(r *meter.Record) {
			r.QueueUs, r.PrefillUs, r.DecodeUs, r.DurationUs, r.GPUPrefillUj, r.GPUDecodeUj = meter.Int{}, meter.Int{}, some(0), some(0), some(0), some(20e6)
		}), 0, 0, 20, 380},
		{"its joules are too small for the source", row(func(r *meter.Record) {
			r.EnergyQuality, r.GPUUj, r.GPUUjByDevice, r.GPUActiveUj, r.GPUPrefillUj, r.GPUDecodeUj = meter.EnergyBelowResolution, meter.Int{}, nil, meter.Int{}, meter.Int{}, meter.Int{}
		}), 0, 0, 380, 0},
		{"nothing says that it computed", row(func(r *meter.Record) {
			r.EnergyQuality, r.GPUUj, r.GPUUjByDevice, r.GPUActiveUj, r.GPUPrefillUj, r.GPUDecodeUj = meter.EnergyUnavailable, meter.Int{}, nil, meter.Int{}, meter.Int{}, meter.Int{}
			r.QueueUs, r.PrefillUs, r.DecodeUs = meter.Int{}, meter.Int{}, meter.Int{}
		}), 0, 0, 0, 380},
		{"half of its generation was before the first step", row(func(*meter.Record) {}), 0, 23, 70, 70},
		{"its prompt has more joules than the device drew meanwhile", row(func(r *meter.Record) { r.GPUPrefillUj, r.GPUDecodeUj = some(200e6), some(40e6) }), 0, 0, 240, 140},
		{"its client left, and the server worked on", row(func(r *meter.Record) {
			r.DecodeUs, r.DurationUs, r.GPUDecodeUj, r.Details = some(200_000), some(800_000), some(240e6), &meter.Details{Abandoned: some(1)}
		}), 0, 0, 340, 40},
		{"the idle draw was learnt later", row(func(*meter.Record) {}), 40, 0, 240, 140},
	} {
		var d division
		v, first := d.device("g"), began.UnixNano()/int64(liveStep)
		for i := range 80 {
			if v.idle = 0; i >= c.idleFrom {
				v.idle = 60_000
			}
			if i >= c.missing {
				v.add(first+int64(i), some(260_000))
			}
		}
		d.finish(c.rec, []string{"g"})
		drawn, residual := 0.0, 0.0
		for _, p := range d.pieces(true) {
			for i := range p.MilliWatts {
				b := p.From.UnixNano()/int64(liveStep) + int64(i) - first
				if mw := p.Requests["a"]; mw != nil {
					drawn += float64(mw[i]) / 1e4
				}
				if p.Residual[i] < -1000 {
					t.Errorf("%s: step %d: its requests have %d mW more than the device drew", c.name, b, -p.Residual[i])
				}
				if b >= 11 && b < 30 {
					residual += float64(p.Residual[i]) / 1e4
				}
			}
		}
		if near := func(a, b float64) bool { return a > b-1 && a < b+1 }; !near(drawn, c.drawn) || !near(residual, c.residual) {
			t.Errorf("%s: %.1f J drawn, %.1f of residual while it ran; want %.0f and %.0f", c.name, drawn, residual, c.drawn, c.residual)
		}
	}
}

// TestDivisionOnce: a final row that comes again changes nothing.
func TestDivisionOnce(t *testing.T) {
	var d division
	began, some := time.Now().Truncate(time.Second), meter.Some
	v := d.device("g")
	for i := range int64(80) {
		v.add(began.UnixNano()/int64(liveStep)+i, some(260_000))
	}
	rec := &meter.Record{
		ID: "a", StartedAt: began.Add(time.Second), Dialect: "chat", DecodeUs: some(1_000_000), DurationUs: some(1_000_000), EnergyQuality: meter.EnergyMeasured,
		GPUDevices: []string{"g"}, GPUUj: some(100e6), GPUUjByDevice: []int64{100e6}, GPUActiveUj: some(100e6), GPUPrefillUj: some(0), GPUDecodeUj: some(100e6),
	}
	for n := range 3 {
		d.finish(rec, nil)
		d.pieces(true)
		given := 0.0 // J
		for _, mw := range v.given {
			given += mw / 1e4
		}
		if given < 99.9 || given > 100.1 {
			t.Errorf("given %.1f J after the row had come %d times, want 100", given, n+1)
		}
	}
	pending := *rec
	pending.EnergyQuality, pending.DurationUs = meter.EnergyPending, some(3_000_000)
	if d.finish(&pending, nil); !d.share("a").final {
		t.Error("a pending row takes the place of a final one")
	}
}

// TestDivisionLateHead: the steps since a request was sent stay open until its row comes: its head may come late.
func TestDivisionLateHead(t *testing.T) {
	var d division
	began, some := time.Now().Truncate(time.Second), meter.Some
	v := d.device("g")
	for i := range int64(100) {
		v.add(began.UnixNano()/int64(liveStep)+i, some(260_000))
	}
	now := began.Add(9 * time.Second)
	d.follow(&LiveRequest{ID: "a", Streams: true, Computes: true, SentAt: began.Add(time.Second)}, now, func(string) []string { return []string{"g"} })
	if d.pieces(false); v.settled != 10 {
		t.Errorf("%d steps are settled, want the 10 before it was sent", v.settled)
	}
	d.trim(now.UnixNano())
	d.finish(&meter.Record{
		ID: "a", StartedAt: began.Add(time.Second), Dialect: "chat", Stream: some(1), TTFTUs: some(5_000_000), UpstreamTTFTUs: some(5_000_000), QueueUs: some(0), PrefillUs: some(5_000_000),
		DecodeUs: some(1_000_000), DurationUs: some(6_000_000), EnergyQuality: meter.EnergyMeasured, GPUDevices: []string{"g"}, GPUUj: some(300e6), GPUUjByDevice: []int64{300e6},
		GPUActiveUj: some(300e6), GPUPrefillUj: some(200e6), GPUDecodeUj: some(100e6),
	}, nil)
	drawn := 0.0 // J
	for _, p := range d.pieces(false) {
		for _, mw := range p.Requests["a"] {
			drawn += float64(mw) / 1e4
		}
	}
	if drawn < 299 || drawn > 301 {
		t.Errorf("an open page gets %.1f J of it, its row has 300", drawn)
	}
}

// TestDivisionForgets: a request whose row never comes does not keep the steps provisional for ever.
func TestDivisionForgets(t *testing.T) {
	var d division
	now := time.Now().UnixNano()
	d.share("lost").phases[0] = interval{now - int64(time.Second), now}
	d.trim(now + int64(liveWindow))
	if len(d.shares) != 1 {
		t.Error("forgotten while its steps are there")
	}
	if d.trim(now + int64(liveWindow+2*time.Minute)); len(d.shares) != 0 {
		t.Error("not forgotten")
	}
}
