package queries_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// BenchmarkMillionRows is the report of `make bench-sink`: how fast a million requests get into the store
// and from there into ClickHouse, how much room each column takes, and how long each named query takes on
// both. With -short it is twenty thousand. One op is the whole; run it with -benchtime 1x.
func BenchmarkMillionRows(b *testing.B) {
	n := 1_000_000
	if testing.Short() {
		n = 20_000
	}
	for b.Loop() {
		report(b, n)
	}
}

func report(b *testing.B, n int) {
	ctx := context.Background()
	s, r := newStore(b)
	rows, wrote := 0, time.Duration(0)
	generate(n, 1000, func(part *sink.Rows) {
		t0 := time.Now()
		if err := s.Write(ctx, part); err != nil {
			b.Fatal(err)
		}
		wrote += time.Since(t0)
		rows += part.Len()
	})
	size, err := s.Size(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("store: %d rows (%d requests) written in %.1f s, %.0f rows/s; %.0f bytes a request, power, ledger and indices included",
		rows, n, wrote.Seconds(), float64(rows)/wrote.Seconds(), float64(size.UsedBytes)/float64(n))
	b.ReportMetric(float64(rows)/wrote.Seconds(), "store-rows/s")

	t0 := time.Now()
	w := shipped(b, s)
	b.Logf("ClickHouse: shipped in %.1f s, %.0f rows/s", time.Since(t0).Seconds(), float64(rows)/time.Since(t0).Seconds())
	b.ReportMetric(float64(rows)/time.Since(t0).Seconds(), "shipped-rows/s")
	shared.Engine(b).MustQuery(b, "OPTIMIZE TABLE "+w.database+".requests FINAL") // small parts do not know their columns' sizes
	b.Log("bytes a request and column, store and ClickHouse:\n" + columnSizes(b, r, w, n))

	var times strings.Builder
	for _, q := range queries.All() {
		t0 := time.Now()
		ask(b, r.DB(), queries.SQLite, q.Name, queries.Params{})
		t1 := time.Now()
		ask(b, w.db, queries.ClickHouse, q.Name, queries.Params{})
		fmt.Fprintf(&times, "%-16s %7.0f %7.0f\n", q.Name, t1.Sub(t0).Seconds()*1e3, time.Since(t1).Seconds()*1e3)
	}
	b.Log("milliseconds a query, store and ClickHouse:\n" + times.String())
}

// columnSizes lists what each column of requests takes. SQLite's is computed from its record format (a
// header byte, and 0 to 8 bytes of an integer or the text itself), indices left out; ClickHouse's is what
// its parts say.
func columnSizes(b *testing.B, r *store.Reader, w house, n int) string {
	b.Helper()
	var out strings.Builder
	for _, c := range meter.Columns() {
		var lite, compressed float64
		err := r.DB().QueryRowContext(context.Background(), fmt.Sprintf(`SELECT avg(1 + CASE typeof(%[1]q) WHEN 'null' THEN 0 WHEN 'text' THEN octet_length(%[1]q)
			ELSE CASE WHEN %[1]q IN (0, 1) THEN 0 WHEN abs(%[1]q) < 128 THEN 1 WHEN abs(%[1]q) < 32768 THEN 2 WHEN abs(%[1]q) < 8388608 THEN 3
				WHEN abs(%[1]q) < 2147483648 THEN 4 WHEN abs(%[1]q) < 140737488355328 THEN 6 ELSE 8 END END)
			FROM (SELECT %[1]q FROM requests LIMIT 100000)`, c.Name)).Scan(&lite)
		if err != nil {
			b.Fatal(err)
		}
		err = w.db.QueryRowContext(context.Background(),
			"SELECT sum(column_data_compressed_bytes) * 1.0 FROM system.parts_columns WHERE active AND database = ? AND table = 'requests' AND column = ?", w.database, c.Name).Scan(&compressed)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&out, "%-22s %6.1f %8.2f\n", c.Name, lite, compressed/float64(n))
	}
	return out.String()
}
