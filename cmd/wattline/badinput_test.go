package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wattline/sink"
)

// TestBadInputIsOneSentence: what a user can get wrong ends with one line on stderr that says what to do,
// with the right exit code, and nothing on stdout. testdata/script/badinput.txtar has more of it.
func TestBadInputIsOneSentence(t *testing.T) {
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
		{"port in use", 1, taken + " is taken by another process: stop that one or choose another address", serve("--listen", taken)},
		{"admin port in use", 1, "--admin " + taken + " is taken", serve("--admin", taken)},
		{"no scheme", 2, "write it as http://HOST:PORT", serve("--upstream", "127.0.0.1:8080")},
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
				t.Errorf("it says too much: %s", text)
			}
		})
	}
}
