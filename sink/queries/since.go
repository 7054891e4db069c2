package queries

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseSince reads a number of days (7d), a Go duration, or a local date or time.
func ParseSince(s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch s {
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a duration (90m, 24h, 7d) nor a day (today, yesterday, 2026-11-01)", s)
}

// UsagePeriod reads the period of a usage: since and until (which may be empty), or all of yesterday.
func UsagePeriod(now time.Time, since, until string, yesterday, utc bool) (o UsageOptions, err error) {
	if utc {
		now = now.UTC()
	}
	o.Local = now.Location()
	if yesterday {
		since, until = "yesterday", "today"
	}
	if o.Since, err = ParseSince(since, now); err != nil {
		return o, fmt.Errorf("--since %w", err)
	}
	if until != "" {
		if o.Until, err = ParseSince(until, now); err != nil {
			return o, fmt.Errorf("--until %w", err)
		}
		if !o.Until.After(o.Since) {
			return o, fmt.Errorf("--until %s is not after --since %s", o.Until.Format(time.DateTime), o.Since.Format(time.DateTime))
		}
	}
	return o, nil
}
