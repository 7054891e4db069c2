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
	names  []string // of the columns, rowid first
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

// blockedOfRequests are the columns of requests that view efficiency reads, but for the ids of single rows and what no named
// query and no filter asks for: each column is a fiftieth of what a block costs.
func blockedOfRequests() (names []string) {
	words := sink.EfficiencyIdentity()
	for _, c := range sink.EfficiencyColumns() {
		words = append(words, strings.FieldsFunc(c.Expr, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })...)
	}
	rare := strings.Fields("id trace_id instance upstream dialect api_key_id token_source energy_method ttfb_us ttfo_us itl_p90_us gpu_mean_mw")
	return slices.DeleteFunc(words, func(name string) bool { return slices.Contains(rare, name) })
}

// newBlockTable describes a table of which the named columns are in blocks; without names all are.
func newBlockTable[T any](t table[T], at string, names []string) *blockTable {
	b := &blockTable{names: []string{columnar.RowID}}
	b.Base, b.At, b.Columns = t.name, at, map[string]columnar.Kind{columnar.RowID: columnar.Int}
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

// add appends a row.
func (c *blockBuilder) add(row []driver.Value) error {
	for i, value := range row {
		v, n := &c.vectors[i], int64(0)
		switch x := value.(type) {
		case nil:
		case int64:
			n = x
		case string:
			if c.kinds[i] == columnar.Time {
				t, err := time.Parse(TimeLayout, x)
				if err != nil {
					return err
				}
				n = t.UnixMicro()
				break
			}
			n = c.code(i, x)
		default:
			return fmt.Errorf("a value of type %T", value)
		}
		v.Null, v.Ints = append(v.Null, value == nil), append(v.Ints, n)
	}
	c.rows++
	return nil
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

// Pack copies final rows that are in no block into blocks, where there are enough of them, and returns how many. RunRetention
// calls it.
func (s *Store) Pack(ctx context.Context) (rows int64, err error) {
	for _, name := range []string{TableRequests, TablePower, TableLedger} {
		n, err := s.packTable(ctx, s.blocks[name])
		if rows += n; err != nil {
			return rows, explain("make blocks in", s.path, err)
		}
	}
	return rows, nil
}

func (s *Store) packTable(ctx context.Context, t *blockTable) (rows int64, err error) {
	var gaps [][2]int64
	after := int64(0)
	covered, err := s.reads.QueryContext(ctx, "SELECT after_ship_seq, last_ship_seq FROM blocks WHERE of_table = ? ORDER BY last_ship_seq", t.Base)
	if err != nil {
		return 0, err
	}
	defer covered.Close() //nolint:errcheck // Err is checked
	for covered.Next() {
		var from, to int64
		if err := covered.Scan(&from, &to); err != nil {
			return 0, err
		}
		if from > after {
			gaps = append(gaps, [2]int64{after, from})
		}
		after = to
	}
	if err := covered.Err(); err != nil {
		return 0, err
	}
	for _, gap := range append(gaps, [2]int64{after, math.MaxInt64}) {
		for {
			last, err := s.packBlock(ctx, t, gap[0], gap[1])
			if err != nil || last == 0 {
				if err != nil {
					return rows, err
				}
				break
			}
			gap[0], rows = last, rows+s.blockRows
		}
	}
	return rows, nil
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
	conn, ok := s.write.conn.conn.(driver.QueryerContext) // it has the latest pages in its cache
	if !ok {
		return 0, errors.New("store: this SQLite driver cannot query")
	}
	err = eachRow(ctx, conn, t.selectRows(t.names, "ship_seq, ", "ship_seq > ? AND ship_seq <= ? ORDER BY ship_seq LIMIT ?"), []any{after, upTo, s.blockRows},
		func(row []driver.Value) error {
			last, _ = row[0].(int64)
			return c.add(row[1:])
		})
	if err != nil {
		return 0, err
	}
	return last, s.insertBlock(ctx, t, c, after, last)
}

func (s *Store) insertBlock(ctx context.Context, t *blockTable, c *blockBuilder, after, last int64) error {
	times := &c.vectors[slices.Index(t.names, t.At)]
	return transact(ctx, s.conn, func() error {
		res, err := s.conn.ExecContext(ctx, "INSERT INTO blocks (of_table, layout, rows, after_ship_seq, last_ship_seq, first_us, last_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
			t.Base, t.layout, c.rows, after, last, slices.Min(times.Ints), slices.Max(times.Ints))
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		insert, err := s.conn.PrepareContext(ctx, "INSERT INTO block_columns (id, data) VALUES (?, ?)")
		if err != nil {
			return err
		}
		defer insert.Close() //nolint:errcheck // a statement of this transaction
		var data []byte
		for i := range t.names {
			if data, err = c.vectors[i].Encode(data[:0]); err != nil {
				return err
			}
			if _, err := insert.ExecContext(ctx, id*256+int64(i), data); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropOldBlocks deletes the blocks that lack a column of this version. Pack makes them again.
func (s *Store) dropOldBlocks(ctx context.Context) error {
	for _, name := range []string{TableRequests, TablePower, TableLedger} {
		if _, err := s.conn.ExecContext(ctx, "DELETE FROM blocks WHERE of_table = ? AND layout <> ?", name, s.blocks[name].layout); err != nil {
			return err
		}
	}
	return nil
}
