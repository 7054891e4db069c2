package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is ARCHITECTURE.md's "Who may import whom", for non-test files: a package may import what
// the longest matching entry lists ("a/*" is every package right below a), and its own parents. cmd may import everything.
var mayImport = map[string][]string{
	"meter":           {},
	"gpu":             {"meter"},
	"gpu/sources":     {"meter", "gpu/*"}, // the table of all sources
	"proxy":           {"meter", "proxy/http1", "proxy/rawconn"},
	"proxy/llamatest": {"deploy/llama"},
	"sink":            {"meter"},
	// The one place where the proxy's events, the devices' power and the ledger meet.
	"sink/attribution": {"meter", "meter/energy", "meter/energy/recording", "gpu", "gpu/discover", "proxy", "proxy/llama"},
	// A row of table configs is what the upstream says, its process's flags and its devices.
	"sink/serverconfig":      {"meter", "gpu", "gpu/discover", "proxy", "proxy/llama"},
	"sink/clickhouse":        {"meter", "sink/store"},
	"sink/clickhouse/chtest": {"meter", "deploy/debian"}, // a test kit
	"sink/otlp":              {"meter", "sink/semconv"},
	"sink/metrics":           {"meter", "sink/semconv"},
	"sink/telemetry":         {"meter", "proxy", "sink/metrics", "sink/otlp"},
	"replay":                 {"meter"},
	"replay/report":          {"meter", "replay/table"},
	"replay/selftest":        {"meter", "replay/table", "replay/client", "replay/load", "replay/prompt"},
	"replay/session":         {"meter", "replay/client", "replay/load", "replay/prompt"},
	"replay/proxies":         {"meter", "proxy", "proxy/stub"},
	"deploy":                 {},
}

// reserved are package names that say nothing about what is inside.
var reserved = []string{"util", "utils", "common", "types", "core", "helpers", "misc"}

const module = "wattline/"

type sourceFile struct {
	path, dir string
	file      *ast.File
}

func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []sourceFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "bin") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && rel != "." {
				return filepath.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, sourceFile{rel, filepath.ToSlash(filepath.Dir(rel)), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImportsObeyTheLayers(t *testing.T) {
	checked := 0
	for _, f := range sourceFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") || strings.HasPrefix(f.dir, "cmd/") {
			continue
		}
		for _, imp := range f.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			ours, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			checked++
			if !allowed(f.dir, ours) {
				t.Errorf("%s imports %s, which ARCHITECTURE.md does not allow to %s", f.path, ours, f.dir)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d imports were checked: the walk is broken", checked)
	}
}

func allowed(from, to string) bool {
	if from == to || strings.HasPrefix(from, to+"/") { // a parent
		return true
	}
	for at := from; at != "."; at = filepath.ToSlash(filepath.Dir(at)) {
		if list, ok := mayImport[at]; ok {
			return slices.Contains(list, to) || slices.Contains(list, filepath.ToSlash(filepath.Dir(to))+"/*")
		}
	}
	return false
}

func TestImportRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"proxy", "meter", true}, {"proxy", "sink", false}, {"meter", "proxy", false}, {"meter/energy", "meter", true},
		{"sink", "sink/store", false}, {"sink/store", "sink", true}, {"gpu/nvml", "gpu", true}, {"gpu", "gpu/nvml", false},
		{"gpu/sources", "gpu/nvml", true}, {"gpu/sources", "sink/store", false},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("allowed(%s, %s) = %v", c.from, c.to, got)
		}
	}
}

func TestEveryPackageHasOneDocComment(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range sourceFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		if name := f.file.Name.Name; slices.Contains(reserved, name) {
			t.Errorf("%s: a package named %s says nothing about what is in it", f.path, name)
		}
		if _, ok := docs[f.dir]; !ok {
			docs[f.dir] = nil
		}
		if f.file.Doc != nil && (strings.HasPrefix(f.file.Doc.Text(), "Package ") || strings.HasPrefix(f.file.Doc.Text(), "Command ")) {
			docs[f.dir] = append(docs[f.dir], f.path)
		}
	}
	for dir, in := range docs {
		if len(in) != 1 {
			t.Errorf("package %s has %d package comments %v, not one", dir, len(in), in)
		}
	}
}

func TestFileLength(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, f := range sourceFiles(t) {
		text, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 600 {
			t.Errorf("%s has %d lines: it has outgrown its room", f.path, n)
		}
	}
}
