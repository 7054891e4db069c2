package queries

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// ParseSelector reads a choice of rows: config:ID, label:KEY=VALUE, instance:NAME, model:NAME, or a span SINCE..UNTIL (either
// may be empty). Several are joined by commas and must all hold.
func ParseSelector(s string, now time.Time) (Filter, error) {
	f := Filter{Equal: map[string][]string{}, Labels: map[string]string{}, Condition: sink.Work}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		kind, value, ok := strings.Cut(part, ":")
		from, to, span := strings.Cut(part, "..")
		columns := map[string]string{"config": "config_id", "instance": "instance", "model": "model", "agent": "agent"}
		switch {
		case ok && columns[kind] != "" && value != "":
			f.Equal[columns[kind]] = append(f.Equal[columns[kind]], value)
		case ok && kind == "label":
			key, v, both := strings.Cut(value, "=")
			if !both || key == "" {
				return f, fmt.Errorf("%q is no label: write label:KEY=VALUE", part)
			}
			f.Labels[key] = v
			if key == "replay" { // a run of replay, which is no work of a user
				f.Condition = "dialect IS NOT NULL"
			}
		case span:
			var err error
			if from != "" {
				if f.From, err = ParseSince(from, now); err != nil {
					return f, err
				}
			}
			if to != "" {
				if f.To, err = ParseSince(to, now); err != nil {
					return f, err
				}
			}
			if !f.To.IsZero() && !f.To.After(f.From) {
				return f, fmt.Errorf("%q ends before it begins", part)
			}
		default:
			return f, fmt.Errorf("%q is neither a folder that replay --out wrote nor a choice of rows: write config:ID, label:KEY=VALUE, instance:NAME or SINCE..UNTIL (2026-11-01..2026-11-08, 14d..7d)", part)
		}
	}
	return f, nil
}

// Records reads the newest rows that a filter chooses, at most limit; more reports whether there are older ones.
func Records(ctx context.Context, e *Engine, f Filter, limit int) (rows []*meter.Record, more bool, err error) {
	const page = 5000
	cursor := ""
	for len(rows) < limit {
		p, err := List{Filter: f, Limit: min(page, limit-len(rows)), Cursor: cursor}.Read(ctx, e.DB, e.Dialect)
		if err != nil {
			return nil, false, e.Explain(err)
		}
		for _, text := range p.Rows {
			r := &meter.Record{}
			if err := json.Unmarshal(text, r); err != nil {
				return nil, false, fmt.Errorf("a row of %s cannot be read: %w", e.Where, err)
			}
			rows = append(rows, r)
		}
		if cursor = p.Next; cursor == "" {
			return rows, false, nil
		}
	}
	return rows, true, nil
}
