package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"wattline/cmd/wattline/internal/setup"
)

var update = flag.Bool("update", false, "rewrite generated documents")

// TestConfigFileDocument: deploy/config.yaml is generated from serve's flags, so that it has each flag with its default
// (go test -run ConfigFileDocument ./cmd/wattline -update).
func TestConfigFileDocument(t *testing.T) {
	want := configDocument(t)
	path := filepath.Join("..", "..", "deploy", "config.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from the flags; go test -run ConfigFileDocument ./cmd/wattline -update", path)
	}
}

// TestConfigFileDocumentParses: with every key uncommented, serve accepts the file.
func TestConfigFileDocumentParses(t *testing.T) {
	var active strings.Builder
	for line := range strings.Lines(configDocument(t)) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") && !strings.HasSuffix(rest, ": null\n") {
			line = rest
		}
		active.WriteString(line)
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(active.String()), &values); err != nil {
		t.Fatalf("%v\n%s", err, active.String())
	}
	if len(values) < 15 {
		t.Errorf("only %d keys are in it", len(values))
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(active.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := parse([]string{"--config", path, "serve"}, os.Stdout, os.Stderr); err != nil {
		t.Errorf("%v\n%s", err, active.String())
	}
}

func configDocument(t *testing.T) string {
	t.Helper()
	parser, err := kong.New(&cli{}, kong.Name("wattline"), kong.DefaultEnvars("WATTLINE"), flagDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return setup.Config(parser.Model, nil)
}
