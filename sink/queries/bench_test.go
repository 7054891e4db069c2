package queries_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/metertest"
	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// benchRows is how many requests the report is about: a million, twenty thousand with -short, or what
// WATTLINE_BENCH_ROWS says.
func benchRows(b *testing.B) int {
	b.Helper()
	if v := os.Getenv("WATTLINE_BENCH_ROWS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			b.Fatalf("WATTLINE_BENCH_ROWS is %q, not a number of rows", v)
		}
		return n
	}
	if testing.Short() {
		return 20_000
	}
	return 1_000_000
}

// BenchmarkMillionRows is the report of `make bench-sink`, as Markdown on stdout: how fast a million requests
// get into the store and from there into ClickHouse, how much room each column takes, and how long each
// named query takes on both. One op is the whole; run it with -benchtime 1x.
func BenchmarkMillionRows(b *testing.B) {
	n := benchRows(b)
	for b.Loop() {
		report(b, os.Stdout, n)
	}
}

func report(b *testing.B, out io.Writer, n int) {
	ctx := context.Background()
	s, r := newStore(b)
	if _, err := s.Pack(ctx); err != nil { // Write makes blocks from now on
		b.Fatal(err)
	}
	rows, wrote := 0, time.Duration(0)
	workstation(n, func(part *sink.Rows) {
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
	t0 := time.Now()
	w := shipped(b, s)
	took := time.Since(t0)
	var lite string
	if err := r.DB().QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&lite); err != nil {
		b.Fatal(err)
	}
	for _, table := range []string{"requests", "power", "ledger", "itl_gaps"} {
		shared.Engine(b).MustQuery(b, "ALTER TABLE "+w.database+"."+table+" MODIFY SETTING min_bytes_for_wide_part = 0") // compact parts do not know their columns' sizes
		shared.Engine(b).MustQuery(b, "OPTIMIZE TABLE "+w.database+"."+table+" FINAL SETTINGS optimize_skip_merged_partitions = 0")
	}
	fmt.Fprintf(out, "\n# wattline: %d requests in the store and in ClickHouse\n\n%s, %s, load %s. SQLite %s, ClickHouse %s (chdb, over HTTP on loopback).\n", n,
		time.Now().UTC().Format(time.DateOnly), machine(), load(), lite, strings.TrimSpace(shared.Engine(b).MustQuery(b, "SELECT version()")))
	fmt.Fprintf(out, "With the requests come power, ledger and raw gaps: %d rows in all.\n\n## Inserts\n\n| into | rows/s | what is timed |\n|---|---:|---|\n", rows)
	fmt.Fprintf(out, "| store | %.0f | transactions of 1,000 requests and what comes with them, blocks included |\n", float64(rows)/wrote.Seconds())
	fmt.Fprintf(out, "| ClickHouse | %.0f | the inserts, each answered when its rows are on the disk |\n", float64(rows)/w.inserting.Seconds())
	fmt.Fprintf(out, "| ClickHouse | %.0f | shipping: read from the store, insert, confirm |\n", float64(rows)/took.Seconds())
	fmt.Fprintf(out, "\n## Bytes a row, by column of requests\n\n| column | store | ClickHouse |\n|---|---:|---:|\n%s", columnSizes(b, r, w, n))
	fmt.Fprintf(out, "\nThe whole store, with power, ledger, raw gaps and indices, takes %.0f bytes a request.\n\n| table of ClickHouse | rows | bytes a row | with indices, marks and the engine's own statistics |\n|---|---:|---:|---:|\n%s",
		float64(size.UsedBytes)/float64(n), tableSizes(b, w))
	reportQueries(b, out, r.DB(), w.db)
	reportShell(b, out, s.Path())
}

// reportQueries times each query, in the store from blocks and, once, from the rows alone; and the same of the last 24 hours of
// rows.
func reportQueries(b *testing.B, out io.Writer, lite, house *sql.DB) {
	var last string
	if err := lite.QueryRowContext(context.Background(), "SELECT max(started_at) FROM requests").Scan(&last); err != nil {
		b.Fatal(err)
	}
	at, err := time.Parse(store.TimeLayout, last)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(out, "\n## Milliseconds a query\n\nMedians of %d runs, those from the rows alone once (a comment, which blocks do not know, leaves a query to SQLite; ClickHouse as shipped).\n"+
		"In brackets milliseconds of CPU, which other work on the machine disturbs less. The last 24 h have %d requests.\n\n", timedRuns, requestsSince(b, lite, at.Add(-24*time.Hour)))
	fmt.Fprint(out, "| query | store, from the rows alone | store | ClickHouse | last 24 h: store | ClickHouse |\n|---|---:|---:|---:|---:|---:|\n")
	type question func(db *sql.DB, d queries.Dialect, since time.Time)
	line := func(name string, f question, rows func()) {
		fmt.Fprintf(out, "| %s |", name)
		if rows == nil {
			fmt.Fprint(out, " |")
		} else {
			ms, used := timed(1, rows)
			fmt.Fprintf(out, " %.0f (%.0f) |", ms, used)
		}
		for _, since := range []time.Time{{}, at.Add(-24 * time.Hour)} {
			ms, used := timed(timedRuns, func() { f(lite, queries.SQLite, since) })
			theirs, _ := timed(timedRuns, func() { f(house, queries.ClickHouse, since) }) // the engine is another process
			fmt.Fprintf(out, " %.0f (%.0f) | %.0f |", ms, used, theirs)
		}
		fmt.Fprintln(out)
	}
	for _, q := range queries.All() {
		line(q.Name, func(db *sql.DB, d queries.Dialect, since time.Time) {
			ask(b, db, d, q.Name, queries.Params{Since: since, Label: "arm"})
		}, func() { askRows(b, lite, q) })
	}
	for _, by := range queries.UsageKeys() {
		line("usage by "+by, func(db *sql.DB, d queries.Dialect, since time.Time) {
			if _, err := queries.ReadUsage(context.Background(), db, d, queries.UsageOptions{By: []string{by}, Since: since, All: true}); err != nil {
				b.Fatal(err)
			}
		}, nil)
	}
}

// timedRuns is how often a query is timed.
const timedRuns = 5

// timed is the median time of n runs and the median CPU time of this process meanwhile, in ms.
func timed(n int, f func()) (ms, cpu float64) {
	took, used := make([]float64, n), make([]float64, n)
	for i := range took {
		t0, c0 := time.Now(), metertest.CPUTime()
		f()
		took[i], used[i] = time.Since(t0).Seconds()*1e3, (metertest.CPUTime()-c0).Seconds()*1e3
	}
	slices.Sort(took)
	slices.Sort(used)
	return took[n/2], used[n/2]
}

func requestsSince(b *testing.B, lite *sql.DB, since time.Time) (n int) {
	if err := lite.QueryRowContext(context.Background(), "SELECT count(*) FROM requests WHERE started_at >= ?", since.Format(store.TimeLayout)).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

// askRows runs a query on the rows: a comment, which blocks do not know, leaves it to SQLite.
func askRows(b *testing.B, db *sql.DB, q queries.Query) {
	text, err := q.SQL(queries.SQLite, queries.Params{Label: "arm"})
	if err != nil {
		b.Fatal(err)
	}
	rows, err := db.QueryContext(context.Background(), text+" -- from the rows")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
}

// reportShell times shells on the same file, for scale: requests, tokens, joules and cost by model, without percentiles, which
// SQLite's lacks. DuckDB reads the file by its extension sqlite.
func reportShell(b *testing.B, out io.Writer, path string) {
	const query = "SELECT coalesce(model, '-') AS m, count(*), sum(output_tokens), sum(gpu_uj), sum(gpu_uj * 1e0 * price_per_kwh_micro) FROM %srequests GROUP BY m"
	fmt.Fprint(out, "\n| for scale: requests, tokens, joules and cost by model, no percentile | ms |\n|---|---:|\n")
	for _, shell := range [][]string{
		{"sqlite3", "-readonly", path, fmt.Sprintf(query, "")},
		{"duckdb", "-c", fmt.Sprintf("INSTALL sqlite; LOAD sqlite; ATTACH '%s' AS s (TYPE sqlite, READ_ONLY); ", path) + fmt.Sprintf(query, "s.")},
	} {
		program, err := exec.LookPath(shell[0])
		if err != nil {
			fmt.Fprintf(out, "| %s | not on PATH |\n", shell[0])
			continue
		}
		var failed error
		took, _ := timed(timedRuns, func() {
			if text, err := exec.CommandContext(context.Background(), program, shell[1:]...).CombinedOutput(); err != nil {
				failed = fmt.Errorf("%w: %.200s", err, text)
			}
		})
		if failed != nil {
			fmt.Fprintf(out, "| %s | it cannot read the file: %v |\n", shell[0], failed)
			continue
		}
		fmt.Fprintf(out, "| %s, the process included | %.0f |\n", shell[0], took)
	}
}

// workstation makes n requests of five busy days, 400 ms apart, with the seconds of power and ledger of two
// devices and the raw gaps of some streams, and hands them on in pieces of a thousand.
func workstation(n int, f func(*sink.Rows)) {
	const piece, every = 1000, 400 * time.Millisecond
	from := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -6)
	for i := 0; i < n; i += piece {
		f(chtest.Rows(chtest.RowsConfig{
			Seed: uint64(i), Requests: min(piece, n-i), From: from.Add(time.Duration(i) * every), Every: every, Gaps: true,
			Samples: int(piece * every / time.Second * 2),
		}))
	}
}

// machine describes where the numbers were taken.
func machine() string {
	name := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if _, model, ok := strings.Cut(sc.Text(), "model name\t: "); ok {
				name = model
				break
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, %s", runtime.NumCPU(), name, runtime.Version())
}

// load is the machine's load average over a minute: the report's own share is about 1.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

// columnSizes lists what each column of requests takes. SQLite's is computed from its record format (a
// header byte, and 0 to 8 bytes of an integer or the text itself), indices left out; ClickHouse's is the size that
// its parts say.
func columnSizes(b *testing.B, r *store.Reader, w house, n int) string {
	b.Helper()
	var out strings.Builder
	var liteAll, compressedAll float64
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
		compressed /= float64(n)
		liteAll, compressedAll = liteAll+lite, compressedAll+compressed
		fmt.Fprintf(&out, "| %s | %.1f | %.2f |\n", c.Name, lite, compressed)
	}
	fmt.Fprintf(&out, "| all | %.0f | %.1f |\n", liteAll, compressedAll)
	return out.String()
}

// tableSizes lists what a row of each table takes in ClickHouse. Its statistics take some 26 KB a column
// and part, whatever the rows: much of a small part, little of a large one.
func tableSizes(b *testing.B, w house) string {
	b.Helper()
	var out strings.Builder
	for _, table := range []string{"requests", "power", "ledger", "itl_gaps"} {
		var rows, data, all float64
		err := w.db.QueryRowContext(context.Background(),
			"SELECT sum(rows) * 1.0, sum(data_compressed_bytes) * 1.0, sum(bytes_on_disk) * 1.0 FROM system.parts WHERE active AND database = ? AND table = ?", w.database, table).Scan(&rows, &data, &all)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&out, "| %s | %.0f | %.1f | %.1f |\n", table, rows, data/rows, all/rows)
	}
	return out.String()
}

// BenchmarkFirstPage times the first page of the console's requests, sessions and sums. One op is all of them, once.
func BenchmarkFirstPage(b *testing.B) {
	ctx, n := context.Background(), benchRows(b)
	s, r := newStore(b)
	workstation(n, func(part *sink.Rows) {
		if err := s.Write(ctx, part); err != nil {
			b.Fatal(err)
		}
	})
	if _, err := s.Pack(ctx); err != nil {
		b.Fatal(err)
	}
	var agent, session string
	if err := r.DB().QueryRowContext(ctx, "SELECT max(agent), max(session) FROM requests").Scan(&agent, &session); err != nil {
		b.Fatal(err)
	}
	list := func(l queries.List) func() error {
		return func() error {
			l.Limit, l.Columns = 100, []string{"id", "started_at", "agent", "session", "model", "ttft_us", "duration_us", "prompt_tokens", "output_tokens", "gpu_uj", "energy_quality", "outcome"}
			_, err := l.Read(ctx, r.DB(), queries.SQLite)
			return err
		}
	}
	equal := func(column, value string) queries.Filter {
		return queries.Filter{Equal: map[string][]string{column: {value}}}
	}
	for b.Loop() {
		for _, c := range []struct {
			name string
			ask  func() error
		}{
			{"all", list(queries.List{})}, {"agent", list(queries.List{Filter: equal("agent", agent)})}, {"no such agent", list(queries.List{Filter: equal("agent", "nobody")})},
			{"session", list(queries.List{Filter: equal("session", session)})}, {"label", list(queries.List{Filter: queries.Filter{Labels: map[string]string{"variant": "x"}}})},
			{"slower than 1 h", list(queries.List{Filter: queries.Filter{SlowerUs: 3_600_000_000}})}, {"dearer than 1 MJ", list(queries.List{Filter: queries.Filter{DearerUj: 1_000_000_000_000}})},
			{"by duration", list(queries.List{Sort: "-duration_us"})}, {"by joules", list(queries.List{Sort: "-gpu_uj"})}, {"by model", list(queries.List{Sort: "model"})},
			{"by tokens/s", list(queries.List{Sort: "-tokens_per_second"})}, {"by error (not in blocks)", list(queries.List{Sort: "error"})},
			{"sum", func() error { _, err := queries.Sums(ctx, r.DB(), queries.SQLite, queries.Filter{}, ""); return err }},
			{"sum by agent", func() error {
				_, err := queries.Sums(ctx, r.DB(), queries.SQLite, queries.Filter{}, "agent")
				return err
			}},
			{"sessions", func() error {
				_, _, err := queries.Sessions(ctx, r.DB(), queries.SQLite, queries.Filter{}, 100, "")
				return err
			}},
		} {
			took, cpu := timed(3, func() {
				if err := c.ask(); err != nil {
					b.Fatal(c.name, err)
				}
			})
			fmt.Printf("| %s | %.0f | %.0f |\n", c.name, took, cpu)
		}
	}
}
