package queries

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"wattline/sink"
)

// Query is a question that both engines answer with the same columns and rows.
type Query struct {
	Name     string
	Question string
	source   string
}

// Params narrow a query. The zero value asks about everything there is.
type Params struct {
	Since time.Time
	Label string // query ab compares the values of this label; "" is DefaultLabel
	All   bool   // housekeeping and replay's own requests too
}

// DefaultLabel is the label that query ab compares unless told otherwise.
const DefaultLabel = "variant"

// SQL is the statement in one dialect.
func (q Query) SQL(d Dialect, p Params) (string, error) {
	if p.Label == "" {
		p.Label = DefaultLabel
	}
	with := struct{ Since, Label, Requests, Failed string }{Since: literal(p.Since), Label: p.Label}
	with.Requests = "started_at >= " + with.Since
	with.Failed = with.Requests
	if !p.All {
		with.Requests += " AND " + sink.Work
		with.Failed += " AND (" + sink.Work + " OR outcome <> 'ok' AND (agent IS NULL OR agent <> '" + sink.ReplayAgent + "'))"
	}
	return render(d, q.Name, q.source, with)
}

// Find returns the query of that name; the error lists all names.
func Find(name string) (Query, error) {
	all := All()
	if i := slices.IndexFunc(all, func(q Query) bool { return q.Name == name }); i >= 0 {
		return all[i], nil
	}
	names := make([]string, len(all))
	for i, q := range all {
		names[i] = q.Name
	}
	return Query{}, fmt.Errorf("there is no query named %q, only %s", name, strings.Join(names, ", "))
}

// All lists the queries. Their templates read the same in both engines but for the funcs of dialect.go.
// An alias never repeats a column's name: ClickHouse would take it for the column.
func All() []Query {
	return slices.Concat(efficiencyQueries(), energyQueries(), latencyQueries(), outcomeQueries(), cacheQueries())
}
