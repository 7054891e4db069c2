package main

import (
	"context"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/term"
	"wattline/sink/queries"
)

type usageCmd struct {
	engineFlags
	By       string `help:"Group by: ${enum}." enum:"${usage_keys}" default:"agent"`
	Since    string `help:"How far back: 90m, 24h, 7d, or a date (2026-11-01)." default:"7d"`
	Currency string `help:"Currency of the price that serve was given, for the heading." placeholder:"NAME"`
	JSON     bool   `help:"Print one JSON object per line." name:"json"`
}

// usageTimeout bounds the query, which reads every row of the period.
const usageTimeout = time.Minute

// Run prints the usage of each group.
func (c *usageCmd) Run(a *app, kctx *kong.Context) (err error) {
	defer a.endSoon()()
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return err
	}
	e, err := c.open(a, kctx)
	if err != nil {
		return err
	}
	defer deferClose(e, &err)
	ctx, cancel := context.WithTimeout(a.ctx, usageTimeout)
	defer cancel()
	u, err := queries.ReadUsage(ctx, e.DB, e.Dialect, c.By, since)
	if err != nil {
		return e.Explain(err)
	}
	if c.JSON {
		return u.WriteJSON(a.stdout)
	}
	term.Usage(a.stdout, u, c.Currency)
	return nil
}

// parseSince is queries.ParseSince for --since.
func parseSince(s string, now time.Time) (time.Time, error) {
	t, err := queries.ParseSince(s, now)
	if err != nil {
		return t, usageError("--since %w", err)
	}
	return t, nil
}
