package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wattline/cmd/wattline/internal/configfile"
)

// FuzzConfigFile: reading any configuration file gives settings or an error of one line that names the file.
func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{
		"listen: 127.0.0.1:0\nmax-requests: 5\n", "routes:\n  - {name: a, listen: \"127.0.0.1:0\", upstream: \"http://x\", gpus: [\"0\"], labels: {a: b}}\n",
		"routes: {name: a}\n", "routes: [1, 2]\n", "routes:\n", "- a\n", "text", "", "a: [\n", "\ta: b\n", "a: &x [*x]\n", "? [a]: b\n", "listen: !!binary xx\n",
		"routes: &r\n  - listen: a\nx: *r\n", "a: b\na: c\n", "\x00", "\xff\xfe", "%YAML 1.3\n---\n", "a: |\n  x\n...\n---\nb: c\n", "routes: [{listen: {}}]\n", "price_per_kwh: 0.3\n",
	} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "fuzzed.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := configfile.Read([]string{"--config", path})
		if err != nil {
			if said := err.Error(); !strings.Contains(said, path) || strings.Contains(said, "\n") {
				t.Errorf("%q", said)
			}
			return
		}
		if _, err := configfile.CheckRoutes(c.Routes, configfile.Route{Name: "default"}); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q", err)
		}
		if _, _, _, err := parse([]string{"--config", path, "serve"}, os.Stdout, os.Stderr); err != nil && err.Error() == "" {
			t.Error("refused without a word")
		}
	})
}
