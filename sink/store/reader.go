package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"modernc.org/sqlite"

	"wattline/meter"
	"wattline/sink"
)

// Reader reads a store, beside its writer or without one. It cannot change anything. Its methods are
// safe for concurrent use.
type Reader struct {
	path string
	db   *sql.DB
}

// readTimeout bounds each statement that the Reader's own methods run: an open reader keeps the
// write-ahead log from being folded back, so none may stay for long.
const readTimeout = 30 * time.Second

// OpenReader opens the store at path, which must exist (ErrMissing).
func OpenReader(ctx context.Context, path string) (*Reader, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) { //nolint:gosec // the user names it
		return nil, &Error{Kind: ErrMissing, Path: path, text: "there is no store at " + path + " yet: start `wattline serve`, or name its file with --store"}
	} else if err != nil {
		return nil, explain("read", path, err)
	}
	r := &Reader{path: path}
	err := r.connect(ctx, readable)
	if err != nil && !exists(path+"-wal") {
		// A folder that this user may not write, and no writer: SQLite then only reads a file it may
		// believe nobody changes.
		if r.connect(ctx, frozen) == nil {
			return r, nil
		}
	}
	if err != nil {
		return nil, explain("read", path, err)
	}
	return r, nil
}

func exists(path string) bool {
	_, err := os.Stat(path) //nolint:gosec // the user names it
	return err == nil
}

func (r *Reader) connect(ctx context.Context, mode string) (err error) {
	if r.db, err = openPool(r.path, mode, readOnly, "busy_timeout(5000)", "query_only(1)"); err != nil {
		return err
	}
	r.db.SetMaxOpenConns(4)
	var version int
	if err = r.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err == nil && version == 0 {
		err = &Error{Kind: ErrDamaged, Path: r.path, text: r.path + " is not a wattline store: name the right file with --store"}
	}
	if err != nil {
		return errors.Join(err, r.db.Close())
	}
	return nil
}

// readOnly refuses every statement that could change or create a file, ATTACH and VACUUM INTO included,
// already when it is compiled.
func readOnly(action sqlite.AuthorizerActionCode, _, arg2, _, _ string) sqlite.AuthorizerReturnCode {
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthFunction, sqlite.AuthRecursive, sqlite.AuthTransaction:
		return sqlite.AuthorizerOK
	case sqlite.AuthPragma:
		if arg2 == "" || arg2 == "1" { // asking, or our own query_only(1)
			return sqlite.AuthorizerOK
		}
	}
	return sqlite.AuthorizerDeny
}

// Close ends the reader.
func (r *Reader) Close() error { return explain("close", r.path, r.db.Close()) }

// Path returns the store's file.
func (r *Reader) Path() string { return r.path }

// DB returns the read-only handle for SQL of the caller's own. It knows the aggregates of this package
// (median, quantile, p50, p90, p95, p99, stddev). Give every statement a context with a deadline.
func (r *Reader) DB() *sql.DB { return r.db }

// Explain adds to an error of a statement run on DB what to do about it, where it knows.
func (r *Reader) Explain(err error) error {
	if isSyntax(err) {
		return fmt.Errorf("%w; tables: requests, power, ledger, configs, itl_gaps, view: efficiency, columns: `PRAGMA table_info(requests)`", err)
	}
	if k := kindOf(err); k != nil {
		return &Error{Kind: k, Path: r.path, text: advice(k, r.path), cause: err}
	}
	return err
}

// Latest returns up to limit requests, the newest first.
func (r *Reader) Latest(ctx context.Context, limit int) ([]*meter.Record, error) {
	recs, _, err := r.requests(ctx, "ORDER BY started_at DESC, rowid DESC LIMIT ?", limit)
	return recs, err
}

// idLength is that of a request's id, a UUID. No other id contains a whole one.
const idLength = 36

// Find returns the one request whose id is, begins with or ends with part. No such request is nil and no
// error; several are an ErrAmbiguous that lists some of their ids. A part, unlike a whole id, is looked for
// in every row.
func (r *Reader) Find(ctx context.Context, part string) (*meter.Record, error) {
	found, _, err := r.requests(ctx, "WHERE id = ?", part)
	if err == nil && len(found) == 0 && len(part) < idLength {
		like := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part)
		found, _, err = r.requests(ctx, `WHERE rowid IN (SELECT rowid FROM requests WHERE id LIKE ? ESCAPE '\' OR id LIKE ? ESCAPE '\' LIMIT 4)`, like+"%", "%"+like)
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if len(found) > 1 {
		ids := make([]string, len(found))
		for i, rec := range found {
			ids[i] = rec.ID
		}
		return nil, &Error{Kind: ErrAmbiguous, Path: r.path, text: fmt.Sprintf("several requests match %q: %s; give more of the id", part, strings.Join(ids, ", "))}
	}
	return found[0], nil
}

// Efficiency returns the computed columns of view efficiency for one request, those that are not null.
func (r *Reader) Efficiency(ctx context.Context, id string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	columns := sink.EfficiencyColumns()
	names := make([]string, len(columns))
	values := make([]sql.Null[float64], len(columns))
	targets := make([]any, len(columns))
	for i, c := range columns {
		names[i], targets[i] = `"`+c.Name+`"`, &values[i]
	}
	err := r.db.QueryRowContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM efficiency WHERE id = ?", id).Scan(targets...)
	if err != nil {
		return nil, explain("read", r.path, err)
	}
	found := make(map[string]float64, len(columns))
	for i, v := range values {
		if v.Valid {
			found[columns[i].Name] = v.V
		}
	}
	return found, nil
}

// chunk is how many rows Each reads in one statement.
const chunk = 2000

// Each calls f with every request that started at or after since, in the order they were stored. It
// reads in chunks and holds no transaction while f runs.
func (r *Reader) Each(ctx context.Context, since time.Time, f func(*meter.Record) error) error {
	var first sql.NullInt64
	if err := r.db.QueryRowContext(ctx, "SELECT min(rowid) FROM requests WHERE started_at >= ?", literal(since)).Scan(&first); err != nil {
		return explain("read", r.path, err)
	}
	for last := first.Int64 - 1; ; {
		// The + keeps SQLite from collecting and sorting what the other index finds, chunk after chunk.
		recs, rowids, err := r.requests(ctx, "WHERE rowid > ? AND +started_at >= ? ORDER BY rowid LIMIT ?", last, literal(since), chunk)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if err := f(rec); err != nil {
				return err
			}
		}
		if len(recs) < chunk {
			return nil
		}
		last = rowids[len(rowids)-1]
	}
}

func (r *Reader) requests(ctx context.Context, tail string, args ...any) ([]*meter.Record, []int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	recs, rowids, err := newTables().requests.read(ctx, r.db, "rowid", tail, args...)
	return recs, rowids, explain("read", r.path, err)
}
