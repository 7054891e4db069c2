package gpu

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
)

// switchSource is compiled into package gpu for TestSoakAblation only.
const switchSource = `package gpu

import "os"

var switchedOff = os.Getenv("GPU_OFF")

func off(name string) bool { return name == switchedOff }
`

// TestSoakAblation switches the mechanisms of testdata/ablation.txt off, each alone, and scores the sampler. A
// mechanism that may be missing without a figure getting worse by what the list states is to be deleted. It takes some
// minutes; -v prints the table of results/ablation.md.
func TestSoakAblation(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("only in make soak")
	}
	sources, names, demands := ablations(t)
	binary := buildWith(t, sources)
	base := scores(t, binary, "")
	t.Logf("nothing off: %v", base)
	for _, name := range names {
		got := scores(t, binary, name)
		t.Logf("%s off: %v", name, got)
		for _, d := range demands[name] {
			if got[d.figure]-base[d.figure] < d.by {
				t.Errorf("without %s %s goes from %.3f to %.3f: it should get worse by %.3f", name, d.figure, base[d.figure], got[d.figure], d.by)
			}
		}
	}
}

// TestAblationEdits: each edit of the list finds its place in the code as it is now.
func TestAblationEdits(t *testing.T) {
	if _, names, _ := ablations(t); len(names) < 10 {
		t.Errorf("only %d mechanisms are listed", len(names))
	}
}

// worse says by how much a figure gets worse, at least, without a mechanism.
type worse struct {
	figure string
	by     float64
}

// ablations reads testdata/ablation.txt: the sources with a switch for each mechanism, and what each is worth.
func ablations(t *testing.T) (sources map[string]string, names []string, demands map[string][]worse) {
	t.Helper()
	demands = map[string][]worse{}
	sources = map[string]string{"switch.go": switchSource}
	text, err := os.ReadFile("testdata/ablation.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		var name, file, was, becomes string
		for _, line := range strings.Split(block, "\n") {
			switch key, value, _ := strings.Cut(line, ": "); key {
			case "name":
				name = value
				names = append(names, name)
			case "file":
				file = value
			case "old":
				was += value + "\n"
			case "new":
				becomes += value + "\n"
			case "worse":
				figure, by, _ := strings.Cut(value, " ")
				v, err := strconv.ParseFloat(by, 64)
				if err != nil {
					t.Fatal(err)
				}
				demands[name] = append(demands[name], worse{figure, v})
			}
		}
		if name == "" { // a comment
			continue
		}
		if sources[file] == "" {
			source, err := os.ReadFile(file) //nolint:gosec // of this package
			if err != nil {
				t.Fatal(err)
			}
			sources[file] = string(source)
		}
		if n := strings.Count(sources[file], was); n != 1 {
			t.Fatalf("%s: %q occurs %d times in %s", name, was, n, file)
		}
		sources[file] = strings.Replace(sources[file], was, becomes, 1)
	}
	return sources, names, demands
}

// buildWith compiles this package's tests with other sources and returns the binary's path.
func buildWith(t *testing.T, sources map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for name, source := range sources {
		replace[filepath.Join(here, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "gpu.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".") //nolint:gosec // our own
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

var scoreLine = regexp.MustCompile(`score (\S+) (\S+)`)

// scores runs the scoring tests with one mechanism off.
func scores(t *testing.T, binary, name string) map[string]float64 {
	t.Helper()
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^TestScores", "-test.v") //nolint:gosec // our own
	run.Env = append(os.Environ(), "GPU_OFF="+name)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("without %s: %v\n%s", name, err, out)
	}
	got := map[string]float64{}
	for _, m := range scoreLine.FindAllStringSubmatch(string(out), -1) {
		if got[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// TestScores prints the figures that TestSoakAblation compares, in percent: the mean bound and the largest error of
// the recorded H100's phases; at an H100's prices the reads that do not place their step within 40 ms, and the
// share of a core, there and where the counter has lost its period; the largest bound of a second twelve seconds after the start.
func TestScores(t *testing.T) {
	rec, marks, events := h100(t)
	phases := phaseErrors(t, rec, marks, events)
	t.Logf("score phases/bound %.4f", 100*phases.bound)
	t.Logf("score phases/error %.4f", 100*phases.off)
	for name, busy := range map[string]bool{"busy": true, "idle": false} {
		misplaced, cost := placement(t, busy, 4)
		t.Logf("score %s/misplaced %.2f", name, misplaced)
		t.Logf("score %s/cost %.4f", name, cost)
	}
	t.Logf("score dear/cost %.3f", dearCost(t))
	t.Logf("score start/bound %.1f", 100*max(startBound(t, 3600), startBound(t, 6000)))
}

// placement samples a card at an H100's prices for five minutes a seed. It returns how many percent of the reads
// leave their step's interval 40 ms wide or wider, and the percentage of a core.
func placement(t *testing.T, busy bool, seeds uint64) (misplaced, cost float64) {
	t.Helper()
	var wide, reads int
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			s := &pricedSource{clock: NewClock(), r: rand.New(rand.NewPCG(seed, 2))}
			begin := s.clock.Now()
			var widths []int64
			var last int64
			sampler, err := Start(Config{Clock: s.clock, Targets: []Target{{Source: s, Info: s.info()}}, cpu: s.cpu, Handle: func(b *Batch) {
				for _, k := range b.Ticks {
					if k.Before < begin+20e9 {
						continue
					}
					if n := len(widths); n > 0 && k.Before-last < 50e6 {
						widths = widths[:n-1] // the first of a pair is there to be wide
					}
					widths, last = append(widths, k.Hi-k.Lo), k.Before
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if busy {
				sampler.Observe(Event{At: s.clock.Now(), Request: 1, Phase: meter.PhaseDecode})
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			before := s.cpu()
			const span = 280 * time.Second
			time.Sleep(span)
			synctest.Wait()
			cost += 100 * float64(s.cpu()-before) / float64(span) / float64(seeds)
			sampler.Stop()
			for _, w := range widths {
				if reads++; w >= 40e6 {
					wide++
				}
			}
		})
	}
	return 100 * float64(wide) / float64(reads), cost
}

// dearCost returns the percentage of a core in the first minute where a read of the counter takes 10 ms of CPU and
// its period is not stable: from ten seconds on each step comes up to 80 ms late.
func dearCost(t *testing.T) (cost float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &pricedSource{clock: NewClock(), r: rand.New(rand.NewPCG(1, 2)), energy: 10_000}
		s.wandersAt = s.clock.Now() + 10e9
		sampler, err := Start(Config{Clock: s.clock, Targets: []Target{{Source: s, Info: s.info()}}, cpu: s.cpu})
		if err != nil {
			t.Fatal(err)
		}
		sampler.Observe(Event{At: s.clock.Now(), Request: 1, Phase: meter.PhaseDecode})
		const span = time.Minute
		time.Sleep(span)
		synctest.Wait()
		cost = 100 * float64(s.cpu()) / float64(span)
		sampler.Stop()
	})
	return cost
}

// startBound returns the largest bound, relative to the energy, of the last second that is known twelve seconds
// after the start, where a read of the counter takes price microseconds of CPU.
func startBound(t *testing.T, price int64) (worst float64) {
	t.Helper()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			s := &pricedSource{clock: NewClock(), r: rand.New(rand.NewPCG(seed, 2)), energy: price}
			time.Sleep(time.Duration(seed) * 50 * time.Millisecond) // rows begin at whole seconds
			sampler, err := Start(Config{Clock: s.clock, Targets: []Target{{Source: s, Info: s.info()}}, cpu: s.cpu})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(12 * time.Second)
			row := sampler.States()[0].Row
			sampler.Stop()
			if row == nil || !row.EnergyUj.Valid || row.Marked != "" {
				worst = max(worst, 10) // not known at all
				return
			}
			worst = max(worst, float64(row.ErrorUj.V)/float64(row.EnergyUj.V))
		})
	}
	return worst
}
