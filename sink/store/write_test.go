package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
)

func shipSeqs(t *testing.T, r *Reader) map[string]int64 {
	t.Helper()
	rows, err := r.DB().QueryContext(t.Context(), "SELECT id, coalesce(ship_seq, -1) FROM requests")
	must(t, err)
	defer rows.Close()
	seqs := map[string]int64{}
	for rows.Next() {
		var id string
		var seq int64
		must(t, rows.Scan(&id, &seq))
		seqs[id] = seq
	}
	must(t, rows.Err())
	return seqs
}

func TestSettlingIsFinal(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	rec := request(1)
	rec.EnergyQuality = meter.EnergyPending
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{rec, request(2)}}))
	if d := cmp.Diff(map[string]int64{request(1).ID: -1, request(2).ID: 1}, shipSeqs(t, r)); d != "" {
		t.Errorf("before: %s", d)
	}
	settled := request(1)
	settled.EnergyQuality, settled.GPUUj, settled.GPUIdleUj, settled.GPUDevices = meter.EnergyShared, meter.Some(7), meter.Some(0), []string{"GPU-0"}
	never := request(3) // its first row was dropped by a full queue
	never.EnergyQuality = meter.EnergyMeasured
	must(t, s.Write(t.Context(), &sink.Rows{Settled: []*meter.Record{settled, never}}))
	want := map[string]int64{request(1).ID: 2, request(2).ID: 1, request(3).ID: 3}
	if d := cmp.Diff(want, shipSeqs(t, r)); d != "" {
		t.Errorf("after: %s", d)
	}
	// Once more, and differently: a final row does not change.
	changed := request(1)
	changed.EnergyQuality, changed.GPUUj = meter.EnergyEstimated, meter.Some(8)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{changed}}))
	must(t, settle(t, s, changed))
	if d := cmp.Diff(want, shipSeqs(t, r)); d != "" {
		t.Errorf("after a second settling: %s", d)
	}
	got, err := r.Find(t.Context(), settled.ID)
	must(t, err)
	if d := cmp.Diff(settled, got); d != "" {
		t.Error(d)
	}
}

// TestUnsettledRowKeepsWhatItHas: a row that waits for its joules is stored with every column that it has.
func TestUnsettledRowKeepsWhatItHas(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	for _, c := range append(meter.Columns(), meter.Column{Name: "none"}) {
		rec := full(t)
		for _, joules := range newTables().joules { // all null but this one
			if joules.Name != c.Name {
				reflect.ValueOf(joules.Ptr(rec)).Elem().SetZero()
			}
		}
		rec.ID, rec.EnergyQuality = c.Name, meter.EnergyPending
		must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{rec}}))
		got, err := r.Find(t.Context(), rec.ID)
		must(t, err)
		if d := cmp.Diff(rec, got); d != "" {
			t.Errorf("%s: %s", c.Name, d)
		}
	}
}

// execute runs a statement on the writing connection.
func execute(t *testing.T, s *Store, text string) {
	t.Helper()
	stmt, err := s.write.conn.prepare(text)
	must(t, err)
	_, err = stmt.run(nil)
	must(t, err)
}

func TestFailedTransactionRollsBack(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 2)}))
	for _, c := range []struct {
		kind         error
		before, then string
	}{
		{ErrReadOnly, "PRAGMA query_only = 1", "PRAGMA query_only = 0"},
		{ErrFull, "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"},
	} {
		execute(t, s, c.before)
		err := s.Write(t.Context(), &sink.Rows{Requests: requests(2, 500)})
		var known *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &known) || !known.Retryable() {
			t.Errorf("%s: %v", c.before, err)
		}
		execute(t, s, c.then)
		if n := len(shipSeqs(t, r)); n != 2 {
			t.Errorf("%s: %d rows after the failure", c.before, n)
		}
	}
	func() { // as the queue survives it
		defer func() { _ = recover() }()
		_ = s.Write(t.Context(), &sink.Rows{Requests: append(requests(2, 500), nil)})
		t.Error("a row that is none was written")
	}()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(cancelled, &sink.Rows{Requests: requests(2, 500)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(2, 4)}))
	if seqs := shipSeqs(t, r); len(seqs) != 4 || seqs[request(3).ID] != 4 {
		t.Errorf("afterwards: %v", seqs)
	}
}

// walSize is the size of the write-ahead log.
func walSize(t *testing.T, s *Store) int64 {
	t.Helper()
	info, err := os.Stat(s.Path() + "-wal")
	must(t, err)
	return info.Size()
}

func TestWriteAheadLogBounded(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	write := func(from, n int) {
		for i := from; i < from+n; i += 100 {
			rows := &sink.Rows{Requests: requests(i, i+100)}
			for _, rec := range rows.Requests {
				rec.Error = strings.Repeat("x", 4000)
			}
			must(t, s.Write(t.Context(), rows))
		}
	}
	write(0, 4000)
	if size := walSize(t, s); size > 6<<20 {
		t.Errorf("without a reader the log has %d bytes", size)
	}
	rows, err := r.DB().QueryContext(t.Context(), "SELECT id FROM requests") // a reader that does not end
	must(t, err)
	if !rows.Next() {
		t.Fatal("no rows")
	}
	write(4000, 5000)
	held := walSize(t, s)
	if held <= walLimit {
		t.Fatalf("the log has only %d bytes: this test proves nothing", held)
	}
	must(t, rows.Close())
	write(9000, 1000)
	size := walSize(t, s)
	t.Logf("the log: %d bytes while held open, %d after", held, size)
	if size > walLimit {
		t.Errorf("the log keeps %d bytes after the reader has gone", size)
	}
}

func TestReadersBesideTheWriter(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	const batches, size = 20, 50
	var wg sync.WaitGroup
	done := make(chan struct{})
	read := func(f func(seen int) (int, error)) {
		wg.Go(func() {
			for seen := 0; ; {
				n, err := f(seen)
				if err != nil || n < seen || n%size != 0 {
					t.Errorf("a reader sees %d rows after %d: %v", n, seen, err)
					return
				}
				seen = n
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	read(func(int) (n int, err error) {
		return n, r.DB().QueryRowContext(t.Context(), "SELECT count(*) FROM requests").Scan(&n)
	})
	read(func(int) (n int, err error) {
		recs, err := r.Latest(t.Context(), batches*size)
		return len(recs), err
	})
	read(func(int) (n int, err error) {
		err = r.Each(t.Context(), time.Time{}, func(*meter.Record) error { n++; return nil })
		return n - n%size, err // between chunks the writer goes on
	})
	for i := range batches {
		must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(i*size, (i+1)*size)}))
	}
	close(done)
	wg.Wait()
	n := 0
	must(t, r.Each(t.Context(), request(batches*size/2).StartedAt, func(*meter.Record) error { n++; return nil }))
	if n != batches*size/2 {
		t.Errorf("%d rows since the middle", n)
	}
}

func TestFind(t *testing.T) {
	s := tempStore(t)
	recs := requests(0, 20)
	recs[0].ID, recs[1].ID = "0199aaaa-1111", "0199aaab-1%_1"
	must(t, s.Write(t.Context(), &sink.Rows{Requests: recs}))
	r := tempReader(t, s)
	for part, want := range map[string]string{"0199aaaa-1111": "0199aaaa-1111", "0199aaaa": "0199aaaa-1111", "-1111": "0199aaaa-1111", "%_1": "0199aaab-1%_1", "nothing": "", "%": "", "_": ""} {
		rec, err := r.Find(t.Context(), part)
		must(t, err)
		got := ""
		if rec != nil {
			got = rec.ID
		}
		if got != want {
			t.Errorf("%s finds %q, want %q", part, got, want)
		}
	}
	var several *Error
	if rec, err := r.Find(t.Context(), "0199"); !errors.As(err, &several) || !several.Ambiguous() {
		t.Errorf("several: %v, %v", rec, err)
	}
	// A whole id that is not there is not looked for in every row: it would be found as a part of this one.
	longer := request(100)
	longer.ID = "prefix-" + request(101).ID
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{longer}}))
	if rec, err := r.Find(t.Context(), request(101).ID); err != nil || rec != nil {
		t.Errorf("a whole id is looked for as a part: %v, %v", rec, err)
	}
}

func TestEfficiency(t *testing.T) {
	s := tempStore(t)
	some := meter.Some
	streamed := &meter.Record{
		ID: "streamed", StartedAt: epoch, Stream: some(1), TTFTUs: some(352_000), UpstreamTTFTUs: some(350_000), DurationUs: some(1_360_000),
		QueueUs: some(10_000), PrefillUs: some(340_000), DecodeUs: some(1_000_000), PromptTokens: some(1000), CachedTokens: some(200), OutputTokens: some(101),
		MeanConcurrency: some(1000), GPUUj: some(202_000_000), GPUIdleWaitingUj: some(0), GPUPrefillUj: some(40_000_000), GPUDecodeUj: some(110_000_000),
		PricePerKWhMicro: some(300_000), GCO2PerKWhMilli: some(400_000),
	}
	whole := *streamed
	whole.ID, whole.Stream, whole.TTFTUs, whole.UpstreamTTFTUs, whole.MeanConcurrency = "whole", some(0), meter.Int{}, meter.Int{}, some(1500)
	one := *streamed
	one.ID, one.OutputTokens, one.DecodeUs, one.CachedTokens = "one", some(1), some(0), meter.Int{}
	waited, old := *streamed, *streamed
	waited.ID, waited.GPUIdleWaitingUj = "waited", some(20_200_000)
	old.ID, old.GPUIdleWaitingUj = "old", meter.Int{}
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{streamed, &whole, &one, &waited, &old, {ID: "null", StartedAt: epoch}}}))
	r := tempReader(t, s)
	near := func(want map[string]any, id string) {
		t.Helper()
		got, err := r.Efficiency(t.Context(), id)
		must(t, err)
		for name, w := range want {
			g, ok := got[name]
			if w == nil != !ok {
				t.Errorf("%s: %s is %v, want %v", id, name, g, w)
			}
			if f, isNumber := w.(float64); isNumber && (g < f*(1-1e-12) || g > f*(1+1e-12)) {
				t.Errorf("%s: %s is %v, want %v", id, name, g, f)
			}
		}
	}
	near(map[string]any{
		"ttft_ms": 352.0, "tpot_ms": 10.0, "decode_tps": 100.0, "tokens_per_second": 101 / 1.352, "prefill_tps": 800 / 0.34, "concurrency": 1.0,
		"gpu_j": 202.0, "gpu_wh": 202.0 / 3600, "joules_per_token": 2.0, "tokens_per_joule": 0.5, "prefill_j_per_token": 0.05, "decode_j_per_token": 110.0 / 101,
		// E - S = 1360 - (352 - 350) - 10 = 1348 ms
		"tokens_per_watt": 101 / (202 / 1.348), "cost": 202 / 3.6e6 * 0.3, "gco2e": 202 / 3.6e6 * 400,
	}, "streamed")
	near(map[string]any{
		"ttft_ms": nil, "tokens_per_second": 101 / 1.36, "prefill_tps": nil, "concurrency": 1.5, "decode_tps": 100.0,
		"tokens_per_watt": 101 / (202 / 1.34), // S = E - predicted_ms - prompt_ms
	}, "whole")
	near(map[string]any{"gpu_j": 202.0, "slot_j": 181.8, "joules_per_token": 1.8, "tokens_per_watt": 101 / (181.8 / 1.348), "cost": 202 / 3.6e6 * 0.3}, "waited")
	near(map[string]any{"slot_j": 202.0, "tokens_per_watt": 101 / (202 / 1.36)}, "old") // of the whole request
	near(map[string]any{"tpot_ms": nil, "decode_tps": nil, "prefill_j_per_token": 0.04}, "one")
	if got, err := r.Efficiency(t.Context(), "null"); err != nil || len(got) != 0 {
		t.Errorf("of a row without numbers: %v, %v", got, err)
	}
}

func TestAggregates(t *testing.T) {
	r := tempReader(t, tempStore(t))
	values := func(list string) string { return fmt.Sprintf("(SELECT column1 AS x FROM (VALUES %s))", list) }
	for query, want := range map[string]any{
		"SELECT median(x) FROM " + values("(3),(1),(2)"):                            2.0,
		"SELECT median(x) FROM " + values("(1),(NULL),(2)"):                         1.5,
		"SELECT quantile(x, 0.25) FROM " + values("(0),(1),(2),(3),(4)"):            1.0,
		"SELECT quantile(x, 1) FROM " + values("(5),(7)"):                           7.0,
		"SELECT p90(x) FROM " + values("(0),(10)"):                                  9.0,
		"SELECT p50(x) + p95(x) + p99(x) FROM " + values("(0),(100)"):               50.0 + 95 + 99,
		"SELECT stddev(x) FROM " + values("(2),(4),(4),(4),(5),(5),(7),(9)"):        2.138089935299395,
		"SELECT stddev(x) FROM " + values("(2)"):                                    nil,
		"SELECT median(x) FROM " + values("(NULL)"):                                 nil,
		"SELECT list_stats(x) FROM " + values("('[10]'),('[]'),(NULL),('[0]')"):     `{"max":10,"n":2,"p50":5,"p90":9,"p99":9.9,"zeros":1}`,
		"SELECT list_stats(x) FROM " + values("('[]'),(NULL)"):                      nil,
		"SELECT list_stats_by('k', x) FROM " + values("('[10]'),('[0]')"):           `{"k":{"max":10,"n":2,"p50":5,"p90":9,"p99":9.9,"requests":2,"zeros":1}}`,
		`SELECT list_union(x) FROM ` + values(`('["b","a"]'),(NULL),('["a","c"]')`): "a,b,c",
		"SELECT list_union(x) FROM " + values("(NULL)"):                             "",
		`SELECT label('{"a":"1","b":""}', 'a')`:                                     "1",
		`SELECT label('{"a":"1","b":""}', 'b')`:                                     nil,
	} {
		var got any
		must(t, r.DB().QueryRowContext(t.Context(), query).Scan(&got))
		if got != want {
			t.Errorf("%s is %v, want %v", query, got, want)
		}
	}
	for _, wrong := range []string{"median('a')", "list_stats('a')", "list_stats(1)", "list_stats('[1,]')", "list_stats('[4294967296]')", "list_stats('[99999999999999999999]')", "list_stats('[1]]')", "list_stats('[-1]')"} {
		var got any
		if err := r.DB().QueryRowContext(t.Context(), "SELECT "+wrong).Scan(&got); err == nil {
			t.Errorf("%s is %v", wrong, got)
		}
	}
}
