package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/columnar"
)

// varied makes rows with every kind of value that a query can meet: nulls, empty and odd texts, zeros, equal values.
func varied(r *rand.Rand, from, n int) *sink.Rows {
	rows := &sink.Rows{}
	text := func(options ...string) string { return options[r.IntN(len(options))] }
	for i := from; i < from+n; i++ {
		rec := request(i)
		rec.StartedAt = epoch.Add(time.Duration(i)*7*time.Minute + time.Duration(r.IntN(1e9)))
		for _, c := range meter.Columns() {
			if p, ok := c.Ptr(rec).(*meter.Int); ok && r.IntN(4) > 0 {
				*p = meter.Some(int64(r.IntN(1 << r.IntN(34))))
			}
		}
		rec.Model, rec.Agent, rec.Session = text("small", "Large", "", "it's", "größer"), text("curl", "Opencode", ""), fmt.Sprint(r.IntN(40))
		rec.Outcome, rec.EnergySource = meter.Outcome(text("ok", "cancelled", "upstream_error")), text("nvml", "rapl/x", "sim/y", "")
		rec.EnergyQuality = text(meter.EnergyShared, meter.EnergyUnavailable)
		if r.IntN(2) == 0 {
			rec.Labels = map[string]string{"team": text("a", "b", `<"\>`), "x": text("1", "")}
		}
		rows.Requests = append(rows.Requests, rec)
		at := epoch.Add(time.Duration(i) * time.Second)
		rows.Power = append(rows.Power, &sink.Power{At: at, Device: text("GPU-0", "GPU-1"), SpanUs: meter.Some(1e6), EnergyUj: meter.Some(int64(r.IntN(1e9))), TempC: meter.Some(int64(r.IntN(90))),
			Throttle: [][]string{nil, {"b", "a"}, {"c"}}[r.IntN(3)]})
		rows.Ledger = append(rows.Ledger, &sink.Ledger{At: at, Device: text("GPU-0", "GPU-1"), CounterUj: meter.Some(int64(r.IntN(1e9)))})
	}
	return rows
}

// blocked returns a store with blocks of 50 rows, rows in no block, a block that was broken, and a row that is not final.
func blocked(t testing.TB) (*Store, *Reader) {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: filepath.Join(t.TempDir(), "wattline.db"), Log: quiet()})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	s.blockRows = 50
	r := rand.New(rand.NewPCG(1, 2))
	check(s.Write(t.Context(), varied(r, 0, 330)))
	n, err := s.Pack(t.Context())
	if check(err); n != 900 {
		t.Fatalf("%d rows are in blocks, not 900", n)
	}
	_, err = s.conn.ExecContext(t.Context(), "DELETE FROM requests WHERE rowid IN (60, 61)")
	check(err)
	last := varied(r, 330, 3)
	last.Requests[2].EnergyQuality = meter.EnergyPending
	check(s.Write(t.Context(), last))
	read, err := OpenReader(t.Context(), s.Path())
	check(err)
	t.Cleanup(func() { check(read.Close()); _ = s.Close() })
	return s, read
}

// answers runs a statement from the blocks and from the tables alone. The first error is columnar.ErrUnsupported if the
// blocks do not know the statement.
func answers(t testing.TB, r *Reader, query string) (fromBlocks, fromTables [][]any, err error) {
	t.Helper()
	conn, err := r.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func(rows driver.Rows, err error) (out [][]any, _ error) {
		if err != nil {
			return nil, err
		}
		names := []any{}
		for _, c := range rows.Columns() {
			names = append(names, c)
		}
		err = readRows(rows, func(row []driver.Value) error {
			values := make([]any, len(row))
			for i, v := range row {
				values[i] = v
			}
			out = append(out, values)
			return nil
		})
		return append([][]any{names}, out...), err
	}
	var fine error
	_ = conn.Raw(func(c any) error {
		b := c.(*blockConn)
		fromBlocks, err = read(b.fromBlocks(t.Context(), query, nil))
		fromTables, fine = read(b.sqliteConn.QueryContext(t.Context(), query, nil))
		return nil
	})
	if fine != nil && err == nil {
		t.Errorf("blocks answer what SQLite refuses (%v): %s", fine, query)
	}
	return fromBlocks, fromTables, err
}

// differ compares two answers. Both add floating-point numbers in an order of their own; without ORDER BY rows have none.
func differ(query string, a, b [][]any) string {
	if !strings.Contains(query, "ORDER BY") {
		for _, rows := range [][][]any{a, b} {
			slices.SortFunc(rows, func(x, y []any) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
		}
	}
	return cmp.Diff(b, a, cmp.Comparer(func(x, y float64) bool { return x == y || math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y)) }))
}

// TestBlocksAnswerAsTables: what blocks answer is what SQLite answers from the tables, types and column names included.
func TestBlocksAnswerAsTables(t *testing.T) {
	_, r := blocked(t)
	at := literal(epoch.Add(20 * time.Hour))
	for _, q := range []string{
		"SELECT count(*), count(model), min(model), max(model), sum(output_tokens), avg(output_tokens), max(ttft_us), min(ttft_us) FROM requests",
		"SELECT model, count(*) AS n, sum(output_tokens) / count(*) FROM requests GROUP BY model ORDER BY n DESC, model",
		"SELECT coalesce(model, '-') AS m, outcome, count(*), max(started_at) FROM requests WHERE started_at >= '" + at + "' GROUP BY m, outcome",
		"SELECT substr(started_at, 1, 10) AS day, median(ttft_ms), quantile(ttft_ms, 0.95), p99(duration_ms), stddev(gpu_j) FROM efficiency GROUP BY day ORDER BY 1",
		"SELECT substr(started_at, 1, 13) || ':00' AS h, count(*) FROM efficiency GROUP BY h HAVING count(*) > 7 ORDER BY h",
		"SELECT floor(concurrency + 0.5) AS c, count(*) FROM efficiency WHERE concurrency IS NOT NULL GROUP BY c ORDER BY c",
		"SELECT sum(gpu_uj) / nullif(sum(CASE WHEN gpu_uj IS NOT NULL THEN output_tokens END), 0), sum(1e0 * gpu_sigma_uj * gpu_sigma_uj) FROM requests WHERE model LIKE 'L%' OR model = 'it''s'",
		"SELECT label(labels, 'team') AS v, count(*) FROM efficiency WHERE label(labels, 'team') IS NOT NULL GROUP BY v",
		"SELECT coalesce(usage_label, '-') AS l, count(*), sum(gpu_j) FROM (SELECT efficiency.*, l.key || '=' || l.value AS usage_label FROM efficiency LEFT JOIN json_each(efficiency.labels) AS l) GROUP BY l",
		"SELECT count(*) * 1e0 / (SELECT count(*) FROM requests WHERE outcome = 'ok') AS share FROM requests",
		"SELECT model FROM requests GROUP BY model HAVING sum(output_tokens) > 1000 ORDER BY sum(output_tokens) DESC LIMIT 2 OFFSET 1",
		"SELECT count(*) FROM requests WHERE started_at > '2026-11-24' AND session IN ('1', '2', '30') OR NOT duration_us BETWEEN 10 AND 100000",
		"SELECT count(*) FROM requests WHERE outcome NOT IN ('ok', 'cancelled') AND model NOT LIKE '%r' AND stream <> 1",
		"SELECT count(*) FROM requests WHERE '" + strings.Repeat("a", 60) + "' LIKE '" + strings.Repeat("%a", 15) + "%b'",
		"SELECT count(*) FROM requests WHERE model LIKE '%m%l%' OR model LIKE 'gr__er' OR model LIKE '_t%s' OR model LIKE '%_%r%g%'",
		"SELECT device, count(*), sum(energy_uj), list_union(throttle) FROM power GROUP BY device",
		"SELECT device, sum(counter_uj) FROM ledger WHERE at < '" + literal(epoch.Add(100*time.Second)) + "' GROUP BY device",
		"SELECT * FROM requests WHERE model = 'small' ORDER BY started_at DESC, rowid DESC LIMIT 7",
		"SELECT id, model, duration_ms AS d FROM efficiency WHERE duration_ms IS NOT NULL ORDER BY d DESC, id LIMIT 12",
		"SELECT id FROM requests ORDER BY outcome, id DESC LIMIT 5 OFFSET 100",
		"SELECT id FROM requests ORDER BY ttft_us LIMIT 9",
		"SELECT id FROM requests ORDER BY outcome DESC, started_at DESC, id DESC LIMIT 25",
		"SELECT id FROM requests WHERE (outcome < 'ok' OR outcome = 'ok' AND started_at <= '" + at + "') ORDER BY outcome DESC, started_at DESC, id DESC LIMIT 25",
		"SELECT id FROM requests WHERE model IS NOT NULL ORDER BY model, started_at, id LIMIT 30",
		"SELECT 'all' AS k, count(*), nullif(sum(CASE WHEN energy_source LIKE 'SIM/%' THEN 1 ELSE 0 END), 0) FROM requests WHERE agent <> '' GROUP BY k",
		"SELECT model FROM requests WHERE started_at > '2099-01-01' GROUP BY model",
		"SELECT sum(ttft_us), max(model) FROM requests WHERE started_at > '2099-01-01'",
	} {
		a, b, err := answers(t, r, q)
		if err != nil {
			t.Errorf("not answered from blocks: %v\n%s", err, q)
			continue
		}
		if d := differ(q, a, b); d != "" {
			t.Errorf("%s: tables (-) and blocks (+) differ:\n%s", q, d)
		}
	}
}

// TestBlocksLeaveToSQLite: what columns cannot answer for certain is left to SQLite.
func TestBlocksLeaveToSQLite(t *testing.T) {
	_, r := blocked(t)
	for _, q := range []string{
		"SELECT id, count(*) FROM requests GROUP BY id", "SELECT model FROM requests", "SELECT count(DISTINCT model) FROM requests", "SELECT gpu_uj FROM efficiency",
		"SELECT sum(gpu_uj) FROM efficiency", "SELECT count(*) FROM requests WHERE model = 7", "SELECT count(*) FROM requests, power", "SELECT max(model, agent) FROM requests GROUP BY model",
		"SELECT model, agent, count(*) FROM requests GROUP BY model", "SELECT count(*) FROM requests WHERE started_at = '2026-11-24'", "SELECT count(*) FROM requests -- all",
		"SELECT sum(gpu_uj * 4611686018427387904) FROM requests", "SELECT max((stream * 0 + 4) * 4611686018427387904) FROM requests", "SELECT -9223372036854775808, count(*) FROM requests", "SELECT upper(model) AS model, count(*) FROM requests GROUP BY model", "PRAGMA user_version", "SELECT", "",
		"SELECT substr(started_at, 1, 10.0) AS day, count(*) FROM requests GROUP BY day", "SELECT substr(started_at, 1.0, 10) AS day, count(*) FROM requests GROUP BY day",
		"SELECT * FROM requests ORDER BY started_at DESC LIMIT 5", "SELECT count(*) FROM requests WHERE nix = 1", "SELECT sum(count(*)) OVER () FROM requests",
	} {
		if _, _, err := answers(t, r, q); !errors.Is(err, columnar.ErrUnsupported) {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// randomStatement makes a random one.
func randomStatement(r *rand.Rand) string {
	pick := func(options ...string) string { return options[r.IntN(len(options))] }
	var number func(depth int) string
	number = func(depth int) string {
		if depth == 0 {
			return pick("ttft_us", "output_tokens", "gpu_uj", "duration_us", "stream", "cached_tokens", "7", "0", "1e3", "-2.5", "NULL")
		}
		a, b := number(depth-1), number(depth-1)
		return pick("("+a+" + "+b+")", "("+a+" - "+b+")", a+" / 1e3 * "+b, "("+a+") / nullif("+b+", 0)", "coalesce("+a+", "+a+")", "CASE WHEN "+a+" > "+b+" THEN "+a+" END", a)
	}
	text := func() string {
		return pick("model", "outcome", "coalesce(agent, '-')", "nullif(session, '3')", "substr(started_at, 1, 10)", "model || '!'", "CASE WHEN stream = 1 THEN model ELSE 'none' END", "labels", "label(labels, 'x')")
	}
	var condition func(depth int) string
	condition = func(depth int) string {
		if depth == 0 {
			return pick(number(1)+pick(" < ", " >= ", " = ", " <> ")+number(1), text()+pick(" = ", " < ", " <> ", " LIKE ")+pick("'small'", "'l%'", "'%E'", "'_u%'", "''"),
				number(1)+" IS NULL", text()+" IS NOT NULL", "started_at "+pick(">", "<", ">=", "<=")+" '"+pick("2026-11-24", literal(epoch.Add(10*time.Hour)))+"'")
		}
		return pick("("+condition(depth-1)+" AND "+condition(depth-1)+")", "("+condition(depth-1)+" OR "+condition(depth-1)+")", "NOT "+condition(depth-1), condition(depth-1))
	}
	figure := func() string {
		return pick("count(*)", "count("+number(1)+")", pick("sum", "avg", "min", "max", "median", "p95", "stddev")+"("+number(2)+")", "max("+text()+")", "min(started_at)",
			"sum("+number(1)+") / nullif(count("+number(0)+"), 0)")
	}
	q := "SELECT " + text() + " AS k1, " + number(1) + " AS k2, " + figure() + " AS f1, " + figure() + " AS f2 FROM requests"
	if r.IntN(2) == 0 {
		q += " WHERE " + condition(2)
	}
	q += " GROUP BY k1, k2"
	if r.IntN(3) == 0 {
		q += " HAVING count(*) > 1"
	}
	return q + " ORDER BY k1, k2"
}

// FuzzBlocksAnswerAsTables: statements made at random.
func FuzzBlocksAnswerAsTables(f *testing.F) {
	for seed := range uint64(250) {
		f.Add(seed)
	}
	_, r := blocked(f)
	answered := 0
	f.Cleanup(func() {
		if answered == 0 {
			f.Error("no statement was answered from blocks")
		}
	})
	f.Fuzz(func(t *testing.T, seed uint64) {
		q := randomStatement(rand.New(rand.NewPCG(seed, 9)))
		a, b, err := answers(t, r, q)
		if errors.Is(err, columnar.ErrUnsupported) {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
		answered++
		if d := differ(q, a, b); d != "" {
			t.Errorf("tables (-) and blocks (+) differ: %s\n%s", q, d)
		}
	})
}

// TestBlocksFollowTheRows: no row is counted twice or left out while rows are added, settled, deleted and merged into minutes,
// and blocks are made in between.
func TestBlocksFollowTheRows(t *testing.T) {
	s := tempStore(t)
	s.blockRows = 20
	read := tempReader(t, s)
	r := rand.New(rand.NewPCG(3, 4))
	ctx := t.Context()
	check := func(what string) {
		t.Helper()
		for _, q := range []string{
			"SELECT count(*), sum(output_tokens), min(started_at), max(started_at) FROM requests",
			"SELECT count(*), sum(energy_uj), min(at) FROM power", "SELECT count(*), sum(counter_uj), max(at) FROM ledger",
		} {
			a, b, err := answers(t, read, q)
			if errors.Is(err, columnar.ErrUnsupported) {
				continue // there is no block yet
			}
			must(t, err)
			if d := cmp.Diff(b, a); d != "" {
				t.Fatalf("%s: %s: tables (-) and blocks (+) differ: %s", what, q, d)
			}
		}
	}
	pack := func() {
		_, err := s.Pack(ctx)
		must(t, err)
	}
	var pending []*meter.Record
	for i := range 40 {
		rows := varied(r, i*30, 30)
		for _, rec := range rows.Requests[:10] {
			rec.EnergyQuality = meter.EnergyPending
		}
		must(t, s.Write(ctx, rows))
		check("written")
		must(t, s.Write(ctx, &sink.Rows{Settled: pending}))
		pending = rows.Requests[:10]
		check("settled")
		if r.IntN(3) > 0 {
			pack()
			check("packed")
		}
		if i%5 == 4 {
			_, err := s.EnforceRetention(ctx, epoch.Add(time.Duration(i*15)*7*time.Minute), Retention{Requests: time.Hour, Samples: time.Duration(40-i) * time.Hour})
			must(t, err)
			check("expired and merged")
		}
		if i == 35 {
			_, err := s.EnforceRetention(ctx, epoch, Retention{MaxBytes: 1 << 18})
			must(t, err)
			check("evicted")
		}
	}
	var orphans int
	must(t, s.conn.QueryRowContext(ctx, "SELECT count(*) FROM block_columns WHERE id / 256 NOT IN (SELECT id FROM blocks)").Scan(&orphans))
	if orphans > 0 {
		t.Errorf("%d columns of blocks that are gone", orphans)
	}
}

// TestBlocksOfAnotherLayout: blocks that lack a column of this version are not read, and made again.
func TestBlocksOfAnotherLayout(t *testing.T) {
	s, read := blocked(t)
	_, err := s.conn.ExecContext(t.Context(), "UPDATE blocks SET layout = 'old' WHERE id % 2 = 0")
	must(t, err)
	_, err = s.conn.ExecContext(t.Context(), "DELETE FROM block_columns WHERE id / 256 % 2 = 0")
	must(t, err)
	const q = "SELECT count(*), sum(output_tokens) FROM requests"
	same := func() {
		t.Helper()
		a, b, err := answers(t, read, q)
		must(t, err)
		if d := cmp.Diff(b, a); d != "" {
			t.Errorf("tables (-) and blocks (+) differ: %s", d)
		}
	}
	same()
	must(t, s.Close())
	s = reopen(t, s.Path())
	s.blockRows = 50
	same()
	n, err := s.Pack(t.Context())
	must(t, err)
	if n != 400 {
		t.Errorf("%d rows are in new blocks, not 400", n)
	}
	same()
}

// TestFaultInBlocks: a panic while blocks are read is logged once, and the rows answer.
func TestFaultInBlocks(t *testing.T) {
	_, r := blocked(t)
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	conn, err := r.db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	must(t, conn.Raw(func(c any) error {
		b := c.(*blockConn)
		wrong := *b.tables[TableRequests]
		wrong.Base = "a table that is not there"
		b.tables = blockTables{TableRequests: &wrong}
		return nil
	}))
	for range 2 {
		var n int
		if must(t, conn.QueryRowContext(t.Context(), "SELECT count(*) FROM requests").Scan(&n)); n != 331 {
			t.Errorf("%d rows, not 331", n)
		}
	}
	if n := strings.Count(log.String(), "please report"); n != 1 || !strings.Contains(log.String(), "SELECT count(*)") || !strings.Contains(log.String(), "blockreader.go") {
		t.Errorf("%d complaints: %s", n, log.String())
	}
	_, err = conn.ExecContext(t.Context(), "BEGIN; COMMIT") // the fault left no transaction open
	must(t, err)
}

// TestCancelledBegin: a statement that ends with its context may have begun a transaction all the same. It must not stay
// open: it would keep every writer out, and a reader in the past.
func TestCancelledBegin(t *testing.T) {
	s, r := blocked(t)
	conn, err := r.db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_ = transact(ctx, s.conn, func() error { return nil })
		if err := transact(t.Context(), s.conn, func() error { return nil }); err != nil {
			t.Fatalf("after %d cancelled transactions: %v", i+1, err)
		}
	}
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if rows, err := conn.QueryContext(ctx, "SELECT count(*) FROM requests WHERE stream = 1"); err == nil {
			must(t, rows.Close())
		}
		if _, err := conn.ExecContext(t.Context(), "BEGIN; COMMIT"); err != nil {
			t.Fatalf("after %d cancelled queries: %v", i+1, err)
		}
	}
}

// TestLongWorkKeepsInterval: rows are closed as abandoned when they were pending for a whole interval, also where retention
// or packing took longer than one.
func TestLongWorkKeepsInterval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	synctest.Test(t, func(t *testing.T) {
		slow := &slowOnce{}
		s, err := Open(t.Context(), Config{Path: path, Log: slog.New(slow)})
		must(t, err)
		_, err = s.conn.ExecContext(t.Context(), "DROP TABLE blocks") // the complaint about it takes long
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.RunRetention(ctx, Retention{}); close(ended) }()
		time.Sleep(2*retentionInterval - time.Second)
		must(t, s.Write(ctx, &sink.Rows{Requests: []*meter.Record{pending(1)}}))
		time.Sleep(retentionInterval / 2)
		if got := qualities(t, path)[request(1).ID]; got != "pending" {
			t.Errorf("a row of the last half minute is %q", got)
		}
		cancel()
		<-ended
		must(t, s.Close())
	})
}

// slowOnce is a log whose first warning takes almost two intervals.
type slowOnce struct{ done bool }

func (h *slowOnce) Enabled(context.Context, slog.Level) bool { return true }
func (h *slowOnce) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *slowOnce) WithGroup(string) slog.Handler            { return h }
func (h *slowOnce) Handle(context.Context, slog.Record) error {
	if !h.done {
		h.done = true
		time.Sleep(2*retentionInterval - time.Second/2)
	}
	return nil
}
