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

// readTimeout bounds each statement of the Reader's own methods: a long read keeps the write-ahead log from being
// checkpointed.
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
		// The folder is not writable and there is no writer: SQLite then reads only a file declared immutable.
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
	if r.db, err = openPool(r.path, mode, newBlockTables(), readOnly, "busy_timeout(5000)", "query_only(1)"); err != nil {
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

// readOnly refuses, at compile time, every statement that could change or create a file, including ATTACH and VACUUM INTO.
func readOnly(action sqlite.AuthorizerActionCode, _, arg2, _, _ string) sqlite.AuthorizerReturnCode {
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthFunction, sqlite.AuthRecursive, sqlite.AuthTransaction:
		return sqlite.AuthorizerOK
	case sqlite.AuthPragma:
		if arg2 == "" || arg2 == "1" { // a query, or our own query_only(1)
			return sqlite.AuthorizerOK
		}
	}
	return sqlite.AuthorizerDeny
}

// Close ends the reader.
func (r *Reader) Close() error { return explain("close", r.path, r.db.Close()) }

// Path returns the store's file.
func (r *Reader) Path() string { return r.path }

// DB returns a read-only handle for the caller's SQL. It has the aggregates of this package (median, quantile, p50, p90,
// p95, p99, stddev, list_stats). Give every statement a context with a deadline.
func (r *Reader) DB() *sql.DB { return r.db }

// Explain adds advice to a known error of a statement run on DB.
func (r *Reader) Explain(err error) error {
	if isSyntax(err) {
		return fmt.Errorf("%w; tables: requests, power, ledger, configs, itl_gaps, view: efficiency, columns: `PRAGMA table_info(requests)`", err)
	}
	if k := kindOf(err); k != nil {
		return &Error{Kind: k, Path: r.path, text: advice(k, r.path), cause: err}
	}
	return err
}

// Latest returns up to limit requests, the newest first; an empty list, not nil, without any.
func (r *Reader) Latest(ctx context.Context, limit int) ([]*meter.Record, error) {
	return r.List(ctx, Filter{}, limit)
}

// idLength is the length of a request's id, a UUID. A whole id needs no search for parts.
const idLength = 36

// Find returns the request with this id, or the only one with an id that begins or ends with part. Without a match it
// returns nil and no error, with several an ErrAmbiguous that lists some of their ids. A part needs a scan of all rows.
func (r *Reader) Find(ctx context.Context, part string) (*meter.Record, error) {
	found, _, err := r.requests(ctx, "rowid", "WHERE id = ?", part)
	if err == nil && len(found) == 0 && len(part) < idLength {
		like := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part)
		found, _, err = r.requests(ctx, "rowid", `WHERE rowid IN (SELECT rowid FROM requests WHERE id LIKE ? ESCAPE '\' OR id LIKE ? ESCAPE '\' LIMIT 4)`, like+"%", "%"+like)
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

// Efficiency returns the computed columns of view efficiency for one request, without the null ones.
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

// chunk is the number of rows that Each reads in one statement.
const chunk = 2000

// Each calls f with every request started at or after since, in the order they were stored. It reads in chunks and holds no
// transaction while f runs.
func (r *Reader) Each(ctx context.Context, since time.Time, f func(*meter.Record) error) error {
	var first sql.NullInt64
	if err := r.db.QueryRowContext(ctx, "SELECT min(rowid) FROM requests WHERE started_at >= ?", literal(since)).Scan(&first); err != nil {
		return explain("read", r.path, err)
	}
	for last := first.Int64 - 1; ; {
		// The + keeps SQLite from using the index on started_at, which would sort all matches again for each chunk.
		recs, rowids, err := r.requests(ctx, "rowid", "WHERE rowid > ? AND +started_at >= ? ORDER BY rowid LIMIT ?", last, literal(since), chunk)
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

// requests reads rows with the integer that column key has for each.
func (r *Reader) requests(ctx context.Context, key, tail string, args ...any) ([]*meter.Record, []int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	recs, rowids, err := newTables().requests.read(ctx, r.db, key, tail, args...)
	return recs, rowids, explain("read", r.path, err)
}
