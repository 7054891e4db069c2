package compare

import (
	"fmt"
	"io"
	"strings"

	"wattline/replay"
	"wattline/replay/table"
)

// Head is one line on what is compared with what.
func (r *Result) Head() string {
	side := func(s *Side) string {
		text := fmt.Sprintf("%s (%d requests", s.Label, s.Requests)
		if s.Errors > 0 {
			text += fmt.Sprintf(", %d failed", s.Errors)
		}
		return text + ")"
	}
	return fmt.Sprintf("B, %s, against A, %s: %s, %d %s", side(r.B), side(r.A), r.Design, r.Units, r.Unit)
}

// Lines are the notes under the table: what speaks against it, and how it is to be read.
func (r *Result) Lines() (out []string) {
	if r.Refusal != "" {
		out = append(out, "no verdict: "+r.Refusal)
	}
	out = append(out, r.Notes...)
	for _, m := range r.Metrics {
		if m.Verdict != CannotTell {
			continue
		}
		text := m.Title + ": "
		if m.Why != "" {
			text += m.Why + "; "
		}
		if m.More.Valid {
			text += fmt.Sprintf("about %.0f more %s would tell", m.More.V, r.Unit)
		}
		out = append(out, strings.TrimSuffix(text, "; "))
	}
	if r.Overlap.Valid {
		out = append(out, fmt.Sprintf("the mixes of A and B overlap by %.0f %%; effects are of the mix that both have", 100*r.Overlap.V))
	}
	if r.Refusal != "" {
		return out
	}
	if r.Price != nil {
		out = append(out, r.Price.Lines(r.joules)...)
	}
	if r.Price != nil {
		return append(out, fmt.Sprintf("95 %% intervals by bootstrap over %s; verdicts corrected for the number of metrics, %d (Holm); margin %.3g %%; the twin was proven against its recording", r.Unit, r.tests(), r.Margin))
	}
	drift := "drift over the session is removed by the interleaving"
	if r.Design != interleaved {
		drift = "drift over each side's time is not removed"
	}
	return append(out, fmt.Sprintf("95 %% intervals by bootstrap over %s and requests; verdicts corrected for the number of metrics, %d (Holm); margin %.3g %%; floor: A against A, an effect inside it is none; %s",
		r.Unit, r.tests(), r.Margin, drift))
}

func (r *Result) tests() (n int) {
	for _, m := range r.Metrics {
		if m.P.Valid {
			n++
		}
	}
	return n
}

// Columns is the heading of the rows.
func Columns() []string {
	return []string{"metric", "A", "B", "B against A", "95 % interval", "floor", "drift", "verdict"}
}

// Row is a metric as text.
func (m *Metric) Row() []string {
	unit := func(v replay.Num) string {
		if !v.Valid {
			return table.Absent
		}
		return table.Num(v) + " " + m.Unit
	}
	floor := table.Absent
	if m.Floor.Valid {
		floor = fmt.Sprintf("%.2f %%", m.Floor.V)
	}
	return []string{m.Title, unit(m.A), unit(m.B), signedPercent(m.Effect.Percent), m.Effect.Range(), floor, signedPercent(m.Drift), string(m.Verdict)}
}

// Range is the interval as text.
func (i Interval) Range() string {
	if !i.Low.Valid || !i.High.Valid {
		return table.Absent
	}
	return fmt.Sprintf("%+.2f .. %+.2f %%", i.Low.V, i.High.V)
}

func signedPercent(v replay.Num) string {
	if !v.Valid {
		return table.Absent
	}
	return fmt.Sprintf("%+.2f %%", v.V)
}

// shown are the metrics that were measured; cells asks for those of each cell too.
func (r *Result) shown() (out []Metric) {
	for _, m := range r.Metrics {
		if m.Verdict != NotMeasured {
			out = append(out, m)
		}
	}
	return out
}

// Missing names the metrics that were not measured.
func (r *Result) Missing() string {
	var names []string
	for _, m := range r.Metrics {
		if m.Verdict == NotMeasured {
			names = append(names, m.Title)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "not measured on both sides: " + strings.Join(names, ", ")
}

// Terminal prints the comparison for people.
func (r *Result) Terminal(w io.Writer) {
	p := table.Plain(w)
	fmt.Fprintf(p, "%s\n", r.Head())
	if shown := r.shown(); len(shown) > 0 {
		fmt.Fprintln(p)
		var head []any
		for _, c := range Columns() {
			head = append(head, c)
		}
		t := table.New(w, head...)
		for i := range shown {
			var row []any
			for _, c := range shown[i].Row() {
				row = append(row, c)
			}
			t.Row(row...)
		}
		t.Render()
	}
	fmt.Fprintln(p)
	for _, line := range append(r.Lines(), r.Missing()) {
		if line != "" {
			fmt.Fprintf(p, "- %s\n", line)
		}
	}
}

// Markdown prints it for a pull request.
func (r *Result) Markdown(w io.Writer) error {
	b := &strings.Builder{}
	cells := func(row []string) {
		for _, c := range row {
			fmt.Fprintf(b, "| %s ", strings.ReplaceAll(c, "|", `\|`))
		}
		b.WriteString("|\n")
	}
	fmt.Fprintf(b, "%s\n\n", r.Head())
	if shown := r.shown(); len(shown) > 0 {
		cells(Columns())
		rule := make([]string, len(Columns()))
		for i := range rule {
			rule[i] = "---:"
			if i == 0 || i == len(rule)-1 {
				rule[i] = "---"
			}
		}
		cells(rule)
		for i := range shown {
			row := shown[i].Row()
			if v := shown[i].Verdict; v == Better || v == Worse {
				row[len(row)-1] = "**" + string(v) + "**"
			}
			cells(row)
		}
		b.WriteString("\n")
	}
	for _, line := range append(r.Lines(), r.Missing()) {
		if line != "" {
			fmt.Fprintf(b, "- %s\n", line)
		}
	}
	_, err := io.WriteString(table.Plain(w), b.String())
	return err
}
