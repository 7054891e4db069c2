package sweep

import (
	"bytes"
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"

	"wattline/replay"
	"wattline/replay/table"
)

func columns() []string {
	return []string{"load", "n", "tokens/s", "J/token", "requests/s", "ttft p50 ms", "ttft p95 ms", "tpot ms", "queue ms", "kept", "Pareto"}
}

// Load is the point's load as text.
func (p *Point) Load() string {
	if p.Rate > 0 {
		return table.Number(p.Rate) + " a second"
	}
	return strconv.Itoa(p.Concurrency) + " in flight"
}

func (p *Point) row() []string {
	n := strconv.Itoa(p.Requests)
	if p.Errors > 0 {
		n += fmt.Sprintf(" (%d failed)", p.Errors)
	}
	kept, mark := table.Absent, ""
	if p.Kept != nil && p.Kept.Share.Valid {
		kept = fmt.Sprintf("%.1f %%", 100*p.Kept.Share.V)
	}
	if p.Pareto {
		mark = "*"
	}
	return []string{p.Load(), n, table.Num(p.TokensPerSecond), table.Num(p.JoulesPerToken), table.Num(p.RequestsPerSecond), table.Num(p.TTFTMs),
		table.Num(p.TTFTP95Ms), table.Num(p.TPOTMs), table.Num(p.QueueMs), kept, mark}
}

// rows are in the order of the load.
func (r *Result) rows() [][]string {
	sorted := slices.Clone(r.Points)
	slices.SortStableFunc(sorted, func(a, b Point) int {
		switch {
		case a.Rate < b.Rate || a.Rate == b.Rate && a.Concurrency < b.Concurrency:
			return -1
		case a.Rate == b.Rate && a.Concurrency == b.Concurrency:
			return 0
		}
		return 1
	})
	var out [][]string
	for i := range sorted {
		out = append(out, sorted[i].row())
	}
	return out
}

// Lines are the sentences under the table.
func (r *Result) Lines() (out []string) {
	if k := r.Knee; k != nil {
		text := "no rate was seen at which the objectives are kept"
		if k.Rate.Valid {
			text = fmt.Sprintf("knee: %s requests a second is the highest rate at which %.0f %% of the requests kept their objectives", table.Num(k.Rate), 100*Share)
		}
		text += fmt.Sprintf("; surely held at %s, surely not at %s (95 %% binomial tests; %d rates tried)", table.Num(k.Low), table.Num(k.High), k.Probes)
		if k.Why != "" {
			text += ": " + k.Why
		}
		out = append(out, text)
	}
	if slices.ContainsFunc(r.Points, func(p Point) bool { return p.Pareto }) {
		out = append(out, "*: no other load has more tokens a second for as few joules a token, or fewer joules at as many tokens a second")
	} else {
		out = append(out, "no joules were measured: there is no curve of tokens a second against joules a token")
	}
	for i := range r.Points {
		if p := &r.Points[i]; len(p.Failed) > 0 {
			out = append(out, fmt.Sprintf("%s: failed checks: %s", p.Load(), strings.Join(p.Failed, ", ")))
		}
	}
	out = append(out, r.Notes...)
	return append(out, "tokens/s: all output tokens ÷ the time in which requests were sent and answered; J/token: attributed GPU joules ÷ output tokens; queue: the wait for a slot, in line; medians")
}

// Terminal prints the sweep.
func (r *Result) Terminal(w io.Writer) {
	p := table.Plain(w)
	fmt.Fprintf(p, "%s, %s\n\n", r.Model, r.What)
	var head []any
	for _, c := range columns() {
		head = append(head, c)
	}
	t := table.NewNumeric(w, head...)
	for _, row := range r.rows() {
		var cells []any
		for _, c := range row {
			cells = append(cells, c)
		}
		t.Row(cells...)
	}
	t.Render()
	fmt.Fprintln(p)
	for _, line := range r.Lines() {
		fmt.Fprintf(p, "- %s\n", line)
	}
}

// Markdown prints it for a page.
func (r *Result) Markdown(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s, %s, %s\n\n", r.Model, r.What, r.At.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(b, "| %s |\n|---|%s\n", strings.Join(columns(), " | "), strings.Repeat("---:|", len(columns())-1))
	for _, row := range r.rows() {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "*", `\*`)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	b.WriteString("\n")
	for _, line := range r.Lines() {
		fmt.Fprintf(b, "- %s\n", strings.Replace(line, "*:", `\*:`, 1))
	}
	_, err := io.WriteString(table.Plain(w), b.String())
	return err
}

//go:embed page.html
var pageText string

// dot is a point in the plot.
type dot struct {
	X, Y   float64
	Name   string
	Pareto bool
}

// Page is a self-contained page with the curve of tokens a second against joules a token.
func (r *Result) Page() ([]byte, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	var dots []dot
	var line string
	speed, joules := 0.0, 0.0
	with := slices.DeleteFunc(slices.Clone(r.Points), func(p Point) bool { return !p.JoulesPerToken.Valid || !p.TokensPerSecond.Valid })
	for _, p := range with {
		speed, joules = max(speed, p.TokensPerSecond.V), max(joules, p.JoulesPerToken.V)
	}
	slices.SortFunc(with, func(a, b Point) int { return int(1e6 * (a.TokensPerSecond.V - b.TokensPerSecond.V)) })
	for _, p := range with {
		d := dot{60 + 560*p.TokensPerSecond.V/speed/1.1, 320 - 290*p.JoulesPerToken.V/joules/1.1, p.Load(), p.Pareto}
		dots = append(dots, d)
		if p.Pareto {
			line += fmt.Sprintf("%.1f,%.1f ", d.X, d.Y)
		}
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"R": r, "Dots": dots, "Line": line, "Speed": table.Num(replay.Some(speed)), "Joules": table.Num(replay.Some(joules)), "Columns": columns(), "Rows": r.rows(), "Lines": r.Lines(),
		"SpeedAt": 60 + 560/1.1, "JoulesAt": 320 - 290/1.1,
	})
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	return b.Bytes(), nil
}
