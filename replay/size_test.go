package replay

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int // 0: refused
		says string
	}{
		{"256", 256, ""}, {"1k", 1000, ""}, {"1.5k", 1500, ""}, {" 100k ", 100000, ""},
		{"128K", 0, "131072"}, {"0", 0, "no number"}, {"-5", 0, "no number"}, {"1.5", 0, "no number"}, {"k", 0, "no number"},
		{"1m", 0, "no number"}, {"", 0, "no number"}, {"1e99", 0, "no number"}, {"NaN", 0, "no number"},
	} {
		got, err := ParseSize(c.in)
		if got != c.want && err == nil || (err == nil) != (c.want > 0) {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", c.in, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("ParseSize(%q): %v, want %q in it", c.in, err, c.says)
		}
	}
}

func TestSizeName(t *testing.T) {
	for _, n := range []int{16, 256, 999, 1000, 1024, 1500, 10000, 100000} {
		if got, err := ParseSize(SizeName(n)); err != nil || got != n {
			t.Errorf("%d is shown as %s, which reads as %d (%v)", n, SizeName(n), got, err)
		}
	}
}

func TestReadSpec(t *testing.T) {
	want := Sizes{1000, 10000}
	for name, text := range map[string]string{
		"json":               `{"prompt_sizes": ["1k", 10000], "output_tokens": 256, "tasks": ["coding","list"], "duration": "2m", "concurrency": 3}`,
		"yaml":               "prompt-sizes: 1k, 10k\noutput-tokens: [256]\ntask: coding,list\nduration: 120\nconcurrency: 3\n",
		"the flags' aliases": "prompt_sizes: [1k, 10k]\nmax-output-tokens: 256\ntasks: [coding, list]\nduration: 120s\nconcurrency: 3\n",
	} {
		s, err := ReadSpec([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(s.PromptSizes) != 2 || s.PromptSizes[0] != want[0] || s.PromptSizes[1] != want[1] || len(s.OutputTokens) != 1 || s.OutputTokens[0] != 256 ||
			len(s.Tasks) != 2 || s.Tasks[1] != "list" || s.Concurrency != 3 || s.Duration != Seconds(120e9) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name, text := range map[string]string{
		"unknown key": "promt_sizes: 1k", "bad size": "prompt_sizes: 128K", "no mapping": "- 1", "bad yaml": "a: [", "bad time": "duration: soon",
		"two documents": "prompt_sizes: 1k\n---\nprompt_sizes: 2k\n",
	} {
		if s, err := ReadSpec([]byte(text)); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s was read, or its error is no sentence: %+v, %v", name, s, err)
		}
	}
}

func TestSpecRefusals(t *testing.T) {
	tasks := []string{"coding", "list"}
	for says, s := range map[string]Spec{
		"coding, list":             {Tasks: []string{"poetry"}},
		"no task \"\"":             {Cells: []Cell{{PromptTokens: 1, OutputTokens: 1}}},
		"needs a task":             {Cells: []Cell{{Task: "coding"}}},
		"cold, warm, natural":      {Cache: "hot"},
		"forced, natural":          {Length: "long"},
		"poisson, constant, gamma": {Arrival: "bus"},
		"give one of them":         {Rate: 1, Concurrency: 1},
		"above 0":                  {Rate: -1},
		"numbers above":            {Rate: math.NaN()},
		"rate and burstiness":      {Rate: 1, Burstiness: math.NaN()},
		"burstiness are":           {Rate: 1, Burstiness: math.Inf(1)},
		"cannot be negative":       {Requests: -1},
		"at most":                  {Concurrency: 1 << 20},
		"1000000 requests":         {Requests: 1e12},
		"10000 trials":             {Trials: 1e9},
		"rate x duration":          {Rate: 1000, Duration: Seconds(time.Hour)},
	} {
		if _, err := s.Complete(tasks); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q in it", s, err, says)
		}
	}
	for _, s := range []Spec{{}, Quick(), Full(), Stress(4), {Rate: 3}} {
		if _, err := s.Complete(tasks); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
