package clickhouse

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"wattline/sink/clickhouse/chtest"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// batchOf is a batch as the store would make it.
func batchOf(n int, seed uint64, from time.Time) *store.Batch {
	rows := chtest.Rows(chtest.RowsConfig{Seed: seed, Requests: n, Every: 500 * time.Millisecond, From: from})
	b := &store.Batch{Token: fmt.Sprintf("%032x", seed), Table: store.TableRequests, Requests: rows.Requests}
	for _, r := range rows.Requests {
		b.IDs = append(b.IDs, r.ID)
	}
	return b
}

// inserter returns a function that inserts a batch of requests.
func (w *world) inserter(b testing.TB, native bool) func(*store.Batch) {
	b.Helper()
	c := w.client(native)
	_, _, err := c.Ensure(b.Context())
	must(b, err)
	found, err := c.inspect(b.Context())
	must(b, err)
	sc := current()
	return func(batch *store.Batch) {
		r, err := rowsOf(batch, "x")
		must(b, err)
		must(b, c.insert(b.Context(), sc.table(store.TableRequests), found[store.TableRequests], r))
	}
}

// BenchmarkInsert measures a batch from the records to the parts on the disk: client library,
// protocol, test server, engine, fsync.
func BenchmarkInsert(b *testing.B) {
	const rows = defaultMaxRows
	for _, native := range []bool{false, true} {
		b.Run(map[bool]string{false: "http", true: "native"}[native], func(b *testing.B) {
			insert := newWorld(b, chtest.Options{}).inserter(b, native)
			batch := batchOf(rows, 1, time.Time{})
			seq := 0
			for b.Loop() {
				seq++
				batch.Token = fmt.Sprintf("%032x", seq)
				insert(batch)
			}
			b.ReportMetric(float64(seq*rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// million is how many requests the reports are about: a million, or with -short ten thousand.
func million() int {
	if testing.Short() {
		return 10_000
	}
	return 1_000_000
}

// filled is a world with n rows in its table requests.
func filled(b *testing.B, n int) *world {
	b.Helper()
	w := newWorld(b, chtest.Options{})
	insert, from := w.inserter(b, true), time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -20)
	size := min(n, defaultMaxRows)
	for i := range n / size {
		insert(batchOf(size, uint64(i+1), from.Add(time.Duration(i)*5000*time.Second)))
	}
	return w
}

// BenchmarkColumns prints, as Markdown, what a row of each column takes, beside what other types and codecs
// would. Run it when you change table.go. One op is the whole.
func BenchmarkColumns(b *testing.B) {
	for b.Loop() {
		n := million()
		fmt.Printf("\n## Bytes a row of table requests, of %d\n\n%s", n, filled(b, n).sizes(b, n))
	}
}

// BenchmarkGrowth prints, as Markdown, how the processor time of each named query grows with the rows; the
// package's comment says from it at which rate roll-ups begin to pay. One op is the whole.
func BenchmarkGrowth(b *testing.B) {
	for b.Loop() {
		n := million() / 5
		fmt.Printf("\n## Processor time of a named query, ms\n\n%s", filled(b, n).growth(b, n))
	}
}

// alternatives are other definitions of a column, worth comparing.
func alternatives(c column) []string {
	switch {
	case c.ctype == "Nullable(Int64)":
		return []string{"Nullable(Int64) CODEC(ZSTD(1))", "Nullable(Int64) CODEC(Delta(8), ZSTD(1))", "Nullable(Int64) CODEC(T64, LZ4)"}
	case c.ctype == timeType:
		return []string{timeType + " CODEC(ZSTD(1))", timeType + " CODEC(Delta(8), ZSTD(1))", timeType + " CODEC(DoubleDelta, ZSTD(1))"}
	case c.name == "id":
		return []string{"UUID CODEC(ZSTD(1))"}
	case strings.HasPrefix(c.ctype, "LowCardinality"):
		return []string{plain(c.ctype) + " CODEC(ZSTD(1))"}
	case strings.Contains(c.ctype, "String") && !strings.Contains(c.ctype, "("), strings.HasPrefix(c.ctype, "Nullable(String"):
		return []string{"LowCardinality(" + c.ctype + ") CODEC(ZSTD(1))"}
	}
	return nil
}

// sizes is a table of the columns' sizes, as the schema has them and otherwise.
func (w *world) sizes(b *testing.B, n int) string {
	b.Helper()
	sc := current()
	var out strings.Builder
	out.WriteString("| column | definition | bytes | otherwise |\n|---|---|---|---|\n")
	total := 0.0
	for _, c := range sc.table(store.TableRequests).columns {
		bytes := w.columnBytes(b, c.name, c.ctype+" CODEC("+c.codec+")", n)
		total += bytes
		var other []string
		for _, alt := range alternatives(c) {
			other = append(other, fmt.Sprintf("%.2f %s", w.columnBytes(b, c.name, alt, n), strings.TrimPrefix(alt, c.ctype+" ")))
		}
		fmt.Fprintf(&out, "| %s | %s %s | %.2f | %s |\n", c.name, c.ctype, c.codec, bytes, strings.Join(other, "; "))
	}
	fmt.Fprintf(&out, "| all | | %.1f | |\n", total)
	return out.String()
}

// columnBytes returns the bytes a row of a column takes under a definition: in a table of its own, in requests' order,
// since small parts do not tell columns apart.
func (w *world) columnBytes(b *testing.B, column, definition string, n int) float64 {
	b.Helper()
	w.query("DROP TABLE IF EXISTS $db.other")
	w.query("CREATE TABLE $db.other (v " + definition + ") ENGINE = MergeTree ORDER BY tuple() SETTINGS min_bytes_for_wide_part = 0")
	w.query("INSERT INTO $db.other SELECT " + name(column) + " FROM $db.requests ORDER BY instance, started_at, id SETTINGS max_threads = 1, max_insert_threads = 1")
	w.query("OPTIMIZE TABLE $db.other FINAL")
	var bytes float64
	_, err := fmt.Sscan(w.query("SELECT sum(column_data_compressed_bytes) FROM system.parts_columns WHERE active AND database = '"+w.db+"' AND table = 'other'"), &bytes)
	must(b, err)
	return bytes / float64(n)
}

// growth measures the named queries at n rows and at ten times as many, which are copies shifted in time.
func (w *world) growth(b *testing.B, n int) string {
	b.Helper()
	db := w.target(w.srv.DSN(w.db)).DB()
	defer func() { _ = db.Close() }()
	used := map[string][]time.Duration{}
	measure := func() {
		for _, q := range queries.All() {
			used[q.Name] = append(used[q.Name], w.processorTime(b, db, q))
		}
	}
	measure()
	w.query("INSERT INTO $db.requests SELECT r.* REPLACE (started_at - toIntervalDay(30 * (1 + number)) AS started_at, concat(toString(number), substring(id, 2)) AS id) FROM $db.requests AS r, numbers(9) AS copies SETTINGS max_partitions_per_insert_block = 0")
	w.query("OPTIMIZE TABLE $db.requests FINAL")
	measure()
	var out strings.Builder
	fmt.Fprintf(&out, "| query | %d rows | %s rows | ns a further row |\n|---|---|---|---|\n", n, w.query("SELECT count() FROM $db.requests"))
	for _, q := range queries.All() {
		u := used[q.Name]
		fmt.Fprintf(&out, "| %s | %.0f | %.0f | %.0f |\n", q.Name, u[0].Seconds()*1e3, u[1].Seconds()*1e3, float64((u[1]-u[0]).Nanoseconds())/float64(9*n))
	}
	return out.String()
}

// processorTime is a query's, the mean of several runs: the kernel counts in steps of 10 ms.
func (w *world) processorTime(b *testing.B, db *sql.DB, q queries.Query) time.Duration {
	b.Helper()
	const runs = 5
	text, err := q.SQL(queries.ClickHouse, queries.Params{})
	must(b, err)
	start := w.srv.Engine().CPUTime()
	for range runs {
		rows, err := db.QueryContext(context.Background(), text)
		must(b, err)
		for rows.Next() { //nolint:revive // only its time counts
		}
		must(b, rows.Err())
		must(b, rows.Close())
	}
	return (w.srv.Engine().CPUTime() - start) / runs
}
