package queries

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Sum is what some requests used together. A null was not obtained for any of them.
type Sum struct {
	Key                                      *string
	Agent, Model                             *string // with SumOptions.Session: one of them, the greatest
	Requests, Failed                         int64
	PromptTokens, CachedTokens, OutputTokens *int64
	Measured                                 int64 // requests with joules
	EnergyUj, IdleUj, PrefillUj, DecodeUj    *int64
	SigmaUj                                  *int64 // root of the summed squares: the errors are taken as independent
	Cost, GCO2                               *float64
	DurationUs, QueueUs, PrefillUs, DecodeUs *int64
	FirstAt, LastAt                          *time.Time // of started_at
}

// MarshalJSON writes it as one object.
func (s Sum) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Key          *string    `json:"key"`
		Agent        *string    `json:"agent,omitempty"`
		Model        *string    `json:"model,omitempty"`
		Requests     int64      `json:"requests"`
		Failed       int64      `json:"failed"`
		PromptTokens *int64     `json:"prompt_tokens"`
		CachedTokens *int64     `json:"cached_tokens"`
		OutputTokens *int64     `json:"output_tokens"`
		Measured     int64      `json:"requests_with_energy"`
		EnergyUj     *int64     `json:"energy_uj"`
		SigmaUj      *int64     `json:"sigma_uj"`
		IdleUj       *int64     `json:"idle_uj"`
		PrefillUj    *int64     `json:"prefill_uj"`
		DecodeUj     *int64     `json:"decode_uj"`
		Cost         *float64   `json:"cost"`
		GCO2         *float64   `json:"gco2"`
		DurationUs   *int64     `json:"duration_us"`
		QueueUs      *int64     `json:"queue_us"`
		PrefillUs    *int64     `json:"prefill_us"`
		DecodeUs     *int64     `json:"decode_us"`
		FirstAt      *time.Time `json:"first_at"`
		LastAt       *time.Time `json:"last_at"`
	}{
		s.Key, s.Agent, s.Model, s.Requests, s.Failed, s.PromptTokens, s.CachedTokens, s.OutputTokens, s.Measured,
		s.EnergyUj, s.SigmaUj, s.IdleUj, s.PrefillUj, s.DecodeUj, s.Cost, s.GCO2, s.DurationUs, s.QueueUs, s.PrefillUs, s.DecodeUs, s.FirstAt, s.LastAt,
	})
}

// SumKeys lists what Sums can group by, besides label:NAME.
func SumKeys() []string {
	return []string{"agent", "session", "model", "user", "route", "outcome", "config_id", "day", "hour"}
}

// groupKey is the expression to group by.
func groupKey(d Dialect, by string) (string, error) {
	name, isLabel := strings.CutPrefix(by, "label:")
	switch {
	case isLabel && name != "":
		return d.label(name), nil
	case by == "day":
		return d.day("started_at"), nil
	case by == "hour":
		return d.hour("started_at"), nil
	case slices.Contains(SumKeys(), by):
		return quoted(by), nil
	}
	return "", fmt.Errorf("rows can be summed by %s or label:NAME, not by %q", strings.Join(SumKeys(), ", "), by)
}

// CheckSum returns an error for a sum that cannot be asked for.
func CheckSum(f Filter, by string) error {
	if _, err := f.where(SQLite); err != nil || by == "" {
		return err
	}
	_, err := groupKey(SQLite, by)
	return err
}

const sumItems = `count(*), sum(CASE WHEN outcome <> 'ok' THEN 1 ELSE 0 END), sum(prompt_tokens), sum(cached_tokens), sum(output_tokens), count(` + usageUj + `),
	sum(` + usageUj + `), sum(` + usageVariance + `), sum(gpu_idle_uj), sum(gpu_prefill_uj), sum(gpu_decode_uj),
	sum(` + usageUj + ` / 3.6e12 * price_per_kwh_micro / 1e6), sum(` + usageUj + ` / 3.6e12 * gco2_per_kwh_milli / 1e3),
	sum(duration_us), sum(queue_us), sum(prefill_us), sum(decode_us), min(started_at), max(started_at)`

// MaxSums is the most groups that Sums returns.
const MaxSums = 1000

// Sums adds up the requests that a filter chooses, by a key of SumKeys or label:NAME, or "" for all in one. Groups come most
// energy first, days and hours oldest first.
func Sums(ctx context.Context, db *sql.DB, d Dialect, f Filter, by string) ([]Sum, error) {
	where, err := f.where(d)
	if err != nil {
		return nil, err
	}
	statement := " FROM requests"
	if where != "" {
		statement += " WHERE " + where
	}
	if by == "" {
		return readSums(ctx, db, "SELECT 'all', "+sumItems+statement, false)
	}
	key, err := groupKey(d, by)
	if err != nil {
		return nil, err
	}
	order := "8 DESC, 2 DESC, 1"
	if by == "day" || by == "hour" {
		order = "1"
	}
	return readSums(ctx, db, fmt.Sprintf("SELECT %s AS sum_key, %s%s GROUP BY sum_key ORDER BY %s LIMIT %d", key, sumItems, statement, order, MaxSums), false)
}

// Sessions returns the sums of sessions, the latest first, and the cursor of the next page ("" without one).
func Sessions(ctx context.Context, db *sql.DB, d Dialect, f Filter, limit int, after string) (list []Sum, next string, err error) {
	f.Condition = "session IS NOT NULL"
	where, err := f.where(d)
	if err != nil {
		return nil, "", err
	}
	having := ""
	if after != "" {
		var c struct {
			At  time.Time `json:"at"`
			Key string    `json:"k"`
		}
		b, err := base64.RawURLEncoding.DecodeString(after)
		if err != nil || json.Unmarshal(b, &c) != nil || c.At.IsZero() {
			return nil, "", errCursor
		}
		having = fmt.Sprintf(" HAVING max(started_at) < %[1]s OR max(started_at) = %[1]s AND session > %[2]s", literal(c.At), text(d, c.Key))
	}
	list, err = readSums(ctx, db, fmt.Sprintf("SELECT session, max(agent), max(model), %s FROM requests WHERE %s GROUP BY session%s ORDER BY max(started_at) DESC, session LIMIT %d",
		sumItems, where, having, limit+1), true)
	if err == nil && len(list) > limit {
		list = list[:limit]
		b, err := json.Marshal(map[string]any{"at": list[limit-1].LastAt, "k": list[limit-1].Key})
		return list, base64.RawURLEncoding.EncodeToString(b), err
	}
	return list, "", err
}

func readSums(ctx context.Context, db *sql.DB, statement string, session bool) (list []Sum, err error) {
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for list = []Sum{}; rows.Next(); {
		var s Sum
		var key, agent, model, first, last any
		var failed *int64
		var variance *float64
		to := []any{&key}
		if session {
			to = append(to, &agent, &model)
		}
		to = append(to, &s.Requests, &failed, &s.PromptTokens, &s.CachedTokens, &s.OutputTokens, &s.Measured, &s.EnergyUj, &variance, &s.IdleUj,
			&s.PrefillUj, &s.DecodeUj, &s.Cost, &s.GCO2, &s.DurationUs, &s.QueueUs, &s.PrefillUs, &s.DecodeUs, &first, &last)
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		s.Key, s.Agent, s.Model, s.FirstAt, s.LastAt = textOf(key), textOf(agent), textOf(model), timeOf(first), timeOf(last)
		if failed != nil {
			s.Failed = *failed
		}
		if variance != nil {
			sigma := int64(math.Round(math.Sqrt(*variance)))
			s.SigmaUj = &sigma
		}
		if s.Requests == 0 {
			s.FirstAt, s.LastAt = nil, nil // ClickHouse's least time
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

func textOf(v any) *string {
	if s, ok := NormalizeValue(v).(string); ok {
		return &s
	}
	return nil
}

// timeOf reads a time of either engine; nil for null.
func timeOf(v any) *time.Time {
	switch at := NormalizeValue(v).(type) {
	case time.Time:
		return &at
	case string:
		if t, err := time.Parse("2006-01-02 15:04:05.999999", at); err == nil {
			return &t
		}
	}
	return nil
}
