package queries_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

// began is some days ago, late in the evening: no row is near a TTL of ClickHouse, the shortest of which is
// 7 days, and days and hours change on the way.
var began = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -5).Add(22*time.Hour + 17*time.Minute + 5*time.Second + 123457*time.Microsecond)

// rowsOf makes n requests over six hours, with the nulls, errors and unmetered rows of real life, and a
// second of power and ledger for every fifth of them. The same n gives the same rows.
func rowsOf(n int) (rows *sink.Rows) {
	generate(n, n, func(all *sink.Rows) { rows = all })
	return rows
}

// generate makes the rows of rowsOf and hands them on in pieces.
func generate(n, piece int, f func(*sink.Rows)) {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	step := 6 * time.Hour / time.Duration(n)
	rows := &sink.Rows{}
	for i := range n {
		rec := randomRequest(r, i, began.Add(time.Duration(i)*step))
		rows.Requests = append(rows.Requests, rec)
		if i%10 == 0 && rec.ITLMaxUs.Valid {
			rows.Gaps = append(rows.Gaps, randomGaps(r, rec))
		}
		if i%5 == 0 {
			at := began.Add(time.Duration(i/5) * time.Second)
			for _, device := range []string{"GPU-0", "GPU-1"} {
				rows.Power = append(rows.Power, randomPower(r, device, at))
				rows.Ledger = append(rows.Ledger, randomLedger(r, device, at))
			}
		}
		if len(rows.Requests) == piece || i == n-1 {
			f(rows)
			rows = &sink.Rows{}
		}
	}
}

func randomRequest(r *rand.Rand, i int, at time.Time) *meter.Record {
	pick := func(options ...string) string { return options[r.IntN(len(options))] }
	rec := &meter.Record{
		ID: fmt.Sprintf("0199%08x-%012x", i, r.Uint64()>>16), StartedAt: at, Instance: "host", Method: "POST", Path: "/v1/chat/completions", Dialect: meter.DialectChat,
		Session: fmt.Sprint(i / 9), Agent: pick("curl", "opencode", "", "it's\\odd"), Model: pick("small", "large", "large"), ConfigID: pick("c1", "c2"), User: pick("u1", "u2", ""),
		Outcome: meter.OK, Status: meter.Some(200), EnergyQuality: meter.EnergyUnavailable,
		DurationUs: meter.Some(1000 + r.Int64N(5_000_000)), MeanConcurrency: meter.Some(1000 + 50*r.Int64N(60)),
	}
	if r.IntN(3) > 0 {
		rec.Labels = map[string]string{"variant": pick("a", "b"), "team": pick("red", "blue")}
	}
	switch r.IntN(20) {
	case 0:
		rec.Outcome, rec.Status, rec.Error = meter.UpstreamError, meter.Some(502), "refused"
		return rec
	case 1:
		rec.Outcome = meter.Cancelled
	case 2:
		rec.Model, rec.Path, rec.Dialect = "", "/health", ""
		return rec
	}
	tokens(r, rec)
	energy(r, rec)
	reuse(r, rec)
	return rec
}

func randomGaps(r *rand.Rand, rec *meter.Record) *sink.Gaps {
	g := &sink.Gaps{ID: rec.ID, StartedAt: rec.StartedAt, Instance: rec.Instance, Model: rec.Model}
	if r.IntN(8) == 0 {
		g.Model = "" // a row of schema version 1
	}
	for range 1 + r.IntN(50) {
		g.GapsUs = append(g.GapsUs, uint32(r.IntN(3)*r.IntN(20_000)))
	}
	return g
}

// reuse makes one request in four one that lost its prompt's cache.
func reuse(r *rand.Rand, rec *meter.Record) {
	rec.CacheVerdict = []string{"hit", "cold", "client", "server"}[r.IntN(4)]
	rec.CacheLostTokens = meter.Some(0)
	switch rec.CacheVerdict {
	case "client":
		rec.CacheCause, rec.CachePart = "volatile_line", []string{"system", "message 3 (user, text)", "message 5 (user, text)"}[r.IntN(3)]
	case "server":
		rec.CacheCause = []string{"slot_taken", "restarted"}[r.IntN(2)]
	default:
		return
	}
	rec.CacheLostTokens, rec.CacheLostUs = meter.Some(1+r.Int64N(1000)), meter.Some(r.Int64N(1_000_000))
	if r.IntN(3) > 0 {
		rec.CacheLostUj, rec.CacheLostSigmaUj = meter.Some(r.Int64N(50_000_000)), meter.Some(r.Int64N(2_000_000))
	}
}

func tokens(r *rand.Rand, rec *meter.Record) {
	some := meter.Some
	rec.PromptTokens = some(1 << r.Int64N(18))
	rec.CachedTokens = some(r.Int64N(3) * rec.PromptTokens.V / 2)
	rec.OutputTokens = some(r.Int64N(500))
	rec.ReasoningTokens = some(rec.OutputTokens.V / 2)
	rec.FinishReason = []string{"stop", "length", ""}[r.IntN(3)]
	rec.PrefillUs, rec.DecodeUs = some(r.Int64N(800_000)), some(r.Int64N(4_000_000))
	rec.Stream = some(r.Int64N(2))
	if rec.Stream.V == 1 {
		rec.QueueUs = some(r.Int64N(100_000))
		rec.UpstreamTTFTUs = some(rec.QueueUs.V + rec.PrefillUs.V)
		rec.TTFTUs = some(rec.UpstreamTTFTUs.V + 100)
		rec.ITLP50Us, rec.ITLP99Us, rec.ITLMaxUs = some(r.Int64N(20_000)), some(20_000+r.Int64N(20_000)), some(40_000+r.Int64N(20_000))
		rec.DurationUs = some(rec.TTFTUs.V + rec.DecodeUs.V + 500_000)
	}
	rec.ProxyOverheadUs, rec.WriteBlockedUs = some(r.Int64N(300)), some(r.Int64N(3000))
}

func energy(r *rand.Rand, rec *meter.Record) {
	some := meter.Some
	rec.GPUSigmaUj = some(r.Int64N(1_000_000))
	rec.PricePerKWhMicro, rec.GCO2PerKWhMilli = some(300_000), some(400_000)
	switch r.IntN(5) {
	case 0: // not obtained
		rec.GPUSigmaUj = meter.Int{}
	case 1:
		rec.EnergyQuality, rec.GPUEstimateUj = meter.EnergyBelowResolution, some(r.Int64N(500_000))
	default:
		rec.EnergyQuality = meter.EnergyShared
		rec.GPUPrefillUj, rec.GPUDecodeUj, rec.GPUIdleUj = some(r.Int64N(50_000_000)), some(r.Int64N(90_000_000)), some(r.Int64N(20_000_000))
		rec.GPUActiveUj = some(rec.GPUPrefillUj.V + rec.GPUDecodeUj.V)
		rec.GPUUj = some(rec.GPUActiveUj.V + rec.GPUIdleUj.V)
		rec.GPUDevices, rec.GPUUjByDevice = []string{"GPU-1"}, []int64{rec.GPUUj.V}
		if third := rec.GPUUj.V / 3; third%2 == 0 {
			rec.GPUDevices, rec.GPUUjByDevice = []string{"GPU-0", "GPU-1"}, []int64{third, rec.GPUUj.V - third}
		}
		rec.GPUIdleWaitingUj = some(rec.GPUIdleUj.V / 3)
		rec.GPUIdleHeldUj = some(rec.GPUIdleUj.V - rec.GPUIdleWaitingUj.V)
		rec.GPUTempC = some(40 + r.Int64N(40))
	}
}

func randomPower(r *rand.Rand, device string, at time.Time) *sink.Power {
	p := &sink.Power{At: at, Instance: "host", Device: device, SpanUs: meter.Some(1_000_000), EnergyUj: meter.Some(r.Int64N(600_000_000)), TempC: meter.Some(30 + r.Int64N(60))}
	if r.IntN(50) == 0 && device == "GPU-1" {
		p.ThrottledUs, p.Throttle = meter.Some(r.Int64N(1_000_000)), [][]string{{"sw_power_cap"}, {"hw_thermal", "sw_power_cap"}}[r.IntN(2)]
	}
	return p
}

func randomLedger(r *rand.Rand, device string, at time.Time) *sink.Ledger {
	l := &sink.Ledger{
		At: at, Instance: "host", Device: device, SpanUs: meter.Some(1_000_000), RequestsActiveUj: meter.Some(r.Int64N(500_000_000)),
		RequestsIdleUj: meter.Some(r.Int64N(100_000_000)), PoolsUj: meter.Some(r.Int64N(1_000_000) - 500_000), IdleUj: meter.Some(r.Int64N(100_000_000)),
		ResidualUj: meter.Some(r.Int64N(1000) - 500), IdleSigmaUj: meter.Some(r.Int64N(1_000_000)),
		Source: "nvml",
	}
	l.CounterUj = meter.Some(l.RequestsActiveUj.V + l.RequestsIdleUj.V + l.PoolsUj.V + l.IdleUj.V + l.ResidualUj.V)
	return l
}

// storeOf writes rows into a new store and opens it for reading.
func storeOf(t testing.TB, rows *sink.Rows) (*store.Store, *store.Reader) {
	t.Helper()
	s, r := newStore(t)
	if err := s.Write(context.Background(), rows); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pack(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, r
}

func newStore(t testing.TB) (*store.Store, *store.Reader) {
	t.Helper()
	s, err := store.Open(context.Background(), store.Config{Path: filepath.Join(t.TempDir(), "wattline.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenReader(context.Background(), s.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, r
}
