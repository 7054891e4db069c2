package store

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/columnar"
)

// Rows that no longer change are also kept in blocks, column by column, for queries that read many rows (package columnar).
// A block has the rows of a table with ship_seq in (after_ship_seq, last_ship_seq]. Blocks are copies: rows in no block are
// read from their table, and a trigger deletes the block of a row that is deleted.

// defaultBlockRows is the number of rows in a block.
const defaultBlockRows = 4096

// blockTable is a table that is kept in blocks.
type blockTable struct {
	columnar.Table
	names  []string // of the columns, ship_seq first
	layout string   // a hash of what a block holds: blocks of another layout are made again
}

// blockTables are the tables that are kept in blocks, by name, and the view.
type blockTables map[string]*blockTable

func newBlockTables() blockTables {
	t := newTables()
	requests := newBlockTable(t.requests, "started_at", blockedOfRequests())
	power := newBlockTable(t.power, "at", strings.Fields("at instance device span_us energy_uj mean_mw max_mw temp_c util_permille throttled_us throttle"))
	ledger := newBlockTable(t.ledger, "at", nil)
	view := &blockTable{Table: requests.Table, names: requests.names, layout: requests.layout}
	view.View = strings.TrimPrefix(efficiencyView(), "CREATE VIEW efficiency AS ")
	view.Hidden, view.Derived = map[string]bool{}, map[string]string{}
	for name := range view.Columns {
		view.Hidden[name] = !slices.Contains(sink.EfficiencyIdentity(), name)
	}
	for _, c := range sink.EfficiencyColumns() {
		view.Derived[c.Name] = c.Expr
	}
	return blockTables{TableRequests: requests, "efficiency": view, TablePower: power, TableLedger: ledger}
}

// blockedOfRequests are the columns of requests that view efficiency reads, and two of the cache's, but for the ids of single rows and what no named
// query and no filter asks for: each column is a fiftieth of what a block costs.
func blockedOfRequests() (names []string) {
	words := append(sink.EfficiencyIdentity(), "cache_verdict", "cache_lost_tokens")
	for _, c := range sink.EfficiencyColumns() {
		words = append(words, strings.FieldsFunc(c.Expr, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })...)
	}
	rare := strings.Fields("id trace_id instance upstream token_source energy_method ttfb_us ttfo_us itl_p90_us gpu_mean_mw gpu_idle_held_uj")
	return slices.DeleteFunc(words, func(name string) bool { return slices.Contains(rare, name) })
}

// newBlockTable describes a table of which the named columns are in blocks; without names all are.
func newBlockTable[T any](t table[T], at string, names []string) *blockTable {
	b := &blockTable{names: []string{columnar.Key}}
	b.Base, b.At, b.Columns = t.name, at, map[string]columnar.Kind{columnar.Key: columnar.Int}
	for _, c := range t.columns {
		if names != nil && !slices.Contains(names, c.Name) {
			continue
		}
		kind := columnar.Text
		if _, ok := c.Ptr(new(T)).(*time.Time); ok {
			kind = columnar.Time
		} else if sqlType(c.Ptr(new(T))) == "INTEGER" {
			kind = columnar.Int
		}
		b.names = append(b.names, c.Name)
		b.Columns[c.Name] = kind
	}
	sum := sha256.Sum256([]byte("1 " + strings.Join(b.names, " ")))
	b.layout = hex.EncodeToString(sum[:8])
	return b
}

// blockBuilder collects rows as vectors.
type blockBuilder struct {
	kinds   []columnar.Kind
	vectors []columnar.Vector
	codes   []map[string]int64 // of the texts
	last    []int64            // the last text's code
	rows    int
}

func (t *blockTable) newBuilder(names []string) *blockBuilder {
	c := &blockBuilder{vectors: make([]columnar.Vector, len(names)), codes: make([]map[string]int64, len(names)), last: make([]int64, len(names))}
	for _, name := range names {
		c.kinds = append(c.kinds, t.Columns[name])
	}
	c.reset()
	return c
}

func (c *blockBuilder) reset() {
	c.rows = 0
	for i, kind := range c.kinds {
		v := &c.vectors[i]
		*v = columnar.Vector{Kind: kind, Null: v.Null[:0], Ints: v.Ints[:0]}
		c.codes[i] = map[string]int64{}
	}
}

// add appends a row as the driver gives it.
func (c *blockBuilder) add(row []driver.Value) error {
	for i, value := range row {
		switch x := value.(type) {
		case nil:
			c.put(i, 0, true)
		case int64:
			c.put(i, x, false)
		case string:
			n := int64(0)
			if c.kinds[i] == columnar.Time {
				t, err := time.Parse(TimeLayout, x)
				if err != nil {
					return err
				}
				n = t.UnixMicro()
			} else {
				n = c.code(i, x)
			}
			c.put(i, n, false)
		default:
			return fmt.Errorf("a value of type %T", value)
		}
	}
	c.rows++
	return nil
}

// put appends a value to column i: a number, microseconds, or the code of a text.
func (c *blockBuilder) put(i int, n int64, null bool) {
	v := &c.vectors[i]
	v.Null, v.Ints = append(v.Null, null), append(v.Ints, n)
}

// putField appends a field, given by pointer as in Column.Ptr, as add does with the value that the store writes for it.
func (c *blockBuilder) putField(i int, field any) error {
	switch p := field.(type) {
	case *meter.Int:
		c.put(i, p.V, !p.Valid)
	case *time.Time:
		c.put(i, p.UnixMicro(), p.IsZero())
	case *string:
		c.putText(i, *p)
	case *meter.Outcome:
		c.putText(i, string(*p))
	default:
		text, err := FieldText(field)
		if err != nil {
			return err
		}
		c.putText(i, text)
	}
	return nil
}

// putText appends a text; the empty one is null.
func (c *blockBuilder) putText(i int, text string) {
	if text == "" {
		c.put(i, 0, true)
	} else {
		c.put(i, c.code(i, text), false)
	}
}

// code is the number of a text in the dictionary of column i. Most texts are the same as the row's before.
func (c *blockBuilder) code(i int, text string) int64 {
	v := &c.vectors[i]
	if last := c.last[i]; last < int64(len(v.Dict)) && v.Dict[last] == text {
		return last
	}
	code, ok := c.codes[i][text]
	if !ok {
		code = int64(len(v.Dict))
		c.codes[i][text], v.Dict = code, append(v.Dict, text)
	}
	c.last[i] = code
	return code
}

// selectRows is the SELECT of the columns of rows that meet a condition.
func (t *blockTable) selectRows(names []string, first, where string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + name + `"`
	}
	return "SELECT " + first + strings.Join(quoted, ", ") + " FROM " + t.Base + " WHERE " + where
}

// eachRow calls f with each row of a query on the driver's connection: database/sql would copy and check every value.
// The row is used again for the next call.
func eachRow(ctx context.Context, conn driver.QueryerContext, query string, args []any, f func(row []driver.Value) error) error {
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	rows, err := conn.QueryContext(ctx, query, named)
	if err != nil {
		return err
	}
	return readRows(rows, f)
}

func readRows(rows driver.Rows, f func(row []driver.Value) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(row); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

// Pack makes blocks of final rows that are in none, where there are enough of them, and returns how many. Most blocks are made by
// Write (tail.go); Pack finds rows of an older version, of other processes and between deleted ones. RunRetention calls it.
func (s *Store) Pack(ctx context.Context) (rows int64, err error) {
	s.packing.Lock()
	defer s.packing.Unlock()
	var errs []error
	for _, t := range s.write.tails.all {
		n, err := s.packTable(ctx, t)
		rows, errs = rows+n, append(errs, err)
	}
	return rows, explain("make blocks in", s.path, errors.Join(append(errs, s.readTails(ctx))...))
}

// packTable makes blocks up to those that the tail is for.
func (s *Store) packTable(ctx context.Context, t *tail) (rows int64, err error) {
	gaps, after, err := s.unpacked(ctx, t.table)
	if err != nil {
		return 0, err
	}
	if !t.isKnown(s) {
		gaps = append(gaps, [2]int64{after, math.MaxInt64})
	}
	var errs []error
	for _, gap := range gaps {
		for last := int64(-1); last != 0 && err == nil; {
			if last, err = s.packBlock(ctx, t.table, gap[0], gap[1]); err == nil && last != 0 {
				gap[0], rows = last, rows+int64(s.blockRows)
			}
		}
		errs, err = append(errs, err), nil
	}
	return rows, errors.Join(errs...)
}

// unpacked returns the ranges of ship_seq between blocks, and the end of the last block.
func (s *Store) unpacked(ctx context.Context, t *blockTable) (gaps [][2]int64, after int64, err error) {
	covered, err := s.reads.QueryContext(ctx, "SELECT after_ship_seq, last_ship_seq FROM blocks WHERE of_table = ? ORDER BY last_ship_seq", t.Base)
	if err != nil {
		return nil, 0, err
	}
	defer covered.Close() //nolint:errcheck // Err is checked
	for covered.Next() {
		var from, to int64
		if err := covered.Scan(&from, &to); err != nil {
			return nil, 0, err
		}
		if from > after {
			gaps = append(gaps, [2]int64{after, from})
		}
		after = to
	}
	return gaps, after, covered.Err()
}

// packBlock makes a block of the first rows with ship_seq in (after, upTo], and returns the last ship_seq in it. It returns 0
// if there are too few.
func (s *Store) packBlock(ctx context.Context, t *blockTable, after, upTo int64) (last int64, err error) {
	s.fixing.Lock() // no row is deleted meanwhile
	defer s.fixing.Unlock()
	var enough bool
	err = s.reads.QueryRowContext(ctx, "SELECT count(*) = ?1 FROM (SELECT 1 FROM "+t.Base+" WHERE ship_seq > ?2 AND ship_seq <= ?3 LIMIT ?1)", s.blockRows, after, upTo).Scan(&enough)
	if err != nil || !enough {
		return 0, err
	}
	c := t.newBuilder(t.names)
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, err = s.write.readRows(ctx, t, c, after, upTo, s.blockRows); err != nil {
		return 0, err
	}
	if c.rows == 0 { // a batch that must be sent again has taken them meanwhile
		return 0, nil
	}
	return last, s.write.writeBlock(t, c, after, last)
}

// readRows adds the first rows with ship_seq in (after, upTo] to a builder, at most limit of them (-1: all), and returns the
// last ship_seq. It reads on the connection that has the latest pages in its cache.
func (w *writer) readRows(ctx context.Context, t *blockTable, c *blockBuilder, after, upTo int64, limit int) (last int64, err error) {
	conn, ok := w.conn.conn.(driver.QueryerContext)
	if !ok {
		return 0, errors.New("store: this SQLite driver cannot query")
	}
	last = after
	err = eachRow(ctx, conn, t.selectRows(t.names, "ship_seq, ", "ship_seq > ? AND ship_seq <= ? ORDER BY ship_seq LIMIT ?"), []any{after, upTo, int64(limit)},
		func(row []driver.Value) error {
			last, _ = row[0].(int64)
			return c.add(row[1:])
		})
	return last, err
}

// insertBlock adds a block, unless another has some of its rows or the table has not exactly its rows.
const insertBlock = `
INSERT INTO blocks (of_table, layout, rows, after_ship_seq, last_ship_seq, first_us, last_us)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE of_table = ?1 AND last_ship_seq > ?4 AND after_ship_seq < ?5)`

var errNotTheRows = errors.New("store: rows were changed while their block was made")

// writeBlock writes the rows of a builder, which has those with ship_seq in (after, last], as a block.
func (w *writer) writeBlock(t *blockTable, c *blockBuilder, after, last int64) error {
	times := &c.vectors[slices.Index(t.names, t.At)]
	return w.conn.transact(func() error {
		count, err := w.conn.prepared("SELECT count(*) FROM " + t.Base + " WHERE ship_seq > ? AND ship_seq <= ?")
		if err != nil {
			return err
		}
		if n, _, err := count.number(w.args.all(after, last)); err != nil || n != int64(c.rows) {
			return errors.Join(errNotTheRows, err)
		}
		layout := t.layout
		var columns [][]byte
		for i := range t.names {
			data, err := c.vectors[i].Encode(nil)
			if err != nil { // these rows stay rows: readers know no block of this layout
				layout, columns = "rows", nil
				break
			}
			columns = append(columns, data)
		}
		id, added, err := w.insertBlock.insert(w.args.all(t.Base, layout, int64(c.rows), after, last, slices.Min(times.Ints), slices.Max(times.Ints)))
		if err != nil || !added {
			return errors.Join(errNotTheRows, err)
		}
		for i, data := range columns {
			if _, err := w.insertColumn.run(w.args.all(id*256+int64(i), data)); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropOldBlocks deletes the blocks that lack a column of this version, a few in a transaction. Pack makes them again.
func (s *Store) dropOldBlocks(ctx context.Context) error {
	for _, name := range []string{TableRequests, TablePower, TableLedger} {
		for n := int64(1); n > 0; {
			var err error
			n, err = affected(s.conn.ExecContext(ctx, "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE of_table = ? AND layout <> ? LIMIT 20)", name, s.blocks[name].layout))
			if err != nil {
				return err
			}
		}
	}
	return nil
}
