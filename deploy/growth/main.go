// Command growth reads what `go test -bench Growth` prints, and writes one Markdown table a benchmark: the cost at each size,
// and how it grows. Sub-benchmarks are named WHAT=SIZE. A slope is the exponent of a power law, fitted to the logarithms: 0
// where the size does not matter, 1 where twice the size costs twice as much.
//
//	go test -run '^$' -bench Growth -benchtime 1x ./... | go run ./deploy/growth
package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
	"gonum.org/v1/gonum/stat"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		os.Exit(1)
	}
}

// table is one benchmark's sizes and figures.
type table struct {
	title, what string
	units       []string
	sizes       []float64
	values      map[string][]float64 // of each unit, in the order of sizes; NaN where none
}

// sized is Growth/WHAT=SIZE, with what testing appends.
var sized = regexp.MustCompile(`^(.*)/([^/=]+)=(\d+)(?:-\d+)?$`)

func run(in io.Reader, out io.Writer) error {
	tables, err := read(in)
	if err != nil {
		return err
	}
	for _, t := range tables {
		t.write(out)
	}
	return nil
}

func read(in io.Reader) (tables []*table, err error) {
	lines := benchfmt.NewReader(in, "stdin")
	for lines.Scan() {
		r, ok := lines.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		m := sized.FindStringSubmatch(r.Name.String())
		if m == nil {
			continue
		}
		size, err := strconv.ParseFloat(m[3], 64)
		if err != nil || size <= 0 {
			return nil, fmt.Errorf("%s: the size must be above 0", r.Name)
		}
		title := strings.TrimSpace(r.GetConfig("pkg") + " " + m[1])
		i := slices.IndexFunc(tables, func(t *table) bool { return t.title == title })
		if i < 0 {
			i = len(tables)
			tables = append(tables, &table{title: title, what: m[2], values: map[string][]float64{}})
		}
		tables[i].add(size, r)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(tables) == 0 {
		return nil, errors.New("there is no result of a benchmark named WHAT=SIZE in the input")
	}
	return tables, nil
}

func (t *table) add(size float64, r *benchfmt.Result) {
	for _, v := range r.Values {
		unit, value := v.Unit, v.Value
		if v.OrigUnit != "" { // as it was printed: ns/op, not sec/op
			unit, value = v.OrigUnit, v.OrigValue
		}
		if _, ok := t.values[unit]; !ok {
			t.units = append(t.units, unit)
		}
		for len(t.values[unit]) < len(t.sizes) {
			t.values[unit] = append(t.values[unit], math.NaN())
		}
		t.values[unit] = append(t.values[unit], value)
	}
	t.sizes = append(t.sizes, size)
}

// slope is the exponent of a unit's growth; NaN where it cannot be told, as of a figure that is 0.
func (t *table) slope(unit string) float64 {
	var x, y []float64
	for i, v := range t.values[unit] {
		if v > 0 {
			x, y = append(x, math.Log(t.sizes[i])), append(y, math.Log(v))
		}
	}
	if len(x) < 2 || len(x) < len(t.values[unit]) {
		return math.NaN()
	}
	_, exponent := stat.LinearRegression(x, y, nil, false)
	return exponent
}

func (t *table) write(out io.Writer) {
	fmt.Fprintf(out, "\n### %s\n\n| %s |", t.title, t.what)
	for _, u := range t.units {
		fmt.Fprintf(out, " %s |", u)
	}
	fmt.Fprintf(out, "\n|---:|%s\n", strings.Repeat("---:|", len(t.units)))
	for i, size := range t.sizes {
		fmt.Fprintf(out, "| %.0f |", size)
		for _, u := range t.units {
			fmt.Fprintf(out, " %s |", figure(t.values[u], i))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprint(out, "| slope |")
	for _, u := range t.units {
		if s := t.slope(u); math.IsNaN(s) {
			fmt.Fprint(out, " - |")
		} else {
			fmt.Fprintf(out, " %.2f |", s)
		}
	}
	fmt.Fprintln(out)
}

func figure(values []float64, i int) string {
	if i >= len(values) || math.IsNaN(values[i]) {
		return "-"
	}
	if v := values[i]; v < 100 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return fmt.Sprintf("%.0f", values[i])
}
