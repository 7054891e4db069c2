package sink_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"wattline/meter"
	"wattline/sink"
)

// fakeStore records what it is given, or does what write says.
type fakeStore struct {
	mu     sync.Mutex // guards what follows
	write  func() error
	ids    []string
	at     []time.Time // of each committed batch
	tries  int
	others int
}

func (s *fakeStore) Write(_ context.Context, rows *sink.Rows) error {
	s.mu.Lock()
	s.tries++
	write := s.write
	s.mu.Unlock()
	if write != nil {
		if err := write(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows.Requests {
		s.ids = append(s.ids, r.ID)
	}
	s.others += rows.Len() - len(rows.Requests)
	s.at = append(s.at, time.Now())
	return nil
}

func (s *fakeStore) set(write func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write = write
}

func row(id string) *meter.Record { return &meter.Record{ID: id} }

type passing struct{ error }

func (passing) Retryable() bool { return true }

func stop(t *testing.T, q *sink.Queue) {
	t.Helper()
	if err := q.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRowsAreWrittenWithinFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		q := sink.New(sink.Config{Store: s})
		start := time.Now()
		for i := range 10 {
			q.Offer(row(string(rune('a' + i))))
			q.Settle(row("s"))
			q.OfferPower(&sink.Power{})
			q.OfferLedger(&sink.Ledger{})
			q.OfferConfig(&sink.ServerConfig{})
			time.Sleep(9 * time.Millisecond) // the queue's clock is the bubble's
		}
		time.Sleep(time.Second)
		stop(t, q)
		if got := strings.Join(s.ids, ""); got != "abcdefghij" || s.others != 40 {
			t.Errorf("written: %s and %d others", got, s.others)
		}
		for i, at := range s.at {
			if d := at.Sub(start); d > time.Duration(i+1)*60*time.Millisecond {
				t.Errorf("batch %d was written after %v", i, d)
			}
		}
	})
}

// A full queue keeps the newest rows, in their order, and counts the others.
func TestFullQueueKeepsNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		release := make(chan struct{})
		s := &fakeStore{write: func() error { <-release; return nil }}
		q := sink.New(sink.Config{Store: s, Capacity: 100, Log: slog.New(slog.NewTextHandler(&log, nil))})
		q.Offer(row("in the store's hands"))
		time.Sleep(time.Second)
		for i := range 250 {
			if !q.Offer(row(strconv.Itoa(i))) {
				t.Fatalf("row %d was refused", i)
			}
		}
		c := q.Stats().Requests
		if c.Offered != 251 || c.Dropped != 150 || c.Written != 0 || q.Stats().Waiting != 100 {
			t.Errorf("%+v", q.Stats())
		}
		if q.Settle(row("s")); q.Stats().Requests.Dropped != 150 {
			t.Error("rows of one kind crowd out those of another")
		}
		close(release)
		stop(t, q)
		if c = q.Stats().Requests; c.Written != 101 || c.Lost != 0 {
			t.Errorf("after the stop: %+v", c)
		}
		for i, id := range s.ids[1:] {
			if id != strconv.Itoa(150+i) {
				t.Fatalf("row %d of those kept is %s", i, id)
			}
		}
		if q.Offer(row("late")) || q.Stats().Requests.Dropped != 151 {
			t.Error("a stopped queue takes rows")
		}
		if n := strings.Count(log.String(), "dropped=150"); n != 1 {
			t.Errorf("the drops are logged %d times:\n%s", n, log.String())
		}
	})
}

// While the disk is full the newest rows are kept too, although the writer has had the oldest in its hands since.
func TestFullDiskKeepsNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{write: func() error { return passing{errors.New("disk full")} }}
		q := sink.New(sink.Config{Store: s, Capacity: 100, Log: slog.New(slog.DiscardHandler)})
		for i := range 330 {
			q.Offer(row(strconv.Itoa(i)))
			time.Sleep(time.Second)
		}
		s.set(nil)
		if err := q.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if c := q.Stats().Requests; c.Dropped != 230 || c.Written != 100 || s.ids[0] != "230" || s.ids[99] != "329" {
			t.Errorf("%+v: %s to %s", c, s.ids[0], s.ids[99])
		}
		stop(t, q)
	})
}

func TestStoreFailuresAreContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &fakeStore{}
		q := sink.New(sink.Config{Store: s, Log: slog.New(slog.NewTextHandler(&log, nil))})

		s.set(func() error { return passing{errors.New("disk full")} })
		q.Offer(row("kept"))
		time.Sleep(10 * time.Minute)
		if st := q.Stats(); st.LastError != "disk full" || st.Requests.Lost != 0 || st.StoreErrors < 100 {
			t.Errorf("while the disk is full: %+v", st)
		}
		synctest.Wait()
		if lines := strings.Count(log.String(), "\n"); lines < 15 || lines > 21 {
			t.Errorf("%d log lines in 10 minutes, at most one in 30 s wanted", lines)
		}
		s.set(nil)
		time.Sleep(6 * time.Second)
		if st := q.Stats(); st.LastError != "" || st.Requests.Written != 1 {
			t.Errorf("when there is room again: %+v", st)
		}
		synctest.Wait()
		if !strings.Contains(log.String(), "stored again") {
			t.Error("the log does not say that all is well")
		}

		s.set(func() error { panic("a bug") })
		q.Offer(row("gone"))
		time.Sleep(time.Minute)
		if st := q.Stats(); st.Requests.Lost != 1 || !strings.Contains(st.LastError, "a bug") {
			t.Errorf("after a panic: %+v", st)
		}
		s.set(func() error { return errors.New("refused") })
		q.Offer(row("gone"))
		time.Sleep(time.Minute)
		s.set(nil)
		q.Offer(row("after"))
		if err := q.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if st := q.Stats(); st.Requests.Lost != 2 || st.Requests.Written != 2 {
			t.Errorf("in the end: %+v", st)
		}
		stop(t, q)
	})
}

func TestStopGivesUpAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{write: func() error { return passing{errors.New("disk full")} }}
		q := sink.New(sink.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
		q.Offer(row("a"))
		q.Offer(row("b"))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := q.Stop(ctx)
		if err == nil || !strings.Contains(err.Error(), "2 rows") || time.Since(start) != 3*time.Second {
			t.Errorf("stopped after %v: %v", time.Since(start), err)
		}
		if st := q.Stats(); st.LostAtStop != 2 || st.Requests.Lost != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestFlushReturnsWhileDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{write: func() error { return passing{errors.New("disk full")} }}
		q := sink.New(sink.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
		q.Offer(row("a"))
		for range 3 { // also between two attempts that are seconds apart
			before := time.Now()
			if err := q.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "disk full") || time.Since(before) > time.Second {
				t.Errorf("flush took %v: %v", time.Since(before), err)
			}
			time.Sleep(20 * time.Second)
		}
		s.set(nil)
		if err := q.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		stop(t, q)
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{write: func() error { time.Sleep(10 * time.Second); return nil }}
		q := sink.New(sink.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
		q.Offer(row("a"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush: %v", err)
		}
		s.set(nil)
		if err := q.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		stop(t, q)
	})
}

func TestConcurrentOffers(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := &fakeStore{}
	q := sink.New(sink.Config{Store: s, Capacity: 500, FlushInterval: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				q.Offer(row("x"))
			}
		})
	}
	wg.Wait()
	stop(t, q)
	c := q.Stats().Requests
	if c.Offered != 40000 || c.Dropped+c.Written != 40000 || c.Written != uint64(len(s.ids)) {
		t.Errorf("%+v, the store has %d", c, len(s.ids))
	}
}

// An offer must cost the data path nothing worth mentioning, also when the queue is full.
func TestOfferAllocatesNothingWhenFull(t *testing.T) {
	block := make(chan struct{})
	s := &fakeStore{write: func() error { <-block; return nil }}
	q := sink.New(sink.Config{Store: s, Capacity: 1, FlushInterval: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	rec := row("x")
	for q.Stats().Requests.Dropped == 0 {
		q.Offer(rec)
	}
	if n := testing.AllocsPerRun(1000, func() { q.Offer(rec) }); n > 0.1 {
		t.Errorf("%v allocations an offer", n)
	}
	close(block)
	stop(t, q)
}

// TestSamplesAreWrittenTogether: the seconds of a device and of its ledger, which come apart, cost a
// transaction every other second; a request's row takes along what waits.
func TestSamplesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		q := sink.New(sink.Config{Store: s})
		start := time.Now()
		for range 10 {
			q.OfferPower(&sink.Power{})
			time.Sleep(250 * time.Millisecond)
			q.OfferLedger(&sink.Ledger{})
			time.Sleep(750 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(s.at) > 6 || s.others != 20 {
			t.Errorf("%d rows in %d transactions", s.others, len(s.at))
		}
		if first := s.at[0].Sub(start); first > 2*time.Second+time.Millisecond {
			t.Errorf("the first was written after %v", first)
		}
		before := time.Now()
		q.OfferPower(&sink.Power{})
		q.Offer(row("a"))
		time.Sleep(time.Second)
		synctest.Wait()
		last := s.at[len(s.at)-1].Sub(before)
		if s.others != 21 || len(s.ids) != 1 || last > 51*time.Millisecond {
			t.Errorf("%d and %v written, the last after %v", s.others, s.ids, last)
		}
		q.OfferPower(&sink.Power{})
		before = time.Now()
		if err := q.Flush(t.Context()); err != nil || time.Since(before) > time.Millisecond || s.others != 22 {
			t.Errorf("a flush took %v, %d rows written: %v", time.Since(before), s.others, err)
		}
		stop(t, q)
	})
}
