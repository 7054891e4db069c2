package main

import (
	"bytes"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/sink"
)

// TestBadInput: each mistake of a user gives one line on stderr that says what to do, the right exit code, and nothing
// on stdout. testdata/script/badinput.txtar has more of them.
func TestBadInput(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken, dir := ln.Addr().String(), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	serve := func(args ...string) []string {
		return append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "off", "--upstream", "http://127.0.0.1:1"}, args...)
	}
	for _, c := range []struct {
		name string
		code int
		want string
		args []string
	}{
		{"unknown flag", 2, "unknown flag --nope", serve("--nope")},
		{"port in use", 1, taken + " is in use by another process: stop it or choose another address", serve("--listen", taken)},
		{"admin port in use", 1, "--admin " + taken + " is in use", serve("--admin", taken)},
		{"no scheme", 2, "write it as http://HOST:PORT", serve("--upstream", "127.0.0.1:8080")},
		{"a port that is none", 2, "cannot be read", serve("--upstream", "http://127.0.0.1:abc")},
		{"no port", 2, "--listen is empty: write it as HOST:PORT", serve("--listen", "")},
		{"no admin port", 2, "--admin is empty: write it as HOST:PORT, or off", serve("--admin=")},
		{"admin for everybody", 2, "give --admin-password-file FILE, or --admin-open", serve("--admin", "0.0.0.0:0")},
		{"a short admin password", 2, "its first line is the password, and has 3 bytes", serve("--admin", "0.0.0.0:0", "--admin-password-file", file("short", "abc\n"))},
		{"an admin host with a port", 2, `--admin-hosts: "a.b:1" is no host name`, serve("--admin", "127.0.0.1:0", "--admin-hosts", "a.b:1")},
		{"health of nobody", 1, "no wattline answers at 127.0.0.1:1", []string{"health", "--admin", "127.0.0.1:1"}},
		{"health without an admin API", 2, "--admin is off", []string{"health", "--admin", "off"}},
		{"an upstream that init cannot set", 2, "write it as http://HOST:PORT", []string{"init", "--upstream", "127.0.0.1:8080"}},
		{"completion of no shell", 2, "must be one of", []string{"completion", "tcsh"}},
		{"a trace into no folder", 1, "its folder must exist", []string{"trace", "export", "--out", dir + "/none/x.jsonl"}},
		{"tune without time", 2, "--budget must be above 0", []string{"tune", "--budget", "0", "--", "true"}},
		{"tune of every difference", 2, "--margin 0 must be above 0", []string{"tune", "--margin", "0", "--", "true"}},
		{"tune of no program", 2, "is no program that can be run", []string{"tune", "--", "/nope/llama-server"}},
		{"a socket in no folder", 1, "its folder must exist", serve("--listen", "unix://"+dir+"/none/x.sock")},
		{"no connection", 2, "--max-conns is 0, but must be at least 1", serve("--max-conns", "0")},
		{"no request", 2, "--max-requests is -3", serve("--max-requests=-3")},
		{"no head", 2, "--max-header-bytes is 10", serve("--max-header-bytes", "10")},
		{"less than no body", 2, "--max-body-bytes is -1", serve("--max-body-bytes=-1")},
		{"no time", 2, "--header-idle is 0s", serve("--header-idle", "0s")},
		{"time that runs back", 2, "--stop-timeout is -1s", serve("--stop-timeout=-1s")},
		{"another one", 2, "--handover-timeout is -1s", serve("--handover-timeout=-1s")},
		{"a price that is no number", 2, "--price-per-kwh is NaN", serve("--price-per-kwh", "NaN")},
		{"a price without end", 2, "--gco2-per-kwh is +Inf", serve("--gco2-per-kwh", "Inf")},
		{"YAML: time without a unit", 2, `--header-idle: expected duration but got "5"`, serve("--config", file("unit.yaml", "header-idle: 5\n"))},
		{"YAML: a port alone", 2, `--listen "8080" is not an address to listen on`, []string{"--config", file("port.yaml", "listen: 8080\nadmin: off\n"), "serve"}},
		{"YAML: a list for one", 2, "--listen takes one value", []string{"--config", file("list.yaml", "listen: [a, b]\n"), "serve"}},
		{"YAML: keys for a value", 2, "--listen takes one value", []string{"--config", file("map.yaml", "listen: {a: b}\n"), "serve"}},
		{"YAML: a key in two spellings", 2, `sets "max-conns" twice`, serve("--config", file("twice.yaml", "max-conns: 5\nmax_conns: 6\n"))},
		{"YAML: two documents", 2, "several YAML documents", serve("--config", file("docs.yaml", "max-conns: 5\n---\nmax-requests: 6\n"))},
		{"store in no folder", 1, "point --store elsewhere", serve("--store", "/proc/none/wattline.db")},
		{"store below a file", 1, "point --store elsewhere", serve("--store", file("plain", "")+"/wattline.db")},
		{"store that is none", 1, "not a wattline store", serve("--store", file("notes.txt", strings.Repeat("x", 100)))},
		{"broken YAML", 2, "is not valid YAML", append([]string{"--config", file("broken.yaml", "listen: [\n\t- a\n")}, serve()...)},
		{"unknown key", 2, `has the key "lissten"`, append([]string{"--config", file("unknown.yaml", "lissten: x\n")}, serve()...)},
		{"route without upstream", 2, "needs both listen and upstream", []string{"--config", file("half.yaml", "routes: [{listen: \"127.0.0.1:0\"}]\n"), "serve"}},
		{"a device that is not there", 2, `gpus: there is no "7" here; there are: `, serve("--gpu", "sim", "--gpus", "7")},
		{"a route's device that is not there", 2, `gpus: there is no "7" here`, []string{"--config", file("gpus.yaml", "gpu: none\nadmin: \"off\"\nroutes: [{listen: \"127.0.0.1:0\", upstream: \"http://127.0.0.1:1\", gpus: [\"7\"]}]\n"), "serve"}},
		{"certificate that is none", 2, "", serve("--tls-cert", file("cert", "x"), "--tls-key", file("key", "x"))},
		{"DSN with a password", 2, "password", serve("--clickhouse", "http://u:secret@127.0.0.1:1/db")},
		{"nobody's model", 2, "nothere.gguf", []string{"demo", "--model", filepath.Join(dir, "nothere.gguf")}},
		{"no such store", 1, "there is no store at", []string{"requests", "--store", filepath.Join(dir, "nothere.db")}},
		{"no such request", 1, "`wattline requests` lists them", []string{"requests", "zzz", "--store", storeOf(t, sink.Rows{})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), c.args, &out, &errs)
			text := errs.String()
			if code != c.code || !strings.HasPrefix(text, "wattline: ") || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 || out.Len() > 0 {
				t.Errorf("exit %d, want %d: %s%s", code, c.code, text, out.String())
			}
			if strings.Contains(text, "secret") || strings.Contains(text, "goroutine ") {
				t.Errorf("the error reveals too much: %s", text)
			}
		})
	}
}

// TestConfigFileValues: YAML numbers, lists and maps mean the same as their text on the command line.
func TestConfigFileValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := "\ufeffinstance: 7\nmax-body-bytes: 1048576\nprice_per_kwh: 0.25\npprof: yes\nheader-idle: 90s\nlabels: {team: a, size: 1, odd: \"b;c=d\"}\n" +
		"session-headers: [X-A, \"X-B\"]\ngpus: [0, 1]\nstore:\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, _, err := parse([]string{"--config", path, "serve"}, os.Stdout, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Serve
	if s.Instance != "7" || s.MaxBodyBytes != 1<<20 || s.PricePerKWh == nil || *s.PricePerKWh != 0.25 || !s.Pprof || s.HeaderIdle != 90*time.Second || s.Store != "" {
		t.Errorf("%+v", s)
	}
	if !maps.Equal(s.Labels, map[string]string{"team": "a", "size": "1", "odd": "b;c=d"}) || !slices.Equal(s.SessionHeaders, []string{"X-A", "X-B"}) || !slices.Equal(s.GPUs, []string{"0", "1"}) {
		t.Errorf("labels %v, session headers %v, gpus %v", s.Labels, s.SessionHeaders, s.GPUs)
	}
}
