package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
)

// mayImport has the layers, for files other than tests. A package may import what the longest matching entry lists ("a/*"
// means every package directly below a), and its own parents. cmd may import everything except internals.
var mayImport = map[string][]string{
	"meter":           {},
	"meter/cache":     {"meter/prompt"},
	"gpu":             {"meter"},
	"gpu/sources":     {"meter", "gpu/*"}, // the table of power sources
	"proxy":           {"meter", "proxy/http1", "proxy/rawconn", "proxy/inflate"},
	"proxy/llamatest": {"deploy/llama"},
	"sink":            {"meter"},
	// Joins the proxy's events, the devices' power and the ledger.
	"sink/attribution": {"meter", "meter/energy", "meter/energy/recording", "gpu", "gpu/discover", "proxy", "proxy/llama"},
	// Judges prompts with the proxy's events, and completes attribution's rows.
	"sink/autopsy": {"meter", "meter/cache", "meter/prompt", "proxy", "proxy/llama", "sink/attribution"},
	// A row of table configs has the upstream's answers, its process's flags and its devices.
	"sink/serverconfig":      {"meter", "gpu", "gpu/discover", "proxy", "proxy/llama"},
	"sink/clickhouse":        {"meter", "sink/store"},
	"sink/store":             {"meter", "sink/columnar"},
	"sink/clickhouse/chtest": {"meter", "deploy/debian"},                                   // a test kit
	"sink/console":           {"meter", "meter/cache", "sink/queries", "sink/console/web"}, // it answers with what the queries tell
	"sink/console/web":       {},
	"sink/otlp":              {"meter", "sink/semconv"},
	"sink/metrics":           {"meter", "sink/semconv"},
	"sink/telemetry":         {"meter", "proxy", "sink/*"}, // the table of all export targets
	"replay":                 {"meter"},
	"replay/report":          {"meter", "replay/table", "replay/compare", "replay/twin"}, // "best" is compare's verdict
	"replay/compare":         {"meter", "replay/archive", "replay/table", "replay/twin"},
	"replay/twin":            {"meter", "meter/prompt", "sink", "replay/archive", "replay/client", "replay/table", "replay/trace"},
	"replay/compare/live":    {"meter", "replay/session"},
	"replay/monitor":         {"meter", "replay/session"},
	"replay/tune":            {"meter", "replay/table", "replay/session", "replay/compare", "replay/compare/live"},
	"replay/sweep":           {"meter", "replay/archive", "replay/session", "replay/table"},
	"replay/report/html":     {"meter", "replay/compare", "replay/table", "sink/console/web"}, // the same charts as the console's
	"replay/load":            {"meter", "replay/trace"},
	"replay/selftest":        {"meter", "replay/table", "replay/client", "replay/load", "replay/prompt"},
	"replay/session":         {"meter", "replay/table", "replay/client", "replay/load", "replay/prompt", "replay/trace", "replay/twin"},
	"replay/proxies":         {"meter", "proxy", "proxy/stub", "replay/archive", "gpu/discover"}, // discover finds the process of a proxy that the user started
	"deploy":                 {},
	"deploy/peers":           {"deploy/llama"}, // the server of llama.cpp's own tests
	"deploy/clients":         {"deploy/llama"}, // the server that npm's clients ask
}

// internals are parts of a room that cmd reaches only through the packages above them.
var internals = []string{
	"proxy/http1", "proxy/rawconn", "proxy/inflate", "gpu/nvml", "gpu/smi", "gpu/amd", "gpu/rapl", "gpu/sim", "replay/load", "sink/semconv",
}

// mainLines is the most lines that the main package may have, tests not counted.
const mainLines = 3600

// vagueNames are package names that do not say what is inside.
var vagueNames = []string{"util", "utils", "common", "types", "core", "helpers", "misc"}

const module = "wattline/"

type sourceFile struct {
	path, dir string
	file      *ast.File
}

// parseTree parses every Go file of the module.
var parseTree = sync.OnceValues(func() (out []sourceFile, err error) {
	root := filepath.Join("..", "..")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
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
	return out, err
})

func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	files, err := parseTree()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImportsObeyTheLayers(t *testing.T) {
	checked := 0
	for _, f := range sourceFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
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
				t.Errorf("%s imports %s, which the layers do not allow to %s", f.path, ours, f.dir)
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
	if strings.HasPrefix(from, "cmd/") {
		return !slices.Contains(internals, to)
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
		{"gpu/sources", "gpu/nvml", true}, {"gpu/sources", "sink/store", false}, {"cmd/wattline", "sink/store", true}, {"cmd/wattline", "proxy/http1", false},
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
		if name := f.file.Name.Name; slices.Contains(vagueNames, name) {
			t.Errorf("%s: the package name %s does not say what is in it", f.path, name)
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
			t.Errorf("%s has %d lines: split it", f.path, n)
		}
	}
}

func TestMainPackageSize(t *testing.T) {
	lines := 0
	for _, f := range sourceFiles(t) {
		if f.dir == "cmd/wattline" && !strings.HasSuffix(f.path, "_test.go") {
			text, err := os.ReadFile(filepath.Join("..", "..", f.path))
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(text), "\n")
		}
	}
	if lines > mainLines || lines < 1000 {
		t.Errorf("cmd/wattline has %d lines; at most %d are allowed, so move logic to the packages below", lines, mainLines)
	}
}

// Each dialect and each group of queries is a function that one table calls, and nothing else does.
func TestTablesOfFunctions(t *testing.T) {
	for _, c := range []struct {
		dir, table string
		name       *regexp.Regexp
		least      int
	}{
		{"meter", "meter/dialect.go", regexp.MustCompile(`^[a-z]\w*Dialect$`), 10},
		{"sink/queries", "sink/queries/query.go", regexp.MustCompile(`^[a-z]\w*Queries$`), 4},
	} {
		users := map[string][]string{}
		for _, f := range sourceFiles(t) {
			if f.dir != c.dir || strings.HasSuffix(f.path, "_test.go") {
				continue
			}
			for _, d := range f.file.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && c.name.MatchString(fn.Name.Name) {
					users[fn.Name.Name] = append(users[fn.Name.Name], "")
				}
			}
			ast.Inspect(f.file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if id, ok := call.Fun.(*ast.Ident); ok && c.name.MatchString(id.Name) {
						users[id.Name] = append(users[id.Name], f.path)
					}
				}
				return true
			})
		}
		for name, files := range users {
			if slices.Sort(files); !slices.Equal(files, []string{"", c.table}) {
				t.Errorf("%s is called by %q, not by %s alone", name, files[1:], c.table)
			}
		}
		if len(users) < c.least {
			t.Errorf("only %d functions of %s were found", len(users), c.dir)
		}
	}
}

// Each power source is a package below gpu that only the table in gpu/sources imports.
func TestTableOfPowerSources(t *testing.T) {
	importers := map[string][]string{}
	for _, f := range sourceFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		if filepath.Dir(f.dir) == "gpu" && importers[f.dir] == nil {
			importers[f.dir] = []string{}
		}
		for _, imp := range f.file.Imports {
			if to := strings.TrimPrefix(strings.Trim(imp.Path.Value, `"`), module); filepath.Dir(to) == "gpu" && f.dir != to {
				importers[to] = append(importers[to], f.path)
			}
		}
	}
	for source, files := range importers {
		if table := []string{"gpu/sources/sources.go"}; source != "gpu/discover" && source != "gpu/sources" && !slices.Equal(files, table) {
			t.Errorf("power source %s is imported by %q, not by %q alone", source, files, table)
		}
	}
	if len(importers) < 7 {
		t.Errorf("only %d packages below gpu were found", len(importers))
	}
}

// Each command is a type with a method Run that cli lists, directly or below another command.
func TestTableOfCommands(t *testing.T) {
	listed := map[string]bool{}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		listed[n.Target.Type().Name()] = true
		for _, c := range n.Children {
			visit(c)
		}
	}
	parser, err := kong.New(&cli{}, flagDefaults())
	if err != nil {
		t.Fatal(err)
	}
	visit(parser.Model.Node)
	found := 0
	for _, f := range sourceFiles(t) {
		if f.dir != "cmd/wattline" || strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, d := range f.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != "Run" {
				continue
			}
			of := fn.Recv.List[0].Type
			if p, ok := of.(*ast.StarExpr); ok {
				of = p.X
			}
			if name := of.(*ast.Ident).Name; !listed[name] {
				t.Errorf("%s: %s is not listed in cli", f.path, name)
			}
			found++
		}
	}
	if found < 15 {
		t.Errorf("only %d commands were found", found)
	}
}
