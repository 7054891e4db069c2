package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/queries"
)

func TestQueryFormats(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("a,b", at), unmetered("c", at)}})
	sql := "SELECT id, started_at, ttft_us, ttft_us / 7e0 AS f FROM requests ORDER BY id"
	for format, want := range map[string]string{
		"json":  `{"id":"a,b","started_at":"2026-11-23 12:00:00.123456","ttft_us":352000,"f":50285.71428571428}` + "\n" + `{"id":"c","started_at":"2026-11-23 12:00:00.123456","ttft_us":null,"f":null}` + "\n",
		"csv":   "id,started_at,ttft_us,f\n\"a,b\",2026-11-23 12:00:00.123456,352000,50285.71428571428\nc,2026-11-23 12:00:00.123456,,\n",
		"table": "id   started_at                  ttft_us      f\na,b  2026-11-23 12:00:00.123456   352000  50286\nc    2026-11-23 12:00:00.123456        -      -\n",
	} {
		if out, _ := output(t, 0, "query", sql, "--format", format, "--store", db); out != want {
			t.Errorf("%s:\n%s\nwant\n%s", format, out, want)
		}
	}
}

func TestQueryReadOnly(t *testing.T) {
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{unmetered("a", time.Now())}})
	other := filepath.Join(t.TempDir(), "other.db")
	for _, sql := range []string{
		"DELETE FROM requests", "SELECT 1; DELETE FROM requests", "INSERT INTO counters VALUES ('x', 1)", "CREATE TABLE t (x)", "CREATE TEMP TABLE t (x)",
		"DROP VIEW efficiency", "PRAGMA journal_mode = DELETE", "PRAGMA user_version = 99", "VACUUM", "VACUUM INTO '" + other + "'", "ATTACH '" + other + "' AS o",
	} {
		if _, errs := output(t, 1, "query", sql, "--store", db); !strings.Contains(errs, "only reads") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %s", sql, errs)
		}
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a query made a file")
	}
	if out, _ := output(t, 0, "query", "SELECT count(*) AS n FROM requests", "--format", "csv", "--store", db); out != "n\n1\n" {
		t.Errorf("the rows afterwards: %s", out)
	}
}

func TestQueryErrors(t *testing.T) {
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("a", time.Now())}})
	endless := "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "give either SQL", nil},
		{2, "give either SQL", []string{"SELECT 1", "--name", "idle"}},
		{2, "no query named \"nix\", only", []string{"--name", "nix"}},
		{2, "--since", []string{"--name", "idle", "--since", "x"}},
		{2, "contains a password", []string{"SELECT 1", "--clickhouse", "http://u:secret@127.0.0.1/db"}},
		{2, "must look like", []string{"SELECT 1", "--clickhouse", "nonsense"}},
		{1, "no such column: nix (1); tables: requests", []string{"SELECT nix FROM requests"}},
		{1, `no such column: "ok"`, []string{`SELECT "ok"`}},
		{1, "between 0 and 1", []string{"SELECT quantile(ttft_us, 2) FROM requests"}},
		{1, "longer than 100ms", []string{endless, "--timeout", "100ms"}},
	} {
		if _, errs := output(t, c.code, append([]string{"query", "--store", db}, c.args...)...); !strings.Contains(errs, c.want) {
			t.Errorf("%v: %s", c.args, errs)
		}
	}
}

func TestNamedQueries(t *testing.T) {
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{measured("a", time.Now()), measured("b", time.Now().Add(-48*time.Hour))}})
	list, _ := output(t, 0, "query", "--list")
	for _, q := range queries.All() {
		if !strings.Contains(list, q.Name) || !strings.Contains(list, q.Question) {
			t.Errorf("%s is not listed", q.Name)
		}
		if out, _ := output(t, 0, "query", "--name", q.Name, "--show", "--store", db); !strings.HasPrefix(out, "SELECT") && !strings.HasPrefix(out, "WITH") {
			t.Errorf("%s: %s", q.Name, out)
		}
	}
	out, _ := output(t, 0, "query", "--name", "ab", "--label", "team", "--since", "1d", "--format", "csv", "--store", db)
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], "blue,1,101,202,3,2,0.5,") {
		t.Errorf("ab by team:\n%s", out)
	}
}

// TestSignalEndsABlockedQuery: SIGTERM and Ctrl-Z end a query that is blocked because its output is not read.
func TestSignalEndsABlockedQuery(t *testing.T) {
	t.Parallel()
	path := storeOf(t, sink.Rows{})
	for sig, says := range map[os.Signal]string{syscall.SIGTERM: "", stopSignals()[0]: "ended, not stopped"} {
		cmd := command(t, "query", "--format", "csv", "--store", path, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 10000000")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it prints; from now on nobody reads
			t.Fatal(err)
		}
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it fails, as it should
		if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(stderr.String(), says) {
			t.Errorf("after %v: %v, %q", sig, cmd.ProcessState, stderr.String())
		}
	}
}
