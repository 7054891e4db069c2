package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"wattline/sink/clickhouse/chtest"
)

// ddl runs the subcommand and returns its exit code and what it printed, the error last.
func ddl(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	var c struct {
		DDL ddlCmd `cmd:"" name:"ddl"`
	}
	parser, err := kong.New(&c, kong.DefaultEnvars("WATTLINE"), flagDefaults())
	if err != nil {
		t.Fatal(err)
	}
	kctx, err := parser.Parse(append([]string{"ddl"}, args...))
	if err != nil {
		return exitUsage, err.Error()
	}
	var out bytes.Buffer
	err = kctx.Run(&app{ctx: t.Context(), stdout: &out, log: slog.New(slog.DiscardHandler)})
	var e *exitError
	switch {
	case err == nil:
		return exitOK, out.String()
	case errors.As(err, &e):
		return e.code, out.String() + err.Error()
	}
	return exitFailed, out.String() + err.Error()
}

func TestDDLPrints(t *testing.T) {
	for _, c := range []struct{ args, has string }{
		{"", "CREATE TABLE IF NOT EXISTS `wattline`.`requests`"},
		{"--cluster gpus", "CREATE TABLE IF NOT EXISTS `wattline`.`requests_local` ON CLUSTER 'gpus'"},
		{"--clickhouse http://nowhere.invalid/mine", "CREATE TABLE IF NOT EXISTS `mine`.`requests`"},
	} {
		if code, out := ddl(t, strings.Fields(c.args)...); code != exitOK || !strings.Contains(out, c.has) {
			t.Errorf("ddl %s: exit %d, %s", c.args, code, out)
		}
	}
}

func TestDDLErrors(t *testing.T) {
	for _, c := range []struct {
		code      int
		has, args string
	}{
		{exitUsage, "need --clickhouse", "--verify"},
		{exitUsage, "can't be used together", "--verify --apply"},
		{exitUsage, "contains a password", "--apply --clickhouse http://u:s3cret@127.0.0.1/db"},
		{exitUsage, "contains a password", "--apply --clickhouse=http://127.0.0.1/db?password=s3cret"},
		{exitUsage, "must look like", "--apply --clickhouse s3cret"},
		{exitFailed, "no connection to 127.0.0.1:1", "--apply --clickhouse http://u@127.0.0.1:1/db"},
		{exitFailed, "password file", "--apply --clickhouse http://u@127.0.0.1:1/db --clickhouse-password-file /no/such/file"},
	} {
		code, out := ddl(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.has) || strings.Contains(out, "s3cret") {
			t.Errorf("ddl %s: exit %d, %s", c.args, code, out)
		}
	}
	t.Setenv("WATTLINE_CLICKHOUSE", "http://u:s3cret@127.0.0.1:1/db")
	if code, out := ddl(t, "--apply"); code != exitFailed || !strings.Contains(out, "no connection") || strings.Contains(out, "s3cret") {
		t.Errorf("a password in the environment: exit %d, %s", code, out)
	}
}

func TestDDLAppliesAndVerifies(t *testing.T) {
	t.Parallel()
	e := engine.Engine(t)
	srv := chtest.NewServer(t, e, chtest.Options{Users: map[string]string{"ops": "s3cret"}})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--clickhouse", "clickhouse://ops@" + srv.NativeAddr() + "/rows", "--clickhouse-password-file", file}
	step := func(code int, has string, args ...string) {
		t.Helper()
		if got, out := ddl(t, append(args, flags...)...); got != code || !strings.Contains(out, has) || strings.Contains(out, "s3cret") {
			t.Errorf("ddl %v: exit %d, %s", args, got, out)
		}
	}
	step(exitFailed, "table requests is missing", "--verify")
	step(exitOK, "is at schema version", "--apply")
	step(exitOK, "every table and column", "--verify")
	e.MustQuery(t, "ALTER TABLE rows.power DROP COLUMN temp_c")
	step(exitFailed, "table power lacks column temp_c", "--verify")
	step(exitOK, "every table and column", "--apply")
}
