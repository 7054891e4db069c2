// Command benchgate compares what an event, a request and a row cost in two builds: that of the merge base with main, and
// that of the working tree as it lies there. It runs Go's own benchmarks of both, in turns, and fails if instructions,
// bytes or allocations have grown by more than 3 % without a commit message that says why:
//
//	Bench-Gate: row: eight columns for the cache
//
// Instructions are counted by valgrind's cachegrind (user mode; the kernel's are not seen), which repeats within a fraction
// of a percent on a busy machine. Where there is no valgrind, the CPU time of both builds is compared in pairs.
//
//	go run ./deploy/benchgate [-base REF] [-only TEXT] [-rounds N] [-always] [-cpu]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is a benchmark of the tree. It runs twice, with few and with many operations: the difference is what the operations
// between cost, without the start of the process and the benchmark's own preparations.
type bench struct {
	pkg, name string
	per       string // what an operation is: one of units
	few, many int
}

// units are what operations are counted in, and what a Bench-Gate trailer may name.
var units = []string{"event", "request", "row"}

// gated are the benchmarks of the data path: forwarding, metering, the ledger and the store.
var gated = []bench{
	{"./proxy", "BenchmarkRelay", "event", 200, 2200},
	{"./meter", "BenchmarkTokenEvent", "event", 2000, 22000},
	{"./meter", "BenchmarkFinalEvent", "event", 500, 5500},
	{"./meter/energy", "BenchmarkEvents32", "event", 20, 220}, // an operation is 324 events,
	{"./proxy", "BenchmarkAccept", "request", 50, 1050},
	{"./proxy", "BenchmarkParse", "request", 200, 2200},
	{"./proxy", "BenchmarkShort/kept", "request", 100, 1100},
	{"./meter", "BenchmarkUnstreamed", "request", 200, 2200},
	{"./sink/store", "BenchmarkRow/rows-and-blocks", "row", 500, 4750}, // one block of 4,096 rows between
}

// config of a run.
type config struct {
	dir     string // within the working tree
	base    string // a ref; "": main
	benches []bench
	rounds  int  // 0: what the counter needs
	always  bool // measures binaries that are the same, too
	cpu     bool // CPU time even where there is valgrind
	out     io.Writer
}

func main() {
	cfg := config{dir: ".", out: os.Stdout}
	flag.StringVar(&cfg.base, "base", "", "compare with the merge base of HEAD and `REF`; default origin/main or main")
	only := flag.String("only", "", "run only the benchmarks whose package or name contains `TEXT`")
	flag.IntVar(&cfg.rounds, "rounds", 0, "measure each build so often; default 4 with valgrind and 16 without")
	flag.BoolVar(&cfg.always, "always", false, "measure also where both builds are the same, which shows how well the figures repeat")
	flag.BoolVar(&cfg.cpu, "cpu", false, "compare CPU time even where there is valgrind")
	flag.Parse()
	cfg.benches = slices.DeleteFunc(slices.Clone(gated), func(b bench) bool { return !strings.Contains(b.pkg+" "+b.name, *only) })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := cfg.check(*only, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench-gate:", err)
		os.Exit(2)
	}
	if err := run(ctx, &cfg); err != nil {
		fmt.Fprintln(os.Stderr, "bench-gate:", err)
		os.Exit(1)
	}
}

func (c *config) check(only string, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is not a flag; see -h", rest[0])
	case len(c.benches) == 0:
		return fmt.Errorf("no benchmark has %q in its name", only)
	case c.rounds < 0 || c.rounds == 1:
		return fmt.Errorf("-rounds is %d: it must be 2 or more", c.rounds)
	}
	return nil
}

// run compares, prints a table, and returns an error if the tree may not pass.
func run(ctx context.Context, cfg *config) error {
	began := time.Now()
	repo, err := openRepo(ctx, cfg.dir)
	if err != nil {
		return err
	}
	base, err := repo.findBase(ctx, cfg.base)
	if errors.Is(err, errNoBase) {
		fmt.Fprintf(cfg.out, "bench-gate: nothing was compared: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	reasons, err := repo.reasons(ctx, base.commit)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "bench-gate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary folder
	src := filepath.Join(tmp, "base")
	if err := repo.checkout(ctx, base.commit, src, filepath.Join(tmp, "index")); err != nil {
		return err
	}
	count, err := newCounter(ctx, tmp, cfg.cpu)
	if err != nil {
		return err
	}
	if cfg.rounds == 0 {
		cfg.rounds = count.rounds
	}
	fmt.Fprintf(cfg.out, "bench-gate: the working tree against %s (%s)\n%s; %d rounds, in turns\n", base.commit[:min(12, len(base.commit))], base.why, count.what, cfg.rounds)
	tests, notes, err := buildBoth(ctx, repo.root, src, tmp, cfg)
	if err != nil {
		return err
	}
	lines, more, err := measureAll(ctx, count, tests, cfg.rounds)
	if err != nil {
		return err
	}
	for _, n := range append(notes, more...) {
		fmt.Fprintln(cfg.out, n)
	}
	bad := report(cfg.out, lines, reasons)
	fmt.Fprintf(cfg.out, "%d benchmarks compared in %.0f s\n", len(lines)/len(quantities), time.Since(began).Seconds())
	return bad
}
