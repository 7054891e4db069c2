package queries

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// UsageKeys lists the keys that Usage can group by.
func UsageKeys() []string { return []string{"agent", "session", "model", "user", "label", "day"} }

// CheckUsage returns an error for a key that Usage cannot group by.
func CheckUsage(by string) error {
	if !slices.Contains(UsageKeys(), by) {
		return fmt.Errorf("usage can be told by %s, not by %q", strings.Join(UsageKeys(), ", "), by)
	}
	return nil
}

// UsageGroup is the use of one group of requests. A null was not obtained for any request of the group.
type UsageGroup struct {
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
	Simulated sql.Null[int64]   // requests with energy of a simulated device
}

// Usage is the use of each group of requests since a time.
type Usage struct {
	By     string
	Since  time.Time
	Groups []UsageGroup // most energy first (days: oldest first); with By label a request counts once a label
	Total  UsageGroup   // every request once
	// What the devices drew and no request is charged for; null where no ledger was kept. The idle level
	// errs alike in every second, so its errors add up.
	IdleKWh, IdleSigmaKWh, ResidualKWh sql.Null[float64]
}

// usageUj are a request's joules: the GPUs', or the processor's of a server without one.
const usageUj = `coalesce(gpu_uj, gpu_estimate_uj, CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj END)`

// usageSource is the query of one level of detail: Key is the grouping expression.
const usageSource = `
SELECT {{.Key}} AS usage_key, count(*), sum(prompt_tokens), sum(cached_tokens), sum(output_tokens), count(` + usageUj + `),
	sum(` + usageUj + `) / 3.6e12, sum(1e0 * gpu_sigma_uj * gpu_sigma_uj), sum(gpu_idle_uj) / 3.6e12,
	sum(` + usageUj + ` / 3.6e12 * price_per_kwh_micro / 1e6), {{quantile "0.5" "ttft_us"}} / 1e3,
	nullif(sum(CASE WHEN energy_source LIKE 'sim/%' THEN 1 ELSE 0 END), 0)
FROM {{if eq .By "label"}}{{by_label "requests"}}{{else}}requests{{end}}
WHERE started_at >= {{.Since}}
GROUP BY usage_key ORDER BY {{if eq .By "day"}}1{{else}}7 DESC, 5 DESC, 1{{end}}`

const usagePools = `SELECT source AS of_source, sum(idle_uj) / 3.6e12, sum(idle_sigma_uj) / 3.6e12, sum(residual_uj) / 3.6e12
FROM ledger WHERE at >= {{.Since}} GROUP BY of_source`

// ReadUsage runs the usage queries on db.
func ReadUsage(ctx context.Context, db *sql.DB, d Dialect, by string, since time.Time) (*Usage, error) {
	keys := map[string]string{"label": "usage_label", "day": d.day("started_at"), "agent": "agent", "session": "session", "model": "model", "user": `"user"`}
	key, ok := keys[by]
	if !ok {
		return nil, CheckUsage(by)
	}
	u := &Usage{By: by, Since: since}
	data := struct{ Key, By, Since string }{key, by, literal(since)}
	all := data
	all.Key, all.By = "'all'", "all"
	pools, err := render(d, "usage", usagePools, data)
	if err != nil {
		return nil, err
	}
	var total []UsageGroup
	var errs [3]error
	var wg sync.WaitGroup // one after the other they take twice as long
	wg.Go(func() { u.Groups, errs[0] = readUsageGroups(ctx, db, d, data) })
	wg.Go(func() { total, errs[1] = readUsageGroups(ctx, db, d, all) })
	wg.Go(func() { errs[2] = u.readPools(ctx, db, pools) })
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if len(total) == 1 { // none when there are no requests
		u.Total = total[0]
		u.Total.Key = sql.Null[string]{}
	}
	return u, nil
}

// readPools adds up what no request is charged for: of the GPUs, or of the processor where there is nothing else.
func (u *Usage) readPools(ctx context.Context, db *sql.DB, text string) (err error) {
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all, gpus [3]sql.Null[float64]
	hasGPU := false
	for rows.Next() {
		var source sql.Null[string]
		var sums [3]sql.Null[float64]
		if err := rows.Scan(&source, &sums[0], &sums[1], &sums[2]); err != nil {
			return err
		}
		isGPU := source.Valid && source.V != "rapl"
		hasGPU = hasGPU || isGPU
		for i, s := range sums {
			if s.Valid {
				all[i].V, all[i].Valid = all[i].V+s.V, true
			}
			if s.Valid && isGPU {
				gpus[i].V, gpus[i].Valid = gpus[i].V+s.V, true
			}
		}
	}
	if hasGPU {
		all = gpus
	}
	u.IdleKWh, u.IdleSigmaKWh, u.ResidualKWh = all[0], all[1], all[2]
	return rows.Err()
}

func readUsageGroups(ctx context.Context, db *sql.DB, d Dialect, data any) (groups []UsageGroup, err error) {
	text, err := render(d, "usage", usageSource, data)
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c UsageGroup
		var variance sql.Null[float64]
		var key any
		if err := rows.Scan(&key, &c.Requests, &c.InTokens, &c.CachedTokens, &c.OutTokens, &c.Measured,
			&c.EnergyKWh, &variance, &c.IdleKWh, &c.Cost, &c.TTFTms, &c.Simulated); err != nil {
			return nil, err
		}
		if text, ok := NormalizeValue(key).(string); ok {
			c.Key = sql.Null[string]{V: text, Valid: true}
		}
		if variance.Valid {
			c.SigmaKWh = sql.Null[float64]{V: math.Sqrt(variance.V) / 3.6e12, Valid: true}
		}
		groups = append(groups, c)
	}
	return groups, rows.Err()
}
