package queries_test

import (
	"context"
	"math"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/queries"
)

// TestWork: housekeeping and replay's own requests count only where all are asked for; a failure counts always.
func TestWork(t *testing.T) {
	row := func(id, dialect, agent string, outcome meter.Outcome) *meter.Record {
		return &meter.Record{
			ID: id, StartedAt: began, Instance: "host", Dialect: dialect, Agent: agent, Model: "m", Outcome: outcome, DurationUs: meter.Some(1000), EnergyQuality: meter.EnergyUnavailable,
		}
	}
	rows := []*meter.Record{
		row("1", meter.DialectChat, "codex", meter.OK), row("2", meter.DialectChat, "", meter.OK), row("3", meter.DialectTokenize, "codex", meter.OK), row("4", "", "codex", meter.OK),
		row("5", meter.DialectChat, sink.ReplayAgent, meter.OK), row("6", "", "curl", meter.UpstreamError), row("7", meter.DialectChat, sink.ReplayAgent, meter.UpstreamError),
	}
	_, r := storeOf(t, &sink.Rows{Requests: rows})
	for _, c := range []struct {
		query, key, column string
		all                bool
		want               int64
	}{
		{"by-model", "m", "n_requests", false, 2}, {"by-model", "m", "n_requests", true, 7},
		{"errors", "ok", "n_requests", false, 2}, {"errors", "upstream_error", "n_requests", false, 1},
		{"errors", "ok", "n_requests", true, 5}, {"errors", "upstream_error", "n_requests", true, 2},
	} {
		a := ask(t, r.DB(), queries.SQLite, c.query, queries.Params{All: c.all})
		if got := a.cell(t, c.key, c.column); got != c.want {
			t.Errorf("%s, all %v: %s of %s is %v, want %d", c.query, c.all, c.column, c.key, got, c.want)
		}
	}
}

// TestProcessorsSigma: the error of joules that are the processor's is the processor's.
func TestProcessorsSigma(t *testing.T) {
	row := func(id string, gpu, cpu int64) *meter.Record {
		rec := &meter.Record{ID: id, StartedAt: began, Instance: "host", Dialect: meter.DialectChat, Agent: "codex", Outcome: meter.OK, EnergyQuality: meter.EnergyMeasured, CPUUj: meter.Some(50), CPUSigmaUj: meter.Some(cpu)}
		if rec.EnergySource = "rapl/x"; gpu > 0 {
			rec.EnergySource, rec.GPUUj, rec.GPUSigmaUj = "nvml/x", meter.Some(100), meter.Some(gpu)
		}
		return rec
	}
	_, r := storeOf(t, &sink.Rows{Requests: []*meter.Record{row("1", 3, 1000), row("2", 0, 4)}})
	ctx := context.Background()
	u, err := queries.ReadUsage(ctx, r.DB(), queries.SQLite, queries.UsageOptions{By: []string{"agent"}, Since: began.Add(-time.Hour)})
	if err != nil || math.Abs(u.Total.SigmaKWh.V*3.6e12-5) > 1e-6 || math.Abs(u.Total.EnergyKWh.V*3.6e12-150) > 1e-6 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	sums, err := queries.Sums(ctx, r.DB(), queries.SQLite, queries.Filter{}, "agent")
	if err != nil || len(sums) != 1 || *sums[0].SigmaUj != 5 {
		t.Errorf("sums: %+v, %v", sums, err)
	}
	series, err := queries.Series{From: began.Add(-time.Hour), To: began.Add(time.Hour), Bucket: "hour", By: "agent", Zone: time.UTC}.Read(ctx, &queries.Engine{DB: r.DB()})
	if err != nil {
		t.Fatal(err)
	}
	found := int64(0)
	for _, b := range series.Buckets {
		for _, sigma := range b.ByKeySigma {
			found += sigma
		}
	}
	if found != 5 {
		t.Errorf("series: sigma %d, want 5", found)
	}
}
