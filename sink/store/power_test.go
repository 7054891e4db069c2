package store

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"wattline/sink"
	"wattline/sink/store/disktest"
)

// A batch that NextBatch has returned, and all rows written before, survive a power loss at any moment after; rows written
// later may be lost, in the order of their transactions.
func TestPowerLossKeepsBatches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	lost := 0
	for round := range 40 {
		dir := t.TempDir()
		d, err := disktest.New(dir)
		must(t, err)
		s := reopen(t, filepath.Join(dir, "wattline.db"))
		written := 1 + r.IntN(20)
		for i := range written {
			must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(i, i+1)}))
		}
		b := next(t, s, 5)
		later := r.IntN(20)
		for i := range later {
			must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(written+i, written+i+1)}))
		}
		if round%4 == 0 {
			must(t, s.ConfirmBatch(t.Context(), b.Seq))
		}
		after := t.TempDir()
		must(t, d.CopyAfterPowerLoss(after, r))
		must(t, s.Close())
		d.Close()

		s = reopen(t, filepath.Join(after, "wattline.db"))
		n := int(number(t, s, "SELECT count(*) FROM requests"))
		if n < written || n > written+later || n != int(number(t, s, "SELECT count(*) FROM requests WHERE id <= '"+request(n-1).ID+"'")) {
			t.Errorf("round %d: %d rows are left of %d before the batch and %d after it", round, n, written, later)
		}
		lost += written + later - n
		again := next(t, s, 5)
		if round%4 > 0 && (again == nil || again.Token != b.Token || !again.Again) {
			t.Errorf("round %d: the batch %+v came back as %+v", round, b, again)
		}
		must(t, s.Close())
	}
	if lost == 0 {
		t.Error("no power loss lost a row: the test's disk does not lose anything")
	}
}
