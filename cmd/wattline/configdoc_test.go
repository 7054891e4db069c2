package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
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
	var b strings.Builder
	b.WriteString("# wattline's settings. Copy this file to /etc/wattline/config.yaml or ~/.config/wattline/config.yaml and uncomment\n" +
		"# what you change. A flag on the command line wins over the environment variable, which wins over this file.\n" +
		"# SIGHUP reloads certificates, prices and the log level. SIGUSR2 starts a new process with all settings reloaded.\n")
	document := func(flags []*kong.Flag) {
		for _, f := range flags {
			if f.Hidden || f.Name == "help" || f.Name == "config" {
				continue
			}
			fmt.Fprintf(&b, "\n%s\n#%s: %s\n", wrapped(f), f.Name, yamlDefault(f))
		}
	}
	document(parser.Model.Flags)
	for _, n := range parser.Model.Children {
		if n.Name == "serve" {
			document(n.Flags)
		}
	}
	b.WriteString("\n# Several upstreams, each with its own listener. The keys listen, upstream and labels are then ignored, and\n# their flags are rejected.\n" +
		"#routes:\n#  - name: chat\n#    listen: 127.0.0.1:8080\n#    upstream: http://127.0.0.1:9001\n#    gpus: [\"0\"]\n#    labels: {team: search}\n")
	return b.String()
}

// wrapped returns the flag's help as comment lines.
func wrapped(f *kong.Flag) string {
	words := strings.Fields(f.Help)
	if len(f.Envs) > 0 {
		words = append(words, "("+f.Envs[0]+")")
	}
	var lines []string
	line := "#"
	for _, w := range words {
		if len(line)+1+len(w) > 110 {
			lines = append(lines, line)
			line = "#"
		}
		line += " " + w
	}
	return strings.Join(append(lines, line), "\n")
}

// yamlDefault returns the flag's default as YAML.
func yamlDefault(f *kong.Flag) string {
	switch {
	case !f.HasDefault || f.Default == "":
		return "null"
	case f.IsBool() || f.IsCounter():
		return f.Default
	case f.IsSlice():
		return "[" + strings.ReplaceAll(f.Default, ",", ", ") + "]"
	}
	if strings.ContainsAny(f.Default, ":{}[]#") {
		return fmt.Sprintf("%q", f.Default)
	}
	return f.Default
}
