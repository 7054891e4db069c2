package archive

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wattline/replay"
	"wattline/replay/replaytest"
)

func TestRoundTrip(t *testing.T) {
	spec := replay.Quick()
	spec.Trials = 2
	run := replaytest.Run(spec)
	warmup := *run.Exchanges[0]
	warmup.Warmup = true
	run.Warmups = []*replay.Exchange{&warmup}
	results := run.Results()
	dir := filepath.Join(t.TempDir(), "run")
	m := Manifest{
		Wattline: "v1", Argv: []string{"wattline", "replay"}, Host: ThisHost(), ServerFlags: map[string]bool{"--flash-attn": true}, Settings: map[string]string{"--gpu-layers": "99"},
	}
	if err := Write(dir, m, run, results); err != nil {
		t.Fatal(err)
	}
	a, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Run.Exchanges) != len(run.Exchanges) || len(a.Run.Warmups) != 1 || len(a.Run.Gauge) != len(run.Gauge) ||
		len(a.Run.Power.Samples) != len(run.Power.Samples) || len(a.Run.Power.Curves[0].MilliWatts) != len(run.Power.Curves[0].MilliWatts) {
		t.Errorf("read back: %d exchanges, %d readings, %d samples", len(a.Run.Exchanges), len(a.Run.Gauge), len(a.Run.Power.Samples))
	}
	if a.Manifest.Settings["--gpu-layers"] != "99" || !a.Manifest.ServerFlags["--flash-attn"] || a.Run.Power.Devices[0].Driver != "580.159.04" || a.Manifest.Host.Cores < 1 {
		t.Errorf("%+v", a.Manifest)
	}
	// What was read says the same as what was measured, but for the gaps, which are only in memory.
	for _, e := range run.Exchanges {
		e.GapsUs = nil
	}
	want, err := run.Results().JSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Run.Results().JSON()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("the results computed from the folder differ:\n%.600s\n%.600s", got, want)
	}
	stored, err := a.Results.JSON()
	if err != nil {
		t.Fatal(err)
	}
	first, _ := results.JSON()
	if string(stored) != string(first) {
		t.Errorf("results.json changes when it is read:\n%.600s\n%.600s", stored, first)
	}
}

func TestExistingRunIsKept(t *testing.T) {
	dir := t.TempDir()
	run := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{1000}})
	if err := Write(dir, Manifest{}, run, run.Results()); err != nil {
		t.Fatal(err)
	}
	before := content(t, dir)
	if err := Write(dir, Manifest{}, run, run.Results()); err == nil || !strings.Contains(err.Error(), "holds a run already") {
		t.Errorf("a second run: %v", err)
	}
	if content(t, dir) != before {
		t.Error("the folder changed")
	}
	left := t.TempDir()
	if err := os.WriteFile(filepath.Join(left, ProofFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Free(left); err == nil {
		t.Error("a folder with the proof of an earlier run is free")
	}
	if err := Free(filepath.Join(dir, ResultsFile)); err == nil {
		t.Error("a file is taken for a folder")
	}
}

func content(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all += e.Name() + string(text)
	}
	return all
}

func TestDamagedArchive(t *testing.T) {
	run := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{1000}})
	for file, damage := range map[string]string{
		ResultsFile: "{", ManifestFile: "{}", RequestsFile: "{}\n{\n", SeriesFile: "kind,at\nsecond,yesterday\n",
	} {
		dir := t.TempDir()
		if err := Write(dir, Manifest{}, run, run.Results()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s is damaged: %v", file, err)
		}
	}
	dir := t.TempDir()
	if err := Write(dir, Manifest{}, run, run.Results()); err != nil {
		t.Fatal(err)
	}
	for _, cell := range []string{"9", "-1"} {
		if err := os.WriteFile(filepath.Join(dir, RequestsFile), []byte(`{"warmup":true,"cell":-1}`+"\n"+`{"trial":0,"cell":`+cell+`,"index":0}`+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), RequestsFile+":2: cell "+cell+" is not in the plan") {
			t.Errorf("cell %s: %v", cell, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestFile), []byte(`{"run":{"plan":{}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "has no cells") {
		t.Errorf("no cells: %v", err)
	}
	if _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "replay --out") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestNoSecretsInTheManifest(t *testing.T) {
	text, err := json.Marshal(Manifest{Host: ThisHost()})
	if err != nil {
		t.Fatal(err)
	}
	if name, err := os.Hostname(); err == nil && len(name) > 3 && strings.Contains(string(text), name) {
		t.Errorf("the host's name is in it: %s", text)
	}
}

// TestCompareRuns: two runs of the folder are given to the judge, and none from outside it.
func TestCompareRuns(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 1000, "b": 2000} {
		run := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{size}})
		if err := Write(filepath.Join(dir, name), Manifest{}, run, run.Results()); err != nil {
			t.Fatal(err)
		}
	}
	r := Runs{Dir: dir, Judge: func(a, b *Archive) (any, error) {
		return []int{a.Run.Plan.Cells[0].PromptTokens, b.Run.Plan.Cells[0].PromptTokens}, nil
	}}
	if got, err := r.Compare(t.Context(), "b", "a"); err != nil || !slices.Equal(got.([]int), []int{2000, 1000}) {
		t.Error(got, err)
	}
	for _, other := range []string{"", "c", "../" + filepath.Base(dir) + "/b", "/etc"} {
		if got, err := r.Compare(t.Context(), "a", other); got != nil || err != nil {
			t.Errorf("%q: %v, %v", other, got, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Compare(ended, "a", "b"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	refused := func(err error) bool { var i incomparable; return errors.As(err, &i) }
	if _, err := (Runs{Dir: dir, Judge: func(_, _ *Archive) (any, error) { return nil, io.EOF }}).Compare(t.Context(), "a", "b"); !refused(err) || !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "b", ManifestFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Compare(t.Context(), "a", "b"); err == nil || !strings.Contains(err.Error(), "run b: ") || refused(err) {
		t.Error(err)
	}
}

// TestChartsStayInTheFolder: no file of a run is read through a link out of the folder of runs, nor one that is too large.
func TestChartsStayInTheFolder(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "other.csv")
	run := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{1000}})
	if err := Write(filepath.Join(dir, "a"), Manifest{}, run, run.Results()); err != nil {
		t.Fatal(err)
	}
	read := func() map[string]any {
		t.Helper()
		got, err := Runs{Dir: dir, Charts: func(a *Archive) any { return len(a.Run.Exchanges) }}.Read(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		return got.(map[string]any)
	}
	if got := read(); got["charts"] != len(run.Exchanges) {
		t.Errorf("charts of %v exchanges (%v), want %d", got["charts"], got["no_charts"], len(run.Exchanges))
	}
	series := filepath.Join(dir, "a", SeriesFile)
	if err := os.Truncate(series, maxCharted+1); err != nil {
		t.Fatal(err)
	}
	if got := read(); got["charts"] != nil || !strings.Contains(got["no_charts"].(string), "MiB") {
		t.Errorf("too large: %v, %v", got["charts"], got["no_charts"])
	}
	if err := os.WriteFile(outside, []byte("kind,at\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(series); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, series); err != nil {
		t.Fatal(err)
	}
	if got := read(); got["charts"] != nil || got["no_charts"] == nil {
		t.Errorf("a link out of the folder: %v", got)
	}
}
