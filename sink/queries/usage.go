package queries

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// UsageKeys are what Usage can group by.
func UsageKeys() []string { return []string{"agent", "session", "model", "user", "label", "day"} }

// Consumption is what a group of requests used. A null is something that no request of the group told.
type Consumption struct {
	Key          sql.Null[string] // null: requests that name none
	Requests     int64
	InTokens     sql.Null[int64] // prompt tokens, cached ones included
	CachedTokens sql.Null[int64]
	OutTokens    sql.Null[int64]
	// Measured is how many of the requests EnergyKWh sums. A request below resolution enters with its
	// estimate: single ones say nothing, their sum does, and SigmaKWh covers it.
	Measured  int64
	EnergyKWh sql.Null[float64]
	SigmaKWh  sql.Null[float64] // root of the summed squares: the errors are taken as independent
	IdleKWh   sql.Null[float64] // the part of EnergyKWh that is idle share
	Cost      sql.Null[float64]
	TTFTms    sql.Null[float64] // median
}

// Usage is who used what since a time.
type Usage struct {
	By     string
	Since  time.Time
	Groups []Consumption // most energy first (days: oldest first); with By label a request counts once a label
	Total  Consumption   // every request once
	// What the devices drew and no request is charged for; null where no ledger was kept. The idle level
	// errs alike in every second, so its errors add up.
	IdleKWh, IdleSigmaKWh, ResidualKWh sql.Null[float64]
}

// consumption is the list of expressions that scanConsumption reads.
const consumption = `count(*), sum(prompt_tokens), sum(cached_tokens), sum(output_tokens), count(coalesce(gpu_uj, gpu_estimate_uj)),
	sum(coalesce(gpu_uj, gpu_estimate_uj)) / 3.6e12, sum(1e0 * gpu_sigma_uj * gpu_sigma_uj),
	sum(gpu_idle_uj) / 3.6e12, sum(coalesce(gpu_uj, gpu_estimate_uj) / 3.6e12 * price_per_kwh_micro / 1e6), $median_ttft / 1e3`

// ReadUsage runs the usage queries on db.
func ReadUsage(ctx context.Context, db *sql.DB, d Dialect, by string, since time.Time) (*Usage, error) {
	if !slices.Contains(UsageKeys(), by) {
		return nil, fmt.Errorf("usage can be told by %s, not by %q", strings.Join(UsageKeys(), ", "), by)
	}
	u := &Usage{By: by, Since: since}
	key, from := d.usageKey(by)
	fields := expand(consumption, "$median_ttft", d.quantile("ttft_us", "0.5"))
	where := " WHERE started_at >= " + literal(since)
	order := " ORDER BY 7 DESC, 5 DESC, 1"
	if by == "day" {
		order = " ORDER BY 1"
	}
	var err error
	if u.Groups, err = scanConsumption(ctx, db, "SELECT "+key+" AS usage_key, "+fields+" FROM "+from+where+" GROUP BY usage_key"+order); err != nil {
		return nil, err
	}
	total, err := scanConsumption(ctx, db, "SELECT NULL, "+fields+" FROM requests"+where)
	if err != nil {
		return nil, err
	}
	u.Total = total[0] // an aggregate without GROUP BY is one row
	err = db.QueryRowContext(ctx, "SELECT sum(idle_uj) / 3.6e12, sum(idle_sigma_uj) / 3.6e12, sum(residual_uj) / 3.6e12 FROM ledger WHERE at >= "+literal(since)).
		Scan(&u.IdleKWh, &u.IdleSigmaKWh, &u.ResidualKWh)
	return u, err
}

// usageKey is the grouping expression and the table expression it needs.
func (d Dialect) usageKey(by string) (key, from string) {
	switch {
	case by == "day" && d == ClickHouse:
		return "toString(toDate(started_at, 'UTC'))", "requests"
	case by == "day":
		return "substr(started_at, 1, 10)", "requests"
	case by == "label" && d == ClickHouse:
		return "nullIf(label, '')", "requests LEFT ARRAY JOIN arrayMap((k, v) -> concat(k, '=', v), mapKeys(labels), mapValues(labels)) AS label"
	case by == "label":
		return "l.key || '=' || l.value", "requests LEFT JOIN json_each(requests.labels) AS l"
	}
	return `"` + by + `"`, "requests"
}

func scanConsumption(ctx context.Context, db *sql.DB, text string) (groups []Consumption, err error) {
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c Consumption
		var variance sql.Null[float64]
		if err := rows.Scan(&c.Key, &c.Requests, &c.InTokens, &c.CachedTokens, &c.OutTokens, &c.Measured,
			&c.EnergyKWh, &variance, &c.IdleKWh, &c.Cost, &c.TTFTms); err != nil {
			return nil, err
		}
		if variance.Valid {
			c.SigmaKWh = sql.Null[float64]{V: math.Sqrt(variance.V) / 3.6e12, Valid: true}
		}
		groups = append(groups, c)
	}
	return groups, rows.Err()
}
