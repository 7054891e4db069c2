package queries_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/sink/queries"
)

// rowsLike are filters, each with a Go condition that says the same of a row's JSON object.
func rowsLike() map[string]struct {
	filter queries.Filter
	chosen func(row map[string]any) bool
} {
	type condition = struct {
		filter queries.Filter
		chosen func(row map[string]any) bool
	}
	above := func(column string, than float64) func(map[string]any) bool {
		return func(row map[string]any) bool { v, ok := row[column].(float64); return ok && v > than }
	}
	middle := began.Add(3 * time.Hour)
	inTime := func(row map[string]any) bool {
		at, err := time.Parse(time.RFC3339Nano, row["started_at"].(string))
		return err == nil && at.Before(middle) && !at.Before(began.Add(time.Minute))
	}
	return map[string]condition{
		"all":   {queries.Filter{}, func(map[string]any) bool { return true }},
		"agent": {queries.Filter{Equal: map[string][]string{"agent": {`it's\odd`, ""}}}, func(row map[string]any) bool { return row["agent"] == nil || row["agent"] == `it's\odd` }},
		"labels": {queries.Filter{Labels: map[string]string{"team": "red", "variant": "a"}}, func(row map[string]any) bool {
			l, _ := row["labels"].(map[string]any)
			return l["team"] == "red" && l["variant"] == "a"
		}},
		"status": {queries.Filter{Equal: map[string][]string{"status": {"502"}, "outcome": {"upstream_error"}}}, func(row map[string]any) bool { return row["status"] == 502.0 }},
		"slower": {queries.Filter{SlowerUs: 2_500_000}, above("duration_us", 2_500_000)},
		"first":  {queries.Filter{FirstUs: 400_000}, above("ttft_us", 400_000)},
		"dearer": {queries.Filter{DearerUj: 100_000_000}, func(row map[string]any) bool {
			v, ok := row["gpu_uj"].(float64)
			if !ok {
				v, ok = row["gpu_estimate_uj"].(float64)
			}
			return ok && v > 100_000_000
		}},
		"time": {queries.Filter{From: began.Add(time.Minute), To: middle}, inTime},
	}
}

// walk reads all pages.
func walk(t *testing.T, db *sql.DB, d queries.Dialect, l queries.List) (rows []map[string]any, pages int) {
	t.Helper()
	for {
		page, err := l.Read(context.Background(), db, d)
		if err != nil {
			t.Fatal(d, l.Sort, err)
		}
		for _, text := range page.Rows {
			var row map[string]any
			if err := json.Unmarshal(text, &row); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			rows = append(rows, row)
		}
		if pages++; page.Next == "" || pages > 1000 {
			return rows, pages
		}
		l.Cursor = page.Next
	}
}

// TestListPages: walking through the pages gives each chosen row once, in order, with nulls last, in both engines alike.
func TestListPages(t *testing.T) {
	const n, limit = 4200, 900 // more than a block of the store has
	s, r := storeOf(t, rowsOf(n))
	w := shipped(t, s)
	all, _ := walk(t, r.DB(), queries.SQLite, queries.List{Limit: 5000})
	if len(all) != n {
		t.Fatalf("%d rows", len(all))
	}
	for name, c := range rowsLike() {
		want := map[any]bool{}
		for _, row := range all {
			if c.chosen(row) {
				want[row["id"]] = true
			}
		}
		if len(want) == 0 || name != "all" && len(want) == n {
			t.Fatalf("%s: %d rows make no test", name, len(want))
		}
		sorts := []string{"", "-ttft_us"}
		if name == "agent" {
			sorts = []string{"started_at", "-duration_us", "ttft_us", "-model", "-tokens_per_second", "error"}
		}
		for _, sort := range sorts {
			l := queries.List{Filter: c.filter, Sort: sort, Limit: limit, Columns: []string{"id", "started_at", "duration_us", "ttft_us", "model", "error", "labels", "tokens_per_second"}}
			rows, pages := walk(t, r.DB(), queries.SQLite, l)
			seen := map[any]bool{}
			for i, row := range rows {
				if seen[row["id"]] || !want[row["id"]] {
					t.Errorf("%s by %q: row %d is twice there or not chosen", name, sort, i)
				}
				seen[row["id"]] = true
			}
			if len(seen) != len(want) || pages != max(1, (len(want)+limit-1)/limit) {
				t.Errorf("%s by %q: %d rows on %d pages, want %d", name, sort, len(seen), pages, len(want))
			}
			column, desc := strings.CutPrefix(sort, "-")
			inOrder(t, name, rows, column, desc)
			other, _ := walk(t, w.db, queries.ClickHouse, l)
			if a, b := asText(t, rows), asText(t, other); a != b {
				t.Errorf("%s by %q: the engines differ:\n%.2000s\n%.2000s", name, sort, a, b)
			}
		}
	}
}

func inOrder(t *testing.T, name string, rows []map[string]any, column string, desc bool) {
	t.Helper()
	if column == "" || column == "tokens_per_second" {
		return
	}
	for i := 1; i < len(rows); i++ {
		a, b := rows[i-1][column], rows[i][column]
		var ok bool
		switch x := a.(type) {
		case nil:
			ok = b == nil
		case float64:
			y, some := b.(float64)
			ok = !some || x == y || x < y != desc
		case string:
			y, some := b.(string)
			ok = !some || x == y || x < y != desc
		}
		if !ok {
			t.Errorf("%s by %s: %v before %v", name, column, a, b)
			return
		}
	}
}

func asText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestListRefuses: what cannot be asked is a sentence.
func TestListRefuses(t *testing.T) {
	_, r := newStore(t)
	for _, c := range []struct {
		list queries.List
		want string
	}{
		{queries.List{Sort: "nix"}, `no column "nix"`}, {queries.List{Sort: "labels"}, "cannot be sorted by labels"}, {queries.List{Columns: []string{"id", "1; DROP"}}, "no column"},
		{queries.List{Cursor: "x"}, "cursor is not one"}, {queries.List{Cursor: "eyJzIjoiLW1vZGVsIiwiayI6MX0"}, "cursor is not one"},
		{queries.List{Sort: "-model", Cursor: "eyJzIjoiLW1vZGVsIiwidiI6eyJhIjoxfSwiayI6MX0"}, "cursor is not one"},
		{queries.List{Filter: queries.Filter{Equal: map[string][]string{"nix": {"1"}}}}, `cannot be chosen by "nix"`},
		{queries.List{Filter: queries.Filter{Equal: map[string][]string{"status": {"x' OR 1"}}}}, "status is a number"},
	} {
		c.list.Limit = 10
		if _, err := c.list.Read(t.Context(), r.DB(), queries.SQLite); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.list, err)
		}
	}
	if _, err := queries.Sums(t.Context(), r.DB(), queries.SQLite, queries.Filter{}, "label:"); err == nil {
		t.Error("an empty label")
	}
}

// TestSums: groups add up to the whole, in both engines alike, and sessions come in pages.
func TestSums(t *testing.T) {
	s, r := storeOf(t, rowsOf(300))
	w := shipped(t, s)
	whole, err := queries.Sums(t.Context(), r.DB(), queries.SQLite, queries.Filter{}, "")
	if err != nil || len(whole) != 1 || whole[0].Requests != 300 {
		t.Fatal(whole, err)
	}
	for _, by := range append(queries.SumKeys(), "label:team", "") {
		sums, err := queries.Sums(t.Context(), r.DB(), queries.SQLite, queries.Filter{}, by)
		if err != nil {
			t.Fatal(by, err)
		}
		var requests, uj, tokens int64
		for _, g := range sums {
			requests += g.Requests
			if g.EnergyUj != nil {
				uj += *g.EnergyUj
			}
			if g.OutputTokens != nil {
				tokens += *g.OutputTokens
			}
		}
		if requests != 300 || uj != *whole[0].EnergyUj || tokens != *whole[0].OutputTokens {
			t.Errorf("by %q: %d requests, %d uJ, %d tokens; want %+v", by, requests, uj, tokens, whole[0])
		}
		other, err := queries.Sums(t.Context(), w.db, queries.ClickHouse, queries.Filter{}, by)
		if err != nil {
			t.Fatal(by, err)
		}
		if len(other) != len(sums) {
			t.Errorf("by %q: %d groups in ClickHouse, %d in the store", by, len(other), len(sums))
			continue
		}
		for i := range sums { // sums of floating-point numbers depend on their order
			for _, s := range []*queries.Sum{&sums[i], &other[i]} {
				s.Cost, s.GCO2, s.SigmaUj = nil, nil, nil
			}
		}
		if a, b := asText(t, sums), asText(t, other); a != b {
			t.Errorf("by %q:\n%s\n%s", by, a, b)
		}
	}
	for d, db := range map[queries.Dialect]*sql.DB{queries.SQLite: r.DB(), queries.ClickHouse: w.db} {
		one, _, err := queries.Sessions(t.Context(), db, d, queries.Filter{}, 1000, "")
		if err != nil {
			t.Fatal(d, err)
		}
		var paged []queries.Sum
		for next := ""; ; {
			var page []queries.Sum
			if page, next, err = queries.Sessions(t.Context(), db, d, queries.Filter{}, 3, next); err != nil {
				t.Fatal(d, err)
			}
			if paged = append(paged, page...); next == "" || len(paged) > 1000 {
				break
			}
		}
		if len(one) < 5 || asText(t, one) != asText(t, paged) || !slices.IsSortedFunc(one, func(a, b queries.Sum) int { return b.LastAt.Compare(*a.LastAt) }) {
			t.Errorf("%v: %d sessions, %d in pages", d, len(one), len(paged))
		}
	}
}

// TestSeries: the buckets add up to what the tables hold, the ledger's parts to its counter, in both engines alike, whatever
// the bucket and the zone.
func TestSeries(t *testing.T) {
	s, r := storeOf(t, rowsOf(300))
	w := shipped(t, s)
	lite := &queries.Engine{DB: r.DB(), Dialect: queries.SQLite}
	house := &queries.Engine{DB: w.db, Dialect: queries.ClickHouse}
	var counter, uj int64
	if err := r.DB().QueryRow("SELECT (SELECT sum(counter_uj) FROM ledger), (SELECT sum(coalesce(gpu_uj, gpu_estimate_uj)) FROM requests)").Scan(&counter, &uj); err != nil { //nolint:noctx // a test
		t.Fatal(err)
	}
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	for _, bucket := range queries.Buckets() {
		for _, zone := range []*time.Location{time.UTC, kathmandu} {
			q := queries.Series{From: began, To: began.Add(7 * time.Hour), Bucket: bucket, By: "agent", Zone: zone}
			a, err := q.Read(t.Context(), lite)
			if err != nil {
				t.Fatal(bucket, err)
			}
			var counters, keys int64
			for i, b := range a.Buckets {
				counters += b.CounterUj
				for _, v := range b.ByKey {
					keys += v
				}
				if b.DifferenceUj != 0 || i > 0 && !a.Buckets[i-1].At.Add(time.Duration(a.Buckets[i-1].SpanUs)*time.Microsecond).Equal(b.At) {
					t.Errorf("%s in %v: bucket %d: difference %d, at %v", bucket, zone, i, b.DifferenceUj, b.At)
				}
				b.Cost, b.GCO2, b.ByKeySigma = nil, nil, nil
			}
			if counters != counter || keys != uj || len(a.Keys) != 4 || len(a.Devices) != 2 {
				t.Errorf("%s in %v: counter %d of %d, requests %d of %d, %d keys", bucket, zone, counters, counter, keys, uj, len(a.Keys))
			}
			other, err := q.Read(t.Context(), house)
			if err != nil {
				t.Fatal(bucket, err)
			}
			for _, b := range other.Buckets {
				b.Cost, b.GCO2, b.ByKeySigma = nil, nil, nil
			}
			if x, y := asText(t, a), asText(t, other); x != y {
				t.Errorf("%s in %v: the engines differ:\n%.1500s\n%.1500s", bucket, zone, x, y)
			}
		}
	}
	var told int64
	if err := r.DB().QueryRow("SELECT sum(gpu_uj) FROM requests").Scan(&told); err != nil { //nolint:noctx // a test
		t.Fatal(err)
	}
	var ofAll, counters int64
	for _, device := range []string{"GPU-0", "GPU-1", "GPU-2"} { // the last is none
		q := queries.Series{From: began, To: began.Add(7 * time.Hour), Bucket: "hour", By: "agent", Zone: time.UTC, Device: device}
		texts := map[string]bool{}
		for _, e := range []*queries.Engine{lite, house} {
			a, err := q.Read(t.Context(), e)
			if err != nil {
				t.Fatal(device, err)
			}
			for _, b := range a.Buckets {
				if e == lite {
					for _, v := range b.ByKey {
						ofAll += v
					}
					counters += b.CounterUj
				}
				b.Cost, b.GCO2, b.ByKeySigma = nil, nil, nil
			}
			if len(a.All) != 2 || len(a.Devices) > 1 || device == "GPU-2" && len(a.Devices) != 0 {
				t.Errorf("%s: %v of %v", device, a.Devices, a.All)
			}
			texts[asText(t, a)] = true
		}
		if len(texts) != 1 {
			t.Errorf("%s: the engines differ", device)
		}
	}
	if ofAll != told || counters != counter {
		t.Errorf("by device: requests %d of %d, counter %d of %d", ofAll, told, counters, counter)
	}
	for _, q := range []queries.Series{
		{Bucket: "second", From: began, To: began.Add(time.Hour), Zone: time.UTC}, {Bucket: "minute", From: began, To: began.Add(48 * time.Hour), Zone: time.UTC},
		{Bucket: "day", From: began, To: began, Zone: time.UTC}, {Bucket: "day", By: "x", From: began, To: began.Add(time.Hour), Zone: time.UTC},
	} {
		if q.Check() == nil {
			t.Errorf("%+v may be asked", q)
		}
	}
}
