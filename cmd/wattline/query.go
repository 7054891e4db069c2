package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"wattline/sink/store"
)

type queryCmd struct {
	SQL     string        `arg:"" optional:"" help:"One SELECT on tables requests, power, ledger, configs and view efficiency."`
	Store   string        `help:"The rows' file. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/wattline/wattline.db." placeholder:"FILE"`
	Format  string        `help:"How the result is written: ${enum}." enum:"table,json,csv" default:"table"`
	Timeout time.Duration `help:"Give up after this long: a reader that stays makes the store's log grow." default:"1m"`
}

// Run runs one statement and prints its result.
func (c *queryCmd) Run(a *app) (err error) {
	if c.SQL == "" {
		return usageError("no SQL given: try wattline query \"SELECT model, count(*) FROM requests GROUP BY model\"")
	}
	r, err := store.OpenReader(a.ctx, a.storePath(c.Store))
	if err != nil {
		return err
	}
	defer closing(r, &err)
	return r.Explain(c.print(a, r.DB()))
}

func (c *queryCmd) print(a *app, db *sql.DB) (err error) {
	ctx, cancel := context.WithTimeoutCause(a.ctx, c.Timeout,
		fmt.Errorf("the query took longer than %v: narrow it (WHERE started_at >= ...) or raise --timeout", c.Timeout))
	defer cancel()
	rows, err := db.QueryContext(ctx, c.SQL)
	if err == nil {
		defer closing(rows, &err)
		err = printRows(rows, c.Format, a.stdout)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
