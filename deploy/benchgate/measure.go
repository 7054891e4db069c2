package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/perf/benchfmt"
)

// counter runs a test binary and says how much work it did.
type counter struct {
	valgrind string // its path; "": CPU time
	what     string // for the report
	unit     string
	rounds   int
	parallel int // how many processes may run at the same time
	scale    int // how many times the operations of a bench
	tmp      string
}

func newCounter(ctx context.Context, tmp string, cpu bool) (*counter, error) {
	path, err := exec.LookPath("valgrind")
	if err != nil || cpu {
		return &counter{what: "CPU time, user and system (there is no valgrind, or -cpu was given)", unit: "ns of CPU", rounds: 16, parallel: 1, scale: 8, tmp: tmp}, nil
	}
	version, err := exec.CommandContext(ctx, path, "--version").Output() //nolint:gosec // valgrind
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", path, err)
	}
	return &counter{
		valgrind: path, what: "instructions in user mode, counted by cachegrind of " + strings.TrimSpace(string(version)) + ", garbage collector off", unit: "instructions",
		rounds: 4, parallel: runtime.NumCPU(), scale: 1, tmp: tmp,
	}, nil
}

// sides are the two builds, in the order of arrays of two.
const (
	inBase = iota
	inTree
)

var sideNames = [2]string{"base", "tree"}

// pair is a bench with both builds' binaries.
type pair struct {
	bench
	bin, dir [2]string // dir: where a test of the package runs
}

// buildBoth compiles the packages' tests of both trees with the tree's toolchain. Pure Go, since valgrind and C's loader do
// not mix well with Go's threads. notes say what will not be measured and why.
func buildBoth(ctx context.Context, tree, src, tmp string, cfg *config) (pairs []pair, notes []string, err error) {
	version, err := goTool(ctx, tree, nil, "env", "GOVERSION")
	if err != nil {
		return nil, nil, err
	}
	env := []string{"CGO_ENABLED=0", "GOTOOLCHAIN=" + strings.TrimSpace(version)}
	type built struct {
		bin  [2]string
		skip string
	}
	done := map[string]*built{}
	for _, b := range cfg.benches {
		p := done[b.pkg]
		if p == nil {
			p = &built{}
			done[b.pkg] = p
			for side, root := range [2]string{src, tree} {
				p.bin[side] = filepath.Join(tmp, sideNames[side]+strings.ReplaceAll(strings.TrimPrefix(b.pkg, "."), "/", "-")+".test")
				_, err := goTool(ctx, root, env, "test", "-c", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", p.bin[side], b.pkg)
				if err == nil {
					_, err = os.Stat(p.bin[side]) // a package without tests makes no binary
				}
				if err != nil && side == inTree {
					return nil, nil, fmt.Errorf("the tree: %w", err)
				}
				if err != nil {
					p.skip = fmt.Sprintf("not compared: the base's %s cannot be built: %v", b.pkg, err)
					break
				}
			}
			if p.skip == "" && !cfg.always {
				same, err := sameFile(p.bin[inBase], p.bin[inTree])
				if err != nil {
					return nil, nil, err
				}
				if same {
					p.skip = "unchanged: " + b.pkg + " (both builds are the same, byte for byte)"
				}
			}
			if p.skip != "" {
				notes = append(notes, p.skip)
			}
		}
		if p.skip == "" {
			pairs = append(pairs, pair{b, p.bin, [2]string{filepath.Join(src, b.pkg), filepath.Join(tree, b.pkg)}})
		}
	}
	return pairs, notes, nil
}

func goTool(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // our own arguments
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return stdout.String(), nil
}

func sameFile(a, b string) (bool, error) {
	var sums [2][]byte
	for i, path := range []string{a, b} {
		f, err := os.Open(path) //nolint:gosec // our own binaries
		if err != nil {
			return false, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return false, err
		}
		sums[i] = h.Sum(nil)
	}
	return bytes.Equal(sums[0], sums[1]), nil
}

// quantities are what is judged of each bench: the counter's unit, and two of testing's.
var quantities = []string{"", "B/op", "allocs/op"}

// line is one quantity of one bench, round by round.
type line struct {
	bench
	quantity string
	values   [2][]float64
}

// measureAll runs every pair in rounds. Both builds of a bench run one after the other, or side by side where the counter
// bears it, and in each round another one comes first.
func measureAll(ctx context.Context, c *counter, pairs []pair, rounds int) (lines []*line, notes []string, err error) {
	for i := range pairs {
		p := &pairs[i]
		var of [3]*line
		for j, q := range quantities {
			of[j] = &line{bench: p.bench, quantity: q}
			if q == "" {
				of[j].quantity = c.unit
			}
		}
		missing := false
		for round := 0; round < rounds && !missing; round++ {
			got, errs := c.both(ctx, p, round)
			if errors.Is(errs[inBase], errMissing) && errs[inTree] == nil {
				notes = append(notes, fmt.Sprintf("not compared: the base has no %s in %s", p.name, p.pkg))
				missing = true
				continue
			}
			for side, err := range errs {
				if err != nil {
					return nil, nil, fmt.Errorf("%s of %s in the %s: %w", p.name, p.pkg, sideNames[side], err)
				}
				for j, v := range got[side] {
					of[j].values[side] = append(of[j].values[side], v)
				}
			}
		}
		if !missing {
			lines = append(lines, of[:]...)
		}
	}
	return lines, notes, nil
}

// both measures both builds once.
func (c *counter) both(ctx context.Context, p *pair, round int) (got [2][3]float64, errs [2]error) {
	slots := make(chan struct{}, c.parallel)
	var wg sync.WaitGroup
	for i := range 2 {
		side := (i + round) % 2
		slots <- struct{}{}
		wg.Go(func() {
			got[side], errs[side] = c.measure(ctx, p, side)
			<-slots
		})
	}
	wg.Wait()
	return got, errs
}

// errMissing: there is no such benchmark.
var errMissing = errors.New("there is no such benchmark")

// measure is a build's quantities an operation.
func (c *counter) measure(ctx context.Context, p *pair, side int) (q [3]float64, err error) {
	few, _, err := c.run(ctx, p, side, p.few*c.scale)
	if err != nil {
		return q, err
	}
	many, r, err := c.run(ctx, p, side, p.many*c.scale)
	if err != nil {
		return q, err
	}
	q[0] = (many - few) / float64((p.many-p.few)*c.scale)
	for i, unit := range quantities[1:] {
		v, ok := r.Value(unit)
		if !ok {
			return q, fmt.Errorf("its result has no %s", unit)
		}
		q[i+1] = v
	}
	return q, nil
}

// instructions finds cachegrind's sum.
var instructions = regexp.MustCompile(`I\s+refs:\s+([\d,]+)`)

// run lets a benchmark do n operations, and returns the process's work with the benchmark's result. One thread runs Go code
// at a time; and where instructions are counted the collector is off, because how often it runs depends on the clock: its
// work shows in the bytes.
func (c *counter) run(ctx context.Context, p *pair, side, n int) (work float64, r *benchfmt.Result, err error) {
	parts := strings.Split(p.name, "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	args := []string{p.bin[side], "-test.run", "^$", "-test.bench", strings.Join(parts, "/"), "-test.benchtime", strconv.Itoa(n) + "x", "-test.benchmem"}
	log := fmt.Sprintf("%s/%s.log", c.tmp, sideNames[side])
	if c.valgrind != "" {
		args = append([]string{c.valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-file=" + log}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // what was built a moment ago
	cmd.Dir = p.dir[side]
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	if c.valgrind != "" {
		// Older valgrinds do not know the instruction rdtscp.
		cmd.Env = append(cmd.Env, "GOGC=off", "GODEBUG=asyncpreemptoff=1,cpu.rdtscp=off")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %s", err, last(out))
	}
	lines := benchfmt.NewReader(bytes.NewReader(out), p.name)
	for r == nil && lines.Scan() {
		r, _ = lines.Result().(*benchfmt.Result)
	}
	if r == nil {
		return 0, nil, errMissing
	}
	if c.valgrind == "" {
		return float64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), r, nil
	}
	text, err := os.ReadFile(log) //nolint:gosec // our own
	if err != nil {
		return 0, nil, err
	}
	m := instructions.FindSubmatch(text)
	if m == nil {
		return 0, nil, fmt.Errorf("cachegrind told no count: %s", last(text))
	}
	work, err = strconv.ParseFloat(strings.ReplaceAll(string(m[1]), ",", ""), 64)
	return work, r, err
}

// last returns the last lines of what a program printed.
func last(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
