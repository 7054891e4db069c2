package clickhouse

import (
	"os"
	"slices"
	"testing"
	"time"

	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
)

// soak is how long ClickHouse is away in TestWeekAwaySoak: a minute, less with -short, ten with WATTLINE_SOAK=1,
// or what WATTLINE_SOAK says.
func soak(t *testing.T) time.Duration {
	t.Helper()
	switch v := os.Getenv("WATTLINE_SOAK"); v {
	case "":
	case "1":
		return 10 * time.Minute
	default:
		d, err := time.ParseDuration(v)
		must(t, err)
		return d
	}
	if testing.Short() {
		return 3 * time.Second
	}
	return time.Minute
}

// ClickHouse is away while 500 rows a second go on coming: the store takes every one as fast as before, and
// they arrive once when it is back. In between it is also killed and restarted.
func TestWeekAwaySoak(t *testing.T) {
	t.Parallel()
	away := soak(t)
	w := ownWorld(t)
	c := w.client(true)
	s := outbox(t)
	sh := w.shipper(c, s)
	sh.cfg.MaxRows = defaultMaxRows
	sh.longestPause = 5 * time.Second
	must(t, sh.Flush(t.Context()))

	const rate, piece = 500, 25
	rows := chtest.Rows(chtest.RowsConfig{Seed: 14, Requests: int(away.Seconds()*rate) + 2*rate, Every: 2 * time.Millisecond})
	pieces := slices.Collect(slices.Chunk(rows.Requests, piece))
	var took []time.Duration
	until(t, sh, func() {
		tick := time.NewTicker(time.Second * piece / rate)
		defer tick.Stop()
		for i, p := range pieces {
			switch i {
			case rate / piece: // a second in
				w.srv.Refuse()
			case len(pieces) / 2:
				must(t, w.srv.Engine().Restart())
			case len(pieces) - rate/piece:
				must(t, w.srv.Accept())
			}
			<-tick.C
			start := time.Now()
			must(t, s.Write(t.Context(), &sink.Rows{Requests: p}))
			took = append(took, time.Since(start))
		}
		drained(t, s)
	})
	slices.Sort(took)
	st := sh.Stats()
	t.Logf("away for %v at %d rows/s: %d rows, %d batches, %d failures meanwhile; a write of %d rows to the store took p50 %v, p99 %v",
		away, rate, len(rows.Requests), st.Batches, st.Failures, piece, took[len(took)/2].Round(10*time.Microsecond), took[len(took)*99/100].Round(10*time.Microsecond))
	w.exactlyOnce(s)
}
