package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// table describes one table with rows of Go type T.
type table[T any] struct {
	name    string
	columns []sink.Column[T]
	id      func(*T) string    // names a row in Batch.IDs
	in      func(*Batch) *[]*T // the batch's rows, if it is of this table
}

// tables are all tables of rows.
type tables struct {
	requests table[meter.Record]
	// unsettled is requests without joules, the columns that only settling fills.
	unsettled table[meter.Record]
	joules    []meter.Column
	power     table[sink.Power]
	ledger    table[sink.Ledger]
	configs   table[sink.ServerConfig]
	gaps      table[sink.Gaps]
}

func newTables() *tables {
	t := &tables{
		requests: table[meter.Record]{
			TableRequests, sink.RequestColumns(), func(r *meter.Record) string { return r.ID }, func(b *Batch) *[]*meter.Record { return &b.Requests },
		},
		power: table[sink.Power]{
			TablePower, sink.PowerColumns(), func(p *sink.Power) string { return sampleID(p.Instance, p.Device, p.At) },
			func(b *Batch) *[]*sink.Power { return &b.Power },
		},
		ledger: table[sink.Ledger]{
			TableLedger, sink.LedgerColumns(), func(l *sink.Ledger) string { return sampleID(l.Instance, l.Device, l.At) },
			func(b *Batch) *[]*sink.Ledger { return &b.Ledger },
		},
		configs: table[sink.ServerConfig]{
			TableConfigs, sink.ConfigColumns(), func(c *sink.ServerConfig) string { return c.ConfigID }, func(b *Batch) *[]*sink.ServerConfig { return &b.Configs },
		},
		gaps: table[sink.Gaps]{
			TableGaps, sink.GapsColumns(), func(g *sink.Gaps) string { return g.ID }, func(b *Batch) *[]*sink.Gaps { return &b.Gaps },
		},
	}
	t.unsettled = t.requests
	t.unsettled.columns = nil
	for _, c := range t.requests.columns {
		if c.Unit == "uJ" || c.Name == "energy_method" || c.Name == "energy_source" || c.Name == "gpu_mean_mw" || c.Name == "gpu_devices" {
			t.joules = append(t.joules, meter.Column(c))
		} else {
			t.unsettled.columns = append(t.unsettled.columns, c)
		}
	}
	return t
}

func sampleID(instance, device string, at time.Time) string {
	return instance + "|" + device + "|" + literal(at)
}

// shippable is a table with rows of any type.
type shippable interface {
	tableName() string
	// missingColumns returns the columns that are not among the found ones, as definitions for ALTER TABLE.
	missingColumns(found []string) []string
	load(ctx context.Context, b *Batch, db querier, limit int) error
}

func (t *tables) all() []shippable {
	return []shippable{t.requests, t.power, t.ledger, t.configs, t.gaps}
}

func (t table[T]) tableName() string { return t.name }

func (t table[T]) missingColumns(found []string) (missing []string) {
	for _, c := range t.columns {
		if !slices.Contains(found, c.Name) {
			missing = append(missing, fmt.Sprintf("%q %s", c.Name, sqlType(c.Ptr(new(T)))))
		}
	}
	return missing
}

// load reads the rows of the batch's range, at most limit (-1: all), and narrows the range to them.
func (t table[T]) load(ctx context.Context, b *Batch, db querier, limit int) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, seqs, err := t.read(ctx, db, "ship_seq", "WHERE ship_seq BETWEEN ? AND ? ORDER BY ship_seq LIMIT ?", b.first, b.last, limit)
	if err != nil || len(rows) == 0 {
		return err
	}
	for _, row := range rows {
		b.IDs = append(b.IDs, t.id(row))
	}
	*t.in(b) = rows
	b.seqs, b.last = seqs, seqs[len(seqs)-1]
	return nil
}

// names returns the quoted column names ("user" is a word in some dialects).
func (t table[T]) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = `"` + c.Name + `"`
	}
	return names
}

// insert returns the statement that adds one row; its last parameter is ship_seq.
func (t table[T]) insert(conflict string) string {
	return "INSERT INTO " + t.name + " (" + strings.Join(t.names(), ", ") + ", ship_seq) VALUES (" +
		strings.Repeat("?, ", len(t.columns)) + "?) " + conflict
}

// addTo appends the row's fields to args in column order.
func (t table[T]) addTo(args *arguments, row *T) error {
	for _, c := range t.columns {
		if err := args.addField(c.Ptr(row)); err != nil {
			return err
		}
	}
	return nil
}

// fields returns the field of T for each column of a result, nil for a column unknown to T. So a store of a newer schema can
// be read.
func (t table[T]) fields(names []string) []func(*T) any {
	fields := make([]func(*T) any, len(names))
	for i, name := range names {
		if j := slices.IndexFunc(t.columns, func(c sink.Column[T]) bool { return c.Name == name }); j >= 0 {
			fields[i] = t.columns[j].Ptr
		}
	}
	return fields
}

// energyColumns returns the columns of requests that settling changes: gpu_uj and all after it.
func energyColumns() []sink.Column[meter.Record] {
	all := sink.RequestColumns()
	return all[slices.IndexFunc(all, func(c sink.Column[meter.Record]) bool { return c.Name == "gpu_uj" }):]
}

// read runs SELECT on the whole table with the given tail and returns the rows, each with the integer that
// the expression key gives for it. Columns unknown to T are skipped. ctx bounds the time.
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
	rows = []*T{} // in JSON [], not null
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
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}
