package queries

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// Filter chooses requests: every condition must hold. The zero value chooses all.
type Filter struct {
	From, To  time.Time           // started at or after From, before To; zero: no limit
	Equal     map[string][]string // by column (FilterColumns): any of the values; "" is null
	Labels    map[string]string   // all of them
	SlowerUs  int64               // duration_us above it; 0: no limit
	FirstUs   int64               // ttft_us above it
	DearerUj  int64               // joules above it
	Work      bool                // no housekeeping, and none of replay's own requests
	Condition string              // one more, in SQL that both engines understand; never from outside
}

// FilterColumns lists the columns of requests that Filter.Equal may name.
func FilterColumns() []string {
	return []string{"model", "agent", "session", "user", "route", "outcome", "dialect", "path", "status", "config_id", "energy_quality", "instance", "cache_verdict"}
}

// where is the condition in SQL; "" where there is none.
func (f Filter) where(d Dialect) (string, error) {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if !f.From.IsZero() {
		add("started_at >= %s", literal(f.From))
	}
	if !f.To.IsZero() {
		add("started_at < %s", literal(f.To))
	}
	for _, column := range slices.Sorted(maps.Keys(f.Equal)) {
		if !slices.Contains(FilterColumns(), column) {
			return "", fmt.Errorf("rows cannot be chosen by %q, only by %s", column, strings.Join(FilterColumns(), ", "))
		}
		any, err := equalAny(d, column, f.Equal[column])
		if err != nil {
			return "", err
		}
		all = append(all, any)
	}
	for _, k := range slices.Sorted(maps.Keys(f.Labels)) {
		add("%s = %s", d.label(k), text(d, f.Labels[k]))
	}
	for _, c := range []struct {
		expr  string
		above int64
	}{{"duration_us", f.SlowerUs}, {"ttft_us", f.FirstUs}, {usageUj, f.DearerUj}} {
		if c.above > 0 {
			add("%s > %d", c.expr, c.above)
		}
	}
	if f.Work {
		all = append(all, sink.Work)
	}
	if f.Condition != "" {
		add("(%s)", f.Condition)
	}
	return strings.Join(all, " AND "), nil
}

// equalAny is the condition that a column has any of the values. IN would keep blocks out.
func equalAny(d Dialect, column string, values []string) (string, error) {
	if len(values) == 0 || len(values) > maxValues {
		return "", fmt.Errorf("%s: give 1 to %d values", column, maxValues)
	}
	parts := make([]string, len(values))
	for i, v := range values {
		switch {
		case v == "":
			parts[i] = quoted(column) + " IS NULL"
		case column == "status":
			n, err := strconv.Atoi(v)
			if err != nil {
				return "", fmt.Errorf("status is a number such as 200, not %q", v)
			}
			parts[i] = fmt.Sprintf("status = %d", n)
		default:
			parts[i] = quoted(column) + " = " + text(d, v)
		}
	}
	return "(" + strings.Join(parts, " OR ") + ")", nil
}

// maxValues is the most values of one column in a filter.
const maxValues = 20

func quoted(column string) string { return `"` + column + `"` }

// columnKind says how a column's values are written in JSON.
type columnKind byte

const (
	plainColumn columnKind = iota // number or text
	timeColumn
	jsonColumn // a list or a map, held as JSON text or as the engine's own
)

// rowColumn is a column that a list of requests may have.
type rowColumn struct {
	name string
	expr string // SQL
	kind columnKind
	null bool // it may be null
}

// rowColumns are the columns of requests, then those of view efficiency that are computed.
func rowColumns() (out []rowColumn) {
	for _, c := range meter.Columns() {
		col := rowColumn{name: c.Name, expr: quoted(c.Name), kind: kindOf(c.Ptr(new(meter.Record))), null: c.Name != "id" && c.Name != "started_at" && c.Name != "instance"}
		out = append(out, col)
	}
	for _, c := range sink.EfficiencyColumns() {
		out = append(out, rowColumn{name: c.Name, expr: "(" + c.Expr + ")", null: true})
	}
	return out
}

// kindOf is the kind of a field, given by pointer as in a column's Ptr.
func kindOf(field any) columnKind {
	switch field.(type) {
	case *time.Time:
		return timeColumn
	case *map[string]string, *[]string, *[]int64, *[]uint32:
		return jsonColumn
	}
	return plainColumn
}

// chooseColumns finds columns by name; without names all of requests.
func chooseColumns(names []string) (out []rowColumn, err error) {
	all := rowColumns()
	if len(names) == 0 {
		return all[:len(meter.Columns())], nil
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(c rowColumn) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("requests have no column %q: sink/QUERIES.md lists them", name)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// SortColumns lists what requests can be sorted by.
func SortColumns() (names []string) {
	for _, c := range rowColumns() {
		if c.kind != jsonColumn {
			names = append(names, c.name)
		}
	}
	return names
}
