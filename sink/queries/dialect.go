package queries

import (
	"strings"
	"time"
)

// Dialect is an engine's SQL.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	ClickHouse
)

// Quantile is an expression for the p-quantile of x, interpolated linearly between the two nearest
// values, exact, in either engine.
func (d Dialect) quantile(x, p string) string {
	if d == ClickHouse {
		return "quantileExactInclusive(" + p + ")(" + x + ")"
	}
	return "quantile(" + x + ", " + p + ")"
}

// literal is a time as both engines compare it with started_at and at.
func literal(t time.Time) string {
	return "'" + t.UTC().Format("2006-01-02 15:04:05.000000") + "'"
}

// expand replaces $name by its value. Names are replaced longest first by the caller's order.
func expand(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
