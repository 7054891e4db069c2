package grafana

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
)

// Engine is where a panel's SQL runs.
type Engine int

// The engines.
const (
	ClickHouse Engine = iota
	SQLite            // the store's own file, through the plugin frser-sqlite-datasource
)

// Kind is how a panel shows its answer.
type Kind string

// The kinds, by Grafana's names.
const (
	Lines Kind = "timeseries"
	Table Kind = "table"
	Bars  Kind = "barchart"
	Stat  Kind = "stat"
)

// Dashboard is one page of panels.
type Dashboard struct {
	Name, Title string // Name is the file's name and, after "wattline-", the uid
	Variables   []Variable
	Key         []Panel // key figures, in a row above the others
	Panels      []Panel
}

// All are the dashboard's panels, its key figures first.
func (d *Dashboard) All() []Panel { return slices.Concat(d.Key, d.Panels) }

// Panel is one question. It is answered by SQL, a template with the functions of an Engine, or by PromQL.
type Panel struct {
	Question string
	Doc      string // how to read the answer
	Kind     Kind
	Unit     string // Grafana's name of the unit
	Stacked  bool
	Warn     float64 // with Bad, from where on a Stat is orange and red; 0: it has no colour
	Bad      float64
	Axes     []Axis // of fields with units of their own, which one axis could not show
	SQL      []string
	PromQL   []Series
}

// Axis is where a field of a Lines panel is drawn.
type Axis struct {
	Field, Unit, Label string
	Right              bool
}

// Series is a PromQL expression and its legend.
type Series struct{ Expr, Legend string }

// Portable reports whether the panel's SQL runs on the SQLite plugin, which has no quantiles.
func (p *Panel) Portable() bool {
	for _, s := range p.SQL {
		if strings.Contains(s, "{{quantile") {
			return false
		}
	}
	return len(p.SQL) > 0
}

// Render is a panel's SQL on one engine, with the macros that the engine's plugin expands.
func Render(sql string, e Engine) (string, error) {
	t, err := template.New("panel").Funcs(e.funcs()).Parse(sql)
	if err != nil {
		return "", fmt.Errorf("grafana: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, nil); err != nil {
		return "", fmt.Errorf("grafana: %w", err)
	}
	return strings.TrimSpace(b.String()), nil
}

// funcs are the template functions, which differ between the engines: within limits a time column to the
// dashboard's range, bucket is the start of its interval, seconds the length of that interval, chosen limits columns to
// what is chosen of the variables of these names.
func (e Engine) funcs() template.FuncMap {
	if e == ClickHouse {
		return template.FuncMap{
			"within":   func(col string) string { return "$__timeFilter(" + col + ")" },
			"chosen":   chosen,
			"bucket":   func(col string) string { return "$__timeInterval(" + col + ")" },
			"seconds":  func() string { return "$__interval_s" },
			"quantile": func(p, x string) string { return "quantileExactInclusive(" + p + ")(" + x + ")" },
		}
	}
	const seconds = "max(1, $__interval_ms / 1000)"
	return template.FuncMap{
		"chosen": chosen,
		"within": func(col string) string {
			at := func(v string) string { return "strftime('%Y-%m-%d %H:%M:%f', " + v + " / 1000.0, 'unixepoch')" }
			return col + " >= " + at("$__from") + " AND " + col + " <= " + at("$__to")
		},
		"bucket": func(col string) string {
			return "CAST(strftime('%s', " + col + ") AS INTEGER) / " + seconds + " * " + seconds
		},
		"seconds":  func() string { return seconds },
		"quantile": func(p, x string) string { return "quantile(" + x + ", " + p + ")" },
	}
}
