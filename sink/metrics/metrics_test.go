package metrics

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"wattline/meter"
	"wattline/meter/metertest"
	"wattline/sink"
	"wattline/sink/semconv"
	"wattline/sink/store"
)

// fixture is a Metrics with a reader for tests.
type fixture struct {
	*Metrics
	reader *sdkmetric.ManualReader
}

func newFixture(tb testing.TB, cfg Config) *fixture {
	tb.Helper()
	f := &fixture{reader: sdkmetric.NewManualReader()}
	cfg.Readers = append(cfg.Readers, f.reader)
	cfg.Instance, cfg.Version = "desk", "v1.2.3"
	var err error
	if f.Metrics, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return f
}

// point is one series, of whatever kind.
type point struct {
	attributes attribute.Set
	value      float64 // of a histogram: the sum
	count      uint64
	buckets    []uint64
	exemplars  []metricdata.Exemplar[float64]
}

func (f *fixture) collect(tb testing.TB) map[string][]point {
	tb.Helper()
	var rm metricdata.ResourceMetrics
	if err := f.reader.Collect(context.Background(), &rm); err != nil {
		tb.Fatal(err)
	}
	out := map[string][]point{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[float64]:
				for _, p := range d.DataPoints {
					out[m.Name] = append(out[m.Name], point{attributes: p.Attributes, value: p.Value})
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					out[m.Name] = append(out[m.Name], point{attributes: p.Attributes, value: p.Value})
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					out[m.Name] = append(out[m.Name], point{p.Attributes, p.Sum, p.Count, p.BucketCounts, p.Exemplars})
				}
			default:
				tb.Errorf("%s has data of type %T", m.Name, d)
			}
		}
	}
	return out
}

// sum adds up the series that have all of the given attributes (name, value, name, value, ...).
func sum(points []point, attributes ...string) (value float64, count uint64) {
	for _, p := range points {
		match := true
		for i := 0; i < len(attributes); i += 2 {
			v, _ := p.attributes.Value(attribute.Key(attributes[i]))
			match = match && v.AsString() == attributes[i+1]
		}
		if match {
			value += p.value
			count += p.count
		}
	}
	return value, count
}

// feed does what cmd does with finished rows.
func feed(m *Metrics, ended, final []*meter.Record) {
	for _, rec := range ended {
		m.RecordEnded(rec, trace.SpanContext{})
	}
	for _, rec := range final {
		m.RecordSettled(rec)
	}
}

// A metric and the sum over the store's rows are the same number.
func TestMetricsEqualSumsOverTheStore(t *testing.T) {
	ended, final := randomRows(3000)
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "wattline.db")
	st, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f := newFixture(t, Config{})
	feed(f.Metrics, ended, final)
	rows := &sink.Rows{Requests: ended}
	for i, rec := range final {
		if rec != ended[i] {
			rows.Settled = append(rows.Settled, rec)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 50 {
		p, l := secondOf(r, i)
		rows.Power, rows.Ledger = append(rows.Power, p), append(rows.Ledger, l)
		f.Power(p)
		f.Ledger(l)
	}
	if err := st.Write(ctx, rows); err != nil {
		t.Fatal(err)
	}
	reader, err := store.OpenReader(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got := f.collect(t)
	for _, c := range storeSums() {
		var want float64
		if err := reader.DB().QueryRowContext(ctx, "SELECT coalesce("+c.sql+", 0)").Scan(&want); err != nil {
			t.Fatalf("%s: %v", c.sql, err)
		}
		value, count := sum(got[c.metric], c.attributes...)
		if c.counts {
			value = float64(count)
		}
		if diff := value - want; want == 0 || math.Abs(diff) > 1e-9*math.Abs(want) {
			t.Errorf("%s %v is %.9g, the store says %.9g: %s", c.metric, c.attributes, value, want, c.sql)
		}
	}
}

// storeSum is a metric and the same figure in SQL. counts compares a histogram's number of values.
type storeSum struct {
	metric     string
	counts     bool
	attributes []string
	sql        string
}

func storeSums() []storeSum {
	metered := " FROM requests WHERE dialect IS NOT NULL"
	all := []storeSum{
		{semconv.MetricRequestDuration, false, nil, "(SELECT sum(duration_us) / 1e6" + metered + ")"},
		{semconv.MetricRequestDuration, true, nil, "(SELECT count(duration_us)" + metered + ")"},
		{semconv.MetricTTFT, false, nil, "(SELECT sum(ttft_us) / 1e6 FROM requests)"},
		{semconv.MetricTTFT, true, nil, "(SELECT count(ttft_us) FROM requests)"},
		{semconv.MetricTPOT, false, nil, "(SELECT sum(tpot_ms) / 1e3 FROM efficiency)"},
		{semconv.MetricTPOT, true, nil, "(SELECT count(tpot_ms) FROM efficiency)"},
		{semconv.MetricStalls, false, nil, "(SELECT sum(stalls) FROM requests)"},
		{semconv.MetricOverhead, false, nil, "(SELECT sum(proxy_overhead_us) / 1e6 FROM requests)"},
		{semconv.MetricEnergyPerToken, false, nil, "(SELECT sum(joules_per_token) FROM efficiency)"},
		{semconv.MetricEnergyPerToken, true, nil, "(SELECT count(joules_per_token) FROM efficiency)"},
		{semconv.MetricEnergy, false, nil, "(SELECT sum(gpu_uj) / 1e6 FROM requests)"},
		{semconv.MetricAgentEnergy, false, []string{semconv.Agent, "pi"}, "(SELECT sum(gpu_uj) / 1e6 FROM requests WHERE agent = 'pi')"},
		{semconv.MetricAgentTTFT, true, []string{semconv.Agent, "pi"}, "(SELECT count(ttft_us) FROM requests WHERE agent = 'pi')"},
		{semconv.MetricAgentTokens, false, []string{semconv.Agent, "codex", semconv.TokenKind, tokensCached}, "(SELECT sum(cached_tokens) FROM requests WHERE agent = 'codex')"},
		{semconv.MetricAgentRequests, false, []string{semconv.Agent, "codex", semconv.Outcome, string(meter.Cancelled)}, "(SELECT count(*) FROM requests WHERE agent = 'codex' AND outcome = 'cancelled')"},
		{semconv.MetricDeviceShare, false, nil, "(SELECT sum(gpu_uj) / 1e6 FROM requests)"},
		{semconv.MetricMeterFailures, false, nil, "(SELECT count(*)" + metered + " AND outcome = 'ok' AND error IS NOT NULL)"},
		{semconv.MetricDisputed, false, []string{semconv.TokenKind, tokensPrompt}, "(SELECT count(*)" + metered + " AND details->>'disputed' = 'prompt,output')"},
		{semconv.MetricDisputed, false, []string{semconv.TokenKind, tokensOutput}, "(SELECT count(*)" + metered + " AND details->>'disputed' IS NOT NULL)"},
		{semconv.MetricUnread, false, []string{semconv.Unread, "request_multipart"}, "(SELECT count(*)" + metered + " AND details->>'unread' = 'request_multipart,reply_cut')"},
		{semconv.MetricUnread, false, []string{semconv.Unread, "reply_cut"}, "(SELECT count(*)" + metered + " AND details->>'unread' IS NOT NULL)"},
		{semconv.MetricHWEnergy, false, nil, "(SELECT sum(energy_uj) / 1e6 FROM power)"},
		{semconv.MetricThrottled, false, nil, "(SELECT sum(throttled_us) / 1e6 FROM power)"},
		{semconv.MetricLedger, false, []string{semconv.Account, accountCounter}, "(SELECT sum(counter_uj) / 1e6 FROM ledger)"},
		{semconv.MetricLedger, false, []string{semconv.Account, accountPools}, "(SELECT sum(pools_uj) / 1e6 FROM ledger)"},
		{semconv.MetricTokenUsage, false, []string{semconv.GenAITokenType, semconv.TokenInput}, "(SELECT sum(prompt_tokens) FROM requests)"},
		{semconv.MetricTokenUsage, false, []string{semconv.GenAITokenType, semconv.TokenOutput}, "(SELECT sum(output_tokens) FROM requests)"},
	}
	for _, o := range []meter.Outcome{meter.OK, meter.Cancelled, meter.Truncated, meter.UpstreamError, meter.Rejected} {
		all = append(all, storeSum{semconv.MetricRequests, false, []string{semconv.Outcome, string(o)}, "(SELECT count(*) FROM requests WHERE outcome = '" + string(o) + "')"})
	}
	for _, q := range []string{meter.EnergyUnavailable, meter.EnergyPartial, meter.EnergyBelowResolution, meter.EnergyMeasured, meter.EnergyShared, meter.EnergyEstimated} {
		all = append(all, storeSum{semconv.MetricSettled, false, []string{semconv.Quality, q}, "(SELECT count(*) FROM requests WHERE energy_quality = '" + q + "')"})
	}
	for kind, column := range map[string]string{tokensPrompt: "prompt_tokens", tokensCached: "cached_tokens", tokensOutput: "output_tokens", tokensThought: "reasoning_tokens"} {
		all = append(all, storeSum{semconv.MetricTokens, false, []string{semconv.TokenKind, kind}, "(SELECT sum(" + column + ") FROM requests)"})
	}
	for phase, column := range map[string]string{phasePrefill: "gpu_prefill_uj", phaseDecode: "gpu_decode_uj", phaseIdle: "gpu_idle_uj"} {
		all = append(all, storeSum{semconv.MetricEnergy, false, []string{semconv.Phase, phase}, "(SELECT sum(" + column + ") / 1e6 FROM requests)"})
	}
	for phase, column := range map[string]string{phaseLoad: "load_us", phaseQueue: "queue_us", phasePrefill: "prefill_us", phaseDecode: "decode_us"} {
		all = append(all, storeSum{semconv.MetricPhase, false, []string{semconv.Phase, phase}, "(SELECT sum(" + column + ") / 1e6 FROM requests)"})
	}
	for stat, column := range map[string]string{statP50: "itl_p50_us", statP99: "itl_p99_us", statMax: "itl_max_us"} {
		all = append(all, storeSum{semconv.MetricITL, false, []string{semconv.Statistic, stat}, "(SELECT sum(" + column + ") / 1e6 FROM requests)"})
	}
	for _, model := range []string{"small", "large"} {
		all = append(all, storeSum{
			semconv.MetricTokens, false, []string{semconv.GenAIResponseModel, model, semconv.TokenKind, tokensOutput},
			"(SELECT sum(output_tokens) FROM requests WHERE model = '" + model + "')",
		})
	}
	return all
}

// watched are Sources with something to say.
func watched() Sources {
	return Sources{
		Routes: func() []Route { return []Route{{"default", 3, 5}} },
		Queue: func() sink.Stats {
			return sink.Stats{Waiting: 7, StoreErrors: 2, Requests: sink.Counts{Offered: 9, Dropped: 1, Lost: 1}}
		},
		Lost: func() (int64, bool) { return 11, true },
		Outbox: func() (Outbox, bool) {
			return Outbox{Rows: map[string]int64{"requests": 4, "power": 0, "ledger": 0, "configs": 0, "itl_gaps": 0}, Oldest: time.Now().Add(-time.Minute)}, true
		},
		Traces: func() Export { return Export{Sent: 10, Dropped: 2, Failed: 3, Refused: 4, Waiting: 5} },
		Pushes: func() Export { return Export{Sent: 6, Failed: 1} },
		Devices: func() []Device {
			return []Device{{ID: "GPU-1", Kind: semconv.HWGPU, Readable: true, AgreementPPM: meter.Some(990_000), Reopened: 1, Errors: 2, Missed: 3, Demoted: 4, CPU: time.Second, LedgerEvents: map[string]int64{"late": 5}}}
		},
		Monitor: func() []Monitored {
			return []Monitored{{Route: "default", Metric: "ttft", Ratio: 1.02, Known: true, Alarms: 1}, {Route: "default", Metric: "decode"}}
		},
		Slots: func() []Slots {
			return []Slots{{Route: "default", Looks: 9, Failed: 2, Bytes: 700, Found: 5, Unknown: 1, Waited: 2 * time.Second}}
		},
	}
}

// everything records something on every metric.
func everything(f *fixture) {
	feed(f.Metrics, nil, nil)
	ended, final := randomRows(500)
	feed(f.Metrics, ended, final)
	p, l := secondOf(rand.New(rand.NewPCG(1, 2)), 0)
	f.Power(p)
	f.Ledger(l)
	f.SetSources(watched())
}

// Every metric that is defined can be seen, with the attributes that its definition lists and no others.
func TestDefinitionsRecorded(t *testing.T) {
	f := newFixture(t, Config{})
	everything(f)
	got := f.collect(t)
	defined := map[string]bool{}
	for _, d := range Definitions() {
		defined[d.Name] = true
		if len(got[d.Name]) == 0 {
			t.Errorf("%s is defined but was never recorded", d.Name)
		}
		used := map[string]bool{}
		for _, p := range got[d.Name] {
			for _, kv := range p.attributes.ToSlice() {
				used[string(kv.Key)] = true
				if !slices.Contains(d.Attributes, string(kv.Key)) {
					t.Errorf("%s has the attribute %s, which its definition does not list", d.Name, kv.Key)
				}
			}
		}
		for _, a := range d.Attributes {
			if !used[a] {
				t.Errorf("%s never has the attribute %s, which its definition lists", d.Name, a)
			}
		}
		if (d.Kind == Histogram) != (len(d.Bounds) > 0) || !slices.IsSorted(d.Bounds) {
			t.Errorf("%s is a %s with bounds %v", d.Name, d.Kind, d.Bounds)
		}
	}
	for name := range got {
		if !defined[name] {
			t.Errorf("%s is recorded but not defined", name)
		}
	}
}

func TestObservedMetrics(t *testing.T) {
	f := newFixture(t, Config{})
	everything(f)
	got := f.collect(t)
	for _, c := range []struct {
		metric     string
		attributes []string
		low, high  float64
	}{
		{semconv.MetricInFlight, []string{semconv.Route, "default"}, 3, 3},
		{semconv.MetricConnections, nil, 5, 5},
		{semconv.MetricQueueRows, nil, 7, 7},
		{semconv.MetricQueueDropped, []string{semconv.RowKind, "requests"}, 1, 1},
		{semconv.MetricStoreErrors, nil, 2, 2},
		{semconv.MetricStoreLost, nil, 11, 11},
		{semconv.MetricOutboxRows, []string{semconv.RowKind, "requests"}, 4, 4},
		{semconv.MetricOutboxAge, nil, 60, 90},
		{semconv.MetricOTLP, []string{semconv.Signal, "traces", semconv.Result, "dropped"}, 2, 2},
		{semconv.MetricOTLP, []string{semconv.Signal, "metrics", semconv.Result, "failed"}, 1, 1},
		{semconv.MetricOTLPWaiting, nil, 5, 5},
		{semconv.MetricPowerLimit, nil, 700, 700},
		{semconv.MetricReadable, []string{semconv.HWID, "GPU-1"}, 1, 1},
		{semconv.MetricAgreement, nil, 0.99, 0.99},
		{semconv.MetricSamplerEvents, []string{semconv.Result, "missed"}, 3, 3},
		{semconv.MetricSamplerCPU, nil, 1, 1},
		{semconv.MetricLedgerEvents, []string{semconv.Result, "late"}, 5, 5},
		{semconv.MetricSlotLooks, []string{semconv.Result, "answered"}, 7, 7},
		{semconv.MetricSlotTime, nil, 2, 2},
		{semconv.MetricSlotBytes, nil, 700, 700},
		{semconv.MetricSlotRequests, []string{semconv.Result, "found"}, 5, 5},
		{semconv.MetricCPUTime, nil, 1e-6, 3600},
		{semconv.MetricMemory, nil, 1 << 20, 1 << 36},
		{semconv.MetricGoroutines, nil, 1, 10_000},
	} {
		if v, _ := sum(got[c.metric], c.attributes...); v < c.low || v > c.high {
			t.Errorf("%s %v is %g, not %g..%g", c.metric, c.attributes, v, c.low, c.high)
		}
	}
}

// Buckets tell 1,000 tokens a second from 2,000 and from 500.
func TestBucketsSeeFastModels(t *testing.T) {
	bucket := func(perToken time.Duration) int {
		f := newFixture(t, Config{})
		f.RecordEnded(&meter.Record{Dialect: meter.DialectChat, Outcome: meter.OK, DecodeUs: meter.Some(100 * perToken.Microseconds()), OutputTokens: meter.Some(101)}, trace.SpanContext{})
		return slices.Index(f.collect(t)[semconv.MetricTPOT][0].buckets, 1)
	}
	if a, b, c := bucket(450*time.Microsecond), bucket(990*time.Microsecond), bucket(1990*time.Microsecond); a >= b || b >= c {
		t.Errorf("2,200, 1,010 and 500 tokens/s fall into buckets %d, %d, %d", a, b, c)
	}
}

// Whatever names clients send, series and memory stay bounded, and nothing goes uncounted.
func TestCardinalityIsBounded(t *testing.T) {
	f := newFixture(t, Config{Labels: []string{"team"}, MaxValues: 10})
	var before, after runtime.MemStats
	const n = 50_000
	row := func(i int) *meter.Record {
		return &meter.Record{
			Route: "default", Dialect: meter.DialectChat, Model: fmt.Sprint("made-up-", i), Agent: fmt.Sprint("agent-", i), Labels: map[string]string{"team": fmt.Sprint("t", i), "other": fmt.Sprint(i)},
			Outcome: meter.OK, Status: meter.Some(200), TTFBUs: meter.Some(1), DurationUs: meter.Some(1000), PromptTokens: meter.Some(1),
		}
	}
	for i := range 500 {
		f.RecordEnded(row(i), trace.SpanContext{})
	}
	f.backlog.flush()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		f.RecordEnded(row(i), trace.SpanContext{})
	}
	f.backlog.flush()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d further names grew the heap by %d bytes", n, grown)
	}
	got := f.collect(t)
	if v, _ := sum(got[semconv.MetricRequests]); v != n+500 {
		t.Errorf("%g requests are counted, there were %d", v, n+500)
	}
	if k := len(got[semconv.MetricRequests]); k > 11 {
		t.Errorf("%d series for ten models, ten teams and the others", k)
	}
	if v, _ := sum(got[semconv.MetricRequests], semconv.GenAIResponseModel, semconv.Other); v != n+500-20 {
		t.Errorf("%g requests are under %q", v, semconv.Other)
	}
	if k := len(got[semconv.MetricAgentRequests]); k != 11 {
		t.Errorf("%d series for ten agents and the others", k)
	}
	if v, _ := sum(got[semconv.MetricAgentRequests], semconv.Agent, semconv.Other); v != n+500-20 {
		t.Errorf("%g requests are of agent %q", v, semconv.Other)
	}
	if v, _ := sum(got[semconv.MetricCapped]); v != n+500-20 {
		t.Errorf("%s is %g", semconv.MetricCapped, v)
	}
}

// Nor do combinations of names that are few each.
func TestCombinationsAreBounded(t *testing.T) {
	f := newFixture(t, Config{Labels: []string{"a", "b", "c", "d"}})
	const n = 40_000
	r := rand.New(rand.NewPCG(1, 2))
	few := func() string { return fmt.Sprint("v", r.IntN(32)) }
	for range n {
		f.RecordEnded(&meter.Record{
			Route: "default", Dialect: meter.DialectChat, Model: few(), Labels: map[string]string{"a": few(), "b": few(), "c": few(), "d": few()},
			Outcome: meter.OK, Status: meter.Some(200), TTFBUs: meter.Some(1), DurationUs: meter.Some(1000), PromptTokens: meter.Some(1),
		}, trace.SpanContext{})
	}
	f.backlog.flush()
	if k := len(f.seriesCache.byKey); k > maxSeries+1 {
		t.Errorf("%d series are kept", k)
	}
	got := f.collect(t)
	if v, _ := sum(got[semconv.MetricRequests]); v != n {
		t.Errorf("%g requests are counted, there were %d", v, n)
	}
	// Nearly every request brought a combination of its own.
	if v, _ := sum(got[semconv.MetricCapped]); v < n-2*maxSeries || v > n-maxSeries {
		t.Errorf("%s is %g", semconv.MetricCapped, v)
	}
}

// A name seen only in failed requests takes no series from other names.
func TestFailedRequestsNameNothing(t *testing.T) {
	f := newFixture(t, Config{MaxValues: 2})
	for i := range 100 {
		f.RecordEnded(&meter.Record{
			Dialect: meter.DialectChat, Model: fmt.Sprint("guess-", i), Outcome: meter.UpstreamError, Status: meter.Some(404), TTFBUs: meter.Some(1),
		}, trace.SpanContext{})
	}
	f.RecordEnded(&meter.Record{Dialect: meter.DialectChat, Model: "real", Outcome: meter.OK, Status: meter.Some(200), TTFBUs: meter.Some(1)}, trace.SpanContext{})
	got := f.collect(t)[semconv.MetricRequests]
	if v, _ := sum(got, semconv.GenAIResponseModel, "real"); v != 1 || len(got) != 2 {
		t.Errorf("the series are %v", got)
	}
}

// An exemplar leads from a histogram to the trace of a request in that bucket.
func TestExemplarsNameTheTrace(t *testing.T) {
	f := newFixture(t, Config{})
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled})
	rec := &meter.Record{Dialect: meter.DialectChat, Outcome: meter.OK, TTFTUs: meter.Some(45_000), DurationUs: meter.Some(1_000_000)}
	f.RecordEnded(rec, span)
	f.RecordEnded(rec, span.WithTraceFlags(0))
	for _, name := range []string{semconv.MetricTTFT, semconv.MetricRequestDuration} {
		p := f.collect(t)[name][0]
		if len(p.exemplars) != 1 || trace.TraceID(p.exemplars[0].TraceID) != span.TraceID() || trace.SpanID(p.exemplars[0].SpanID) != span.SpanID() {
			t.Errorf("%s has the exemplars %v", name, p.exemplars)
		}
	}
}

// A name that is no UTF-8 becomes one: Prometheus would refuse the whole page.
func TestInvalidNames(t *testing.T) {
	f := newFixture(t, Config{})
	f.RecordEnded(&meter.Record{Dialect: meter.DialectChat, Model: "q\xff", Outcome: meter.OK, Status: meter.Some(200), TTFBUs: meter.Some(1)}, trace.SpanContext{})
	if v, _ := sum(f.collect(t)[semconv.MetricRequests], semconv.GenAIResponseModel, "q\uFFFD"); v != 1 {
		t.Errorf("the series are %v", f.collect(t)[semconv.MetricRequests])
	}
}

func TestTooManyLabels(t *testing.T) {
	if _, err := New(Config{Labels: []string{"a", "b", "c", "d", "e"}}); err == nil {
		t.Error("five labels were accepted as attributes")
	}
}

// TestAllocationsOfMetrics is the guard on what a row costs in metrics, its share of a batch included.
func TestAllocationsOfMetrics(t *testing.T) {
	const rows, runs, most = 1024, 5, 2.0
	f := newFixture(t, Config{})
	ended, final := randomRows(64)
	perRun := testing.AllocsPerRun(runs, func() {
		for i := range rows {
			f.RecordEnded(ended[i%64], trace.SpanContext{})
			f.RecordSettled(final[i%64])
		}
		f.backlog.flush()
	})
	t.Logf("%.2f allocations a row", perRun/rows)
	if perRun > most*rows {
		t.Errorf("%.2f allocations a row, want at most %v", perRun/rows, most)
	}
}

// BenchmarkMetrics measures the cost of metrics a request: ns/op on the data path, cpu-ns/op in all.
func BenchmarkMetrics(b *testing.B) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled})
	for _, c := range []struct {
		name    string
		readers int
		span    trace.SpanContext
	}{{"one reader", 1, trace.SpanContext{}}, {"two readers", 2, trace.SpanContext{}}, {"two readers, sampled", 2, span}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := Config{}
			for range c.readers - 1 {
				cfg.Readers = append(cfg.Readers, sdkmetric.NewManualReader())
			}
			f := newFixture(b, cfg)
			ended, final := randomRows(64)
			b.ReportAllocs()
			i, cpu := 0, metertest.CPUTime()
			for b.Loop() {
				f.RecordEnded(ended[i%64], c.span)
				f.RecordSettled(final[i%64])
				if i++; i%1024 == 0 {
					f.backlog.flush()
				}
			}
			f.backlog.flush()
			b.ReportMetric(float64(metertest.CPUTime()-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}
