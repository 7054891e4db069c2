package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
)

// testTimeout bounds what these tests wait for; nothing takes so long unless it hangs.
const testTimeout = 5 * time.Minute

var shared chtest.Shared //nolint:gochecknoglobals // the engine of this test binary

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// database returns a name for a database of this test's own, which does not exist yet and is dropped after it.
func database(t testing.TB, e *chtest.Engine) string {
	t.Helper()
	db := strings.NewReplacer("/", "_", "#", "_", "=", "_", " ", "_", ",", "_").Replace(t.Name())
	e.MustQuery(t, "DROP DATABASE IF EXISTS "+name(db)+"")
	t.Cleanup(func() { _, _ = e.Query(context.Background(), "DROP DATABASE IF EXISTS "+name(db)+"") })
	return db
}

// world is one ClickHouse as a test sees it.
type world struct {
	t   testing.TB
	srv *chtest.Server
	db  string
}

func newWorld(t testing.TB, o chtest.Options) *world {
	t.Helper()
	e := shared.Engine(t)
	return &world{t: t, srv: chtest.NewServer(t, e, o), db: database(t, e)}
}

// ownWorld is a world with an engine of its own, which may be killed while other tests run.
func ownWorld(t testing.TB) *world {
	t.Helper()
	return &world{t: t, srv: chtest.NewServer(t, chtest.StartEngine(t, nil), chtest.Options{}), db: "own"}
}

// query asks the engine beside all servers and faults. Table names are in the test's database.
func (w *world) query(text string) string {
	w.t.Helper()
	return w.srv.Engine().MustQuery(w.t, strings.ReplaceAll(text, "$db", name(w.db)))
}

func (w *world) target(dsn string) *Target {
	w.t.Helper()
	target, err := ParseDSN(dsn)
	must(w.t, err)
	target.options.DialTimeout = testTimeout // every server here answers when dialled
	return target
}

// client connects by HTTP, or by the native protocol.
func (w *world) client(native bool) *Client {
	w.t.Helper()
	dsn := w.srv.DSN(w.db)
	if native {
		dsn = w.srv.NativeDSN(w.db)
	}
	c, err := Open(w.target(dsn))
	must(w.t, err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// outbox is a new store with the rows in it.
func outbox(t testing.TB, rows ...*sink.Rows) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "wattline.db"), Log: quiet(t)})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	for _, r := range rows {
		must(t, s.Write(t.Context(), r))
	}
	return s
}

// quiet logs into the test's output.
func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// shipper makes a fast one.
func (w *world) shipper(c *Client, s Outbox) *Shipper {
	return NewShipper(Config{Client: c, Outbox: s, Instance: "fallback", MaxRows: 500, Interval: 20 * time.Millisecond, Log: quiet(w.t)})
}

// until runs f beside the shipper until it returns, then stops the shipper.
func until(t testing.TB, s *Shipper, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	f()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// drained waits until nothing waits in the store.
func drained(t testing.TB, s *store.Store) {
	t.Helper()
	if !drainedIn(t, s, testTimeout) {
		w, err := s.Waiting(t.Context())
		t.Fatalf("still waiting after %v: %+v, %v", testTimeout, w, err)
	}
}

// drainedIn waits until nothing waits in the store, or until nothing has left it for so long.
func drainedIn(t testing.TB, s *store.Store, limit time.Duration) bool {
	t.Helper()
	deadline, least := time.Now().Add(limit), int64(math.MaxInt64)
	for {
		asked := time.Now()
		w, err := s.Waiting(t.Context())
		must(t, err)
		left := int64(0)
		for _, n := range w.Rows {
			left += n
		}
		if left == 0 {
			return true
		}
		if left < least {
			deadline, least = time.Now().Add(limit), left
		}
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(20*time.Millisecond + 10*time.Since(asked)) // counting many rows takes a while, and takes it from the shipper
	}
}

// exactlyOnce checks by id that each of the store's rows is in ClickHouse once, and that nothing else is.
func (w *world) exactlyOnce(stores ...*store.Store) {
	w.t.Helper()
	want := map[string]bool{}
	sums := map[string]int64{}
	for _, s := range stores {
		r, err := store.OpenReader(w.t.Context(), s.Path())
		must(w.t, err)
		rows, err := r.DB().QueryContext(w.t.Context(), `SELECT 'requests ' || id, coalesce(gpu_uj, 0) FROM requests
			UNION ALL SELECT 'power ' || instance || '|' || device || '|' || at, energy_uj FROM power
			UNION ALL SELECT 'ledger ' || instance || '|' || device || '|' || at, counter_uj FROM ledger
			UNION ALL SELECT 'configs ' || instance || ' ' || config_id, 0 FROM configs
			UNION ALL SELECT 'itl_gaps ' || id, (SELECT sum(value) FROM json_each(gaps_us)) FROM itl_gaps`)
		must(w.t, err)
		for rows.Next() {
			var id string
			var uj int64
			must(w.t, rows.Scan(&id, &uj))
			want[id] = true
			table, _, _ := strings.Cut(id, " ")
			sums[table] += uj
		}
		must(w.t, rows.Err())
		must(w.t, rows.Close())
		must(w.t, r.Close())
	}
	got := w.query(`SELECT concat('requests ', id) FROM $db.requests UNION ALL SELECT concat('power ', ` + sampleKey + `) FROM $db.power
		UNION ALL SELECT concat('ledger ', ` + sampleKey + `) FROM $db.ledger UNION ALL SELECT concat('configs ', instance, ' ', config_id) FROM $db.configs
		UNION ALL SELECT concat('itl_gaps ', id) FROM $db.itl_gaps`)
	seen := map[string]int{}
	for id := range strings.Lines(got) {
		seen[strings.TrimSuffix(id, "\n")]++
	}
	missing, doubled, foreign := 0, 0, 0
	for id := range want {
		switch {
		case seen[id] == 0:
			missing++
		case seen[id] > 1:
			doubled++
		}
	}
	for id := range seen {
		if !want[id] {
			foreign++
		}
	}
	if missing+doubled+foreign > 0 {
		w.t.Errorf("of %d rows %d are missing, %d are there more than once; %d rows belong to no store", len(want), missing, doubled, foreign)
	}
	sumOf := w.query("SELECT (SELECT ifNull(sum(gpu_uj), 0) FROM $db.requests), (SELECT ifNull(sum(energy_uj), 0) FROM $db.power), (SELECT ifNull(sum(counter_uj), 0) FROM $db.ledger), (SELECT sum(arraySum(gaps_us)) FROM $db.itl_gaps)")
	if expect := fmt.Sprintf("%d\t%d\t%d\t%d", sums["requests"], sums["power"], sums["ledger"], sums["itl_gaps"]); sumOf != expect {
		w.t.Errorf("sums of microjoules (requests, power, ledger) and of gaps in us: %q, the stores say %q", sumOf, expect)
	}
	w.t.Logf("%d rows, each exactly once by id; microjoules of requests, power, ledger, and us of raw gaps: %s", len(want), strings.ReplaceAll(sumOf, "\t", ", "))
}
