package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"wattline/proxy/llamatest"
	"wattline/sink/clickhouse/chtest"
)

// TestServeClickHouse: rows of real requests arrive in a real engine once, and a query has the same result in both
// engines. wattline does not print the password anywhere.
func TestServeClickHouse(t *testing.T) {
	e := engine.Engine(t)
	const password = "swordfish-4711"
	srv := chtest.NewServer(t, e, chtest.Options{Users: map[string]string{"wattline": password}})
	t.Setenv("WATTLINE_CLICKHOUSE", "http://wattline@"+srv.HTTPAddr()+"/wattline")
	t.Setenv("WATTLINE_CLICKHOUSE_PASSWORD", password)
	w := serve(t, llamatest.Start(t).URL(), "--keep-gaps", "24h", "--pprof")
	stream := w.post(t.Context(), "/completion", map[string]any{"prompt": "ba ce", "stream": true, "n_predict": 40, "ignore_eos": true})
	if stream.err != nil || stream.status != 200 {
		t.Fatal(stream.status, stream.err)
	}
	const n = 12
	for i := range n {
		path := "/completion"
		if i%3 == 0 {
			path = "/tokenize"
		}
		if r := w.post(t.Context(), path, map[string]any{"prompt": "ba ce", "content": "ba ce", "n_predict": 3}); r.err != nil || r.status != 200 {
			t.Fatal(r.status, r.err)
		}
	}
	question := "SELECT path, count(*) AS n, sum(output_tokens) AS tokens FROM requests GROUP BY path ORDER BY path"
	deadline := time.Now().Add(patience)
	for {
		got, err := e.Query(context.Background(), "SELECT (SELECT count() FROM wattline.requests), (SELECT count() FROM wattline.itl_gaps)")
		if err == nil && strings.TrimSpace(got) == "13\t1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("13 rows and the gaps of one do not arrive: %q, %v", got, err)
		}
		<-time.After(200 * time.Millisecond)
	}
	here, there := answer(t, "query", "--format", "csv", "--store", w.store, question), answer(t, "query", "--format", "csv", question)
	if here != there || !strings.Contains(here, "/completion,9,64") {
		t.Errorf("the store says\n%s\nClickHouse says\n%s", here, there)
	}
	gaps, err := e.Query(t.Context(), "SELECT g.id, length(g.gaps_us) = r.output_events - 1, round(arraySum(g.gaps_us) / 1000) - round(r.decode_us / 1000) BETWEEN -1 AND 1 "+
		"FROM wattline.itl_gaps AS g JOIN wattline.requests AS r ON r.id = g.id")
	if err != nil || strings.TrimSpace(gaps) != stream.id+"\t1\t1" {
		t.Errorf("the stream's raw gaps do not sum to its decode time: %q, %v", gaps, err)
	}
	here, there = answer(t, "query", "--format", "csv", "--store", w.store, "--name", "gaps"), answer(t, "query", "--format", "csv", "--name", "gaps")
	if here != there || strings.Count(here, "\n") != 2 {
		t.Errorf("of the raw gaps the store says\n%s\nClickHouse says\n%s", here, there)
	}
	none := "SELECT path AS a, count(*) AS n FROM requests WHERE path = 'nix' GROUP BY path;"
	if here, there = answer(t, "query", "--format", "csv", "--store", w.store, none), answer(t, "query", "--format", "csv", none); here != "a,n\n" || there != here {
		t.Errorf("of no rows the store says %q, ClickHouse %q", here, there)
	}
	for statement, want := range map[string]string{
		"SELECT nope FROM requests": "`nope`", "INSERT INTO requests (id) VALUES ('x')": "this connection only reads", "SELECT 1 FROM nix": "nix",
	} {
		cmd := command(t, "query", statement)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != exitFailed || !strings.Contains(string(out), want) || strings.Contains(string(out), password) {
			t.Errorf("%s: exit %d, %s", statement, code, out)
		}
	}
	w.hidesSecret(t, password)
}

// hidesSecret checks that a secret is not in the log, the command line or the admin listener's pages.
func (w *wattlineProcess) hidesSecret(t *testing.T, secret string) {
	t.Helper()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", w.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{"the log": w.said(), "ps": string(cmdline)}
	for _, path := range []string{"/metrics", "/api/status", "/api/requests", "/healthz", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=2"} {
		_, shown[path] = w.get(t, path)
	}
	for where, text := range shown {
		if strings.Contains(text, secret) {
			t.Errorf("the password is in %s", where)
		}
	}
}

// TestPasswordOnCommandLine: a password on the command line is an error, which does not repeat it.
func TestPasswordOnCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{"serve", "--admin", "off", "--clickhouse", "clickhouse://u:s3cret@127.0.0.1:1/db"},
		{"query", "SELECT 1", "--clickhouse=http://127.0.0.1:1/db?password=s3cret"},
		{"usage", "--clickhouse", "http://u:s3cret@127.0.0.1:1/db"},
	} {
		cmd := command(t, args...)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != exitUsage || !strings.Contains(string(out), "--clickhouse-password-file") || strings.Contains(string(out), "s3cret") {
			t.Errorf("%s: exit %d, %s", args[0], code, out)
		}
	}
}

// TestRetentionLimits: values that would keep no rows are errors.
func TestRetentionLimits(t *testing.T) {
	for _, flag := range []string{"--keep-requests=0s", "--keep-requests=-1h", "--keep-samples=-5m", "--keep-gaps=-1h", "--max-store-bytes=0", "--max-store-bytes=-1", "--max-store-bytes=1000"} {
		name, _, _ := strings.Cut(flag, "=")
		if _, errs := output(t, exitUsage, "serve", "--gpu", "none", "--listen", "127.0.0.1:0", "--admin", "off", "--store", t.TempDir()+"/w.db", flag); !strings.Contains(errs, name+" is too small") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %s", flag, errs)
		}
	}
}

// answer runs a command as a process and returns its standard output.
func answer(t *testing.T, args ...string) string {
	t.Helper()
	cmd := command(t, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("wattline %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}
