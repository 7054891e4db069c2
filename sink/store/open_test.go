package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
)

func TestSchemaHasAllColumns(t *testing.T) {
	s := tempStore(t)
	check := func(table string, want []string) {
		rows, err := s.db.QueryContext(t.Context(), `SELECT name || ' ' || type FROM pragma_table_info(?) ORDER BY 1`, table)
		must(t, err)
		defer rows.Close()
		var got []string
		for rows.Next() {
			var c string
			must(t, rows.Scan(&c))
			got = append(got, c)
		}
		must(t, rows.Err())
		want = append(want, "ship_seq INTEGER")
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("table %s: its columns are not the code's:\n%s", table, d)
		}
	}
	s.db.SetMaxOpenConns(2)
	check(TableRequests, described(newTables().requests))
	check(TablePower, described(newTables().power))
	check(TableLedger, described(newTables().ledger))
	check(TableConfigs, described(newTables().configs))
}

// A column that the code has and the file lacks is added when the store is opened, and written from then on.
func TestNewColumnAddedAtOpen(t *testing.T) {
	s := tempStore(t)
	must(t, s.Close())
	raw, err := sql.Open("sqlite", s.Path())
	must(t, err)
	_, err = raw.ExecContext(t.Context(), "DROP VIEW efficiency; ALTER TABLE requests DROP COLUMN gpu_temp_c; ALTER TABLE power DROP COLUMN throttle")
	must(t, errors.Join(err, raw.Close()))
	s = reopen(t, s.Path())
	rec := request(0)
	rec.GPUTempC = meter.Some(61)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{rec}, Power: []*sink.Power{{At: epoch, Device: "GPU-0", Throttle: []string{"power cap"}}}}))
	if n := number(t, s, "SELECT gpu_temp_c FROM requests"); n != 61 {
		t.Errorf("gpu_temp_c is %d", n)
	}
	if n := number(t, s, `SELECT throttle = '["power cap"]' FROM power`); n != 1 {
		t.Error("the reasons are lost")
	}
}

func described[T any](t table[T]) []string {
	var names []string
	for _, c := range t.columns {
		names = append(names, c.Name+" "+sqlType(c.Ptr(new(T))))
	}
	return names
}

func TestFileModes(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 1)}))
	for path, want := range map[string]os.FileMode{
		filepath.Dir(s.Path()): 0o700, s.Path(): 0o600, s.Path() + "-wal": 0o600, s.Path() + "-shm": 0o600, s.Path() + ".lock": 0o600,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	var vacuum, sync int
	var journal string
	must(t, s.conn.QueryRowContext(t.Context(), "SELECT (SELECT auto_vacuum FROM pragma_auto_vacuum), (SELECT journal_mode FROM pragma_journal_mode), (SELECT synchronous FROM pragma_synchronous)").Scan(&vacuum, &journal, &sync))
	if vacuum != 2 || journal != "wal" || sync != 2 {
		t.Errorf("auto_vacuum %d, journal_mode %s, synchronous %d; want incremental (2), wal, full (2)", vacuum, journal, sync)
	}
}

// recreate makes a store from the dump of one that an earlier version wrote.
func recreate(t *testing.T, dump string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "wattline.db")
	text, err := os.ReadFile(dump)
	must(t, err)
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = raw.ExecContext(t.Context(), string(text))
	must(t, errors.Join(err, raw.Close()))
	return path
}

// columnNames returns the columns of table requests in a store's file.
func columnNames(t *testing.T, path string) (names []string) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	var list string
	err = raw.QueryRowContext(t.Context(), "SELECT group_concat(name) FROM pragma_table_info('requests')").Scan(&list)
	must(t, errors.Join(err, raw.Close()))
	return strings.Split(list, ",")
}

// clearField makes a field, given by pointer, null.
func clearField(field any) { reflect.ValueOf(field).Elem().SetZero() }

// An upgrade keeps the rows of every version before, and what waited there still ships: ten requests, the
// third of which was pending, and a row of each other table.
func TestUpgradeFromOlderVersions(t *testing.T) {
	dumps, err := filepath.Glob("testdata/v*.sql")
	must(t, err)
	if len(dumps) != schemaVersion()-1 {
		t.Fatalf("%d dumps of earlier stores for version %d: add one of the version before (sqlite3 FILE .dump)", len(dumps), schemaVersion())
	}
	for _, dump := range dumps {
		old := recreate(t, dump)
		had := columnNames(t, old)
		s := reopen(t, old)
		w, err := s.Waiting(t.Context())
		must(t, err)
		if d := cmp.Diff(Waiting{Rows: map[string]int64{TableRequests: 10, TablePower: 1, TableLedger: 1, TableConfigs: 1, TableGaps: 0}, Oldest: request(0).StartedAt}, w); d != "" {
			t.Errorf("after the upgrade of %s: %s", dump, d)
		}
		shipped := map[string]int{}
		for b := next(t, s, 9); b != nil; b = next(t, s, 9) {
			shipped[b.Table] += len(b.IDs)
			if b.Table == TablePower {
				want := power(1)
				if dump >= "testdata/v3.sql" { // the first that had these columns
					want.MinMw, want.Simulated, want.Marked = meter.Some(99_000), meter.Some(1), "why"
				}
				if d := cmp.Diff([]*sink.Power{want}, b.Power); d != "" {
					t.Errorf("%s: the row of power: %s", dump, d)
				}
			}
			must(t, s.ConfirmBatch(t.Context(), b.Seq))
		}
		if d := cmp.Diff(map[string]int{TableRequests: 10, TablePower: 1, TableLedger: 1, TableConfigs: 1}, shipped); d != "" {
			t.Errorf("%s: shipped %s", dump, d)
		}
		want := full(t)
		want.ID, want.StartedAt, want.EnergyQuality = request(1).ID, request(1).StartedAt, meter.EnergyMeasured
		for _, c := range meter.Columns() {
			if !slices.Contains(had, c.Name) {
				clearField(c.Ptr(want))
			}
		}
		got, err := tempReader(t, s).Find(t.Context(), want.ID)
		must(t, err)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: the full row: %s", dump, d)
		}
		must(t, s.Write(t.Context(), &sink.Rows{Power: []*sink.Power{{At: epoch, Device: "GPU-0", MinMw: meter.Some(5)}}}))
		must(t, s.Close())
		reopen(t, s.Path()) // a second opening changes nothing
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	newerStore := filepath.Join(dir, "newer.db")
	must(t, reopen(t, newerStore).Close())
	raw, err := sql.Open("sqlite", newerStore)
	must(t, err)
	_, err = raw.ExecContext(t.Context(), "PRAGMA user_version = 99")
	must(t, errors.Join(err, raw.Close()))

	for name, c := range map[string]struct {
		path string
		kind error
		want string
	}{
		"garbage":           {file("garbage.db", strings.Repeat("not a database ", 1000)), ErrDamaged, "move it and its -wal file aside"},
		"newer":             {newerStore, ErrNewer, "has format 99, and this wattline knows none above " + strconv.Itoa(schemaVersion())},
		"a folder":          {dir, ErrReadOnly, "point --store elsewhere"},
		"beneath a file":    {file("plain", "x") + "/wattline.db", ErrReadOnly, "point --store elsewhere"},
		"where none can be": {"/proc/wattline/wattline.db", nil, "/proc/wattline"},
	} {
		_, err := Open(t.Context(), Config{Path: c.path, Log: quiet()})
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenReader(t.Context(), filepath.Join(dir, "missing.db")); !errors.Is(err, ErrMissing) {
		t.Errorf("a missing store is read: %v", err)
	}
	if _, err := OpenReader(t.Context(), file("empty.db", "")); !errors.Is(err, ErrDamaged) {
		t.Errorf("an empty file is read: %v", err)
	}
}

func TestDamagedStoreSetAside(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 2000)}))
	must(t, s.Close())
	f, err := os.OpenFile(s.Path(), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat("x", 32<<10)), 4096)
	must(t, errors.Join(err, f.Close()))

	if _, err := Open(t.Context(), Config{Path: s.Path(), Log: quiet()}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a damaged store opens: %v", err)
	}
	s, err = Open(t.Context(), Config{Path: s.Path(), SetAside: true, Log: quiet()})
	must(t, err)
	defer s.Close()
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 1)}))
	aside, err := filepath.Glob(s.Path() + ".damaged-*")
	must(t, err)
	if len(aside) != 1 {
		t.Errorf("set aside: %v", aside)
	}
}

// A file that never was a store is refused and stays where and what it is.
func TestForeignFileNotSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	text := strings.Repeat("not a store\n", 1000)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	if _, err := Open(t.Context(), Config{Path: path, SetAside: true, Log: quiet()}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "not a wattline store") {
		t.Errorf("it opens: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("the file became %d bytes, %v", len(got), err)
	}
}

func TestOneWriterManyReaders(t *testing.T) {
	path := t.TempDir() + "/wattline.db"
	cmd, out := child(t, "hold", path)
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("the child says %q", out.Text())
	}
	_, err := Open(context.Background(), Config{Path: path, Log: quiet()})
	want := fmt.Sprintf("is being written by another wattline (pid %d): stop it", cmd.Process.Pid)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("a second writer: %v", err)
	}
	r, err := OpenReader(t.Context(), path)
	must(t, err)
	must(t, r.Close())
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	reopen(t, path)
}

// A file that rots while it is written costs rows, which are counted, and nothing else.
func TestDamageWhileRunning(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 5000)}))
	must(t, s.Close())
	s = reopen(t, s.Path())
	info, err := os.Stat(s.Path())
	must(t, err)
	damage(t, s.Path(), 40<<10, info.Size())

	q := sink.New(sink.Config{Store: s, Log: quiet()})
	for i := range 10 {
		if !q.Offer(request(10_000 + i)) {
			t.Error("the queue takes no rows")
		}
	}
	must(t, q.Flush(t.Context()))
	st := q.Stats()
	if st.Requests.Lost != 10 || !strings.Contains(st.LastError, "is damaged or not a wattline store: move it and its -wal file aside") {
		t.Errorf("%+v", st)
	}
	must(t, q.Stop(t.Context()))
}

// damage overwrites a part of a file from outside: a process of its own, since closing the file here would
// drop SQLite's locks.
func damage(t *testing.T, path string, from, to int64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "dd", "if=/dev/urandom", "of="+path, "bs=4096", "conv=notrunc",
		fmt.Sprintf("seek=%d", from/4096), fmt.Sprintf("count=%d", (to-from)/4096))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A reader that found no writer, on a folder that it may not write, believes that the file does not
// change. It must notice when a writer comes after all.
func TestFrozenReaderNoticesWriter(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 3)}))
	must(t, s.Close())
	r := &Reader{path: s.Path()}
	must(t, r.connect(t.Context(), frozen))
	defer r.Close()
	s = reopen(t, s.Path())
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(3, 10)}))
	recs, err := r.Latest(t.Context(), 100)
	must(t, err)
	if len(recs) != 10 {
		t.Errorf("it sees %d rows of 10", len(recs))
	}
}
