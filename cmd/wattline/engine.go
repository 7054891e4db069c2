package main

import (
	"context"
	"database/sql"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"wattline/sink/queries"
	"wattline/sink/store"
)

// engineFlags say which database answers: the store, unless ClickHouse is asked for.
type engineFlags struct {
	Store                  string `help:"SQLite file with the rows. Default: ${store}." placeholder:"FILE"`
	Clickhouse             string `help:"Ask this ClickHouse instead of the store: clickhouse://USER@HOST/DATABASE or http://..." placeholder:"DSN"`
	ClickhousePasswordFile string `help:"File with the password. Default: ${clickhouse_password}." placeholder:"FILE"`
}

// engine is a database with wattline's tables, opened for reading.
type engine struct {
	db      *sql.DB
	dialect queries.Dialect
	explain func(error) error // makes a sentence of an error of db
	close   func() error
}

// Close ends the reading.
func (e *engine) Close() error { return e.close() }

// columnsOf names a statement's columns where its result did not: ClickHouse's answer by HTTP is empty, names
// and all, when there are no rows. nil where it cannot be told, as of a statement that is no SELECT.
func (e *engine) columnsOf(ctx context.Context, statement string) (names []string) {
	if e.dialect != queries.ClickHouse {
		return nil
	}
	rows, err := e.db.QueryContext(ctx, "DESCRIBE TABLE ("+strings.TrimRight(statement, "; \n\t")+"\n)")
	if err != nil {
		return nil
	}
	defer rows.Close() //nolint:errcheck // read to its end
	told, err := rows.Columns()
	if err != nil || len(told) == 0 {
		return nil
	}
	cells := make([]any, len(told)) // the first is the name
	for i := range cells {
		cells[i] = new(any)
	}
	for rows.Next() {
		var name string
		cells[0] = &name
		if rows.Scan(cells...) != nil {
			return nil
		}
		names = append(names, name)
	}
	if rows.Err() != nil {
		return nil
	}
	return names
}

func (f *engineFlags) open(a *app, kctx *kong.Context) (*engine, error) {
	named := onCommandLine(kctx, "clickhouse")
	// The configuration file's clickhouse is where serve ships to. Questions stay on this machine unless
	// somebody asks for more.
	if _, env := os.LookupEnv("WATTLINE_CLICKHOUSE"); !named && (!env || onCommandLine(kctx, "store")) {
		r, err := store.OpenReader(a.ctx, a.storePath(f.Store))
		if err != nil {
			return nil, err
		}
		return &engine{r.DB(), queries.SQLite, r.Explain, r.Close}, nil
	}
	target, err := clickhouseTarget(kctx, f.Clickhouse, f.ClickhousePasswordFile)
	if err != nil {
		return nil, err
	}
	db := target.DB()
	return &engine{db, queries.ClickHouse, func(err error) error { return target.Explain("query", err) }, db.Close}, nil
}

// onCommandLine is whether a flag was given there, and not in the environment or the configuration file.
func onCommandLine(kctx *kong.Context, flag string) bool {
	for _, p := range kctx.Path {
		if p.Flag != nil && p.Flag.Name == flag && !p.Resolved {
			return true
		}
	}
	return false
}
