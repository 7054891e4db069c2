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

// switchSource is compiled into package energy for TestAblation only.
const switchSource = `package energy

import "os"

var switchedOff = os.Getenv("ENERGY_OFF")

func off(name string) bool { return name == switchedOff }
`

// TestAblation switches each mechanism of the ledger off alone and scores it on the real recordings. A
// mechanism that may be missing without a figure getting worse is to be deleted. -v prints the table.
func TestAblation(t *testing.T) {
	all := readMechanisms(t)
	binary := buildSwitchable(t, all)
	base := scores(t, binary, "")
	t.Logf("| off | rms | unplaced | counter alone | coverage | alone |")
	t.Logf("|---|---|---|---|---|---|")
	t.Logf("| nothing | %s |", row(base))
	for _, m := range all {
		got := scores(t, binary, m.name)
		t.Logf("| %s | %s |", m.name, row(got))
		for _, figure := range slices.Sorted(maps.Keys(m.worse)) {
			if more := got[figure] - base[figure]; more < m.worse[figure] {
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

// buildSwitchable compiles the scoring test with every edit applied and returns the binary's path.
func buildSwitchable(t *testing.T, all []mechanism) string {
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
	binary := filepath.Join(dir, "recording.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "./recording")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

var scoreLine = regexp.MustCompile(`score (\S+) (\S+)`)

// scores runs the scoring test with one mechanism off.
func scores(t *testing.T, binary, name string) map[string]float64 {
	t.Helper()
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^TestScores$", "-test.v")
	run.Dir = "recording"
	run.Env = append(os.Environ(), "ENERGY_OFF="+name)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("without %s: %v\n%s", name, err, out)
	}
	got := map[string]float64{}
	for _, m := range scoreLine.FindAllStringSubmatch(string(out), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		got[m[1]] = v
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
	return strings.Join(cells, " | ")
}
