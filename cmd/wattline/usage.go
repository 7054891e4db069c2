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
	By        []string `help:"Group by one or more of: ${usage_keys}." default:"agent" placeholder:"KEY,..."`
	Since     string   `help:"How far back: 90m, 24h, 7d, today, yesterday, or a date (2026-11-01)." default:"7d"`
	Until     string   `help:"The end of the period, as --since. Default: now." placeholder:"TIME"`
	Yesterday bool     `help:"The whole of yesterday."`
	UTC       bool     `name:"utc" help:"Days in UTC instead of this machine's time zone."`
	All       bool     `help:"Include housekeeping (health, models, counting tokens) and replay's own requests."`
	Currency  string   `help:"Currency of the price that serve was given, for the heading." placeholder:"NAME"`
	JSON      bool     `help:"Print one JSON object per line." name:"json"`
}

// usageTimeout bounds the query, which reads every row of the period.
const usageTimeout = time.Minute

// Run prints the usage of each group.
func (c *usageCmd) Run(a *app, kctx *kong.Context) (err error) {
	defer a.endSoon()()
	o, err := queries.UsagePeriod(time.Now(), c.Since, c.Until, c.Yesterday, c.UTC)
	if err != nil {
		return usageError("%w", err)
	}
	o.By, o.All = c.By, c.All
	if err := queries.CheckUsage(c.By...); err != nil {
		return usageError("--by: %w", err)
	}
	e, err := c.open(a, kctx)
	if err != nil {
		return err
	}
	defer deferClose(e, &err)
	ctx, cancel := context.WithTimeout(a.ctx, usageTimeout)
	defer cancel()
	u, err := queries.ReadUsage(ctx, e.DB, e.Dialect, o)
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
