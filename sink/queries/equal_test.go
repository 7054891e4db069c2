package queries_test

import (
	"context"
	"database/sql"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/sink/clickhouse"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/queries"
	"wattline/sink/store"
)

//nolint:gochecknoglobals // one engine for the package's tests, as chtest wants it
var shared chtest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// house is a database of a real ClickHouse, opened for reading.
type house struct {
	db        *sql.DB
	database  string
	inserting time.Duration // what its inserts took together
}

// shipped copies a store's rows to ClickHouse, the way serve does.
func shipped(t testing.TB, s *store.Store) house {
	t.Helper()
	srv := chtest.NewServer(t, shared.Engine(t), chtest.Options{})
	database := "queries_" + t.Name()
	target, err := clickhouse.ParseDSN(srv.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	client, err := clickhouse.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Ensure(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	box := &outbox{Store: s, empty: cancel}
	if err := clickhouse.NewShipper(clickhouse.Config{Client: client, Outbox: box, Interval: 10 * time.Millisecond}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != context.Canceled {
		t.Fatal("the rows could not be shipped in time")
	}
	db := target.DB()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return house{db, database, box.inserting}
}

// outbox calls empty once everything has been confirmed, and takes the time of the inserts.
type outbox struct {
	*store.Store
	empty     func()
	began     time.Time
	inserting time.Duration
}

func (o *outbox) ConfirmBatch(ctx context.Context, seq int64, missing ...string) error {
	o.inserting += time.Since(o.began)
	return o.Store.ConfirmBatch(ctx, seq, missing...)
}

func (o *outbox) NextBatch(ctx context.Context, maxRows int) (*store.Batch, error) {
	b, err := o.Store.NextBatch(ctx, maxRows)
	if b == nil && err == nil {
		o.empty()
	}
	o.began = time.Now()
	return b, err
}

// plain brings the values of either engine to text, a time, nil or a float64.
func (a answer) plain(t *testing.T) answer {
	t.Helper()
	for _, row := range a.rows {
		for i := range row {
			switch v := queries.NormalizeValue(row[i]).(type) {
			case string:
				row[i] = v
				if at, err := time.Parse(store.TimeLayout, v); err == nil {
					row[i] = at
				}
			case int64:
				row[i] = float64(v)
			case float64:
				row[i] = v
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%s is %v", a.columns[i], v)
				}
			default:
				row[i] = v
			}
		}
	}
	return a
}

// Both engines add floating-point numbers in an order of their own.
func closeEnough(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}

func TestEnginesAgree(t *testing.T) {
	const n = 100_000
	s, r := storeOf(t, rowsOf(n))
	ch := shipped(t, s)
	same := cmp.Options{cmp.Comparer(closeEnough), cmp.AllowUnexported(answer{})}
	for _, params := range []queries.Params{{}, {Since: began.Add(3*time.Hour + 123*time.Microsecond), Label: "team"}} {
		for _, q := range queries.All() {
			t0 := time.Now()
			lite := ask(t, r.DB(), queries.SQLite, q.Name, params).plain(t)
			t1 := time.Now()
			house := ask(t, ch.db, queries.ClickHouse, q.Name, params).plain(t)
			t2 := time.Now()
			if d := cmp.Diff(lite, house, same); d != "" {
				t.Errorf("%s: SQLite (-) and ClickHouse (+) differ:\n%s", q.Name, d)
			}
			t.Logf("%-16s %3d rows, SQLite %5d ms, ClickHouse %5d ms", q.Name, len(lite.rows), t1.Sub(t0).Milliseconds(), t2.Sub(t1).Milliseconds())
		}
	}
	for _, by := range queries.UsageKeys() {
		lite, err := queries.ReadUsage(t.Context(), r.DB(), queries.SQLite, queries.UsageOptions{By: []string{by}, Since: began.Add(time.Hour), All: true})
		if err != nil {
			t.Fatal(err)
		}
		house, err := queries.ReadUsage(t.Context(), ch.db, queries.ClickHouse, queries.UsageOptions{By: []string{by}, Since: began.Add(time.Hour), All: true})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(lite, house, same); d != "" {
			t.Errorf("usage by %s: SQLite (-) and ClickHouse (+) differ:\n%s", by, d)
		}
	}
	if u, err := queries.ReadUsage(t.Context(), ch.db, queries.ClickHouse, queries.UsageOptions{By: []string{"model"}, Since: time.Unix(0, 0), All: true}); err != nil || u.Total.Requests != n {
		t.Errorf("ClickHouse has %d of %d requests: %v", u.Total.Requests, n, err)
	}
}

// TestBlocksAnswerNamedQueries: every named query and usage is answered from blocks, but for raw gaps, lists of whole rows, what reads two hours and lost caches, which have an index:
// the answers are the same when the rows are gone from their tables.
func TestBlocksAnswerNamedQueries(t *testing.T) {
	s, r := storeOf(t, rowsOf(11_000))
	raw, err := sql.Open("sqlite", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	same := cmp.Options{cmp.Comparer(closeEnough), cmp.AllowUnexported(answer{})}
	read := func() map[string]any {
		all := map[string]any{}
		for _, q := range queries.All() {
			if !slices.Contains([]string{"gaps", "most-expensive", "slowest", "stability", "cache-losses", "cache-culprits"}, q.Name) {
				all[q.Name] = ask(t, r.DB(), queries.SQLite, q.Name, queries.Params{Label: "team"}).plain(t)
			}
		}
		for _, by := range queries.UsageKeys() {
			u, err := queries.ReadUsage(t.Context(), r.DB(), queries.SQLite, queries.UsageOptions{By: []string{by}, Since: began, All: by != "agent"})
			if err != nil {
				t.Fatal(err)
			}
			all["usage by "+by] = u
		}
		_, verdicts, err := queries.ReadCulprits(t.Context(), &queries.Engine{DB: r.DB(), Dialect: queries.SQLite}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if verdicts.Lost == 0 {
			t.Error("no row has lost its cache")
		}
		all["cache verdicts"] = verdicts
		return all
	}
	before := read()
	for _, table := range []string{"requests", "power", "ledger"} {
		if _, err := raw.ExecContext(t.Context(), "DROP TRIGGER "+table+"_deleted; DELETE FROM "+table+" WHERE ship_seq <= (SELECT max(last_ship_seq) FROM blocks WHERE of_table = '"+table+"')"); err != nil {
			t.Fatal(err)
		}
	}
	after := read()
	for name, want := range before {
		if d := cmp.Diff(want, after[name], same); d != "" {
			t.Errorf("%s: not answered from blocks:\n%s", name, d)
		}
	}
}
