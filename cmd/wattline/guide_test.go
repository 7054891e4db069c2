package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/deploy/debian"
	"wattline/proxy/llamatest"
)

// The headings of the benchmarking guide, in its order.
//
//nolint:gochecknoglobals // a constant list
var guideHeadings = []string{
	"## Overview", "### What to Benchmark", "## Quick Benchmarks", "### Quick Verification Test", "### Quick Benchmark",
	"## Comprehensive Tests", "### Full Benchmark Suite", "### Test Configuration", "## Performance Metrics",
	"### Throughput (Tokens Per Second)", "### Energy Efficiency (Tokens Per Watt)", "### Latency (Time to First Token)", "### VRAM Usage",
	"## Interpretation Guide", "### Performance Scenarios", "#### Scenario 1: High Throughput, Low VRAM",
	"#### Scenario 2: Medium Performance, High VRAM", "#### Scenario 3: Low Performance, Low VRAM", "#### Scenario 4: Good Efficiency, High Temperature",
	"## Advanced Testing", "### Custom Benchmark Scripts", "### A/B Testing", "### Long-term Monitoring", "### Resource Profiling",
	"## Reporting Results", "### Benchmark Output Format", "### Performance Summary", "### Comparison Reports", "### Automated Reporting",
	"## Optimization Tips", "### Improve Throughput", "### Improve Energy Efficiency", "### Improve Latency", "## Common Benchmarks",
	"### Reference Performance", "### Performance Targets", "## Next Steps", "## Additional Resources", "## Getting Help",
}

func readGuide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "replay", "GUIDE.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGuideHeadings(t *testing.T) {
	at := 0
	lines := strings.Split(readGuide(t), "\n")
	for _, h := range guideHeadings {
		i := slices.Index(lines[at:], h)
		if i < 0 {
			t.Errorf("GUIDE.md has no %q behind line %d", h, at)
			continue
		}
		at += i + 1
	}
}

// block is a code block of the guide.
type block struct {
	line  int
	needs string // a program that this machine may lack
	text  string
}

var fence = regexp.MustCompile("^```bash(?: needs=(\\S+))?$")

func codeBlocks(text string) []block {
	var out []block
	open := false
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil:
			out = append(out, block{line: i + 1, needs: m[1]})
			open = true
		case line == "```":
			open = false
		case open:
			out[len(out)-1].text += line + "\n"
		}
	}
	return out
}

// TestGuideCodeBlocks runs every command of the guide, in order, in one folder. Only durations and repetitions are
// reduced.
func TestGuideCodeBlocks(t *testing.T) {
	t.Parallel()
	srv := llamatest.Start(t)
	w := serve(t, srv.URL(), "--store", filepath.Join(t.TempDir(), "wattline.db"))
	dir, bin := t.TempDir(), t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"wattline": exe, "python3": debian.Need(t, "python3")} {
		if err := os.Symlink(to, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	blocks := codeBlocks(readGuide(t))
	if len(blocks) < 14 {
		t.Fatalf("only %d code blocks were found", len(blocks))
	}
	// The commands are the guide's; their workloads are smaller, for a small model on two cores.
	shorter := strings.NewReplacer("--duration 120", "--duration 1", "replay --full", "replay --requests 1 --prompt-sizes 50,100 --output-tokens 4,16 --full",
		"replay --json-out", "replay --requests 1 --prompt-sizes 50,100 --output-tokens 4,16 --json-out", `--prompt-sizes "1k,10k,100k"`, `--prompt-sizes "50,100"`,
		`replay --prompt-sizes "$size" --max-output-tokens 128`, `replay --requests 1 --prompt-sizes 50 --max-output-tokens 16`, "replay --prompt-sizes 500", "replay --requests 1 --prompt-sizes 100",
		`"500,1k"`, `"50,100"`, `"output_tokens": [64]`, `"output_tokens": [16]`, `"tasks": ["coding"]}`, `"tasks": ["coding"], "requests": 1}`,
		"http://127.0.0.1:11433", w.url, "http://127.0.0.1:11533", w.url, "--workload ab.json", "--workload ab.json --budget 5s", "--port 11433", "--port "+port(w.url), "--duration 60", "--duration 3", "--trials 5", "--trials 2",
		"replay selftest", "replay selftest --tokens 4 --first-token 100ms --gap 20ms", "sleep 1", "sleep 0.1")
	for _, b := range blocks {
		if b.needs != "" {
			if _, err := exec.LookPath(b.needs); err != nil {
				t.Logf("GUIDE.md:%d is not run: there is no %s here", b.line, b.needs)
				continue
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", shorter.Replace(b.text))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "WATTLINE_ENDPOINT="+w.url, "WATTLINE_STORE="+w.store, "XDG_CONFIG_HOME="+dir)
		began := time.Now()
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Errorf("GUIDE.md:%d: %v\n%s\n%s", b.line, err, b.text, out)
			continue
		}
		t.Logf("GUIDE.md:%d: ok after %v", b.line, time.Since(began).Round(100*time.Millisecond))
	}
	for _, name := range []string{"results.json", "full-1/manifest.json", "stress-1/timeseries.csv", "results_1k.json", "ab/b/requests.jsonl", "compare.html", "sweep-1/sweep.html", "monitor.jsonl", "comparison_report.md", "comparison_report.html"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("the guide's commands left no %s (%v)", name, err)
		}
	}
}

// port is the port of a URL.
func port(url string) string { return url[strings.LastIndex(url, ":")+1:] }

// TestGuideScripts: the scripts with the guide's names pass all arguments to wattline.
func TestGuideScripts(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "wattline"), []byte("#!/bin/sh\necho \"wattline $*\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	scripts := filepath.Join("..", "..", "deploy", "guide", "scripts")
	for _, c := range []struct{ command, want string }{
		{"test_glm.sh", "wattline check\n"},
		{"benchmark.sh", "wattline replay\n"},
		{"benchmark.sh --full", "wattline replay --full\n"},
		{`benchmark.sh --prompt-sizes "1k,10k,100k" --output-tokens "256,512,1024" --duration 120`, "wattline replay --prompt-sizes 1k,10k,100k --output-tokens 256,512,1024 --duration 120\n"},
		{"benchmark.sh --config-file config1.json", "wattline replay --config-file config1.json\n"},
		{"custom_test.sh 1k", "Testing size: 1k\nwattline replay --prompt-sizes 1k --max-output-tokens 512 --task coding --json-out results_1k.json\n"},
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", filepath.Join(scripts, c.command))
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.command, err, out)
		}
	}
}
