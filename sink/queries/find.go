package queries

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// EndsAfter is the condition that a request ended after a time.
func EndsAfter(d Dialect, at time.Time) string {
	if d == ClickHouse {
		return "duration_us > dateDiff('microsecond', started_at, toDateTime64(" + literal(at) + ", 6, 'UTC'))"
	}
	return "duration_us > (julianday(" + literal(at) + ") - julianday(started_at)) * 86400e6"
}

// Efficiency returns the computed columns of view efficiency for one request, without the null ones.
func Efficiency(ctx context.Context, e *Engine, id string) (found map[string]float64, err error) {
	names := []string{}
	for _, c := range sink.EfficiencyColumns() {
		names = append(names, c.Name)
	}
	rows, err := e.find(ctx, names, "id = "+text(e.Dialect, id), 1)
	if err != nil || len(rows) == 0 {
		return map[string]float64{}, err
	}
	var all map[string]*float64
	if err := json.Unmarshal(rows[0], &all); err != nil {
		return nil, err
	}
	found = map[string]float64{}
	for name, v := range all {
		if v != nil {
			found[name] = *v
		}
	}
	return found, nil
}

func (e *Engine) find(ctx context.Context, columns []string, condition string, limit int) ([][]byte, error) {
	page, err := List{Columns: columns, Filter: Filter{Condition: condition}, Limit: limit}.Read(ctx, e.DB, e.Dialect)
	if err != nil {
		return nil, err
	}
	return page.Rows, nil
}

// Ambiguous is the error of a part of an id that several requests have.
type Ambiguous struct{ text string }

func (a Ambiguous) Error() string { return a.text }

// Ambiguous is true.
func (Ambiguous) Ambiguous() bool { return true }

// Find returns the request with this id, or the only one with an id that begins or ends with part; nil without one. A part
// needs a scan of all rows.
func (e *Engine) Find(ctx context.Context, part string) (*meter.Record, error) {
	const wholeID = 36
	rows, err := e.find(ctx, nil, "id = "+text(e.Dialect, part), 1)
	if err == nil && len(rows) == 0 && part != "" && len(part) < wholeID {
		like := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part)
		escape := ` ESCAPE '\'`
		if e.Dialect == ClickHouse {
			escape = ""
		}
		rows, err = e.find(ctx, nil, "id LIKE "+text(e.Dialect, like+"%")+escape+" OR id LIKE "+text(e.Dialect, "%"+like)+escape, 4)
	}
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	recs := make([]*meter.Record, len(rows))
	ids := make([]string, len(rows))
	for i, row := range rows {
		recs[i] = &meter.Record{}
		if err := json.Unmarshal(row, recs[i]); err != nil {
			return nil, errors.Join(fmt.Errorf("the row of request %s cannot be read", part), err)
		}
		ids[i] = recs[i].ID
	}
	if len(recs) > 1 {
		return nil, Ambiguous{fmt.Sprintf("several requests match %q: %s; give more of the id", part, strings.Join(ids, ", "))}
	}
	return recs[0], nil
}
