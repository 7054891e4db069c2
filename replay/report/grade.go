package report

import (
	"fmt"
	"io"
	"strings"

	"wattline/replay"
	"wattline/replay/table"
)

// Grade is one figure judged by the guide.
type Grade struct {
	Figure  Figure     `json:"figure"`
	Value   replay.Num `json:"value"`
	Of      string     `json:"of"`     // the cell that it was measured in
	Band    string     `json:"band"`   // the guide's words
	Target  string     `json:"target"` // the hardest target that is met; "" for none
	Why     string     `json:"why"`    // why it is not graded; "" if it is
	Formula string     `json:"formula"`
}

// The guide's bands are of single requests of about a thousand tokens, each way: its own sample has
// 1,000 tokens in 4.3 s. tokens/W grows with the length of the reply, so that band applies there alone;
// throughput needs a reply long enough for its first token not to dominate, latency just the prompt.
const (
	gradedPromptMin, gradedPromptMax   = 900, 1150
	gradedReplyMin, gradedReplyMax     = 900, 1150
	gradedThroughputMin                = 200
	bytesPerGB                         = 1e9
	gradedModel, gradedModelQuantities = "glm-4.7-flash", "q4"
)

// Grades judges a run. A figure for which no cell qualifies is not graded, and says why.
func Grades(r *replay.Results) []Grade {
	grades := []Grade{
		grade(r, Throughput, gradedThroughputMin, 1<<30, func(c replay.CellResult) replay.Num { return c.TokensPerSecond.Mean }),
		grade(r, Efficiency, gradedReplyMin, gradedReplyMax, func(c replay.CellResult) replay.Num { return c.TokensPerWatt.Mean }),
		grade(r, Latency, 0, 1<<30, func(c replay.CellResult) replay.Num { return c.TTFTMs.Mean }),
	}
	return append(grades, vramGrade(r))
}

func grade(r *replay.Results, f Figure, replyMin, replyMax int, value func(replay.CellResult) replay.Num) Grade {
	g := Grade{Figure: f, Formula: figures[f].formula}
	s := r.Workload.Spec
	switch {
	case !isGuidesModel(r):
		g.Why = otherModel
		return g
	case s.Rate > 0 || s.Concurrency != 1:
		g.Why = "not graded: the guide's bands are of requests served alone (--concurrency 1)"
		return g
	case s.Cache != replay.Cold:
		g.Why = "not graded: the guide's bands are of prompts that were not cached (--cache cold)"
		return g
	case r.Workload.Dataset != nil:
		g.Why = "not graded: the guide's bands are of prompts of one size, and a dataset's differ"
		return g
	}
	var best *replay.CellResult // the longest reply that qualifies
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.PromptTokens < gradedPromptMin || c.PromptTokens > gradedPromptMax || c.OutputTokens < replyMin || c.OutputTokens > replyMax {
			continue
		}
		if best == nil || c.OutputTokens > best.OutputTokens {
			best = c
		}
	}
	if best == nil {
		g.Why = "not graded: no cell with a prompt of about 1k and a reply of " + replyRange(replyMin, replyMax)
		return g
	}
	g.Value, g.Of = value(*best), best.String()
	if !g.Value.Valid {
		g.Why = "not graded: not measured"
		return g
	}
	g.Band, g.Target = bandOf(f, g.Value.V), targetOf(f, g.Value.V)
	return g
}

func replyRange(low, high int) string {
	switch {
	case high < 1<<30:
		return fmt.Sprintf("%d to %d tokens", low, high)
	case low > 0:
		return fmt.Sprintf("%d tokens or more", low)
	}
	return "any length"
}

// vramGrade applies to the model that the guide is about, and to no other.
func vramGrade(r *replay.Results) Grade {
	g := Grade{Figure: VRAM, Formula: figures[VRAM].formula, Value: r.Device.VRAMBytes.Times(1 / bytesPerGB)}
	if !g.Value.Valid {
		g.Value = r.Memory.VRAMBytes.Times(1 / bytesPerGB)
	}
	switch {
	case !g.Value.Valid:
		g.Why = "not graded: not measured"
	case !isGuidesModel(r):
		g.Why = otherModel
	default:
		g.Band = bandOf(VRAM, g.Value.V)
	}
	return g
}

// otherModel is why no other model is graded.
const otherModel = "not graded: the guide's bands are of GLM-4.7 Flash Q4"

func isGuidesModel(r *replay.Results) bool {
	if r.Server == nil {
		return false
	}
	name := strings.ToLower(r.Model + " " + r.Server.Quantisation + " " + r.Server.ModelPath)
	return strings.Contains(name, gradedModel) && strings.Contains(name, gradedModelQuantities)
}

// bandOf finds the guide's words for a value. A value on a border: "> 200" excludes 200, "150-200"
// includes both ends, and the upper of two bands that both name it wins; for latency "< 200" excludes
// 200 in the same way.
func bandOf(f Figure, v float64) string {
	for i, b := range bands[f] {
		above := !b.From.Valid || v > b.From.V || v == b.From.V && (i != 0 || b.To.Valid)
		below := !b.To.Valid || v < b.To.V || v == b.To.V && (i != 0 || b.From.Valid)
		if above && below {
			return b.Word
		}
	}
	return ""
}

// targetOf finds the hardest line of the guide's target table that a value meets.
func targetOf(f Figure, v float64) string {
	met := ""
	for _, t := range targets {
		switch f {
		case Throughput:
			if v > t.TokensPerSecond {
				met = t.Name
			}
		case Efficiency:
			if v > t.TokensPerWatt {
				met = t.Name
			}
		case Latency:
			if v < t.Ms {
				met = t.Name
			}
		case VRAM: // has no targets
		}
	}
	return met
}

// Scenarios are those of the guide that hold for the run.
func Scenarios(r *replay.Results) []Scenario {
	s := situation{tempC: r.Device.TempMaxC}
	for _, g := range Grades(r) {
		if g.Why != "" && g.Figure != VRAM {
			continue
		}
		switch g.Figure {
		case Throughput:
			s.tokensPerSecond = g.Value
		case Efficiency:
			s.tokensPerWatt = g.Value
		case VRAM:
			s.vramGB = g.Value
		case Latency: // in no scenario
		}
	}
	var out []Scenario
	for _, sc := range scenarios {
		if sc.holds(s) {
			out = append(out, sc)
		}
	}
	return out
}

// References compares the run with the guide's cards: only the same model on the same card compares.
func References(r *replay.Results, devices []replay.DeviceInfo) []string {
	var out []string
	for _, ref := range references {
		for _, d := range devices {
			if !isGuidesModel(r) || !strings.Contains(d.Name, ref.Card) {
				continue
			}
			out = append(out, fmt.Sprintf("the guide's range for %s: %g-%g tokens/s, %g-%g tokens/W, %g-%g ms", ref.Card,
				ref.TokensPerSecond[0], ref.TokensPerSecond[1], ref.TokensPerWatt[0], ref.TokensPerWatt[1], ref.LatencyMs[0], ref.LatencyMs[1]))
		}
	}
	return out
}

// Ranges places the graded figures in what the guide calls high performance of GLM-4.7 Flash on a modern
// GPU, and with optimized settings; of another model they say nothing.
func Ranges(r *replay.Results) []string {
	if !isGuidesModel(r) {
		return nil
	}
	var out []string
	for _, g := range Grades(r) {
		for _, ty := range typicals {
			if ty.Figure != g.Figure || g.Why != "" {
				continue
			}
			out = append(out, fmt.Sprintf("%s %s %s: %s the guide's %s on a modern GPU, %s its %s with optimized settings", figures[g.Figure].name,
				table.Num(g.Value), figures[g.Figure].unit, place(g, ty.High), ty.HighText, place(g, ty.Optimized), ty.OptimizedText))
		}
	}
	return out
}

// place compares a value with a range.
func place(g Grade, r [2]float64) string {
	v, lower := g.Value.V, figures[g.Figure].lowerIsBetter
	switch {
	case v >= r[0] && v <= r[1]:
		return "within"
	case (v > r[1]) != lower:
		return "better than"
	}
	return "short of"
}

// printGrades writes the verdicts, each with its formula and the cell it is of.
func printGrades(w io.Writer, r *replay.Results, devices []replay.DeviceInfo) {
	if !isGuidesModel(r) {
		fmt.Fprintf(w, "By the guide: %s.\n", otherModel)
		return
	}
	fmt.Fprintln(w, "By the guide:")
	for _, g := range Grades(r) {
		f := figures[g.Figure]
		if g.Why != "" {
			fmt.Fprintf(w, "  %s: %s\n", f.name, g.Why)
			continue
		}
		target := ""
		if g.Target != "" {
			target = ", target " + g.Target
		}
		of := ""
		if g.Of != "" {
			of = "; " + g.Of
		}
		fmt.Fprintf(w, "  %s: %s %s: %s%s (%s%s)\n", f.name, table.Num(g.Value), f.unit, g.Band, target, g.Formula, of)
	}
	for _, s := range Scenarios(r) {
		fmt.Fprintf(w, "  %s: %s (%s): %s\n", s.Name, s.Status, s.Expected, strings.Join(s.Advice, "; "))
	}
	for _, line := range append(Ranges(r), References(r, devices)...) {
		fmt.Fprintf(w, "  %s\n", line)
	}
}
