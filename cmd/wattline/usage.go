package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"strconv"
	"strings"
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
	u, err := queries.ReadUsage(ctx, e.db, e.dialect, c.By, since)
	if err != nil {
		return e.explain(err)
	}
	if c.JSON {
		return writeUsageJSON(a.stdout, u)
	}
	term.Usage(a.stdout, u, c.Currency)
	return nil
}

// parseSince reads a number of days (7d), a Go duration, or a local date or time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError("--since %q is neither a duration (90m, 24h, 7d) nor a date (2026-11-01)", s)
}

// usageLine is one line of usage --json. Kind is group, all, idle or residual.
type usageLine struct {
	Kind         string   `json:"kind"`
	By           string   `json:"by"`
	Key          *string  `json:"key"`
	Requests     *int64   `json:"requests"`
	PromptTokens *int64   `json:"prompt_tokens"`
	CachedTokens *int64   `json:"cached_tokens"`
	OutputTokens *int64   `json:"output_tokens"`
	Measured     *int64   `json:"requests_with_energy"`
	EnergyKWh    *float64 `json:"energy_kwh"`
	SigmaKWh     *float64 `json:"sigma_kwh"`
	IdleKWh      *float64 `json:"idle_share_kwh"`
	Cost         *float64 `json:"cost"`
	TTFTms       *float64 `json:"ttft_p50_ms"`
	Simulated    *int64   `json:"requests_simulated"`
}

func writeUsageJSON(w io.Writer, u *queries.Usage) error {
	line := func(kind string, g queries.UsageGroup) usageLine {
		return usageLine{
			kind, u.By, pointer(g.Key), &g.Requests, pointer(g.InTokens), pointer(g.CachedTokens), pointer(g.OutTokens), &g.Measured,
			pointer(g.EnergyKWh), pointer(g.SigmaKWh), pointer(g.IdleKWh), pointer(g.Cost), pointer(g.TTFTms), pointer(g.Simulated),
		}
	}
	lines := make([]usageLine, 0, len(u.Groups)+3)
	for _, g := range u.Groups {
		lines = append(lines, line("group", g))
	}
	lines = append(lines, line("all", u.Total),
		usageLine{Kind: "idle", By: u.By, EnergyKWh: pointer(u.IdleKWh), SigmaKWh: pointer(u.IdleSigmaKWh)},
		usageLine{Kind: "residual", By: u.By, EnergyKWh: pointer(u.ResidualKWh)})
	enc := json.NewEncoder(w)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

// pointer returns nil for null, so that encoding/json writes null.
func pointer[T any](v sql.Null[T]) *T {
	if !v.Valid {
		return nil
	}
	return &v.V
}
