package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"wattline/meter"
	"wattline/sink"
)

func requests(from, to int) []*meter.Record {
	var recs []*meter.Record
	for i := from; i < to; i++ {
		recs = append(recs, request(i))
	}
	return recs
}

func power(second int) *sink.Power {
	return &sink.Power{
		At: epoch.Add(time.Duration(second) * time.Second), Instance: "test", Device: "GPU-0",
		SpanUs: meter.Some(1_000_000), EnergyUj: meter.Some(100_000_000), MeanMw: meter.Some(100_000), MaxMw: meter.Some(int64(100_000 + second)),
	}
}

func next(t *testing.T, s *Store, limit int) *Batch {
	t.Helper()
	b, err := s.NextBatch(t.Context(), limit)
	must(t, err)
	return b
}

func TestBatchUnchangedUntilConfirmed(t *testing.T) {
	s := tempStore(t)
	if b := next(t, s, 10); b != nil {
		t.Fatalf("an empty store ships %d rows", len(b.IDs))
	}
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 25)}))
	first := next(t, s, 10)
	if len(first.Requests) != 10 || len(first.IDs) != 10 || first.Again {
		t.Fatalf("the first batch has %d rows, %d ids, again %v", len(first.Requests), len(first.IDs), first.Again)
	}
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(25, 30)}))
	must(t, s.Close())

	s = reopen(t, s.Path()) // as after a crash between sending and confirming
	again := next(t, s, 3)
	want := *first
	want.Again = true
	if d := cmp.Diff(&want, again, cmp.AllowUnexported(Batch{})); d != "" {
		t.Errorf("the unconfirmed batch came back changed:\n%s", d)
	}
}

func TestEveryRowShipsOnce(t *testing.T) {
	s := tempStore(t)
	rows := &sink.Rows{Requests: requests(0, 25), Configs: []*sink.ServerConfig{{ConfigID: "c", At: epoch}}}
	want := map[string]int{"configs c": 1}
	for i := range 7 {
		rows.Power = append(rows.Power, power(i))
		rows.Ledger = append(rows.Ledger, &sink.Ledger{At: power(i).At, Device: "GPU-0"})
		want[fmt.Sprintf("power test|GPU-0|%s", literal(power(i).At))] = 1
		want[fmt.Sprintf("ledger |GPU-0|%s", literal(power(i).At))] = 1
	}
	for i := range 3 {
		rows.Gaps = append(rows.Gaps, &sink.Gaps{ID: request(i).ID, StartedAt: request(i).StartedAt, GapsUs: []uint32{0, 1<<32 - 1}})
		want["itl_gaps "+request(i).ID] = 1
	}
	rows.Requests[3].EnergyQuality = meter.EnergyPending
	for _, r := range append(rows.Requests, requests(25, 40)...) {
		want["requests "+r.ID] = 1
	}
	must(t, s.Write(t.Context(), rows))

	got, tokens := map[string]int{}, map[string]bool{}
	ship := func() {
		for b := next(t, s, 4); b != nil; b = next(t, s, 4) {
			if n := len(b.Requests) + len(b.Power) + len(b.Ledger) + len(b.Configs) + len(b.Gaps); n != len(b.IDs) || n > 4 {
				t.Fatalf("batch %d: %d rows, %d ids", b.Seq, n, len(b.IDs))
			}
			for _, id := range b.IDs {
				got[b.Table+" "+id]++
			}
			if tokens[b.Token] {
				t.Errorf("token %s came twice", b.Token)
			}
			tokens[b.Token] = true
			must(t, s.ConfirmBatch(t.Context(), b.Seq))
			must(t, s.ConfirmBatch(t.Context(), b.Seq))
		}
	}
	ship()
	w, err := s.Waiting(t.Context())
	must(t, err)
	if d := cmp.Diff(Waiting{Rows: waitingRows(0), Pending: 1}, w); d != "" {
		t.Errorf("after all was shipped: %s", d)
	}
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(25, 40)}))
	must(t, settle(t, s, func() *meter.Record { r := request(3); r.EnergyQuality = meter.EnergyShared; return r }()))
	w, err = s.Waiting(t.Context())
	must(t, err)
	if d := cmp.Diff(Waiting{Rows: waitingRows(16), Oldest: request(25).StartedAt}, w, cmpopts.EquateApproxTime(0)); d != "" {
		t.Errorf("before the rest is shipped: %s", d)
	}
	ship()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// waitingRows is Waiting.Rows where only requests wait.
func waitingRows(requests int64) map[string]int64 {
	return map[string]int64{TableRequests: requests, TablePower: 0, TableLedger: 0, TableConfigs: 0, TableGaps: 0}
}

// A batch with rows that were exchanged, by hand or by a restored file, is refused: sent under its token, it
// would be taken for the rows that it once had.
func TestChangedBatchRefused(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 4)}))
	next(t, s, 4)
	_, err := s.conn.ExecContext(t.Context(), "UPDATE requests SET id = 'another' WHERE id = ?", request(2).ID)
	must(t, err)
	if b, err := s.NextBatch(t.Context(), 4); !errors.Is(err, ErrDamaged) || b != nil {
		t.Errorf("%+v, %v", b, err)
	}
}

// Rows that had not arrived wait again behind the others, in a batch with another token, also after a restart; those that had
// arrived do not.
func TestMissingRowsWaitAgain(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 4)}))
	first := next(t, s, 4)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(4, 6)}))
	must(t, s.ConfirmBatch(t.Context(), first.Seq, request(1).ID, request(3).ID))
	must(t, s.Close())
	s = reopen(t, s.Path())
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(6, 7)}))
	b := next(t, s, 10)
	want := []string{request(4).ID, request(5).ID, request(1).ID, request(3).ID, request(6).ID}
	if d := cmp.Diff(want, b.IDs); d != "" || b.Again {
		t.Errorf("again %v: %s", b.Again, d)
	}
	must(t, s.ConfirmBatch(t.Context(), b.Seq, b.IDs...))
	again := next(t, s, 10)
	if d := cmp.Diff(want, again.IDs); d != "" || again.Again || again.Token == b.Token {
		t.Errorf("all rows missing: again %v, token %s after %s, %s", again.Again, again.Token, b.Token, d)
	}
	must(t, s.ConfirmBatch(t.Context(), again.Seq))
	if b := next(t, s, 10); b != nil {
		t.Errorf("%d rows wait in the end", len(b.IDs))
	}
}

// A batch that an earlier version of wattline made is sent under the token that it may have been sent under.
func TestBatchOfEarlierVersion(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 4)}))
	b := next(t, s, 4)
	old := b.token("")
	_, err := s.conn.ExecContext(t.Context(), "UPDATE batches SET token = ?", old)
	must(t, err)
	if again := next(t, s, 4); again.Token != old || old == b.Token || !again.Again {
		t.Errorf("%+v, then %+v", b, again)
	}
}

// Rows that wait again are not counted twice: the blocks that have their old place go.
func TestRequeuedRowsLeaveTheirBlock(t *testing.T) {
	s := tempStore(t)
	s.blockRows = 3
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 9)}))
	b := next(t, s, 5)
	if n, err := s.Pack(t.Context()); err != nil || n != 9 {
		t.Fatalf("%d rows in blocks, %v", n, err)
	}
	must(t, s.ConfirmBatch(t.Context(), b.Seq, request(1).ID))
	if n := number(t, s, "SELECT count(*) FROM blocks"); n != 1 {
		t.Errorf("%d blocks are left, expected that of the last three rows", n)
	}
	if n, err := s.Pack(t.Context()); err != nil || n != 3 {
		t.Errorf("%d rows in new blocks, %v", n, err)
	}
}
