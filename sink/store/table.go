package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"wattline/meter"
	"wattline/sink"
)

// The tables' names, the same in every engine.
const (
	TableRequests = "requests"
	TablePower    = "power"
	TableLedger   = "ledger"
	TableConfigs  = "configs"
	TableGaps     = "itl_gaps"
)

// table joins the rows of one Go type with one table.
type table[T any] struct {
	name    string
	columns []sink.Column[T]
}

func requestsTable() table[meter.Record] {
	cols := make([]sink.Column[meter.Record], 0, len(meter.Columns()))
	for _, c := range meter.Columns() {
		cols = append(cols, sink.Column[meter.Record](c))
	}
	return table[meter.Record]{TableRequests, cols}
}

func powerTable() table[sink.Power]   { return table[sink.Power]{TablePower, sink.PowerColumns()} }
func ledgerTable() table[sink.Ledger] { return table[sink.Ledger]{TableLedger, sink.LedgerColumns()} }
func configsTable() table[sink.ServerConfig] {
	return table[sink.ServerConfig]{TableConfigs, sink.ConfigColumns()}
}

func gapsTable() table[sink.Gaps] { return table[sink.Gaps]{TableGaps, sink.GapsColumns()} }

// names are the quoted column names ("user" is a word in some dialects).
func (t table[T]) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = `"` + c.Name + `"`
	}
	return names
}

// insert is the statement that adds one row; its last parameter is ship_seq.
func (t table[T]) insert(conflict string) string {
	return "INSERT INTO " + t.name + " (" + strings.Join(t.names(), ", ") + ", ship_seq) VALUES (" +
		strings.Repeat("?, ", len(t.columns)) + "?) " + conflict
}

// add appends the row's fields to v in column order.
func (t table[T]) add(v *values, row *T) error {
	for _, c := range t.columns {
		if err := v.add(c.Ptr(row)); err != nil {
			return err
		}
	}
	return nil
}

// arguments are the row's fields as database/sql takes them, in column order.
func (t table[T]) arguments(row *T) ([]any, error) {
	var v values
	if err := t.add(&v, row); err != nil {
		return nil, err
	}
	args := make([]any, len(v.list))
	for i := range v.list {
		args[i] = v.any(i)
	}
	return args, nil
}

// fields are, for the columns that a result has, in its order, those of the row type; nil for a column
// that it does not have: a store of a newer schema is still readable.
func (t table[T]) fields(names []string) []func(*T) any {
	fields := make([]func(*T) any, len(names))
	for i, name := range names {
		if j := slices.IndexFunc(t.columns, func(c sink.Column[T]) bool { return c.Name == name }); j >= 0 {
			fields[i] = t.columns[j].Ptr
		}
	}
	return fields
}

// energyColumns are the columns of requests that Settled rows bring: gpu_uj and all that follow.
func energyColumns() []meter.Column {
	all := meter.Columns()
	return all[slices.IndexFunc(all, func(c meter.Column) bool { return c.Name == "gpu_uj" }):]
}

// read runs SELECT on the whole table with the given tail and returns the rows, each with the integer that
// the expression key gives for it. It sees whatever columns the store has. The caller bounds the time by ctx.
func (t table[T]) read(ctx context.Context, db querier, key, tail string, args ...any) (rows []*T, keys []int64, err error) {
	found, err := db.QueryContext(ctx, "SELECT "+key+" AS row_key, * FROM "+t.name+" "+tail, args...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	names, err := found.Columns()
	if err != nil {
		return nil, nil, err
	}
	fields := t.fields(names)
	targets := make([]any, len(fields))
	cells := make([]cell, len(fields))
	for found.Next() {
		row, k := new(T), int64(0)
		for i, field := range fields {
			if field != nil {
				cells[i].field = field(row)
			}
			targets[i] = &cells[i]
		}
		targets[0] = &k
		if err := found.Scan(targets...); err != nil {
			return nil, nil, err
		}
		rows, keys = append(rows, row), append(keys, k)
	}
	return rows, keys, found.Err()
}

// querier is a pool or one of its connections.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
