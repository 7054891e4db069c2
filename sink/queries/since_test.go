package queries

import (
	"strings"
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	for in, want := range map[string]time.Time{
		"7d": now.Add(-7 * 24 * time.Hour), "0.5d": now.Add(-12 * time.Hour), "90m": now.Add(-90 * time.Minute),
		"2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, time.Local), "2026-11-01 10:00:00": time.Date(2026, 11, 1, 10, 0, 0, 0, time.Local),
	} {
		if got, err := ParseSince(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "d", "-1d", "-1h", "tomorrow", "7 d"} {
		if got, err := ParseSince(in, now); err == nil {
			t.Errorf("%q is taken as %v", in, got)
		}
	}
}

// FuzzSince: the parsed time is in the past, or is a date in the input.
func FuzzSince(f *testing.F) {
	for _, s := range []string{"7d", "90m", "24h", "2026-11-01", "2026-11-01 10:00:00", "2026-11-01T10:00:00Z", "-1d", "NaNd", "Infd", "1e300d", "d", "", "1e-9d", "9999999h"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		at, err := ParseSince(s, now)
		if err == nil && at.After(now) && !strings.Contains(s, "-") {
			t.Errorf("%q is %v", s, at)
		}
	})
}
