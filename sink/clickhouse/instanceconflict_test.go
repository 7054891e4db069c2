package clickhouse

import (
	"context"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
)

// Two wattlines, each with its own store, ship under one name: each finds the other's rows and not its
// own. Rows from before the start, and another name's, do not count.
func TestInstanceConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	start := time.Now().Add(-time.Minute)
	row := func(id, instance string, at time.Time) *meter.Record {
		return &meter.Record{
			ID: id, StartedAt: at, Instance: instance, Route: "default", Method: "POST", Path: "/completion", Outcome: meter.OK, EnergyQuality: meter.EnergyUnavailable,
		}
	}
	rows := map[string][]*meter.Record{
		"first": {row("first-1", "gpu-host", start.Add(time.Second)), row("first-2", "gpu-host", start.Add(2*time.Second))},
		"second": {
			row("second-1", "gpu-host", start.Add(3*time.Second)), row("second-2", "gpu-host", start.Add(-time.Hour)), row("second-3", "other", start.Add(time.Second)),
		},
	}
	conflicts := map[string]*InstanceConflict{}
	for name, requests := range rows {
		s := outbox(t, &sink.Rows{Requests: requests})
		c := w.client(false)
		sh := w.shipper(c, s)
		until(t, sh, func() { drained(t, s) })
		reader, err := store.OpenReader(t.Context(), s.Path())
		must(t, err)
		t.Cleanup(func() { _ = reader.Close() })
		conflicts[name] = &InstanceConflict{Client: c, Instance: "gpu-host", Since: start, MissingIDs: reader.MissingIDs, Log: quiet(t)}
	}
	for name, want := range map[string][]string{"first": {"second-1"}, "second": {"first-2", "first-1"}} {
		got, err := conflicts[name].Check(context.Background())
		if err != nil || len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			t.Errorf("%s finds %v, %v, not %v", name, got, err, want)
		}
	}
	alone := *conflicts["second"]
	alone.Instance = "other"
	if got, err := alone.Check(context.Background()); err != nil || len(got) != 0 {
		t.Errorf("its own rows are taken for another's: %v, %v", got, err)
	}
}
