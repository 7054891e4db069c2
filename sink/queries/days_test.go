package queries

import (
	"testing"
	"time"
)

// Days follow one another without a gap and each begins on its own date, also where the clocks change at midnight.
func TestDays(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Europe/Berlin", "America/Santiago", "Africa/Cairo", "Asia/Beirut", "America/Havana", "Atlantic/Azores", "Australia/Lord_Howe", "Asia/Kolkata"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		days := Series{Bucket: "day", Zone: zone}
		at := days.begin(time.Date(2025, 1, 1, 12, 0, 0, 0, zone))
		for n := range 730 {
			date := time.Date(2025, 1, 1+n, 12, 0, 0, 0, time.UTC).Format(time.DateOnly)
			next := days.end(at)
			if at.Format(time.DateOnly) != date || next.Add(-time.Second).Format(time.DateOnly) != date || next.Format(time.DateOnly) == date {
				t.Fatalf("%s: day %s lasts from %v to %v", name, date, at, next)
			}
			for _, in := range []time.Time{at, at.Add(11 * time.Hour), next.Add(-time.Nanosecond)} {
				if got := days.begin(in); !got.Equal(at) {
					t.Fatalf("%s: %v is in the day that begins at %v, not %v", name, in, got, at)
				}
			}
			at = next
		}
	}
}
