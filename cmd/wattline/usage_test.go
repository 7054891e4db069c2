package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/queries"
)

func usageLines(t *testing.T, args ...string) []queries.UsageLine {
	t.Helper()
	out, _ := output(t, 0, append([]string{"usage", "--json", "--all"}, args...)...)
	var lines []queries.UsageLine
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		var l queries.UsageLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

func TestUsageTotals(t *testing.T) {
	at := time.Now()
	other := measured("c", at.Add(-time.Minute))
	other.Agent, other.TTFTUs, other.Labels = "opencode", meter.Some(500_000), map[string]string{"team": "red"}
	// Below resolution: the value is null, the estimate counts in the sum.
	other.GPUUj, other.GPUActiveUj, other.GPUIdleUj, other.GPUEstimateUj, other.EnergyQuality = meter.Int{}, meter.Int{}, meter.Int{}, meter.Some(36_000_000), meter.EnergyBelowResolution
	old := measured("d", at.Add(-10*24*time.Hour))
	db := storeOf(t, sink.Rows{
		Requests: []*meter.Record{measured("a", at), measured("b", at.Add(-time.Minute)), other, old, unmetered("e", at)},
		Ledger: []*sink.Ledger{
			{At: at, Device: "GPU-0", IdleUj: meter.Some(3_600_000), IdleSigmaUj: meter.Some(36_000), ResidualUj: meter.Some(-360_000)},
			{At: at.Add(-20 * 24 * time.Hour), Device: "GPU-0", IdleUj: meter.Some(1 << 60)},
		},
	})
	p := func(v float64) *float64 { return &v }
	n := func(v int64) *int64 { return &v }
	s := func(v string) *string { return &v }
	curl := queries.UsageLine{
		Kind: "group", By: "agent", Key: s("curl"), Requests: n(2), PromptTokens: n(2000), CachedTokens: n(400), OutputTokens: n(202), Measured: n(2),
		EnergyKWh: p(404e6 / 3.6e12), SigmaKWh: p(math.Sqrt2 * 3e6 / 3.6e12), IdleKWh: p(104e6 / 3.6e12), Cost: p(404e6 / 3.6e12 * 0.3), TTFTms: p(352),
	}
	opencode := queries.UsageLine{
		Kind: "group", By: "agent", Key: s("opencode"), Requests: n(1), PromptTokens: n(1000), CachedTokens: n(200), OutputTokens: n(101), Measured: n(1),
		EnergyKWh: p(36e6 / 3.6e12), SigmaKWh: p(3e6 / 3.6e12), Cost: p(36e6 / 3.6e12 * 0.3), TTFTms: p(500),
	}
	want := []queries.UsageLine{
		curl, opencode,
		{Kind: "group", By: "agent", Requests: n(1), Measured: n(0)},
		{
			Kind: "all", By: "agent", Requests: n(4), PromptTokens: n(3000), CachedTokens: n(600), OutputTokens: n(303), Measured: n(3),
			EnergyKWh: p(440e6 / 3.6e12), SigmaKWh: p(math.Sqrt(3) * 3e6 / 3.6e12), IdleKWh: p(104e6 / 3.6e12), Cost: p(440e6 / 3.6e12 * 0.3), TTFTms: p(352),
		},
		{Kind: "idle", By: "agent", EnergyKWh: p(1e-6), SigmaKWh: p(1e-8)},
		{Kind: "residual", By: "agent", EnergyKWh: p(-1e-7)},
	}
	if d := cmp.Diff(want, usageLines(t, "--store", db), cmpopts.EquateApprox(1e-12, 0)); d != "" {
		t.Error(d)
	}

	keys := func(args ...string) (keys []string) {
		for _, l := range usageLines(t, append(args, "--store", db)...) {
			if l.Kind == "group" && l.Key != nil {
				keys = append(keys, *l.Key)
			}
		}
		return keys
	}
	if got := keys("--by", "label"); !cmp.Equal(got, []string{"env=lab", "team=blue", "team=red"}) {
		t.Errorf("labels: %v", got)
	}
	if got := keys("--by", "day", "--since", "30d"); len(got) < 2 || got[0] != old.StartedAt.UTC().Format(time.DateOnly) {
		t.Errorf("days: %v", got)
	}
	if got := usageLines(t, "--since", "30d", "--store", db)[0]; *got.Requests != 3 {
		t.Errorf("30 days have %d requests by curl", *got.Requests)
	}
}

func TestUsageWithoutEnergy(t *testing.T) {
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{unmetered("a", time.Now())}})
	if out, _ := output(t, 0, "usage", "--store", db); !strings.Contains(out, "1 other calls (housekeeping, replay's own) are left out: --all.") {
		t.Errorf("a request for health is no generation:\n%s", out)
	}
	out, _ := output(t, 0, "usage", "--all", "--store", db)
	lines := strings.Split(out, "\n")
	if got := strings.Fields(lines[1]); !cmp.Equal(got, []string{"-", "1", "-", "-", "-", "-", "-", "-", "-", "-", "-"}) {
		t.Errorf("a group of which nothing is known: %q", got)
	}
	for i, want := range []string{"all", "idle", "residual"} {
		if !strings.HasPrefix(lines[2+i], want) {
			t.Errorf("line %d is %q, want %s", 2+i, lines[2+i], want)
		}
	}
	empty := storeOf(t, sink.Rows{})
	if out, _ := output(t, 0, "usage", "--store", empty); !strings.Contains(out, "known for 0 of 0") {
		t.Errorf("an empty store: %s", out)
	}
}
