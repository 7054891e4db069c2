package metrics

import (
	"fmt"
	"math/rand/v2"
	"time"

	"wattline/meter"
	"wattline/sink"
)

var began = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// randomRows makes n requests with the nulls, failures and unmetered paths of real life; those with
// an energy that is not final at once come a second time, settled. The same n gives the same rows.
func randomRows(n int) (ended, final []*meter.Record) {
	r := rand.New(rand.NewPCG(8, uint64(n)))
	for i := range n {
		rec := randomRow(r, i)
		ended = append(ended, rec)
		if rec.EnergyQuality != meter.EnergyPending {
			final = append(final, rec)
			continue
		}
		settled := *rec
		energy(r, &settled)
		final = append(final, &settled)
	}
	return ended, final
}

func maybe(r *rand.Rand, below int64) meter.Int {
	if r.IntN(5) == 0 {
		return meter.Int{}
	}
	return meter.Some(r.Int64N(below))
}

func pick(r *rand.Rand, options ...string) string { return options[r.IntN(len(options))] }

func randomRow(r *rand.Rand, i int) *meter.Record {
	rec := &meter.Record{
		ID: fmt.Sprintf("0199%08x-0000-7000-8000-000000000000", i), StartedAt: began.Add(time.Duration(i) * time.Millisecond), Instance: "desk",
		Route: pick(r, "default", "second"), Method: "POST", Path: "/v1/chat/completions",
		Dialect: pick(r, meter.DialectChat, meter.DialectChat, meter.DialectNative, meter.DialectEmbeddings, ""), Model: pick(r, "small", "large"),
		Status: meter.Some(200), Outcome: meter.OK, TTFBUs: meter.Some(r.Int64N(10_000)), DurationUs: meter.Some(r.Int64N(60_000_000)),
		ProxyOverheadUs: maybe(r, 500), EnergyQuality: pick(r, meter.EnergyPending, meter.EnergyUnavailable),
	}
	switch r.IntN(12) {
	case 0:
		rec.Outcome, rec.Status, rec.TTFBUs = meter.Rejected, meter.Some(503), meter.Int{}
	case 1:
		rec.Outcome, rec.Status, rec.Error = meter.UpstreamError, meter.Some(400), "too long"
	case 2:
		rec.Outcome = meter.Cancelled
	case 3:
		rec.Outcome = meter.Truncated
	case 4:
		rec.Error = "not metered: the reply is compressed"
	}
	if rec.Dialect == "" {
		rec.Model = ""
		return rec
	}
	rec.Agent = []string{"codex", "pi", ""}[i%3]
	if i%7 == 0 {
		rec.LoadUs = meter.Some(int64(1000 + i))
	}
	rec.TTFTUs, rec.QueueUs, rec.PrefillUs, rec.DecodeUs = maybe(r, 5_000_000), maybe(r, 3_000_000), maybe(r, 4_000_000), maybe(r, 50_000_000)
	rec.ITLP50Us, rec.ITLP99Us, rec.ITLMaxUs, rec.Stalls = maybe(r, 20_000), maybe(r, 90_000), maybe(r, 900_000), maybe(r, 4)
	rec.PromptTokens, rec.CachedTokens, rec.OutputTokens, rec.ReasoningTokens = maybe(r, 60_000), maybe(r, 9_000), maybe(r, 2_000), maybe(r, 500)
	switch r.IntN(20) {
	case 0:
		rec.Details = &meter.Details{
			RequestedModel: "disputed", Disputed: "output",
			Usage: meter.TokenCounts{Output: meter.Some(5)}, Timings: meter.TokenCounts{Output: meter.Some(6)},
		}
	case 1:
		rec.Details = &meter.Details{Disputed: "prompt,output"}
	case 2:
		rec.Details = &meter.Details{RequestedModel: `"disputed":"cached"`}
	case 3:
		rec.Details = &meter.Details{Unread: "request_multipart,reply_cut"}
	case 4:
		rec.Details = &meter.Details{Unread: "reply_cut"}
	}
	return rec
}

func energy(r *rand.Rand, rec *meter.Record) {
	switch r.IntN(8) {
	case 0:
		rec.EnergyQuality, rec.GPUEstimateUj = meter.EnergyBelowResolution, meter.Some(r.Int64N(1000))
		return
	case 1:
		rec.EnergyQuality, rec.GPUUj = meter.EnergyPartial, meter.Some(r.Int64N(500_000_000)) // idle not learnt yet
	default:
		rec.EnergyQuality = pick(r, meter.EnergyMeasured, meter.EnergyShared, meter.EnergyEstimated)
		rec.GPUPrefillUj, rec.GPUDecodeUj, rec.GPUIdleUj = meter.Some(r.Int64N(90_000_000)), meter.Some(r.Int64N(400_000_000)), meter.Some(r.Int64N(200_000_000))
		rec.GPUActiveUj = meter.Some(rec.GPUPrefillUj.V + rec.GPUDecodeUj.V)
		rec.GPUUj = meter.Some(rec.GPUActiveUj.V + rec.GPUIdleUj.V)
	}
	half := rec.GPUUj.V / 2
	rec.GPUDevices, rec.GPUUjByDevice = []string{"GPU-0", "GPU-1"}, []int64{half, rec.GPUUj.V - half}
}

// secondOf is a second of one device.
func secondOf(r *rand.Rand, i int) (*sink.Power, *sink.Ledger) {
	at := began.Add(time.Duration(i) * time.Second)
	p := &sink.Power{
		At: at, Instance: "desk", Device: "GPU-0", SpanUs: meter.Some(1_000_000), EnergyUj: meter.Some(r.Int64N(700_000_000)), MeanMw: meter.Some(r.Int64N(700_000)),
		TempC: meter.Some(40 + r.Int64N(40)), UtilPermille: meter.Some(r.Int64N(1000)), VRAMBytes: meter.Some(r.Int64N(80 << 30)), LimitMw: meter.Some(700_000), ThrottledUs: meter.Some(r.Int64N(1_000_000)), Source: "nvml/ring",
	}
	l := &sink.Ledger{
		At: at, Instance: "desk", Device: "GPU-0", SpanUs: meter.Some(1_000_000), RequestsActiveUj: meter.Some(r.Int64N(400_000_000)),
		RequestsIdleUj: meter.Some(r.Int64N(90_000_000)), PoolsUj: meter.Some(r.Int64N(9_000_000) - 4_500_000), IdleUj: meter.Some(r.Int64N(90_000_000)),
		ResidualUj: meter.Some(r.Int64N(2_000_000) - 1_000_000), Source: "nvml/counter",
	}
	l.CounterUj = meter.Some(l.RequestsActiveUj.V + l.RequestsIdleUj.V + l.PoolsUj.V + l.IdleUj.V + l.ResidualUj.V)
	return p, l
}
