package main

import (
	"encoding/csv"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"wattline/sink/queries"
)

// Every wattline command in a document or an alert parses, and every ready-made query that it names exists.
func TestDocumentedCommandsParse(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	n, names := 0, commandNames(t)
	for _, file := range []string{
		"README.md", "deploy/README.md", "deploy/prometheus/alerts.yml", "deploy/jaeger/jaeger.yaml", "deploy/systemd/wattline.service", "sink/otlp/JAEGER.md", "sink/otlp/TRACES.md",
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range commandsIn(string(text), names) {
			n++
			r := csv.NewReader(strings.NewReader(command))
			r.Comma, r.LazyQuotes = ' ', true
			words, err := r.Read()
			if err != nil {
				t.Fatalf("%s: %q: %v", file, command, err)
			}
			words = slices.DeleteFunc(words[1:], func(w string) bool { return w == "" || w == "--help" })
			if _, _, _, err := parse(words, io.Discard, io.Discard); err != nil {
				t.Errorf("%s: %q: %v", file, command, err)
			}
			if i := slices.Index(words, "--name"); i > 0 && i+1 < len(words) && words[0] == "query" {
				if _, err := queries.Find(words[i+1]); err != nil {
					t.Errorf("%s: %q: %v", file, command, err)
				}
			}
		}
	}
	if n < 25 {
		t.Errorf("only %d commands were found", n)
	}
}

// commandsIn finds `wattline COMMAND ...` in code, and removes comments, pipes and placeholders.
func commandsIn(text string, names []string) (out []string) {
	for _, m := range regexp.MustCompile("(?m)(?:^[# ]*|^ExecStart=/usr/local/bin/|`|\\$\\()(wattline [a-z][^`\n]*)").FindAllStringSubmatch(text, -1) {
		command := m[1]
		for _, end := range []string{" #", " | ", " &", ") "} {
			command, _, _ = strings.Cut(command, end)
		}
		command = strings.NewReplacer(" ...", "", "[", "", "]", "", ",", "").Replace(command)
		if len(strings.Fields(command)) > 1 && slices.Contains(names, strings.Fields(command)[1]) { // otherwise it is prose
			out = append(out, strings.TrimSpace(command))
		}
	}
	return out
}

// commandNames returns the commands that wattline --help lists.
func commandNames(t *testing.T) (names []string) {
	t.Helper()
	parser, err := kong.New(&cli{}, kong.Name("wattline"), flagDefaults())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Children {
		if !n.Hidden {
			names = append(names, n.Name)
		}
	}
	return names
}
