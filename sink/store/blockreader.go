package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"wattline/sink/columnar"
)

// sqliteConn is a connection of the SQLite driver, with what database/sql uses of it.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// blockConn is a connection that answers queries from blocks where package columnar can, and else from the tables.
type blockConn struct {
	sqliteConn
	tables blockTables
	fault  *sync.Once // of the pool: the first one is logged
}

// Unwrap is the connection of the SQLite driver, for what database/sql does not know.
func (c *blockConn) Unwrap() driver.Conn { return c.sqliteConn }

// QueryContext runs one statement. Its answer from blocks is read within one short transaction and kept in memory.
func (c *blockConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.fromBlocks(ctx, query, args)
	if err == nil {
		return rows, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, columnar.ErrFault) {
		c.fault.Do(func() {
			slog.Error("a query could not be answered from blocks and is answered from the rows, which is slower; please report this", "query", query, "error", err)
		})
	}
	return c.sqliteConn.QueryContext(ctx, query, args) // its error is the one to show
}

func (c *blockConn) fromBlocks(ctx context.Context, query string, args []driver.NamedValue) (found driver.Rows, err error) {
	values := make([]any, len(args))
	for i, a := range args {
		values[i] = a.Value
	}
	src := &blockSource{conn: c}
	defer func() { err = errors.Join(err, src.end(ctx)) }()
	a, err := columnar.Run(ctx, src, query, values)
	if err != nil {
		return nil, err
	}
	if a.SQL == "" {
		return &answer{a.Columns, a.Rows}, nil
	}
	rows, err := c.sqliteConn.QueryContext(ctx, a.SQL, args)
	if err != nil {
		return nil, err
	}
	list := &answer{columns: rows.Columns()}
	return list, readRows(rows, func(row []driver.Value) error {
		list.rows = append(list.rows, slices.Clone(row))
		return nil
	})
}

// answer is a result in memory.
type answer struct {
	columns []string
	rows    [][]driver.Value
}

func (a *answer) Columns() []string { return a.columns }
func (a *answer) Close() error      { return nil }

func (a *answer) Next(dest []driver.Value) error {
	if len(a.rows) == 0 {
		return io.EOF
	}
	copy(dest, a.rows[0])
	a.rows = a.rows[1:]
	return nil
}

// blockSource reads blocks for one statement. The transaction begins with the first Scan, so that all of them see the same
// rows.
type blockSource struct {
	conn  *blockConn
	began bool
}

func (s *blockSource) end(ctx context.Context) error {
	if !s.began {
		return nil
	}
	_, err := s.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT", nil)
	return err
}

// Table implements columnar.Source.
func (s *blockSource) Table(name string) *columnar.Table {
	if t := s.conn.tables[name]; t != nil {
		return &t.Table
	}
	return nil
}

// piece is a block, or (rows 0) the rows with ship_seq in (after, last] that are in no block.
type piece struct {
	id, rows, after, last, firstUs, lastUs int64
}

// Scan implements columnar.Source.
func (s *blockSource) Scan(ctx context.Context, of *columnar.Table, columns []string, from, to int64, reverse bool, f func(*columnar.Block) error) error {
	if !s.began {
		// A BEGIN that is cancelled may have begun all the same.
		if _, err := s.conn.ExecContext(context.WithoutCancel(ctx), "BEGIN", nil); err != nil {
			return err
		}
		s.began = true
	}
	t := s.conn.tables[of.Base]
	pieces, err := s.pieces(ctx, t)
	if err != nil {
		return err
	}
	if reverse {
		slices.Reverse(pieces)
	}
	read, err := s.prepare(ctx, t, columns)
	if err != nil {
		return err
	}
	defer read.Close()                                            //nolint:errcheck // it only read
	block, next := newBlock(len(columns)), newBlock(len(columns)) // one is read while f works on the other
	for _, p := range pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.rows == 0 {
			err = s.readTable(ctx, t, p, columns, from, to, f)
		} else if p.lastUs >= from && p.firstUs <= to {
			if err = s.readBlock(ctx, read, t, p, columns, block); err == nil {
				err = f(block)
				block, next = next, block
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newBlock(columns int) *columnar.Block {
	return &columnar.Block{Columns: make([]columnar.Vector, columns)}
}

// pieces lists the blocks of a table and the gaps between them, in order. Without a block there is nothing to gain.
func (s *blockSource) pieces(ctx context.Context, t *blockTable) (pieces []piece, err error) {
	after := int64(0)
	err = eachRow(ctx, s.conn.sqliteConn, "SELECT id, rows, after_ship_seq, last_ship_seq, first_us, last_us FROM blocks WHERE of_table = ? AND layout = ? ORDER BY last_ship_seq",
		[]any{t.Base, t.layout}, func(row []driver.Value) error {
			var n [6]int64
			for i := range n {
				n[i], _ = row[i].(int64)
			}
			p := piece{n[0], n[1], n[2], n[3], n[4], n[5]}
			if p.after > after {
				pieces = append(pieces, piece{after: after, last: p.after})
			}
			pieces, after = append(pieces, p), p.last
			return nil
		})
	if err == nil && len(pieces) == 0 {
		err = columnar.ErrUnsupported
	}
	return append(pieces, piece{after: after, last: math.MaxInt64}), err
}

// statementReader is a prepared statement of the driver.
type statementReader interface {
	driver.Stmt
	driver.StmtQueryContext
}

// prepare prepares the statement that reads the columns of a block.
func (s *blockSource) prepare(ctx context.Context, t *blockTable, columns []string) (statementReader, error) {
	ids := make([]string, len(columns))
	for i, name := range columns {
		ids[i] = fmt.Sprintf("?1 * 256 + %d", slices.Index(t.names, name))
	}
	stmt, err := s.conn.PrepareContext(ctx, "SELECT id % 256, data FROM block_columns WHERE id IN ("+strings.Join(ids, ", ")+")")
	if err != nil {
		return nil, err
	}
	read, ok := stmt.(statementReader)
	if !ok {
		return nil, errors.Join(columnar.ErrUnsupported, stmt.Close())
	}
	return read, nil
}

func (s *blockSource) readBlock(ctx context.Context, read statementReader, t *blockTable, p piece, columns []string, block *columnar.Block) error {
	rows, err := read.QueryContext(ctx, []driver.NamedValue{{Ordinal: 1, Value: p.id}})
	if err != nil {
		return err
	}
	block.Rows = int(p.rows)
	found := 0
	err = readRows(rows, func(row []driver.Value) error {
		place, _ := row[0].(int64)
		data, _ := row[1].([]byte)
		found++
		return block.Columns[slices.Index(columns, t.names[place])].Decode(data, block.Rows)
	})
	if err == nil && found != len(columns) {
		err = columnar.ErrUnsupported
	}
	return err
}

// readTable reads rows that are in no block from their table; behind the last block also those that may still change.
func (s *blockSource) readTable(ctx context.Context, t *blockTable, p piece, columns []string, from, to int64, f func(*columnar.Block) error) error {
	c, next := t.newBuilder(columns), t.newBuilder(columns)
	where, args := "ship_seq > ? AND ship_seq <= ?", []any{p.after, p.last}
	if from > math.MinInt64 {
		where, args = where+" AND "+t.At+" >= ?", append(args, literal(time.UnixMicro(from)))
	}
	if to < math.MaxInt64 {
		where, args = where+" AND "+t.At+" <= ?", append(args, literal(time.UnixMicro(to)))
	}
	flush := func() error {
		err := f(&columnar.Block{Rows: c.rows, Columns: c.vectors})
		c, next = next, c
		c.reset()
		return err
	}
	add := func(row []driver.Value) error {
		if err := c.add(row); err != nil || c.rows < defaultBlockRows {
			return err
		}
		return flush()
	}
	err := eachRow(ctx, s.conn.sqliteConn, t.selectRows(columns, "", where), args, add)
	if err == nil && p.last == math.MaxInt64 {
		err = eachRow(ctx, s.conn.sqliteConn, t.selectRows(columns, "", "ship_seq IS NULL"), nil, add)
	}
	if err != nil || c.rows == 0 {
		return err
	}
	return flush()
}
