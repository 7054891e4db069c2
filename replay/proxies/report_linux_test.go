package proxies

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// made is a report with known numbers: direct takes 50 us, nginx adds 80, the relay 100.
func made(wattline ...*Cell) *Report {
	names := []string{Direct, Relay, Nginx, NginxAgain, Wattline}
	r := newReport(len(wattline), []Scenario{{Key: "hundred", Title: "T", Streams: 100}}, names, nil, nil)
	none := Num(math.NaN())
	for i, w := range wattline {
		drift := Num(1000 * i) // of the machine: it must not show in what is added
		r.add("hundred", Direct, &Cell{P50: 50 + drift, P90: 60, P99: 70, TTFT: 100, CPU: none, Requests: 100})
		r.add("hundred", Relay, &Cell{P50: 150 + drift, P90: 160, P99: 170, TTFT: 200, CPU: 40})
		r.add("hundred", Nginx, &Cell{P50: 130 + drift, P90: 140, P99: Num(300 + 10*i), TTFT: 150, CPU: 20})
		r.add("hundred", NginxAgain, &Cell{P50: 130 + drift, P90: 140, P99: Num(280 + 30*i), TTFT: 150, CPU: 20})
		w.P50 += drift
		r.add("hundred", Wattline, w)
	}
	r.finish()
	return r
}

func target(t *testing.T, r *Report, kind, part string) Target {
	t.Helper()
	for _, x := range r.Targets {
		if x.Kind == kind && strings.Contains(x.What, part) {
			return x
		}
	}
	t.Fatalf("no target says %q", part)
	return Target{}
}

func TestReportJudges(t *testing.T) {
	good := func() *Cell { return &Cell{P50: 114, P90: 130, P99: 310, TTFT: 180, CPU: 36, Requests: 100} }
	r := made(good(), good(), good())
	w := r.section("hundred").row(Wattline)
	if w.AddedP50 != 64 || w.NginxP50 != 0.8 || w.RelayCPU != 0.9 || w.NginxCPU != 1.8 || w.AddedTT != 80 {
		t.Errorf("%+v", w)
	}
	for _, x := range r.Targets {
		if !x.Met {
			t.Errorf("missed: %+v", x)
		}
	}
	if got := target(t, r, "must", "largest of nginx's own"); got.Limit != 340 {
		t.Errorf("the band ends at %v", got.Limit)
	}
	bad := func() *Cell {
		return &Cell{P50: 200, P90: 230, P99: 341, TTFT: 180, CPU: 45, Requests: 99, Failures: 1, Why: map[string]int{"closed early": 1}}
	}
	for _, x := range made(bad(), bad(), bad()).Targets {
		if x.Met {
			t.Errorf("met: %+v", x)
		}
	}
}

func TestReportMarkdown(t *testing.T) {
	r := made(&Cell{P50: 114, P99: 310, CPU: 36, Failures: 2, Why: map[string]int{"closed early": 2}})
	var md strings.Builder
	if err := r.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| direct | (50) |", "| wattline | 64 |", "| must | T: added p50 / nginx's | 1.50 | 0.80 | met |", "**missed**", "wattline failed 2 times: closed early", "ranged from 280 to 300 us"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("%q is not in\n%s", want, md.String())
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if cpu := back.section("hundred").row(Direct).Rounds[0].CPU; !math.IsNaN(float64(cpu)) {
		t.Errorf("direct has no process; its CPU is %v", cpu)
	}
}

func TestQuantiles(t *testing.T) {
	v := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for q, want := range map[float64]float64{0: 1, 0.5: 5, 0.9: 9, 0.99: 10, 1: 10} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v is %v", q, got)
		}
	}
	if !math.IsNaN(quantile(nil, 0.5)) || !math.IsNaN(median(nil)) || median([]float64{3, math.NaN(), 1}) != 2 || median([]float64{5, 1, 3}) != 3 {
		t.Error("median")
	}
}

func TestTurnsAlternate(t *testing.T) {
	const n = 8
	first := map[int]bool{}
	for round := range 8 {
		seen := map[int]bool{}
		for i := range n {
			seen[turn(round, i, n)] = true
		}
		if len(seen) != n {
			t.Errorf("round %d: only %d contenders have a turn", round, len(seen))
		}
		first[turn(round, 0, n)] = true
	}
	if len(first) < 5 {
		t.Errorf("only %d contenders ever begin", len(first))
	}
}
