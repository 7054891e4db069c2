package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkout is a repository of a test, with a commit on main.
type checkout struct {
	testing.TB
	dir string
}

func newCheckout(tb testing.TB) *checkout {
	c := &checkout{tb, tb.TempDir()}
	c.git("init", "-q", "-b", "main")
	c.commit("first", "a.txt", "1")
	return c
}

func (c *checkout) git(args ...string) string {
	c.Helper()
	cmd := exec.Command("git", append([]string{"-C", c.dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *checkout) write(name, text string) {
	c.Helper()
	path := filepath.Join(c.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		c.Fatal(err)
	}
}

// commit writes a file, commits it, and returns the commit.
func (c *checkout) commit(message, name, text string) string {
	c.Helper()
	c.write(name, text)
	c.git("add", "-A")
	c.git("commit", "-q", "-m", message)
	return c.git("rev-parse", "HEAD")
}

func (c *checkout) base(ref string) (*base, error) {
	r, err := openRepo(c.Context(), c.dir)
	if err != nil {
		c.Fatal(err)
	}
	return r.findBase(c.Context(), ref)
}

// TestBase: which commit a tree is compared with.
func TestBase(t *testing.T) {
	c := newCheckout(t)
	first := c.git("rev-parse", "HEAD")
	expect := func(what, ref, want, why string) {
		t.Helper()
		got, err := c.base(ref)
		if err != nil || got.commit != want || !strings.Contains(got.why, why) {
			t.Errorf("%s: %+v, %v; want %s (%s)", what, got, err, want, why)
		}
	}
	if _, err := c.base(""); !errors.Is(err, errNoBase) {
		t.Errorf("the first commit has a base: %v", err)
	}
	c.write("b.txt", "untracked")
	expect("uncommitted changes", "", first, "uncommitted")
	second := c.commit("second", "b.txt", "2")
	expect("on main", "", first, "commit before HEAD")
	c.git("checkout", "-q", "-b", "work")
	expect("a branch without commits", "", first, "commit before HEAD")
	c.commit("third", "c.txt", "3")
	expect("a branch", "", second, "merge base with main")
	c.git("checkout", "-q", "main")
	c.commit("elsewhere", "d.txt", "4")
	c.git("checkout", "-q", "work")
	expect("main went on", "", second, "merge base with main")
	expect("a named base", "HEAD^^", first, "merge base with HEAD^^")
	expect("itself", "HEAD", c.git("rev-parse", "HEAD"), "merge base with HEAD")
	if _, err := c.base("nowhere"); err == nil || !strings.Contains(err.Error(), `no commit "nowhere"`) {
		t.Errorf("an unknown base: %v", err)
	}
	// A clone of the last commit alone, as CI may make it.
	shallow := &checkout{t, t.TempDir()}
	shallow.git("clone", "-q", "--depth", "1", "--branch", "work", "file://"+c.dir, ".")
	if _, err := shallow.base(""); !errors.Is(err, errNoBase) || !strings.Contains(err.Error(), "shallow clone") {
		t.Errorf("a shallow clone: %v", err)
	}
	cfg := &config{dir: shallow.dir, benches: gated, out: &strings.Builder{}}
	if err := run(t.Context(), cfg); err != nil || !strings.Contains(fmt.Sprint(cfg.out), "nothing was compared: there is no commit to compare with") {
		t.Errorf("a shallow clone: %v, %s", err, cfg.out)
	}
}

// TestReasons: trailers are read with the unit that they excuse, and others are refused.
func TestReasons(t *testing.T) {
	c := newCheckout(t)
	first := c.git("rev-parse", "HEAD")
	second := c.commit("store: columns\n\nText.\n\nBench-Gate: row: eight columns\n  of the cache\nBench-Gate: event: a sketch\n", "b.txt", "2")
	r := &repo{c.dir}
	got, err := r.reasons(t.Context(), first)
	if err != nil || len(got) != 2 || got["row"] != "eight columns of the cache ("+second[:7]+")" || got["event"] != "a sketch ("+second[:7]+")" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.reasons(t.Context(), second); err != nil || len(got) != 0 {
		t.Errorf("behind the commit: %v, %v", got, err)
	}
	for _, bad := range []string{"it had to be", "row:", "line: a reason"} {
		c.git("commit", "-q", "--allow-empty", "-m", "x\n\nBench-Gate: "+bad+"\n")
		if _, err := r.reasons(t.Context(), second); err == nil || !strings.Contains(err.Error(), "event or request or row: REASON") {
			t.Errorf("%q: %v", bad, err)
		}
		c.git("reset", "-q", "--hard", second)
	}
}

// TestJudge: what is found, what is let pass, and what a reason excuses.
func TestJudge(t *testing.T) {
	around := func(v float64, spread ...float64) (out []float64) {
		for _, s := range spread {
			out = append(out, v*(1+s/100))
		}
		return out
	}
	base := around(10_000, -0.2, 0.3, 0, -0.1, 0.2, 0.1)
	for _, x := range []struct {
		what, quantity string
		base, tree     []float64
		grown          bool
	}{
		{"the same", "instructions", base, around(10_000, 0.2, -0.3, 0.1, 0, -0.2, 0.1), false},
		{"5 % more", "instructions", base, around(10_500, 0.2, -0.3, 0.1, 0, -0.2, 0.1), true},
		{"2.5 % more", "instructions", base, around(10_250, 0.2, -0.3, 0.1, 0, -0.2, 0.1), false},
		{"less", "instructions", base, around(8_000, 0.2, -0.3, 0.1, 0, -0.2, 0.1), false},
		{"one round is far off", "instructions", base, around(10_000, 0.2, 40, 0.1, 0, -0.2, 0.1), false},
		{"noise as large as the difference", "ns of CPU", base, around(10_400, 9, -8, 5, -7, 6, -2), false},
		{"5 % more in three rounds", "instructions", base[:3], around(10_500, 0.2, -0.3, 0.1), true},
		{"the first allocation", "allocs/op", []float64{0, 0, 0}, []float64{1, 1, 1}, true},
		{"no allocation", "allocs/op", []float64{0, 0, 0}, []float64{0, 0, 0}, false},
		{"a few bytes", "B/op", []float64{3, 3, 3}, []float64{9, 9, 9}, false},
		{"bytes", "B/op", []float64{300, 300, 300}, []float64{330, 330, 330}, true},
	} {
		l := &line{bench: bench{"./p", "BenchmarkX", "row", 1, 2}, quantity: x.quantity, values: [2][]float64{x.base, x.tree}}
		r := l.ratio()
		if l.grown(r) != x.grown || math.IsInf(r.Hi, 0) && x.quantity != "allocs/op" {
			t.Errorf("%s: %v, ratio %+v", x.what, !x.grown, r)
		}
		var out strings.Builder
		if err := report(&out, []*line{l}, nil); (err != nil) != x.grown {
			t.Errorf("%s: %v\n%s", x.what, err, out.String())
		}
		for unit, excused := range map[string]bool{"row": true, "event": false} {
			out.Reset()
			if err := report(&out, []*line{l}, map[string]string{unit: "because"}); (err != nil) != (x.grown && !excused) {
				t.Errorf("%s with a reason for an %s: %v\n%s", x.what, unit, err, out.String())
			}
		}
	}
}

const goMod = "module example.org/m\n\ngo 1.24\n"

// work is a benchmark whose operation adds n numbers; more is what else the file holds.
func work(n int, more string) string {
	return fmt.Sprintf(`package p

import "testing"

var sum, sink = 0, []byte(nil)

func BenchmarkWork(b *testing.B) {
	for b.Loop() {
		for i := range %d {
			sum += i * sum
		}
	}
}

%s`, n, more)
}

// TestGate builds and measures two real trees, in CPU time: twice the work is found, and a benchmark that the base lacks is said.
func TestGate(t *testing.T) { gate(t, true) }

// TestSoakGate counts instructions, of four pairs of trees.
func TestSoakGate(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("it takes a minute; set WATTLINE_SOAK=1")
	}
	gate(t, false)
}

func gate(t *testing.T, quick bool) {
	if testing.Short() {
		t.Skip("it compiles test binaries")
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	c := newCheckout(t)
	c.write("go.mod", goMod)
	c.commit("second", "p/p_test.go", work(20_000, ""))
	c.git("checkout", "-q", "-b", "work")
	c.commit("third", "readme.txt", "")
	benches := []bench{{"./p", "BenchmarkWork", "event", 20, 220}, {"./p", "BenchmarkNew", "row", 20, 220}}
	gate := func(n int) (string, error) {
		var out strings.Builder
		err := run(t.Context(), &config{dir: c.dir, benches: benches[:n], rounds: 2, cpu: quick, out: &out})
		return out.String(), err
	}
	// Twice the work, not committed yet; and a benchmark that the base lacks.
	const more = "func BenchmarkNew(b *testing.B) {\n\tfor b.Loop() {\n\t\tsink = make([]byte, 1000)\n\t}\n}\n"
	c.write("p/p_test.go", work(40_000, more))
	out, err := gate(2)
	if err == nil || !strings.Contains(err.Error(), "BenchmarkWork of ./p: more ") || !strings.Contains(err.Error(), "per event (+") ||
		!strings.Contains(out, "not compared: the base has no BenchmarkNew in ./p") || !strings.Contains(out, "MORE THAN 3 %") {
		t.Errorf("twice the work: %v\n%s", err, out)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
	if status := c.git("status", "--porcelain"); status != "M p/p_test.go" {
		t.Errorf("the checkout was changed: %q", status)
	}
	if quick {
		return
	}
	c.git("add", "-A")
	c.git("commit", "-q", "-m", "p: more\n\nBench-Gate: event: it adds more numbers\n")
	if out, err = gate(1); err != nil || !strings.Contains(out, "a commit says why: it adds more numbers") {
		t.Errorf("with a reason: %v\n%s", err, out)
	}
	// A benchmark that the tree lacks is a mistake of the list.
	c.commit("p: less", "p/p_test.go", work(20_001, ""))
	if out, err = gate(2); err == nil || !strings.Contains(err.Error(), "BenchmarkNew of ./p in the tree: there is no such benchmark") {
		t.Errorf("a benchmark that is not there: %v\n%s", err, out)
	}
	c.commit("p: as it was", "p/p_test.go", work(20_000, ""))
	if out, err := gate(1); err != nil || !strings.Contains(out, "unchanged: ./p") || !strings.Contains(out, "0 benchmarks compared") {
		t.Errorf("the same binaries: %v\n%s", err, out)
	}
}
