package twin

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/replay/trace"
)

// twinRun is a trace of n requests, and the rows of a run of it in which every figure is that of the recording times its factor,
// with noise.
func twinRun(n int, ttft, decode, joules, noise float64, seed uint64) (*trace.Trace, []*meter.Record) {
	rng := rand.New(rand.NewPCG(seed, 7))
	tr := &trace.Trace{SHA256: "abc", BlockTokens: 64, Manifest: &trace.Manifest{Recorded: map[string]string{"slots": "4"}}}
	var rows []*meter.Record
	some := func(v float64) meter.Int { return meter.Some(int64(math.Round(v))) }
	off := func() float64 { return math.Exp(noise * rng.NormFloat64()) }
	for i := range n {
		in, out := 500+rng.IntN(4000), 20+rng.IntN(200)
		cached := in * (i % 3) / 3
		// Both sides measure the same truth, each with its noise.
		us := [2]float64{40_000 + 100*float64(in-cached), 9_000 * float64(out)}
		o := &trace.Observed{
			CachedTokens: meter.Some(int64(cached)), TTFTUs: some(off() * us[0]), DecodeUs: some(off() * us[1]), GPUUj: some(off() * 3e5 * float64(out)),
			EnergyQuality: meter.EnergyMeasured,
		}
		tr.Records = append(tr.Records, trace.Record{Input: in, Output: out, Parent: -1, Blocks: []trace.Block{{ID: uint32(i + 1), Tokens: uint32(in)}}, Observed: o})
		rows = append(rows, &meter.Record{
			Outcome: meter.OK, PromptTokens: meter.Some(int64(in)), OutputTokens: meter.Some(int64(out)), CachedTokens: meter.Some(int64(cached + rng.IntN(60))),
			TTFTUs: some(ttft * off() * us[0]), DecodeUs: some(decode * off() * us[1]), GPUUj: some(joules * off() * 3e5 * float64(out)),
			EnergyQuality: meter.EnergyMeasured,
		})
	}
	return tr, rows
}

func TestProof(t *testing.T) {
	slots := map[string]string{"slots": "4"}
	for _, c := range []struct {
		name                 string
		n                    int
		ttft, decode, joules float64
		noise                float64
		change               func(*trace.Trace, []*meter.Record)
		facts                map[string]string
		passed, joulesToo    bool
		why                  string
		failed               []string
	}{
		{"the same", 200, 1, 1, 1, 0.03, nil, slots, true, true, "", nil},
		{"slower to the first token", 200, 1.3, 1, 1, 0.03, nil, slots, false, false, "TTFT, median: +", nil},
		{"slower decode", 200, 1, 1.12, 1, 0.03, nil, slots, false, false, "not reproduced", nil},
		{"dearer", 200, 1, 1, 1.2, 0.03, nil, slots, false, false, "joules of all requests: +", nil},
		{"too noisy to tell", 24, 1, 1, 1, 0.5, nil, slots, false, false, "cannot tell", nil},
		{"too few", 12, 1, 1, 1, 0.01, nil, slots, false, false, "not measured", nil},
		{"another server", 200, 1, 1, 1, 0.03, nil, map[string]string{"slots": "2"}, false, false, "slots was 4 and is 2", nil},
		{"no joules", 200, 1, 1, 1, 0.03, func(_ *trace.Trace, rows []*meter.Record) {
			for _, r := range rows {
				r.GPUUj = meter.Int{}
			}
		}, slots, true, false, "", nil},
		{"few joules", 400, 1, 1, 1, 0.03, func(_ *trace.Trace, rows []*meter.Record) {
			for i, r := range rows {
				if i%20 > 0 {
					r.GPUUj = meter.Int{}
				}
			}
		}, slots, true, false, "", nil},
		{"few times", 400, 1, 1, 1, 0.03, func(_ *trace.Trace, rows []*meter.Record) {
			for _, r := range rows[:30] {
				r.TTFTUs = meter.Int{}
			}
		}, slots, false, false, "TTFT, median: not measured: 30 of 400 requests", nil},
		{"a cache that was full before", 200, 1, 1, 1, 0.03, func(_ *trace.Trace, rows []*meter.Record) {
			for _, r := range rows {
				r.CachedTokens.V = r.PromptTokens.V - 1
			}
		}, slots, false, false, "cached tokens: 0 of", nil},
		{"not through wattline", 200, 1, 1, 1, 0.03, func(_ *trace.Trace, rows []*meter.Record) { clear(rows) }, slots, false, false, "200 of 200 requests have no row", nil},
		{"an invalid run", 200, 1, 1, 1, 0.03, nil, slots, false, false, "the run is INVALID: schedule: late", []string{"schedule: late"}},
		{"a public trace", 50, 1, 1, 1, 0.03, func(tr *trace.Trace, _ []*meter.Record) {
			for i := range tr.Records {
				tr.Records[i].Observed = nil
			}
		}, slots, false, false, "no measurements", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, rows := twinRun(c.n, c.ttft, c.decode, c.joules, c.noise, 1)
			if c.change != nil {
				c.change(tr, rows)
			}
			p := Prove(tr, rows, c.facts, c.failed...)
			why := strings.Join(p.Why, "\n")
			if p.Passed != c.passed || p.Joules != c.joulesToo || !strings.Contains(why, c.why) || (why == "") != c.passed {
				t.Errorf("passed %v, joules %v: %s", p.Passed, p.Joules, why)
			}
		})
	}
}

// TestIntervalsCover: of many runs of an effect, some 95 % of the intervals hold it.
func TestIntervalsCover(t *testing.T) {
	const runs = 100
	for _, n := range []int{40, 200} {
		held := map[string]int{}
		for seed := range uint64(runs) {
			tr, rows := twinRun(n, 1.1, 1.1, 1.1, 0.1, seed+100)
			for _, m := range Prove(tr, rows, nil).Measures {
				if m.Low.V <= 10 && m.High.V >= 10 {
					held[m.Key]++
				}
			}
		}
		for _, f := range figures[1:] { // cached tokens have no such effect here
			key, k := f.key, held[f.key]
			t.Logf("%d requests, %s: %d of %d", n, key, k, runs)
			if k < runs*88/100 {
				t.Errorf("%d requests, %s: only %d of %d intervals hold the effect", n, key, k, runs)
			}
		}
	}
}
