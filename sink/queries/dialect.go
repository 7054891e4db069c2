package queries

import (
	"fmt"
	"strings"
	"text/template"
	"time"
)

// Dialect is an engine's SQL.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	ClickHouse
)

// String is the engine's name.
func (d Dialect) String() string {
	if d == ClickHouse {
		return "ClickHouse"
	}
	return "SQLite"
}

// funcs returns the expressions that differ between the dialects, as functions of a query's template.
func (d Dialect) funcs() template.FuncMap {
	return template.FuncMap{
		"quantile":  d.quantile,
		"stddev":    d.stddev,
		"day":       d.day,
		"hour":      d.hour,
		"an_hour":   d.anHour,
		"by_label":  d.byLabel,
		"label":     d.label,
		"union":     d.union,
		"gap_stats": d.gapStats,
	}
}

// quantile is an expression for the p-quantile of x, interpolated linearly between the two nearest
// values, exact, in either engine.
func (d Dialect) quantile(p, x string) string {
	if d == ClickHouse {
		return "quantileExactInclusive(" + p + ")(" + x + ")"
	}
	return "quantile(" + x + ", " + p + ")"
}

// stddev is the sample standard deviation, null for fewer than two values.
func (d Dialect) stddev(x string) string {
	if d == ClickHouse {
		return "CASE WHEN count(" + x + ") > 1 THEN stddevSamp(" + x + ") END"
	}
	return "stddev(" + x + ")"
}

// day is the UTC day of a time, as text.
func (d Dialect) day(at string) string {
	if d == ClickHouse {
		return "toString(toDate(" + at + ", 'UTC'))"
	}
	return "substr(" + at + ", 1, 10)"
}

// hour is the UTC hour of a time, as text.
func (d Dialect) hour(at string) string {
	if d == ClickHouse {
		return "formatDateTime(" + at + ", '%Y-%m-%d %H:00', 'UTC')"
	}
	return "substr(" + at + ", 1, 13) || ':00'"
}

// anHour is the time an hour after (or, sign -, before) another.
func (d Dialect) anHour(sign, at string) string {
	if d == ClickHouse {
		return at + " " + sign + " INTERVAL 1 HOUR"
	}
	// strftime knows milliseconds only: the fraction is carried over as it is.
	return "strftime('%Y-%m-%d %H:%M:%S', " + at + ", '" + sign + "1 hour') || substr(" + at + ", 20)"
}

// byLabel is a FROM clause that gives each row of table once for each of its labels, as usage_label
// k=v; null for a row that has none.
func (d Dialect) byLabel(table string) string {
	if d == ClickHouse {
		return "(SELECT *, nullIf(pair, '') AS usage_label FROM " + table + " LEFT ARRAY JOIN arrayMap((k, v) -> concat(k, '=', v), mapKeys(labels), mapValues(labels)) AS pair)"
	}
	return "(SELECT " + table + ".*, l.key || '=' || l.value AS usage_label FROM " + table + " LEFT JOIN json_each(" + table + ".labels) AS l)"
}

// label is the value of one label, null where a row does not have it.
func (d Dialect) label(key string) string {
	if d == ClickHouse {
		return "nullIf(labels[" + text(d, key) + "], '')"
	}
	return "label(labels, " + text(d, key) + ")"
}

// union is an aggregate of a column of lists: what is in any of them, once each, in order, joined by commas.
func (d Dialect) union(lists string) string {
	if d == ClickHouse {
		return "arrayStringConcat(arraySort(groupUniqArrayArray(" + lists + ")), ',')"
	}
	return "list_union(" + lists + ")"
}

// deviceShare is a request's joules on one device, null where it ran on others only.
func (d Dialect) deviceShare(device string) string {
	name := text(d, device)
	if d == ClickHouse {
		return "multiIf(gpu_devices = [" + name + "], " + usageUj + ", has(gpu_devices, " + name + "), gpu_uj_by_device[indexOf(gpu_devices, " + name + ")], NULL)"
	}
	return "(CASE WHEN gpu_devices = json_array(" + name + ") THEN " + usageUj +
		" ELSE (SELECT v.value FROM json_each(gpu_devices) AS d JOIN json_each(gpu_uj_by_device) AS v ON v.key = d.key WHERE d.value = " + name + ") END)"
}

// gapStats is a subquery of the raw gaps of requests that started since a time, one row a model: model_name,
// n_requests, n_gaps, zeros, and max_us, p50_us, p90_us, p99_us of its gaps. Neither engine makes a row of
// each gap: at a million requests there are ten million.
func (d Dialect) gapStats(since string) string {
	if d == ClickHouse {
		return "(SELECT coalesce(g.model, q.model, '-') AS model_name, count(*) AS n_requests, sum(length(gaps_us)) AS n_gaps, sum(countEqual(gaps_us, 0)) AS zeros, max(arrayMax(gaps_us)) AS max_us," +
			" quantilesExactInclusiveArray(0.5, 0.9, 0.99)(gaps_us) AS of_gaps, of_gaps[1] AS p50_us, of_gaps[2] AS p90_us, of_gaps[3] AS p99_us" +
			" FROM itl_gaps AS g LEFT JOIN requests AS q ON q.id = g.id WHERE g.started_at >= " + since + " AND notEmpty(gaps_us) GROUP BY model_name)"
	}
	return "(SELECT key AS model_name, value ->> 'requests' AS n_requests, value ->> 'n' AS n_gaps, value ->> 'zeros' AS zeros, value ->> 'max' AS max_us," +
		" value ->> 'p50' AS p50_us, value ->> 'p90' AS p90_us, value ->> 'p99' AS p99_us" +
		" FROM json_each((SELECT list_stats_by(coalesce(model, (SELECT model FROM requests WHERE requests.id = g.id), '-'), gaps_us)" +
		" FROM itl_gaps AS g WHERE started_at >= " + since + " AND gaps_us <> '[]')))"
}

// text is a string literal.
func text(d Dialect, s string) string {
	if d == ClickHouse {
		s = strings.ReplaceAll(s, `\`, `\\`)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// literal is a time as both engines compare it with started_at and at. What lies before 1970, such as the
// zero time, is 1970: ClickHouse's times begin about there.
func literal(t time.Time) string {
	if t.Unix() < 0 {
		t = time.Unix(0, 0)
	}
	return "'" + t.UTC().Format("2006-01-02 15:04:05.000000") + "'"
}

// render fills a query's template in for one dialect.
func render(d Dialect, name, source string, data any) (string, error) {
	t, err := template.New(name).Funcs(d.funcs()).Option("missingkey=error").Parse(source)
	if err != nil {
		return "", fmt.Errorf("query %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("query %s: %w", name, err)
	}
	return strings.TrimSpace(b.String()), nil
}
