package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wattline/proxy/llamatest"
)

// TestSweepCommand: a sweep is written once; a used folder is refused before anything is measured.
func TestSweepCommand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sweep")
	args := []string{"replay", "--endpoint", llamatest.Start(t).URL(), "--prompt-sizes", "100", "--output-tokens", "4", "--requests", "1", "--sweep", "concurrency=1,2", "--out", dir}
	got := wattline(t, args...)
	invalid := strings.Contains(got.stderr, "a point of the sweep is INVALID")
	if got.code != map[bool]int{false: exitOK, true: exitInvalid}[invalid] {
		t.Fatalf("exit %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	text, err := os.ReadFile(filepath.Join(dir, "sweep.json"))
	if err != nil || strings.Contains(string(text), "failed_checks") != invalid {
		t.Errorf("%v, invalid %v\n%s", err, invalid, text)
	}
	args[2] = "http://127.0.0.1:1" // nobody is asked
	if again := wattline(t, args...); again.code != exitUsage || !strings.Contains(again.stderr, "holds a sweep already (sweep.json)") {
		t.Errorf("exit %d, %s", again.code, again.stderr)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "sweep.json")); string(after) != string(text) {
		t.Error("the sweep was written over")
	}
}
