package clickhouse

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/sink/clickhouse/chtest"
	"wattline/sink/store"
	"wattline/sink/store/disktest"
)

// life is one process: a store on a disk that loses power, and a shipper to the real engine.
type life struct {
	t     testing.TB
	disk  *disktest.Disk
	store *store.Store
	sh    *Shipper
}

func begin(t testing.TB, w *world, c *Client, from string) *life {
	t.Helper()
	dir := t.TempDir()
	must(t, disktest.CopyFolder(dir, from))
	d, err := disktest.New(dir)
	must(t, err)
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "wattline.db"), Log: quiet(t)})
	must(t, err)
	if other, err := store.Open(t.Context(), store.Config{Path: s.Path(), Log: quiet(t)}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a second process may write the store: %v, %v", other, err)
	}
	l := &life{t: t, disk: d, store: s, sh: w.shipper(c, s)}
	l.sh.cfg.MaxRows = 40
	l.sh.deliverTo(c, current()).settle = time.Second
	return l
}

func (l *life) end() {
	l.disk.Off()
	_ = l.store.Close() // fails with the disk
	l.disk.Close()
}

// drain ships until nothing waits.
func (l *life) drain() {
	l.t.Helper()
	for deadline := time.Now().Add(testTimeout); ; <-time.After(100 * time.Millisecond) {
		err := l.sh.Flush(l.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatal(err)
		}
	}
}

// The process is killed, or the machine loses power, at any write or sync, while INSERTs fail in every way: each row is in the
// real engine once. 200 kills and 50 power losses with WATTLINE_SOAK.
func TestKillsAndPowerLossesSoak(t *testing.T) {
	t.Parallel()
	kills, losses := 8, 4
	w := newWorld(t, chtest.Options{})
	if os.Getenv("WATTLINE_SOAK") != "" {
		kills, losses = 200, 50
	}
	c := w.client(true)
	c.insertTimeout, c.countTimeout = 2*time.Second, testTimeout
	r := rand.New(rand.NewPCG(5, 5))
	l := begin(t, w, c, t.TempDir())
	defer func() { l.end() }()
	l.drain() // creates the tables
	w.srv.Plan(func(int) chtest.Fault {
		kinds := []chtest.FaultKind{chtest.None, chtest.None, chtest.CutBefore, chtest.CutAfter, chtest.Late}
		return chtest.Fault{Kind: kinds[r.IntN(len(kinds))], After: 20 * time.Millisecond}
	})
	for i := range kills + losses {
		power := i >= kills
		image := filepath.Join(t.TempDir(), "image")
		ctx, die := context.WithCancel(t.Context())
		at := r.IntN(200)
		l.disk.Before(func(op int) bool {
			if op == at {
				if power {
					must(t, l.disk.CopyAfterPowerLoss(image, r))
				} else {
					must(t, l.disk.Copy(image))
				}
				die()
			}
			return op >= at
		})
		for seed := uint64(0); ctx.Err() == nil; seed++ {
			rows := chtest.Rows(chtest.RowsConfig{Seed: uint64(i)<<8 + seed, Requests: 1 + r.IntN(30), Samples: 4, From: time.Now().UTC().Add(-time.Hour).Truncate(time.Microsecond)})
			rows.Configs = nil
			if l.store.Write(ctx, rows) == nil {
				_ = l.sh.Flush(ctx)
			}
		}
		l.end()
		l = begin(t, w, c, image)
	}
	w.srv.Plan(nil)
	w.srv.Settle()
	l.drain()
	st := l.sh.Stats()
	t.Logf("%d deaths; the last life: %+v; inserts tried: %v", kills+losses, st, w.srv.Tried())
	w.exactlyOnce(l.store)
}

// A backup of the store is restored twice, and rows go on coming in each life: what was shipped after the backup is not sent again.
func TestBackupRestoredTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	c := w.client(true)
	from := time.Now().UTC().AddDate(0, 0, -20).Truncate(24 * time.Hour)
	l := begin(t, w, c, t.TempDir())
	defer func() { l.end() }()
	write := func(seed uint64, n int) {
		must(t, l.store.Write(t.Context(), chtest.Rows(chtest.RowsConfig{Seed: seed, Requests: n, Samples: 30, From: from.Add(time.Duration(seed) * time.Hour)})))
	}
	write(1, 100)
	l.drain()
	write(2, 130) // they wait when the backup is made
	backup := filepath.Join(t.TempDir(), "backup")
	must(t, l.disk.Copy(backup))
	for life := range uint64(3) {
		write(3+life, 55) // so that batches are cut elsewhere
		l.drain()
		if life == 2 {
			break
		}
		l.end()
		l = begin(t, w, c, backup)
	}
	if got := w.query("SELECT count(), uniqExact(id) FROM $db.requests"); got != "395\t395" {
		t.Errorf("requests and different ones: %s, expected 100 + 130 + 3 x 55 = 395 of each", strings.ReplaceAll(got, "\t", ", "))
	}
	for _, table := range []string{"power", "ledger", "configs"} {
		key := map[bool]string{true: "config_id", false: sampleKey}[table == "configs"]
		if got := w.query("SELECT count() - uniqExact(" + key + ") FROM $db." + table); got != "0" {
			t.Errorf("%s rows of %s are there twice", got, table)
		}
	}
	if missing := l.missing(w); missing > 0 {
		t.Errorf("%d rows of the store are not in ClickHouse", missing)
	}
	if st := l.sh.Stats(); st.FoundComplete+st.Refilled == 0 {
		t.Errorf("the last life found nothing that had been shipped: %+v", st)
	}
}

// missing counts the store's requests that are not in ClickHouse.
func (l *life) missing(w *world) (n int) {
	l.t.Helper()
	there := map[string]bool{}
	for id := range strings.FieldsSeq(w.query("SELECT id FROM $db.requests")) {
		there[id] = true
	}
	r, err := store.OpenReader(l.t.Context(), l.store.Path())
	must(l.t, err)
	defer func() { must(l.t, r.Close()) }()
	rows, err := r.DB().QueryContext(l.t.Context(), "SELECT id FROM requests")
	must(l.t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		must(l.t, rows.Scan(&id))
		if !there[id] {
			n++
		}
	}
	must(l.t, rows.Err())
	return n
}
