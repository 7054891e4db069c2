package queries_test

import (
	"context"
	"database/sql"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/queries"
)

// answer is a query's result: the names of its columns and its rows.
type answer struct {
	columns []string
	rows    [][]any
}

func ask(t testing.TB, db *sql.DB, d queries.Dialect, name string, p queries.Params) answer {
	t.Helper()
	q, err := queries.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := q.SQL(d, p)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(context.Background(), text)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	defer rows.Close()
	var a answer
	if a.columns, err = rows.Columns(); err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row := make([]any, len(a.columns))
		targets := make([]any, len(row))
		for i := range row {
			targets[i] = &row[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		a.rows = append(a.rows, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	return a
}

// cell is one value of the row with key in the first column.
func (a answer) cell(t *testing.T, key, column string) any {
	t.Helper()
	c := slices.Index(a.columns, column)
	for _, row := range a.rows {
		if row[0] == key && c >= 0 {
			return row[c]
		}
	}
	t.Fatalf("no %s of %s in %v", column, key, a)
	return nil
}

func near(got any, want float64) bool {
	f, ok := got.(float64)
	return ok && math.Abs(f-want) <= 1e-9*math.Abs(want)
}

// quantileOf is R's type 7, written down once more.
func quantileOf(p float64, values []float64) float64 {
	slices.Sort(values)
	at := p * float64(len(values)-1)
	low := math.Floor(at)
	high := min(int(low)+1, len(values)-1)
	return values[int(low)]*(1-(at-low)) + values[high]*(at-low)
}

// The figures of a group, computed once more from the records themselves.
func TestFigures(t *testing.T) {
	rows := rowsOf(3000)
	_, r := storeOf(t, rows)
	var joules, slots, tokens, perWatt, perWattN, cost float64
	var ttft []float64
	requests := int64(0)
	for _, rec := range rows.Requests {
		if rec.Model != "small" {
			continue
		}
		e := rec.GPUUj
		if !e.Valid {
			e = rec.GPUEstimateUj
		}
		if e.Valid {
			joules += float64(e.V) / 1e6
			slots += float64(e.V-rec.GPUIdleWaitingUj.V) / 1e6
			tokens += float64(rec.OutputTokens.V)
		}
		if rec.GPUUj.Valid && rec.GPUUj.V > 0 {
			held := rec.PrefillUs.V + rec.DecodeUs.V
			if rec.Stream.V == 1 {
				held = rec.DurationUs.V - (rec.TTFTUs.V - rec.UpstreamTTFTUs.V) - rec.QueueUs.V
			}
			perWatt += float64(rec.OutputTokens.V) / (float64(rec.GPUUj.V-rec.GPUIdleWaitingUj.V) / float64(held))
			perWattN++
			cost += float64(rec.GPUUj.V) / 3.6e12 * 0.3
		}
		if rec.TTFTUs.Valid {
			ttft = append(ttft, float64(rec.TTFTUs.V)/1e3)
		}
		requests++
	}
	a := ask(t, r.DB(), queries.SQLite, "by-model", queries.Params{})
	for column, want := range map[string]float64{
		"joules": joules, "j_per_token": slots / tokens, "tokens_per_j": tokens / slots, "mean_tokens_per_watt": perWatt / perWattN,
		"ttft_ms_p50": quantileOf(0.5, ttft), "cost_sum": cost,
	} {
		if got := a.cell(t, "small", column); !near(got, want) {
			t.Errorf("%s is %v, want %v", column, got, want)
		}
	}
	if got := a.cell(t, "small", "n_requests"); got != requests {
		t.Errorf("%v requests, want %d", got, requests)
	}
}

func TestQueriesRun(t *testing.T) {
	_, r := storeOf(t, rowsOf(3000))
	_, empty := storeOf(t, rowsOf(1))
	seen := map[string]bool{}
	for _, q := range queries.All() {
		if seen[q.Name] || q.Question == "" {
			t.Errorf("query %q is there twice or asks nothing", q.Name)
		}
		seen[q.Name] = true
		a := ask(t, r.DB(), queries.SQLite, q.Name, queries.Params{})
		if len(a.rows) == 0 {
			t.Errorf("%s finds nothing in rows made for it", q.Name)
		}
		for i, column := range a.columns {
			if !slices.ContainsFunc(a.rows, func(row []any) bool { return row[i] != nil }) {
				t.Errorf("%s: column %s is null throughout", q.Name, column)
			}
		}
		late := queries.Params{Since: began.Add(24 * time.Hour)}
		if a := ask(t, empty.DB(), queries.SQLite, q.Name, late); len(a.rows) > 2 {
			t.Errorf("%s finds %d rows where there are none", q.Name, len(a.rows))
		}
	}
	if len(seen) < 15 {
		t.Errorf("%d queries", len(seen))
	}
}

func TestConservationQuery(t *testing.T) {
	rows := rowsOf(500)
	rows.Ledger[3].ResidualUj.V++
	rows.Ledger[5].IdleUj = meter.Int{}
	_, r := storeOf(t, rows) // rows 3 and 5 are both of GPU-1
	a := ask(t, r.DB(), queries.SQLite, "conservation", queries.Params{})
	if off := a.cell(t, "GPU-0", "windows_off"); off != int64(0) || a.cell(t, "GPU-0", "difference_uj") != int64(0) {
		t.Errorf("GPU-0 balances, but %v windows are off", off)
	}
	if off := a.cell(t, "GPU-1", "windows_off"); off != int64(2) || a.cell(t, "GPU-1", "difference_uj") == int64(0) {
		t.Errorf("2 windows of GPU-1 do not balance, found %v", off)
	}
}

func TestStabilityQuery(t *testing.T) {
	_, r := storeOf(t, rowsOf(3600)) // one every 6 s
	a := ask(t, r.DB(), queries.SQLite, "stability", queries.Params{All: true})
	for _, part := range []string{"1: first hour", "2: last hour"} {
		if n := a.cell(t, part, "n_requests"); n != int64(600) {
			t.Errorf("%s has %v requests of 600", part, n)
		}
	}
}

func TestUnknownQuery(t *testing.T) {
	if _, err := queries.Find("nix"); err == nil || !strings.Contains(err.Error(), "conservation") {
		t.Errorf("%v", err)
	}
	_, r := storeOf(t, rowsOf(100))
	if a := ask(t, r.DB(), queries.SQLite, "ab", queries.Params{Label: "it's"}); len(a.rows) != 0 {
		t.Errorf("a label that nobody has: %v", a.rows)
	}
}

// QUERIES.md is written by hand and must not fall behind.
func TestQueriesDocument(t *testing.T) {
	b, err := os.ReadFile("../QUERIES.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, q := range queries.All() {
		want = append(want, "| `"+q.Name+"` | "+q.Question+" |")
	}
	for _, c := range sink.EfficiencyColumns() {
		want = append(want, "| `"+c.Name+"` | "+c.Unit+" | "+c.Doc+" |")
	}
	for _, c := range sink.PowerColumns() {
		want = append(want, "| `"+c.Name+"` | "+c.Unit+" | "+c.Doc+" |")
	}
	for _, c := range sink.LedgerColumns() {
		want = append(want, "| `"+c.Name+"` | "+c.Unit+" | "+c.Doc+" |")
	}
	for _, c := range sink.ConfigColumns() {
		want = append(want, "| `"+c.Name+"` | "+c.Unit+" | "+c.Doc+" |")
	}
	for _, c := range sink.GapsColumns() {
		want = append(want, "| `"+c.Name+"` | "+c.Unit+" | "+c.Doc+" |")
	}
	for _, line := range want {
		if !strings.Contains(string(b), line) {
			t.Errorf("QUERIES.md lacks the line %s", line)
		}
	}
}

// Query throttled gives watts: microjoules over microseconds.
func TestThrottledQuery(t *testing.T) {
	at := began.Truncate(time.Hour)
	_, r := storeOf(t, &sink.Rows{Power: []*sink.Power{
		{At: at, Device: "GPU-0", SpanUs: meter.Some(1_000_000), EnergyUj: meter.Some(300_000_000), ThrottledUs: meter.Some(500_000), Throttle: []string{"b"}, TempC: meter.Some(80)},
		{At: at.Add(time.Second), Device: "GPU-0", SpanUs: meter.Some(1_000_000), EnergyUj: meter.Some(100_000_000), Throttle: []string{"a"}, TempC: meter.Some(81)},
		{At: at.Add(2 * time.Second), Device: "GPU-0", SpanUs: meter.Some(2_000_000)}, // unread
	}})
	a := ask(t, r.DB(), queries.SQLite, "throttled", queries.Params{})
	for column, want := range map[string]float64{"mean_w": 200, "throttled_s": 0.5, "throttled_share": 0.125} {
		if got := a.cell(t, "GPU-0", column); !near(got, want) {
			t.Errorf("%s is %v, not %v", column, got, want)
		}
	}
	if reasons := a.cell(t, "GPU-0", "reasons"); reasons != "a,b" {
		t.Errorf("the reasons are %v", reasons)
	}
}
