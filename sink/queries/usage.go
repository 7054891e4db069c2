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

	"wattline/sink"
)

// UsageKeys lists the keys that Usage can group by.
func UsageKeys() []string {
	return []string{"agent", "session", "model", "user", "key", "route", "label", "day"}
}

// UsageOptions choose the requests and how they are grouped.
type UsageOptions struct {
	By           []string // of UsageKeys
	Since, Until time.Time
	Local        *time.Location // of days; nil: UTC
	All          bool           // housekeeping and replay's own requests too
}

// UsageGroup is the use of one group of requests. A null was not obtained for any request of the group.
type UsageGroup struct {
	Key          sql.Null[string] // null: requests that name none; of several keys joined by ", "
	Keys         []sql.Null[string]
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
	By           []string
	Since, Until time.Time    // Until is zero: now
	Others       int64        // housekeeping and replay's own requests, which are left out
	Groups       []UsageGroup // most energy first (days: oldest first); with By label a request counts once a label
	Total        UsageGroup   // every request once
	// What the devices drew and no request is charged for; null where no ledger was kept. The idle level
	// errs alike in every second, so its errors add up.
	IdleKWh, IdleSigmaKWh, ResidualKWh sql.Null[float64]
}

// usageUj are a request's joules: the GPUs', or the processor's of a server without one.
const usageUj = `coalesce(gpu_uj, gpu_estimate_uj, CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj END)`

// usageVariance is the square of their standard error.
const usageVariance = `CASE WHEN energy_source LIKE 'rapl/%' THEN 1e0 * cpu_sigma_uj * cpu_sigma_uj ELSE 1e0 * gpu_sigma_uj * gpu_sigma_uj END`

// usageSource is the query of one level of detail: Keys are the grouping expressions, or none.
const usageSource = `
SELECT {{range $i, $k := .Keys}}{{$k}} AS usage_key{{$i}}, {{end}}count(*), sum(prompt_tokens), sum(cached_tokens), sum(output_tokens), count(` + usageUj + `),
	sum(` + usageUj + `) / 3.6e12, sum(` + usageVariance + `), sum(gpu_idle_uj) / 3.6e12,
	sum(` + usageUj + ` / 3.6e12 * price_per_kwh_micro / 1e6), {{quantile "0.5" "ttft_us"}} / 1e3,
	nullif(sum(CASE WHEN energy_source LIKE 'sim/%' THEN 1 ELSE 0 END), 0)
FROM {{if .Label}}{{by_label "requests"}}{{else}}requests{{end}}
WHERE started_at >= {{.Since}}{{if .Until}} AND started_at < {{.Until}}{{end}}{{if .Work}} AND {{.Work}}{{end}}
{{if .Keys}}GROUP BY {{range $i, $k := .Keys}}{{if $i}}, {{end}}usage_key{{$i}}{{end}} ORDER BY {{.Order}}{{end}}`

const usagePools = `SELECT source AS of_source, sum(idle_uj) / 3.6e12, sum(idle_sigma_uj) / 3.6e12, sum(residual_uj) / 3.6e12
FROM ledger WHERE at >= {{.Since}}{{if .Until}} AND at < {{.Until}}{{end}} GROUP BY of_source`

const usageOthers = `SELECT count(*) FROM requests WHERE started_at >= {{.Since}}{{if .Until}} AND started_at < {{.Until}}{{end}} AND NOT coalesce((` + sink.Work + `), 1 = 0)`

// usageData fills the queries' templates in.
type usageData struct {
	Keys                      []string
	Label                     bool
	Since, Until, Work, Order string
}

// maxLocalDays bounds the days of a zone other than UTC, each of which is compared with.
const maxLocalDays = 400

// localDay is an expression of the local day of a request, by the zone's own rules (a day may have 23 or 25 hours).
func localDay(d Dialect, o UsageOptions, now time.Time) (string, error) {
	if o.Local == nil || o.Local == time.UTC {
		return d.day("started_at"), nil
	}
	until := o.Until
	if until.IsZero() {
		until = now.Add(time.Hour) // a clock may run ahead
	}
	from := o.Since.In(o.Local)
	if until.Sub(from) > maxLocalDays*24*time.Hour {
		return "", fmt.Errorf("days in local time are told for %d days at most: give a later --since, or --utc", maxLocalDays)
	}
	var b strings.Builder
	b.WriteString("CASE")
	y, m, nth := from.Date()
	day := dayStart(y, m, nth, o.Local)
	for day.Before(until) {
		nth++
		next := dayStart(y, m, nth, o.Local)
		fmt.Fprintf(&b, " WHEN started_at < %s THEN '%s'", literal(next), day.Format(time.DateOnly))
		day = next
	}
	fmt.Fprintf(&b, " ELSE '%s' END", day.Format(time.DateOnly))
	return b.String(), nil
}

// usageDataOf prepares the queries.
func usageDataOf(d Dialect, o UsageOptions, now time.Time) (usageData, error) {
	data := usageData{Since: literal(o.Since), Work: sink.Work, Order: fmt.Sprintf("%d DESC, %d DESC, 1", len(o.By)+6, len(o.By)+4)}
	if !o.Until.IsZero() {
		data.Until = literal(o.Until)
	}
	if o.All {
		data.Work = ""
	}
	columns := map[string]string{"label": "usage_label", "agent": "agent", "session": "session", "model": "model", "user": `"user"`, "key": "api_key_id", "route": "route"}
	for i, by := range o.By {
		key, ok := columns[by]
		var err error
		if by == "day" {
			key, err = localDay(d, o, now)
			data.Order = fmt.Sprint(i+1) + ", " + data.Order
			ok = true
		}
		switch {
		case err != nil:
			return data, err
		case !ok || slices.Contains(o.By[:i], by):
			return data, fmt.Errorf("usage can be told by one or more of %s, not by %q", strings.Join(UsageKeys(), ", "), strings.Join(o.By, ","))
		}
		data.Label = data.Label || by == "label"
		data.Keys = append(data.Keys, key)
	}
	if len(o.By) == 0 {
		return data, fmt.Errorf("usage is told by one or more of %s", strings.Join(UsageKeys(), ", "))
	}
	return data, nil
}

// CheckUsage returns an error for usage that cannot be asked for.
func CheckUsage(by ...string) error {
	_, err := usageDataOf(SQLite, UsageOptions{By: by}, time.Time{})
	return err
}

// ReadUsage runs the usage queries on db.
func ReadUsage(ctx context.Context, db *sql.DB, d Dialect, o UsageOptions) (*Usage, error) {
	data, err := usageDataOf(d, o, time.Now())
	if err != nil {
		return nil, err
	}
	u := &Usage{By: o.By, Since: o.Since, Until: o.Until}
	all := data
	all.Keys, all.Label = nil, false
	pools, err := render(d, "usage", usagePools, data)
	if err != nil {
		return nil, err
	}
	others, err := render(d, "usage", usageOthers, data)
	if err != nil {
		return nil, err
	}
	var total []UsageGroup
	var errs [4]error
	var wg sync.WaitGroup // one after the other they take twice as long
	wg.Go(func() { u.Groups, errs[0] = readUsageGroups(ctx, db, d, data) })
	wg.Go(func() { total, errs[1] = readUsageGroups(ctx, db, d, all) })
	wg.Go(func() { errs[2] = u.readPools(ctx, db, pools) })
	if !o.All {
		wg.Go(func() { errs[3] = db.QueryRowContext(ctx, others).Scan(&u.Others) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if len(total) == 1 {
		u.Total = total[0]
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
		var source any
		var sums [3]sql.Null[float64]
		if err := rows.Scan(&source, &sums[0], &sums[1], &sums[2]); err != nil {
			return err
		}
		name, known := NormalizeValue(source).(string) // ClickHouse's driver gives a pointer
		isGPU := known && name != "rapl"
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

func readUsageGroups(ctx context.Context, db *sql.DB, d Dialect, data usageData) (groups []UsageGroup, err error) {
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
		keys := make([]any, len(data.Keys))
		var to []any
		for i := range keys {
			to = append(to, &keys[i])
		}
		if err := rows.Scan(append(to, &c.Requests, &c.InTokens, &c.CachedTokens, &c.OutTokens, &c.Measured,
			&c.EnergyKWh, &variance, &c.IdleKWh, &c.Cost, &c.TTFTms, &c.Simulated)...); err != nil {
			return nil, err
		}
		var words []string
		for _, k := range keys {
			text, ok := NormalizeValue(k).(string)
			c.Keys = append(c.Keys, sql.Null[string]{V: text, Valid: ok})
			c.Key.Valid = c.Key.Valid || ok
			if !ok {
				text = "-"
			}
			words = append(words, text)
		}
		if c.Key.Valid {
			c.Key.V = strings.Join(words, ", ")
		}
		if variance.Valid {
			c.SigmaKWh = sql.Null[float64]{V: math.Sqrt(variance.V) / 3.6e12, Valid: true}
		}
		groups = append(groups, c)
	}
	return groups, rows.Err()
}
