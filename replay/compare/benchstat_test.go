package compare

import (
	"bufio"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// benchmarks reads Go's benchmark format: one side of sets of samples, each sample a trial of one request.
func benchmarks(t *testing.T, file string) map[string]*Side {
	t.Helper()
	f, err := os.Open("testdata/benchstat/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]*Side{}
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		name, ok := strings.CutPrefix(fields[0], "Benchmark")
		if !ok {
			continue
		}
		ns, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		s := out[name]
		if s == nil {
			s = &Side{Label: file, workload: name}
			out[name] = s
		}
		o := observation{cell: name, trial: len(s.observations), y: make([]float64, len(metrics))}
		for m := range o.y {
			o.y[m] = math.NaN()
		}
		o.y[indexOf("e2e")] = math.Log(ns)
		s.observations = append(s.observations, o)
		s.Requests++
		s.finish()
	}
	return out
}

// TestBenchstat: on sets of samples, which is benchstat's own kind of input, both find the same differences, of the same
// size. benchstat.csv was written by golang.org/x/perf/cmd/benchstat (-format csv old.txt new.txt).
func TestBenchstat(t *testing.T) {
	before, behind := benchmarks(t, "old.txt"), benchmarks(t, "new.txt")
	text, err := os.ReadFile("testdata/benchstat/benchstat.csv")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		name := strings.TrimSuffix(fields[0], "-1")
		if before[name] == nil || len(fields) < 7 {
			continue
		}
		compared++
		r, err := Compare(before[name], behind[name], Options{Metrics: []string{"e2e"}})
		if err != nil {
			t.Fatal(err)
		}
		m := r.Metrics[0]
		theirs := fields[5] // ~ or +3.02%
		ours := "~"
		if m.P.V <= alpha {
			ours = signedPercent(m.Effect.Percent)
		}
		t.Logf("%-15s benchstat %8s (%s), compare %8s (%s, p=%.3f): %s", name, theirs, fields[6], ours, m.Effect.Range(), m.P.V, m.Verdict)
		p, err := strconv.ParseFloat(strings.TrimPrefix(strings.Fields(fields[6])[0], "p="), 64)
		if err != nil {
			t.Fatal(err)
		}
		// benchstat's test is of ranks, compare's of means: about the border of significance they may differ.
		const border = 2.5
		if near := p > alpha/border && p < alpha*border; near && m.P.V < 2*border*alpha {
			continue
		}
		if (theirs == "~") != (ours == "~") {
			t.Errorf("%s: benchstat says %s, compare %s", name, theirs, ours)
			continue
		}
		if theirs != "~" {
			delta, err := strconv.ParseFloat(strings.TrimSuffix(theirs, "%"), 64)
			if err != nil || m.Effect.Low.V-0.5 > delta || delta > m.Effect.High.V+0.5 {
				t.Errorf("%s: benchstat's %s is not in %s (%v)", name, theirs, m.Effect.Range(), err)
			}
		}
	}
	if compared != len(before) || compared < 8 {
		t.Errorf("%d of %d sets were compared", compared, len(before))
	}
}
