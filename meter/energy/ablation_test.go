package energy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mechanism is one entry of testdata/ablation.txt.
type mechanism struct {
	name  string
	edits []edit
	worse map[string]float64 // by figure: points by which it must get worse
}

type edit struct{ file, old, new string }

// switchSource is compiled into package energy for TestSoakAblation only.
const switchSource = `package energy

import "os"

var switchedOff = os.Getenv("ENERGY_OFF")

func off(name string) bool { return name == switchedOff }
`

// TestAblationEdits: each edit of the list finds its place in the code as it is now.
func TestAblationEdits(t *testing.T) {
	all := readMechanisms(t)
	if switchable(t, all); len(all) < 20 {
		t.Errorf("only %d mechanisms are listed", len(all))
	}
}

// TestSoakAblation switches each mechanism of the ledger off alone and scores it on real recordings and on simulated
// cards. A mechanism that can be missing without a worse figure is to be deleted. -v prints the table of all figures;
// without it only those that are checked are computed.
func TestSoakAblation(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("only in make soak")
	}
	all := readMechanisms(t)
	binaries := buildSwitchable(t, all)
	figures := map[string]bool{}
	for _, m := range all {
		for figure := range m.worse {
			figures[figure] = true
		}
	}
	base := scores(t, binaries, "", figures)
	t.Logf("| off | rms | unplaced | counter alone | coverage | alone | H100 ring | A100 100 ms | RTX 1 s average | counter only |")
	t.Logf("|---|---|---|---|---|---|---|---|---|---|")
	t.Logf("| nothing | %s |", row(base))
	for _, m := range all {
		figures := map[string]bool{}
		for figure := range m.worse {
			figures[figure] = true
		}
		got := scores(t, binaries, m.name, figures)
		t.Logf("| %s | %s |", m.name, row(got))
		for _, figure := range slices.Sorted(maps.Keys(m.worse)) {
			more := got[figure] - base[figure]
			if strings.HasSuffix(figure, "coverage") {
				more = -more
			}
			if _, ok := got[figure]; !ok || more < m.worse[figure] {
				t.Errorf("without %s %s goes from %.2f to %.2f: it should get worse by %.2f",
					m.name, figure, base[figure], got[figure], m.worse[figure])
			}
		}
	}
}

func readMechanisms(t *testing.T) []mechanism {
	t.Helper()
	text, err := os.ReadFile("testdata/ablation.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []mechanism
	for _, block := range strings.Split(string(text), "\n\n") {
		m := mechanism{worse: map[string]float64{}}
		for _, line := range strings.Split(strings.TrimRight(block, "\n"), "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "name":
				m.name = value
			case "file":
				m.edits = append(m.edits, edit{file: value})
			case "old":
				m.edits[len(m.edits)-1].old += value + "\n"
			case "new":
				m.edits[len(m.edits)-1].new += value + "\n"
			case "worse":
				figure, by, _ := strings.Cut(value, " ")
				if m.worse[figure], err = strconv.ParseFloat(by, 64); err != nil {
					t.Fatal(err)
				}
			}
		}
		if m.name != "" {
			all = append(all, m)
		}
	}
	return all
}

// switchable returns the sources with every edit applied, by name.
func switchable(t *testing.T, all []mechanism) map[string]string {
	t.Helper()
	sources := map[string]string{"switch.go": switchSource}
	for _, m := range all {
		for _, e := range m.edits {
			if sources[e.file] == "" {
				text, err := os.ReadFile(e.file)
				if err != nil {
					t.Fatal(err)
				}
				sources[e.file] = string(text)
			}
			was, becomes := strings.TrimSuffix(e.old, "\n"), strings.TrimSuffix(e.new, "\n")
			if n := strings.Count(sources[e.file], was); n != 1 {
				t.Fatalf("%s: %q occurs %d times in %s", m.name, was, n, e.file)
			}
			sources[e.file] = strings.Replace(sources[e.file], was, becomes, 1)
		}
	}
	return sources
}

// buildSwitchable compiles the tests of this package and of recording with every edit applied, and returns the
// binaries' paths by directory.
func buildSwitchable(t *testing.T, all []mechanism) map[string]string {
	t.Helper()
	sources := switchable(t, all)
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for name, text := range sources {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binaries := map[string]string{}
	for _, pkg := range []string{".", "recording"} {
		binaries[pkg] = filepath.Join(dir, fmt.Sprintf("%d.test", len(binaries)))
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binaries[pkg], "./"+pkg)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return binaries
}

var scoreLine = regexp.MustCompile(`score (\S+) (\S+)`)

// simulatedMixes is how many mixes a simulated card plays here.
const simulatedMixes = "60"

// scores runs the scoring tests with one mechanism off. Without -v it runs only what the figures need.
func scores(t *testing.T, binaries map[string]string, name string, figures map[string]bool) map[string]float64 {
	t.Helper()
	var recordings, profiles []string
	for figure := range figures {
		of, _, _ := strings.Cut(figure, "/")
		if profile, ok := strings.CutPrefix(of, "sim-"); ok {
			profiles = append(profiles, strings.ReplaceAll(profile, "-", "_"))
		} else {
			recordings = append(recordings, of)
		}
	}
	if testing.Verbose() {
		profiles = []string{""}
	}
	got := map[string]float64{}
	run := func(pkg string, env string, args ...string) {
		cmd := exec.CommandContext(t.Context(), binaries[pkg], append(args, "-test.v")...)
		cmd.Dir = pkg
		cmd.Env = append(os.Environ(), "ENERGY_OFF="+name, env)
		out, err := cmd.CombinedOutput()
		lines := scoreLine.FindAllStringSubmatch(string(out), -1)
		if len(lines) == 0 { // TestTruth's own limits may fail without a mechanism
			t.Fatalf("without %q: %v\n%s", name, err, out)
		}
		for _, m := range lines {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			got[m[1]] = v
		}
	}
	if len(recordings) > 0 || testing.Verbose() {
		only := "SCORES_ONLY=" + strings.Join(recordings, " ")
		if testing.Verbose() {
			only = "SCORES_ONLY="
		}
		run("recording", only, "-test.run", "^TestScores$")
	}
	if len(profiles) > 0 {
		run(".", "SCORES_ONLY=", "-test.run", "^TestTruth$/^("+strings.Join(profiles, "|")+")", "-mixes", simulatedMixes)
	}
	return got
}

func row(of map[string]float64) string {
	var cells []string
	for _, figure := range []string{"/rms", "-unplaced/rms", "-counter/rms", "/coverage"} {
		var cell []string
		for _, dir := range []string{"coalitions", "first", "even", "short", "unified"} {
			cell = append(cell, fmt.Sprintf("%.1f", of[dir+figure]))
		}
		cells = append(cells, strings.Join(cell, " "))
	}
	cells = append(cells, fmt.Sprintf("%.2f %.2f %.2f", of["alone-ring/rms"], of["alone-counter/rms"], of["alone-average/rms"]))
	for _, profile := range []string{"H100-ring", "A100-100-ms", "RTX-1-s-average", "counter-only"} {
		var cell []string
		for _, figure := range []string{"/median", "/p95", "/active-median", "/active-p95", "/coverage"} {
			cell = append(cell, fmt.Sprintf("%.2f", of["sim-"+profile+figure]))
		}
		cells = append(cells, strings.Join(cell, " "))
	}
	return strings.Join(cells, " | ")
}
