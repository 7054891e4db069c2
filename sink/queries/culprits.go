package queries

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Culprit is a row of query cache-culprits: what a cause of lost caches cost. Null where nothing is known.
type Culprit struct {
	Cause, Whose, Client       string
	Requests, Sessions, Tokens int64
	Seconds, Joules, Sigma     sql.Null[float64]
	Share                      sql.Null[float64] // of the prompt tokens that these requests computed
	Last                       string            // id of the latest request
}

// CacheTotals are the verdicts of a time.
type CacheTotals struct {
	Verdicts map[string]int64 // requests by verdict
	Computed int64            // prompt tokens that were computed
	Lost     int64            // of them, those that could have been reused
}

// ReadCulprits returns the causes since a time, the most expensive first, and the verdicts of all requests.
func ReadCulprits(ctx context.Context, e *Engine, since time.Time) (out []Culprit, totals CacheTotals, err error) {
	q, err := Find("cache-culprits")
	if err != nil {
		return nil, totals, err
	}
	statement, err := q.SQL(e.Dialect, Params{Since: since})
	if err != nil {
		return nil, totals, err
	}
	err = each(ctx, e, statement, func(rows *sql.Rows) error {
		var c Culprit
		err := rows.Scan(&c.Cause, &c.Whose, &c.Client, &c.Requests, &c.Sessions, &c.Tokens, &c.Seconds, &c.Joules, &c.Sigma, &c.Share, &c.Last)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, totals, err
	}
	totals.Verdicts = map[string]int64{}
	const verdicts = `SELECT cache_verdict, count(*), coalesce(sum(prompt_tokens - cached_tokens), 0), coalesce(sum(cache_lost_tokens), 0)
FROM requests WHERE cache_verdict IS NOT NULL AND started_at >= `
	err = each(ctx, e, verdicts+literal(since)+" GROUP BY cache_verdict", func(rows *sql.Rows) error {
		var verdict string
		var n, computed, lost int64
		err := rows.Scan(&verdict, &n, &computed, &lost)
		totals.Verdicts[verdict] = n
		totals.Computed, totals.Lost = totals.Computed+computed, totals.Lost+lost
		return err
	})
	return out, totals, err
}

func each(ctx context.Context, e *Engine, statement string, f func(*sql.Rows) error) (err error) {
	rows, err := e.DB.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
