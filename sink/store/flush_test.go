package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TestRowsLostByAKill: a row is offered each millisecond of a bubble. At every moment the store's files,
// as a kill -9 leaves them, have every row older than 50 ms, and none that is newer than a missing one.
func TestRowsLostByAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wattline.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		q := sink.New(sink.Config{Store: s})
		files, err := OpenReader(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		const rows, flushInterval = 200, 50 // milliseconds, as ARCHITECTURE.md says
		lost := 0
		for n := 1; n <= rows; n++ {
			q.Offer(&meter.Record{ID: fmt.Sprintf("%08d", n), StartedAt: time.Now(), Outcome: meter.OK})
			time.Sleep(time.Millisecond)
			synctest.Wait()
			var stored, newest int
			if err := files.DB().QueryRowContext(t.Context(), "SELECT count(*), coalesce(max(CAST(id AS INTEGER)), 0) FROM requests").Scan(&stored, &newest); err != nil {
				t.Fatal(err)
			}
			lost = max(lost, n-stored)
			if stored != newest || n-stored > flushInterval {
				t.Errorf("%d ms: %d rows of %d are stored, the newest is %d", n, stored, n, newest)
			}
		}
		if lost < flushInterval/2 {
			t.Errorf("at most %d rows were waiting: no batch was gathered", lost)
		}
		if err := errors.Join(q.Stop(t.Context()), files.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}
