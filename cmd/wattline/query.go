package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/term"
	"wattline/replay/table"
	"wattline/sink/queries"
)

type queryCmd struct {
	engineFlags
	SQL     string        `arg:"" optional:"" help:"One SELECT on the tables requests, power, ledger, configs and the view efficiency."`
	Name    string        `help:"Run the ready-made query with this name." placeholder:"QUERY"`
	List    bool          `help:"List the ready-made queries."`
	Since   string        `help:"With --name, how far back: 90m, 24h, 7d, or a date (2026-11-01). Default: all rows."`
	Label   string        `help:"With --name ab, compare the values of this label." default:"${query_label}"`
	All     bool          `help:"With --name, count housekeeping (health, models, counting tokens) and replay's own requests too."`
	Show    bool          `help:"With --name, print the SQL instead of running it."`
	Format  string        `help:"Format of the result: ${enum}." enum:"table,json,csv" default:"table"`
	Timeout time.Duration `help:"Cancel the query after this time: while it reads, the store's write-ahead log grows." default:"1m"`
}

// Run runs one statement and prints its result.
func (c *queryCmd) Run(a *app, kctx *kong.Context) (err error) {
	defer a.endSoon()()
	if c.List {
		return listQueries(a.stdout)
	}
	if (c.SQL == "") == (c.Name == "") {
		return usageError("give either SQL, such as \"SELECT model, count(*) FROM requests GROUP BY model\", or --name; --list lists the names")
	}
	e, err := c.open(a, kctx)
	if err != nil {
		return err
	}
	defer deferClose(e, &err)
	text, err := c.statement(e.Dialect)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if c.Show {
		_, err = fmt.Fprintln(a.stdout, text)
		return err
	}
	return c.print(a, e, text)
}

// statement returns the SQL to run.
func (c *queryCmd) statement(d queries.Dialect) (string, error) {
	if c.Name == "" {
		return c.SQL, nil
	}
	q, err := queries.Find(c.Name)
	if err != nil {
		return "", err
	}
	p := queries.Params{Label: c.Label, All: c.All}
	if c.Since != "" {
		if p.Since, err = parseSince(c.Since, time.Now()); err != nil {
			return "", err
		}
	}
	return q.SQL(d, p)
}

func (c *queryCmd) print(a *app, e *queries.Engine, text string) (err error) {
	ctx, cancel := context.WithTimeoutCause(a.ctx, c.Timeout,
		fmt.Errorf("the query took longer than %v: narrow it (WHERE started_at >= ...) or raise --timeout", c.Timeout))
	defer cancel()
	rows, err := e.DB.QueryContext(ctx, text)
	if err == nil {
		err = term.Rows(a.stdout, rows, func() []string { return queries.ColumnNames(ctx, e.DB, e.Dialect, text) }, c.Format)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return e.Explain(err)
}

func listQueries(w io.Writer) error {
	t := table.New(w, "name", "question")
	for _, q := range queries.All() {
		t.Row(q.Name, q.Question)
	}
	t.Render()
	_, err := fmt.Fprintln(w, "\nwattline query --name NAME runs one, with --show it prints its SQL; --since 7d narrows it.")
	return err
}
