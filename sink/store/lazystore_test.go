package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"wattline/meter"
	"wattline/sink"
)

// pending is a request whose energy is not final; settled is the same one later.
func pending(i int) *meter.Record {
	rec := request(i)
	rec.EnergyQuality = meter.EnergyPending
	return rec
}

func settled(i int) *meter.Record {
	rec := request(i)
	rec.EnergyQuality, rec.GPUUj = meter.EnergyShared, meter.Some(int64(i))
	return rec
}

// qualities returns the energy quality of each stored request by its id.
func qualities(t *testing.T, path string) map[string]string {
	t.Helper()
	r, err := OpenReader(t.Context(), path)
	must(t, err)
	defer r.Close() //nolint:errcheck // only read
	recs, err := r.Latest(t.Context(), 1<<20)
	must(t, err)
	out := map[string]string{}
	for _, rec := range recs {
		out[rec.ID] = rec.EnergyQuality
	}
	return out
}

// TestLazyStoreWaitsForFile: rows written while another Store keeps the file are committed once that yields, although it
// goes on writing.
func TestLazyStoreWaitsForFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	first, err := Open(t.Context(), Config{Path: path, Log: quiet()})
	must(t, err)
	late := OpenLazy(Config{Path: path, Successor: true, Log: quiet()})

	if _, err := late.Open(t.Context()); !errors.Is(err, ErrInUse) {
		t.Errorf("while the file is in use: %v", err)
	}
	if late.Store() != nil {
		t.Error("a LazyStore is open beside the Store that keeps the file")
	}

	wrote := make(chan error, 1)
	go func() { wrote <- late.Write(t.Context(), &sink.Rows{Requests: requests(2, 3)}) }()
	must(t, first.Write(t.Context(), &sink.Rows{Requests: requests(1, 2)}))
	must(t, first.Yield())
	must(t, <-wrote)
	<-late.Opened()
	must(t, first.Write(t.Context(), &sink.Rows{Requests: requests(3, 4)}))
	must(t, first.Close())
	if n := len(qualities(t, path)); n != 3 {
		t.Errorf("%d rows after the handover, not 3", n)
	}
	must(t, late.Close())
}

// TestHandoverChain: five processes in turn keep a store, and each still writes after it has yielded. Every row is there
// once, numbered once, and each process settles its own pending rows.
func TestHandoverChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	const stores, each = 5, 40
	var wg sync.WaitGroup
	for i := range stores {
		s, err := Open(t.Context(), Config{Path: path, Successor: i > 0, Log: quiet()})
		must(t, err)
		must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{pending(1000 + i)}}))
		must(t, s.Yield())
		wg.Go(func() {
			for n := range each {
				if err := s.Write(context.Background(), &sink.Rows{Requests: requests(i*each+n, i*each+n+1)}); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(s.Write(context.Background(), &sink.Rows{Settled: []*meter.Record{settled(1000 + i)}}), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	rows := qualities(t, path)
	for i := range stores {
		if q := rows[request(1000+i).ID]; q != meter.EnergyShared {
			t.Errorf("the row that process %d settled is %s", i, q)
		}
	}
	r, err := OpenReader(t.Context(), path)
	must(t, err)
	defer r.Close() //nolint:errcheck // only read
	var seqs []int64
	for _, seq := range shipSeqs(t, r) {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	if len(seqs) != stores*each+stores || seqs[0] != 1 || seqs[len(seqs)-1] != int64(len(seqs)) {
		t.Errorf("%d rows are numbered from %d to %d", len(seqs), seqs[0], seqs[len(seqs)-1])
	}
}

// TestSuccessorLeavesPendingRows: a pending row stays so when the successor opens the store, so that nobody reads or ships it
// before its process has settled it.
func TestSuccessorLeavesPendingRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	first, err := Open(t.Context(), Config{Path: path, Log: quiet()})
	must(t, err)
	must(t, first.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{pending(1)}}))
	must(t, first.Yield())
	second, err := Open(t.Context(), Config{Path: path, Successor: true, Log: quiet()})
	must(t, err)
	if q := qualities(t, path)[request(1).ID]; q != meter.EnergyPending {
		t.Errorf("the row is %s", q)
	}
	must(t, first.Write(t.Context(), &sink.Rows{Settled: []*meter.Record{settled(1)}}))
	must(t, errors.Join(first.Close(), second.Close()))
	if q := qualities(t, path)[request(1).ID]; q != meter.EnergyShared {
		t.Errorf("the settled row is %s", q)
	}
}

// TestRowsOfKilledPredecessor: a predecessor that is killed leaves a pending row. It is closed when it was pending for a
// whole interval; a row that came meanwhile is not.
func TestRowsOfKilledPredecessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	first, err := Open(t.Context(), Config{Path: path, Log: quiet()})
	must(t, err)
	must(t, first.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{pending(1)}}))
	must(t, first.Yield())
	s, err := Open(t.Context(), Config{Path: path, Successor: true, Log: quiet()})
	must(t, err)
	defer s.Close() //nolint:errcheck // the test is over
	for look, want := range []string{"pending pending", "partial pending", "partial partial"} {
		must(t, s.closeAbandoned(t.Context()))
		if look == 0 {
			must(t, first.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{pending(2)}}))
			must(t, first.Close())
		}
		rows := qualities(t, path)
		if got := fmt.Sprint(rows[request(1).ID], " ", rows[request(2).ID]); got != want {
			t.Errorf("after look %d: %s, not %s", look, got, want)
		}
	}
}

// TestRestartBesideOldProcess: the successor is killed and a new wattline starts while the first process still serves. It
// takes the first one's pending row for abandoned; when that is settled nothing changes, and the row is there once.
func TestRestartBesideOldProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	first, err := Open(t.Context(), Config{Path: path, Log: quiet()})
	must(t, err)
	must(t, first.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{pending(1)}}))
	must(t, first.Yield())
	s := reopen(t, path)
	must(t, first.Write(t.Context(), &sink.Rows{Settled: []*meter.Record{settled(1)}, Requests: requests(2, 3)}))
	must(t, first.Close())
	rows := qualities(t, path)
	if q := rows[request(1).ID]; q != meter.EnergyPartial || len(rows) != 2 {
		t.Errorf("%d rows; the first is %s", len(rows), q)
	}
	if _, err := Open(t.Context(), Config{Path: path, Log: quiet()}); !errors.Is(err, ErrInUse) {
		t.Errorf("a third wattline: %v", err)
	}
	must(t, s.Close())
}

// TestYieldBeforeOpen: the middle process of a quick chain has no store yet when it yields. Its rows go in beside the keeper,
// but not beside a wattline of before version manyWriters.
func TestYieldBeforeOpen(t *testing.T) {
	path := recreate(t, "testdata/v4.sql")
	old, err := lock(path) // an older wattline
	must(t, err)
	middle := OpenLazy(Config{Path: path, Successor: true, Log: quiet()})
	must(t, middle.Yield())
	if _, err := middle.Open(t.Context()); !errors.Is(err, ErrInUse) {
		t.Errorf("beside an older wattline: %v", err)
	}
	must(t, old.Close())
	s := reopen(t, path)
	must(t, middle.Write(t.Context(), &sink.Rows{Requests: requests(100, 101)}))
	must(t, middle.Close())
	if n := len(qualities(t, path)); n != 11 {
		t.Errorf("%d rows, not the 10 of before and one", n)
	}
	must(t, s.Close())
}

// TestAbandonedRowsWait: a row of a client that has left stays open for ten minutes and more: the server may go on with it.
func TestAbandonedRowsWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	s, err := Open(t.Context(), Config{Path: path, Log: quiet()})
	must(t, err)
	defer s.Close() //nolint:errcheck // the test is over
	left := pending(1)
	left.Outcome = meter.Cancelled
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{left}}))
	for range abandonedCalls {
		must(t, s.closeAbandoned(t.Context()))
		if q := qualities(t, path)[left.ID]; q != meter.EnergyPending {
			t.Fatal(q)
		}
	}
	must(t, s.closeAbandoned(t.Context()))
	if q := qualities(t, path)[left.ID]; q != meter.EnergyPartial {
		t.Error(q)
	}
}
