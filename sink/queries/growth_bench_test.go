package queries_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"wattline/meter/metertest"
	"wattline/sink"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// BenchmarkGrowth is how the store's costs grow with its rows: inserting the last thousand rows of all kinds, opening
// the file, the console's first page, the sum of all named queries over everything and over the last 24 hours, a look for
// old rows that finds none, and deleting a tenth. Times are CPU time. Run it with -benchtime 1x and -timeout 60m.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			for b.Loop() {
				growth(b, n)
			}
		})
	}
}

func growth(b *testing.B, n int) {
	ctx := context.Background()
	path := filepath.Join(b.TempDir(), "wattline.db")
	open := func() *store.Store {
		s, err := store.Open(ctx, store.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	s := open()
	_, err := s.Pack(ctx)
	must(err)
	const last = 10_000
	done, lastRows, lastCPU := 0, 0, time.Duration(0)
	workstation(n, func(part *sink.Rows) {
		began := metertest.CPUTime()
		must(s.Write(ctx, part))
		if done += 1000; done > n-last {
			lastRows += part.Len()
			lastCPU += metertest.CPUTime() - began
		}
	})
	b.ReportMetric(float64(lastCPU.Microseconds())/float64(lastRows), "insert-us/row")
	must(s.Close())

	_, cpu := timed(3, func() { s = open(); must(s.Close()) })
	b.ReportMetric(cpu, "open-ms")
	s = open()
	defer s.Close() //nolint:errcheck // a temporary file
	r, err := store.OpenReader(ctx, path)
	must(err)
	defer r.Close() //nolint:errcheck // only read
	_, cpu = timed(3, func() {
		_, err := queries.List{Limit: 100, Columns: []string{"id", "started_at", "model", "ttft_us", "gpu_uj", "outcome"}}.Read(ctx, r.DB(), queries.SQLite)
		must(err)
	})
	b.ReportMetric(cpu, "page-ms")
	var newest string
	must(r.DB().QueryRowContext(ctx, "SELECT max(started_at) FROM requests").Scan(&newest))
	at, err := time.Parse(store.TimeLayout, newest)
	must(err)
	for unit, since := range map[string]time.Time{"queries-all-ms": {}, "queries-24h-ms": at.Add(-24 * time.Hour)} {
		_, cpu = timed(1, func() {
			for _, q := range queries.All() {
				ask(b, r.DB(), queries.SQLite, q.Name, queries.Params{Since: since, Label: "arm"})
			}
		})
		b.ReportMetric(cpu, unit)
	}
	_, cpu = timed(1, func() {
		_, err = s.EnforceRetention(ctx, at, store.Retention{Samples: 400 * 24 * time.Hour, Gaps: 400 * 24 * time.Hour, MaxBytes: 1 << 50})
	})
	must(err)
	b.ReportMetric(cpu, "retention-idle-ms")
	var expired store.RetentionResult
	keep := time.Duration(n) * 9 / 10 * 400 * time.Millisecond // rows are 400 ms apart
	_, cpu = timed(1, func() {
		expired, err = s.EnforceRetention(ctx, at, store.Retention{Requests: keep, Samples: 400 * 24 * time.Hour, Gaps: 400 * 24 * time.Hour, MaxBytes: 1 << 50})
	})
	must(err)
	if expired.Expired < int64(n/10-1000) {
		b.Fatalf("%d rows expired, of which there were a tenth of %d", expired.Expired, n)
	}
	b.ReportMetric(cpu*1e3/float64(expired.Expired), "delete-us/row")
}
