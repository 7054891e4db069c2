package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/proxy/stub"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
)

// TestRandomKillsSoak kills a wattline that serves requests and ships to a real ClickHouse engine, 4 times, or 100 times
// with WATTLINE_SOAK. Afterwards every committed row is in the store and in ClickHouse exactly once, and none is
// pending: rows that were not settled are partial.
func TestRandomKillsSoak(t *testing.T) {
	t.Parallel()
	kills := 4
	if os.Getenv("WATTLINE_SOAK") != "" {
		kills = 100
	}
	k := newKilled(t)
	began := time.Now()
	k.underLoad(t, func() { // until energy is final and seconds of power are stored
		for deadline := time.Now().Add(patience); len(k.ids(t, "SELECT id FROM requests WHERE energy_quality NOT IN ('pending', 'partial')")) == 0 || len(k.ids(t, "SELECT at FROM power")) < 3; <-time.After(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no row becomes final")
			}
		}
	})
	for i := 1; i < kills; i++ {
		if i%5 == 4 {
			k.atStart(t)
		} else {
			k.underLoad(t, func() { <-time.After(rand.N(2500 * time.Millisecond)) })
		}
	}
	k.srv.Plan(nil)
	k.drain(t)
	k.compare(t)
	if k.committed == 0 || k.partial == 0 || k.partial == k.rows || k.power == 0 {
		t.Error("nothing was at stake")
	}
	t.Logf("%d kills in %v: %d requests answered; %d times was a row that had been committed before a kill looked for after it, and found; %d rows in all, each once in ClickHouse, %d of them partial",
		kills, time.Since(began).Round(time.Second), k.answered, k.committed, k.rows, k.partial)
	t.Logf("%d batches were confirmed, %d had been sent more than once; %d power and %d ledger rows, each once in both", k.batches, k.resent, k.power, k.ledger)
	t.Logf("inserts into ClickHouse met: %v", k.srv.Tried())
}

// killed is an installation that is killed and started again.
type killed struct {
	engine   *chtest.Engine
	srv      *chtest.Server
	upstream string
	path     string
	args     []string
	before   []string // by table: the rows before the last start, as FROM clause

	answered, committed, rows, partial, batches, resent, power, ledger int
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	e := engine.Engine(t)
	srv := chtest.NewServer(t, e, chtest.Options{})
	k := &killed{engine: e, srv: srv, upstream: fastUpstream(t), path: filepath.Join(t.TempDir(), "wattline.db")}
	srv.Plan(func(int) chtest.Fault { // with these faults a kill leaves batches with an unknown fate
		return chtest.Fault{Kind: []chtest.FaultKind{chtest.None, chtest.None, chtest.HangAfter, chtest.HangBefore, chtest.CutAfter, chtest.Late}[rand.IntN(6)], After: rand.N(300 * time.Millisecond)}
	})
	k.args = []string{"--store", k.path, "--gpu", "sim", "--keep-gaps", "1h", "--clickhouse", srv.DSN("killed")}
	return k
}

// fastUpstream answers at once, so that a short life has many rows.
func fastUpstream(t *testing.T) string {
	t.Helper()
	url, _ := stubUpstream(t, stub.Config{HeaderDelay: -1, FirstToken: 5 * time.Millisecond, TokenGap: time.Millisecond, PingInterval: -1})
	return url
}

// atStart kills a wattline soon after its start, while it opens the store, finishes pending rows or ships them.
func (k *killed) atStart(t *testing.T) {
	t.Helper()
	cmd := command(t, append([]string{"serve", "--upstream", k.upstream, "--listen", "127.0.0.1:0", "--admin", "off"}, k.args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-time.After(rand.N(400 * time.Millisecond))
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // "signal: killed"
}

// underLoad starts a wattline with traffic, calls life, and kills it when life returns.
func (k *killed) underLoad(t *testing.T, life func()) {
	t.Helper()
	w := serve(t, k.upstream, k.args...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 3 {
		body := map[string]any{"prompt": "ba ce di", "n_predict": 3 + 4*i, "stream": i > 0}
		wg.Go(func() {
			for ctx.Err() == nil {
				r := w.post(ctx, "/completion", body)
				if r.err != nil || r.status != http.StatusOK {
					return // the kill
				}
				mu.Lock()
				k.answered++
				mu.Unlock()
			}
		})
	}
	life()
	before := k.ids(t, "SELECT id FROM requests")
	_ = w.cmd.Process.Kill()
	<-w.waited
	stop()
	wg.Wait()
	k.committed += len(before)
	after := k.ids(t, "SELECT id FROM requests")
	for id := range before {
		if after[id] == 0 {
			t.Errorf("row %s was committed before a kill and is gone", id)
		}
	}
}

// drain starts wattline once more, waits until all earlier rows are shipped, and stops it. That wattline writes power and
// ledger rows too, of which the last are not shipped.
func (k *killed) drain(t *testing.T) {
	t.Helper()
	query := "SELECT id FROM requests WHERE ship_seq IS NULL"
	for _, table := range []string{"requests", "itl_gaps", "power", "ledger"} {
		for last := range k.ids(t, "SELECT coalesce(max(ship_seq), 0) FROM "+table) {
			k.before = append(k.before, table+" WHERE ship_seq <= "+last)
			query += " UNION ALL SELECT rowid FROM " + table + " WHERE ship_seq <= " + last + " AND ship_seq > (SELECT value FROM counters WHERE name = 'shipped_" + table + "')"
		}
	}
	w := serve(t, k.upstream, k.args...)
	deadline := time.Now().Add(patience)
	for {
		left := k.ids(t, query+" UNION ALL SELECT id FROM requests WHERE ship_seq > (SELECT value FROM counters WHERE name = 'shipped_requests')")
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rows still wait after %v", len(left), patience)
		}
		<-time.After(200 * time.Millisecond)
	}
	w.stop(t)
}

// compare checks by id that what was in the store before the last start, and every request, is in
// ClickHouse exactly once, and that nothing else is there.
func (k *killed) compare(t *testing.T) {
	t.Helper()
	const sample, sampleThere = "instance || '|' || device || '|' || at", "concat(instance, '|', device, '|', toString(at))"
	for i, c := range []struct {
		table, here, there string
		rows               *int
	}{{"requests", "id", "id", &k.rows}, {"itl_gaps", "id", "id", new(int)}, {"power", sample, sampleThere, &k.power}, {"ledger", sample, sampleThere, &k.ledger}} {
		before, all := k.ids(t, "SELECT "+c.here+" FROM "+k.before[i]), k.ids(t, "SELECT "+c.here+" FROM "+c.table)
		if c.table == "requests" {
			before = all
		}
		found, err := k.engine.Query(t.Context(), "SELECT "+c.there+" FROM killed."+c.table)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]int{}
		for id := range strings.Lines(found) {
			there[strings.TrimSuffix(id, "\n")]++
		}
		for id, n := range all {
			if n != 1 || before[id] == 1 && there[id] != 1 {
				t.Errorf("%s %s is %d times in the store and %d times in ClickHouse", c.table, id, n, there[id])
			}
		}
		for id, n := range there {
			if n != 1 || all[id] != 1 {
				t.Errorf("%s %s is %d times in ClickHouse and %d times in the store", c.table, id, n, all[id])
			}
		}
		*c.rows = len(before)
	}
	k.partial = len(k.ids(t, "SELECT id FROM requests WHERE energy_quality = 'partial'"))
	k.batches, k.resent = len(k.ids(t, "SELECT token FROM batches WHERE confirmed_at IS NOT NULL")), len(k.ids(t, "SELECT token FROM batches WHERE sends > 1"))
	if n := len(k.ids(t, "SELECT id FROM requests WHERE energy_quality = 'pending'")); n > 0 {
		t.Errorf("%d rows are pending", n)
	}
}

// ids counts the values of a query's one column, as any reader of the store sees them.
func (k *killed) ids(t *testing.T, query string) map[string]int {
	t.Helper()
	r, err := store.OpenReader(t.Context(), k.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	rows, err := r.DB().QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]int{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		out[id]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
