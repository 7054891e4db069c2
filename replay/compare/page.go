package compare

import (
	"bytes"
	_ "embed" // the page
	"fmt"
	"html/template"
	"math"
)

//go:embed page.html
var pageText string

// forest is a forest plot: a line for each metric, and below it one for each of its cells.
type forest struct {
	Width     float64 `json:"width"`
	Height    float64 `json:"height"`
	Zero      float64 `json:"zero"`
	MarginLow float64 `json:"margin_low"`
	MarginWid float64 `json:"margin_width"`
	Ticks     []tick  `json:"ticks"`
	Lines     []line  `json:"lines"`
}

type tick struct {
	X    float64 `json:"x"`
	Text string  `json:"text"`
}

// line is one effect; From and To are cut at the edges of the plot.
type line struct {
	Y     float64 `json:"y"`
	X     float64 `json:"x"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Name  string  `json:"name"`
	Text  string  `json:"text"`
	Class string  `json:"class"` // better, worse, same, or cell; "": cannot tell
	Known bool    `json:"known"` // has an interval
	Whole bool    `json:"whole"` // a metric, not a cell
}

// Measures of the plot, in SVG units.
const (
	plotWidth = 900
	plotLeft  = 300
	plotRight = 660
	lineStep  = 20
	plotHead  = 30
)

// forestOf lays the plot out. Its scale shows every metric's interval, and at least three margins either way.
func (r *Result) forestOf() forest {
	reach := 3 * r.Margin
	for _, m := range r.shown() {
		for _, v := range []float64{m.Effect.Percent.V, m.Effect.Low.V, m.Effect.High.V} {
			reach = max(reach, math.Abs(v))
		}
	}
	reach = min(reach, 100)
	at := func(percent float64) float64 {
		f := (min(max(percent, -reach), reach) + reach) / (2 * reach)
		return plotLeft + f*(plotRight-plotLeft)
	}
	f := forest{Width: plotWidth, Zero: at(0), MarginLow: at(-r.Margin), MarginWid: at(r.Margin) - at(-r.Margin)}
	step := niceStep(reach / 3)
	for v := -math.Floor(reach/step) * step; v <= reach; v += step {
		f.Ticks = append(f.Ticks, tick{at(v), fmt.Sprintf("%+.3g %%", v)})
	}
	y := float64(plotHead)
	add := func(name, class string, i Interval, whole bool) {
		y += lineStep
		l := line{Y: y, Name: name, Class: class, Whole: whole, X: at(i.Percent.V), Text: signedPercent(i.Percent)}
		if i.Low.Valid && i.High.Valid {
			l.Known, l.From, l.To = true, at(i.Low.V), at(i.High.V)
			l.Text += " (" + i.Range() + ")"
		}
		f.Lines = append(f.Lines, l)
	}
	for _, m := range r.shown() {
		add(m.Title+": "+string(m.Verdict), map[Verdict]string{Better: "better", Worse: "worse", Same: "same"}[m.Verdict], m.Effect, true)
		if !r.A.strata {
			for _, c := range m.Cells {
				if c.Effect.Percent.Valid {
					add(c.Name, "cell", c.Effect, false)
				}
			}
		}
		y += lineStep / 2
	}
	f.Height = y + lineStep
	return f
}

// niceStep is the nearest of 1, 2 and 5 times a power of ten below v.
func niceStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{5, 2} {
		if v >= f*p {
			return f * p
		}
	}
	return p
}

// View is a comparison as it is shown on a page.
type View struct {
	*Result
	Title   string     `json:"head"`
	Plot    forest     `json:"plot"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Text    []string   `json:"text"`
}

// View is what pages show of the comparison.
func (r *Result) View() View {
	d := View{Result: r, Title: r.Head(), Plot: r.forestOf(), Columns: Columns(), Rows: [][]string{}, Text: append([]string{}, r.Lines()...)}
	for _, m := range r.shown() {
		d.Rows = append(d.Rows, m.Row())
	}
	if missing := r.Missing(); missing != "" {
		d.Text = append(d.Text, missing)
	}
	return d
}

// Page is a self-contained page with the effects as a forest plot.
func (r *Result) Page() ([]byte, error) { return r.render("page") }

// Section is the same as a part of another page.
func (r *Result) Section() (template.HTML, error) {
	text, err := r.render("section")
	return template.HTML(text), err //nolint:gosec // html/template has escaped it
}

func (r *Result) render(name string) ([]byte, error) {
	t, err := template.New("").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, r.View()); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	return b.Bytes(), nil
}
