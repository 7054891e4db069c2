package queries

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"wattline/sink"
)

// Configs returns the latest rows of table configs, the oldest first.
func (e *Engine) Configs(ctx context.Context, limit int) ([]*sink.ServerConfig, error) {
	rows, err := readTable(ctx, e, "configs", sink.ConfigColumns(), fmt.Sprintf("ORDER BY at DESC, config_id LIMIT %d", limit))
	for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
		rows[i], rows[j] = rows[j], rows[i]
	}
	return rows, err
}

// Power returns the rows of table power that begin in [from, to), in order of time.
func (e *Engine) Power(ctx context.Context, from, to time.Time) ([]*sink.Power, error) {
	return readTable(ctx, e, "power", sink.PowerColumns(), between(from, to))
}

// Ledger returns the rows of table ledger that begin in [from, to), in order of time.
func (e *Engine) Ledger(ctx context.Context, from, to time.Time) ([]*sink.Ledger, error) {
	return readTable(ctx, e, "ledger", sink.LedgerColumns(), between(from, to))
}

func between(from, to time.Time) string {
	return fmt.Sprintf("WHERE at >= %s AND at < %s ORDER BY at, device", literal(from), literal(to))
}

// readTable reads rows with all their columns; tail is SQL behind the table's name.
func readTable[T any](ctx context.Context, e *Engine, table string, columns []sink.Column[T], tail string) (list []*T, err error) {
	names := make([]string, len(columns))
	kinds := make([]columnKind, len(columns))
	cells := make([]any, len(columns))
	for i, c := range columns {
		names[i], kinds[i], cells[i] = quoted(c.Name), kindOf(c.Ptr(new(T))), new(any)
	}
	rows, err := e.DB.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+table+" "+tail)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(cells...); err != nil {
			return nil, err
		}
		row := new(T)
		for i, c := range columns {
			v, err := jsonValue(*cells[i].(*any), kinds[i])
			if err == nil && string(v) != "null" {
				err = json.Unmarshal(v, c.Ptr(row))
			}
			if err != nil {
				return nil, fmt.Errorf("column %s of table %s: %w", c.Name, table, err)
			}
		}
		list = append(list, row)
	}
	return list, rows.Err()
}
