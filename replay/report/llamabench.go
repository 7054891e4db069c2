package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"wattline/replay"
	"wattline/replay/table"
)

// LlamaBench writes the runs as llama-bench's table, for sharing where those are compared. Its tests are
// named as llama-bench names them: pp1000 is a prompt of 1000 tokens, tg256 @ d1000 256 tokens generated
// behind 1000. Only cells that were served alone and cold have llama-bench's meaning.
func LlamaBench(w io.Writer, runs []LabelledRun) error {
	b := &strings.Builder{}
	b.WriteString("| model                          |       size |     params | backend    | ngl |            test |                  t/s |\n")
	b.WriteString("| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------: | -------------------: |\n")
	var left, builds []string
	for _, run := range runs {
		r := run.Results
		if several(r) || r.Workload.Spec.Cache != replay.Cold || r.Workload.Dataset != nil {
			left = append(left, run.Label)
			continue
		}
		done := map[string]bool{}
		for _, c := range r.Cells {
			line(b, run, "pp"+strconv.Itoa(c.PromptTokens), c.PrefillTPS, done)
			line(b, run, fmt.Sprintf("tg%d @ d%d", c.OutputTokens, c.PromptTokens), c.DecodeTPS, done)
		}
		build := "-"
		if r.Server != nil {
			build = r.Server.Build
		}
		if !slices.Contains(builds, build) {
			builds = append(builds, build)
		}
	}
	if len(builds) > 0 {
		fmt.Fprintf(b, "\nbuild: %s; through HTTP and wattline, not llama-bench's own loop\n", strings.Join(builds, ", "))
	}
	for _, l := range left {
		fmt.Fprintf(b, "\n%s is left out: several requests in flight, a warm cache or prompts of different sizes are not what llama-bench measures\n", l)
	}
	_, err := io.WriteString(table.Plain(w), b.String())
	return err
}

// line is one test; two tasks of the same size are one test to llama-bench, and the first is taken.
func line(b *strings.Builder, run LabelledRun, test string, v replay.Stat, done map[string]bool) {
	if done[test] || !v.Mean.Valid {
		return
	}
	done[test] = true
	r := run.Results
	model, size, params := r.Model, table.Absent, table.Absent
	if s := r.Server; s != nil {
		model = strings.TrimSuffix(r.Model, ".gguf")
		if s.ModelBytes > 0 {
			size = binary(float64(s.ModelBytes))
		}
		if s.Params > 0 {
			params = decimal(float64(s.Params))
		}
	}
	speed := fmt.Sprintf("%.2f", v.Mean.V)
	if v.SD.Valid {
		speed += fmt.Sprintf(" ± %.2f", v.SD.V)
	}
	fmt.Fprintf(b, "| %-30s | %10s | %10s | %-10s | %3s | %15s | %20s |\n", model, size, params, backend(run), table.OrAbsent(run.Settings["--gpu-layers"]), test, speed)
}

func binary(bytes float64) string {
	if bytes >= 1<<30 {
		return fmt.Sprintf("%.2f GiB", bytes/(1<<30))
	}
	return fmt.Sprintf("%.2f MiB", bytes/(1<<20))
}

func decimal(params float64) string {
	if params >= 1e9 {
		return fmt.Sprintf("%.2f B", params/1e9)
	}
	return fmt.Sprintf("%.2f M", params/1e6)
}

// backend is guessed from the card's name; the server does not report it.
func backend(run LabelledRun) string {
	for _, d := range run.Devices {
		switch name := strings.ToLower(d.Name); {
		case strings.Contains(name, "nvidia"), strings.Contains(name, "geforce"), strings.Contains(name, "rtx"):
			return "CUDA"
		case strings.Contains(name, "amd"), strings.Contains(name, "radeon"), strings.Contains(name, "instinct"):
			return "ROCm"
		}
	}
	return table.Absent
}
