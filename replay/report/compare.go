package report

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"wattline/replay"
	"wattline/replay/compare"
	"wattline/replay/table"
	"wattline/replay/twin"
)

// LabelledRun is a run with the name under which it is compared.
type LabelledRun struct {
	Label    string
	Results  *replay.Results
	Run      *replay.Run
	Devices  []replay.DeviceInfo
	Flags    map[string]bool
	Settings map[string]string
	Dir      string // its folder, with the proof of a run of a trace; "": none
}

// against compares a run with another that was there before.
func against(a, b LabelledRun, opt compare.Options) (*compare.Result, error) {
	var sides [2]*compare.Side
	for i, run := range []LabelledRun{a, b} {
		sides[i] = compare.FromRun(run.Label, run.Run)
		if run.Dir != "" {
			var err error
			if sides[i].Proof, err = twin.ReadProof(run.Dir, run.Run); err != nil {
				return nil, err
			}
		}
	}
	return compare.Compare(sides[0], sides[1], opt)
}

// vramGB is the highest device memory in use, in the guide's GB.
func vramGB(r *replay.Results) replay.Num {
	for _, g := range Grades(r) {
		if g.Figure == VRAM {
			return g.Value
		}
	}
	return replay.Num{}
}

// column is one column of the guide's comparison table.
type column struct {
	head, best    string
	unit          string
	lowerIsBetter bool
	value         func(*replay.Results) replay.Num
	metric        string // of package compare, by which the best is judged
}

//nolint:gochecknoglobals // a constant table
var columns = []column{
	{"Tokens/sec", "Best Performance", "", false, func(r *replay.Results) replay.Num { return r.Throughput.MeanTokensPerSecond }, "e2e"},
	{"tokens/W", "", "", false, func(r *replay.Results) replay.Num { return r.Energy.MeanTokensPerWatt }, ""},
	{"tokens/J", "Best Energy", "", false, func(r *replay.Results) replay.Num { return r.Energy.TokensPerJoule }, "j_per_token"},
	{"Latency", "Best Latency", "ms", true, func(r *replay.Results) replay.Num { return r.Latency.TimeToFirstTokenMs }, "ttft"},
	{"VRAM", "Best VRAM Usage", "GB", true, vramGB, "vram"},
}

// Comparison writes the guide's comparison report in Markdown: its table, and its "Best" lines computed.
func Comparison(w io.Writer, runs []LabelledRun) error {
	b := &strings.Builder{}
	r := runs[0].Results
	fmt.Fprintf(b, "# %s Performance Comparison\n\n## Test Date: %s\n\n", r.Model, r.Timestamp.Format("2006-01-02"))
	b.WriteString("| Configuration | Tokens/sec | tokens/W | tokens/J | Latency | VRAM |\n|---------------|------------|----------|----------|---------|------|\n")
	for _, run := range runs {
		fmt.Fprintf(b, "| %s |", strings.ReplaceAll(run.Label, "|", `\|`))
		for _, c := range columns {
			v := table.Num(c.value(run.Results))
			if v != table.Absent {
				v += c.unit
			}
			fmt.Fprintf(b, " %s |", v)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Analysis\n\n")
	for _, c := range columns {
		if c.best != "" {
			fmt.Fprintf(b, "- **%s**: %s\n", c.best, c.winner(runs))
		}
	}
	b.WriteString("\n" + judged + "\n")
	for _, line := range caveats(runs) {
		fmt.Fprintf(b, "\n%s\n", line)
	}
	fmt.Fprintf(b, "\nTokens/sec: %s. tokens/W: %s. tokens/J: %s. Latency: %s. VRAM: %s. A dash was not measured.\n", r.Definitions["tokens_per_second"],
		r.Definitions["tokens_per_watt"], r.Definitions["tokens_per_joule"], r.Definitions["time_to_first_token_ms"], figures[VRAM].formula)
	_, err := io.WriteString(table.Plain(w), b.String())
	return err
}

// Markdown writes the comparison report, and behind it the tables of each run.
func Markdown(w io.Writer, runs []LabelledRun) error {
	if err := Comparison(w, runs); err != nil {
		return err
	}
	b := &strings.Builder{}
	for _, run := range runs {
		fmt.Fprintf(b, "\n## %s\n\n%s.\n", run.Label, Subtitle(run.Results))
		for _, t := range Tables(run) {
			t.markdown(b)
		}
	}
	_, err := io.WriteString(table.Plain(w), b.String())
	return err
}

// markdown writes a table; all columns but the first are aligned to the right, those of prose to the left.
func (t *Table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n", t.Title)
	if t.Note != "" {
		fmt.Fprintf(b, "%s\n\n", t.Note)
	}
	cells := func(row []string) {
		for _, cell := range row {
			fmt.Fprintf(b, "| %s ", strings.ReplaceAll(cell, "|", `\|`))
		}
		b.WriteString("|\n")
	}
	rule := make([]string, len(t.Head))
	for i := range rule {
		rule[i] = "---"
		if i > 0 && !t.Prose {
			rule[i] = "---:"
		}
	}
	cells(t.Head)
	cells(rule)
	for _, row := range t.Rows {
		cells(row)
	}
}

// ComparisonTable is the same for a page: the guide's table, the best of each column in its last line, and
// what speaks against comparing.
func ComparisonTable(runs []LabelledRun) *Table {
	t := &Table{Title: "Comparison", Head: []string{"Configuration"}, Note: strings.ReplaceAll(strings.Join(append([]string{judged}, caveats(runs)...), " "), "**", "")}
	for _, c := range columns {
		t.Head = append(t.Head, c.head)
	}
	for _, run := range runs {
		row := []string{run.Label}
		for _, c := range columns {
			row = append(row, strings.TrimSpace(withUnit(c.value(run.Results), c.unit)))
		}
		t.Rows = append(t.Rows, row)
	}
	last := []string{"best"}
	for _, c := range columns {
		if c.best == "" {
			last = append(last, "")
			continue
		}
		last = append(last, c.winner(runs))
	}
	t.Rows = append(t.Rows, last)
	return t
}

// Effects is a run compared with another as a part of a page, or why they cannot be compared.
func Effects(a, b LabelledRun) (template.HTML, error) {
	if a.Run == nil || b.Run == nil {
		return "", nil
	}
	r, err := against(a, b, compare.Options{})
	if err != nil {
		return template.HTML("<p>" + template.HTMLEscapeString(b.Label+" is not compared with "+a.Label+": "+err.Error()) + "</p>"), nil //nolint:gosec // escaped
	}
	return r.Section()
}

// judged says how the best is found.
const judged = "Energy is judged by tokens/J; tokens/W divides by the mean power alone, so it favours slow and long replies. " +
	"A run is the best where `wattline compare` calls it better than each other one; performance is judged by the end-to-end time."

// winner names the best run of those that have the figure, if compare calls it better than each of the others.
func (c column) winner(runs []LabelledRun) string {
	v := func(i int) replay.Num { return c.value(runs[i].Results) }
	var known []int
	for i := range runs {
		if v(i).Valid {
			known = append(known, i)
		}
	}
	slices.SortStableFunc(known, func(a, b int) int {
		if c.lowerIsBetter {
			a, b = b, a
		}
		return cmp.Compare(v(b).V, v(a).V)
	})
	switch len(known) {
	case 0:
		return "not measured"
	case 1:
		return runs[known[0]].Label + " (the only one measured)"
	}
	best := known[0]
	var alike []int
	nearest := ""
	for _, i := range known[1:] {
		verdict, text := c.against(runs[best], runs[i])
		switch {
		case verdict == "":
			return fmt.Sprintf("not told: %s has %s, %s %s; %s", runs[best].Label, c.cell(runs[best]), runs[i].Label, c.cell(runs[i]), text)
		case verdict != compare.Better:
			alike = append(alike, i)
		case nearest == "":
			nearest = text
		}
	}
	if len(alike) > 0 {
		var names, cells strings.Builder
		for _, i := range alike {
			names.WriteString(", " + runs[i].Label)
			cells.WriteString(", " + c.cell(runs[i]))
		}
		return fmt.Sprintf("%s and %s are not told apart (%s%s)", runs[best].Label, names.String()[2:], c.cell(runs[best]), cells.String())
	}
	return fmt.Sprintf("%s (%s, next %s with %s; %s)", runs[best].Label, c.cell(runs[best]), runs[known[1]].Label, c.cell(runs[known[1]]), nearest)
}

// against compares a run with another. Without a verdict the text says why there is none, else what the effect is.
func (c column) against(run, other LabelledRun) (compare.Verdict, string) {
	if run.Run == nil || other.Run == nil {
		return "", "their requests are not here"
	}
	r, err := against(other, run, compare.Options{Metrics: []string{c.metric}})
	if err != nil {
		return "", err.Error()
	}
	if r.Refusal != "" {
		return "", r.Refusal
	}
	m := r.Metrics[0]
	switch {
	case m.Verdict == compare.NotMeasured:
		return "", "too few of their requests have " + m.Title
	case m.Why != "" && !m.P.Valid:
		return "", m.Why
	}
	return m.Verdict, m.Title + " " + m.Effect.Range()
}

// cell is a run's figure with its unit.
func (c column) cell(run LabelledRun) string { return table.Num(c.value(run.Results)) + c.unit }

// caveats are the reasons against comparing the runs.
func caveats(runs []LabelledRun) []string {
	var out []string
	first := runs[0].Results
	for _, run := range runs {
		r := run.Results
		if r.Energy.Simulated {
			out = append(out, fmt.Sprintf("**The energy of %s is SIMULATED**: no joule in it was measured.", run.Label))
		}
		if !r.Valid {
			failed, _ := Verdict(r)
			out = append(out, fmt.Sprintf("**%s is INVALID**: %s.", run.Label, strings.Join(failed, "; ")))
		}
		if r.Model != first.Model {
			out = append(out, fmt.Sprintf("%s ran %s, %s ran %s.", runs[0].Label, first.Model, run.Label, r.Model))
		}
		switch {
		case r.Workload.Spec.Length != first.Workload.Spec.Length:
			out = append(out, fmt.Sprintf("%s and %s do not compare: replies of forced and of natural length.", runs[0].Label, run.Label))
		case r.Workload.PlanHash != first.Workload.PlanHash:
			out = append(out, fmt.Sprintf("%s and %s ran different workloads (plan %.12s and %.12s).", runs[0].Label, run.Label, first.Workload.PlanHash, r.Workload.PlanHash))
		case len(r.Workload.Skipped) != len(first.Workload.Skipped):
			out = append(out, fmt.Sprintf("%s and %s did not run the same cells: the budget ended one of them.", runs[0].Label, run.Label))
		}
	}
	return out
}
