package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/sink/store"
)

// While ClickHouse fails, the pauses double from half a second to a minute, with jitter, and start again
// after a success; the log says it at most twice a minute, and once when it works again.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		box := &listBox{batches: []*store.Batch{{Seq: 1, Table: "requests", IDs: []string{"a"}}, {Seq: 2, Table: "requests", IDs: []string{"b"}}}}
		s := NewShipper(Config{Outbox: box, Log: slog.New(slog.NewTextHandler(&log, nil))})
		s.ready = func(context.Context) error { return nil }
		var at []time.Duration
		start, failures := time.Now(), 12
		s.ship = func(_ context.Context, b *store.Batch) (outcome, error) {
			at = append(at, time.Since(start))
			if failures--; failures >= 0 {
				return outcome{}, errors.New("away")
			}
			if b.Seq == 2 && failures == -2 {
				return outcome{}, errors.New("again")
			}
			return outcome{}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for box.confirmed.Load() < 2 {
				time.Sleep(time.Second)
			}
			time.Sleep(time.Minute)
			cancel()
		}()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(at) != 15 {
			t.Fatalf("%d attempts", len(at))
		}
		longest := 500 * time.Millisecond
		for i := range 12 {
			pause := at[i+1] - at[i]
			if pause < longest/2 || pause > longest {
				t.Errorf("pause %d was %v, not between %v and %v", i, pause, longest/2, longest)
			}
			longest = min(2*longest, time.Minute)
		}
		if at[13] != at[12] {
			t.Error("a second batch waited although nothing failed")
		}
		if pause := at[14] - at[13]; pause > 500*time.Millisecond {
			t.Errorf("after a success the first pause was %v", pause)
		}
		st := s.Stats()
		if st.Rows["requests"] != 2 || st.Batches != 2 || st.Failures != 13 || st.LastError != "" {
			t.Errorf("%+v", st)
		}
		if n := strings.Count(log.String(), "cannot be shipped"); n < 3 || n > 9 || time.Duration(n)*logInterval > time.Since(start)+2*logInterval { // of 13 failures, at least 4 come within 30 s of another
			t.Errorf("%d lines in %v:\n%s", n, time.Since(start), log.String())
		}
		if n := strings.Count(log.String(), "shipped to ClickHouse again"); n != 1 {
			t.Errorf("%d lines about recovery", n)
		}
	})
}

// listBox is an outbox of given batches.
type listBox struct {
	batches   []*store.Batch
	confirmed atomic.Int64 // read by the test while the shipper runs
}

func (l *listBox) NextBatch(context.Context, int) (*store.Batch, error) {
	at := int(l.confirmed.Load())
	if at == len(l.batches) {
		return nil, nil //nolint:nilnil // as the store says that nothing waits
	}
	return l.batches[at], nil
}
func (l *listBox) ConfirmBatch(context.Context, int64, ...string) error {
	l.confirmed.Add(1)
	return nil
}
