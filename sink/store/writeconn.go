package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
)

// writeConn is the connection of Write's transactions. It uses the SQLite driver directly: database/sql would
// copy and check each of a row's hundred values once more. Only one goroutine may use it at a time.
type writeConn struct {
	conn                    driver.Conn
	begin, commit, rollback *statement
	statements              []*statement
	seldom                  map[string]*statement // those that prepared has prepared
}

// statement is a prepared statement of a writeConn.
type statement struct {
	stmt  driver.Stmt
	exec  driver.StmtExecContext // the same statement
	query driver.StmtQueryContext
}

// openWriteConn opens an existing database for writing and runs the pragmas.
func openWriteConn(ctx context.Context, path string, pragmas ...string) (*writeConn, error) {
	opener, err := newConnector(path, readWrite, nil, pragmas)
	if err != nil {
		return nil, err
	}
	w := &writeConn{seldom: map[string]*statement{}}
	if w.conn, err = opener.Connect(ctx); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		to  **statement
		sql string
	}{{&w.begin, "BEGIN IMMEDIATE"}, {&w.commit, "COMMIT"}, {&w.rollback, "ROLLBACK"}} {
		if *s.to, err = w.prepare(s.sql); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

func (w *writeConn) prepare(sql string) (*statement, error) {
	stmt, err := w.conn.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, strings.TrimSpace(sql))
	}
	exec, execs := stmt.(driver.StmtExecContext)
	query, queries := stmt.(driver.StmtQueryContext)
	if !execs || !queries {
		return nil, errors.Join(errors.New("store: this SQLite driver cannot run a statement with a context"), stmt.Close())
	}
	s := &statement{stmt, exec, query}
	w.statements = append(w.statements, s)
	return s, nil
}

// prepared prepares a statement that is seldom run, once.
func (w *writeConn) prepared(sql string) (*statement, error) {
	if s := w.seldom[sql]; s != nil {
		return s, nil
	}
	s, err := w.prepare(sql)
	if err == nil {
		w.seldom[sql] = s
	}
	return s, err
}

// run executes the statement with one value a parameter and returns how many rows it changed. It cannot be
// cancelled: the driver would start a goroutine for each statement.
func (s *statement) run(args arguments) (changed int64, err error) {
	res, err := s.exec.ExecContext(context.Background(), args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// insert executes an INSERT and returns the rowid of the row, or false if the row was there already.
func (s *statement) insert(args arguments) (rowid int64, added bool, err error) {
	res, err := s.exec.ExecContext(context.Background(), args)
	if err != nil {
		return 0, false, err
	}
	if changed, err := res.RowsAffected(); err != nil || changed == 0 {
		return 0, false, err
	}
	rowid, err = res.LastInsertId()
	return rowid, true, err
}

// number runs a statement that gives one integer, or no row.
func (s *statement) number(args arguments) (n int64, found bool, err error) {
	rows, err := s.query.QueryContext(context.Background(), args)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var value [1]driver.Value
	if err := rows.Next(value[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, false, nil
		}
		return 0, false, err
	}
	n, ok := value[0].(int64)
	if !ok {
		return 0, false, fmt.Errorf("store: %v (%T) is not an integer", value[0], value[0])
	}
	return n, true, nil
}

// transact runs f between BEGIN IMMEDIATE and COMMIT, or ROLLBACK when f or the commit fails or panics.
func (w *writeConn) transact(f func() error) (err error) {
	if _, err := w.begin.run(nil); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			_, _ = w.rollback.run(nil) // SQLite may have rolled back already; err is the one that matters
		}
	}()
	if err := f(); err != nil {
		return err
	}
	_, err = w.commit.run(nil)
	committed = err == nil
	return err
}

func (w *writeConn) close() error {
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.stmt.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}
