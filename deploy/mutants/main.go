// Command mutants checks that tests can fail. It applies small, wrong edits ("mutants") to the code, one at a time, and
// runs the test that must notice. The edits are listed in mutants.txt files, one beside the tests of each room:
//
//	file: meter/identify.go
//	old: h.Write([]byte(column))
//	new:
//	test: ./meter -run ^TestIdentify$
//
// Blank lines separate mutants, # begins a comment line, several old or new lines are joined. old must occur exactly
// once. The sources are not touched: each mutant is compiled through an overlay file (go help build, -overlay).
//
//	go run ./deploy/mutants [-only TEXT] [-parallel N]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mutant is one wrong edit and the test that must notice it.
type mutant struct {
	file, old, new string
	pkg, run       string // of the test: its package and a pattern of its name
	from           string // LIST:LINE, for messages
}

func (m *mutant) test() string { return m.pkg + " -run " + m.run }

// slow is how long a mutant may take before it is named: the list wants quick tests.
const slow = time.Minute

func main() {
	only := flag.String("only", "", "run only the mutants whose file, edit or test contains `TEXT`")
	parallel := flag.Int("parallel", 2, "tests to run at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, parallel int) error {
	all, err := lists(".")
	if err != nil {
		return err
	}
	var chosen []mutant
	for _, m := range all {
		if strings.Contains(strings.Join([]string{m.file, m.old, m.new, m.test()}, "\n"), only) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return errors.New("no mutant is listed, or none matches -only")
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	start := time.Now()
	if err := baseline(ctx, chosen, parallel); err != nil {
		return err
	}
	fmt.Printf("the tests of %d mutants pass on the code as it is, in %.0f s\n", len(chosen), time.Since(start).Seconds())
	start = time.Now()
	var bad atomic.Int64
	each(parallel, len(chosen), func(i int) {
		m, began, at := chosen[i], time.Now(), filepath.Join(dir, fmt.Sprint(i))
		if err := m.kill(ctx, at); err != nil {
			bad.Add(1)
			fmt.Printf("%s: %s: %v\n", m.from, m.file, err)
		}
		_ = os.RemoveAll(at)
		if took := time.Since(began); took > slow {
			fmt.Printf("%s: slow: %.0f s for go test %s\n", m.from, took.Seconds(), m.test())
		}
	})
	fmt.Printf("%d mutants, %d killed, %d not, in %.0f s\n", len(chosen), len(chosen)-int(bad.Load()), bad.Load(), time.Since(start).Seconds())
	if n := bad.Load(); n > 0 {
		return fmt.Errorf("%d mutants were not killed: each needs a test that fails on it, or a mended list", n)
	}
	return nil
}

// each calls do for 0 to n-1, at most parallel at a time.
func each(parallel, n int, do func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(parallel, 1))
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() { do(i); <-slots })
	}
	wg.Wait()
}

// baseline checks that every named test exists and passes on the code as it is: a test that fails anyway kills nothing.
// The tests of a package run together.
func baseline(ctx context.Context, all []mutant, parallel int) error {
	patterns := map[string][]string{}
	for _, m := range all {
		if !slices.Contains(patterns[m.pkg], m.run) {
			patterns[m.pkg] = append(patterns[m.pkg], m.run)
		}
	}
	packages := slices.Sorted(maps.Keys(patterns))
	failed := make([]error, len(packages))
	each(parallel, len(packages), func(i int) {
		pkg := packages[i]
		out, err := gotest(ctx, "", pkg, strings.Join(patterns[pkg], "|"))
		if err != nil {
			failed[i] = fmt.Errorf("go test %s does not pass on the code as it is (%w):\n%s", pkg, err, last(out))
			return
		}
		for _, run := range patterns[pkg] {
			if !slices.ContainsFunc(passed.FindAllSubmatch(out, -1), func(p [][]byte) bool { ok, _ := regexp.Match(run, p[1]); return ok }) {
				failed[i] = errors.Join(failed[i], fmt.Errorf("go test %s: no test %s passes on the code as it is", pkg, run))
			}
		}
	})
	return errors.Join(failed...)
}

// passed finds the names of the tests that passed in what go test -v prints.
var passed = regexp.MustCompile(`(?m)^--- PASS: (\w+)`)

// kill returns nil if the test fails with the mutant applied.
func (m *mutant) kill(ctx context.Context, dir string) error {
	src, err := os.ReadFile(m.file)
	if err != nil {
		return err
	}
	if n := strings.Count(string(src), m.old); n != 1 {
		return fmt.Errorf("the old text occurs %d times, not once: %q", n, m.old)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	mutated, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	original, err := filepath.Abs(m.file)
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{original: mutated}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(mutated, []byte(strings.Replace(string(src), m.old, m.new, 1)), 0o600), os.WriteFile(overlay, text, 0o600)); err != nil {
		return err
	}
	out, err := gotest(ctx, overlay, m.pkg, m.run)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return fmt.Errorf("SURVIVED go test %s: %q -> %q", m.test(), m.old, m.new)
	case bytes.Contains(out, []byte(strings.TrimPrefix(m.pkg, ".")+" [build failed]")), bytes.Contains(out, []byte("[setup failed]")):
		return fmt.Errorf("does not compile:\n%s", last(out))
	}
	return nil
}

// gotest runs a package's tests that match a pattern, with an overlay file if there is one.
func gotest(ctx context.Context, overlay, pkg, run string) ([]byte, error) {
	args := []string{"test", "-v", "-vet", "off", "-timeout", "2m"}
	if overlay != "" {
		args = append(args, "-failfast", "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg, "-run", run)...) //nolint:gosec // our own lists
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.CombinedOutput()
}

// last returns the last lines of a test's output.
func last(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// lists reads every mutants.txt below root.
func lists(root string) (all []mutant, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.Name() != "mutants.txt" || filepath.Base(filepath.Dir(path)) != "testdata" {
			return nil
		}
		text, err := os.ReadFile(path) //nolint:gosec // one of our lists
		if err != nil {
			return err
		}
		list, err := parse(path, string(text))
		all = append(all, list...)
		return err
	})
	return all, err
}

// parse reads one list.
func parse(path, text string) (list []mutant, err error) {
	var m mutant
	var old, replacement []string
	flush := func(line int) error {
		if m.from == "" {
			return nil
		}
		m.old, m.new = strings.Join(old, "\n"), strings.Join(replacement, "\n")
		if m.file == "" || m.old == "" || m.old == m.new || m.run == "" {
			return fmt.Errorf("%s:%d: a mutant needs file, old, new (another text) and test (PACKAGE -run PATTERN)", path, line)
		}
		list, m, old, replacement = append(list, m), mutant{}, nil, nil
		return nil
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if strings.TrimSpace(line) == "" {
			if err := flush(i + 1); err != nil {
				return nil, err
			}
			continue
		}
		if m.from == "" {
			m.from = fmt.Sprintf("%s:%d", path, i+1)
		}
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch key {
		case "file":
			m.file = value
		case "old":
			old = append(old, value)
		case "new":
			replacement = append(replacement, value)
		case "test":
			m.pkg, m.run, _ = strings.Cut(value, " -run ")
		default:
			return nil, fmt.Errorf("%s:%d: %q is not one of file, old, new, test", path, i+1, key)
		}
	}
	return list, flush(len(lines))
}
