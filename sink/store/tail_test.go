package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/columnar"
)

// holdTheRows compares every value of every block with the table, and returns how many rows of a table are in blocks.
func holdTheRows(t *testing.T, s *Store) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, of := range s.write.tails.all {
		ctx, b := t.Context(), of.table
		var pieces []piece
		rows, err := s.conn.QueryContext(ctx, "SELECT id, rows, after_ship_seq, last_ship_seq FROM blocks WHERE of_table = ? AND layout = ?", b.Base, b.layout)
		must(t, err)
		for rows.Next() {
			var p piece
			must(t, rows.Scan(&p.id, &p.rows, &p.after, &p.last))
			pieces = append(pieces, p)
		}
		must(t, errors.Join(rows.Err(), rows.Close()))
		for _, p := range pieces {
			n[b.Base] += int(p.rows)
			c := b.newBuilder(b.names)
			s.mu.Lock()
			_, err := s.write.readRows(ctx, b, c, p.after, p.last, -1)
			s.mu.Unlock()
			must(t, err)
			for i, name := range b.names {
				var data []byte
				must(t, s.conn.QueryRowContext(ctx, "SELECT data FROM block_columns WHERE id = ?", p.id*256+int64(i)).Scan(&data))
				var v columnar.Vector
				must(t, v.Decode(data, int(p.rows)))
				if d := cmp.Diff(c.vectors[i].String(), v.String()); d != "" {
					t.Errorf("%s.%s: table (-) and block (+) differ: %s", b.Base, name, d)
				}
			}
		}
	}
	return n
}

// TestWriteMakesBlocks: blocks of rows that Write keeps in memory have what the tables have, whatever happens in between.
func TestWriteMakesBlocks(t *testing.T) {
	s := tempStore(t)
	s.blockRows = 20
	ctx, r := t.Context(), rand.New(rand.NewPCG(8, 8))
	pack := func(want int64) {
		t.Helper()
		n, err := s.Pack(ctx)
		must(t, err)
		if n != want {
			t.Errorf("Pack found %d rows, expected %d", n, want)
		}
	}
	expect := func(requests, power int) {
		t.Helper()
		if n := holdTheRows(t, s); n[TableRequests] != requests || n[TablePower] != power || n[TableLedger] != power {
			t.Errorf("rows in blocks: %v, expected %d requests and %d of power and ledger", n, requests, power)
		}
	}
	at := 0
	write := func(n int) *sink.Rows {
		t.Helper()
		rows := varied(r, at, n)
		at += n
		for i, rec := range rows.Requests {
			rec.GPUDevices = [][]string{nil, {"GPU-0", "GPU-1"}}[i%2]
		}
		must(t, s.Write(ctx, rows))
		return rows
	}
	write(25)
	expect(0, 0) // nobody has looked what was there before
	pack(60)
	expect(20, 20)
	again := write(14) // with 5 of the first
	expect(20, 20)
	must(t, s.Write(ctx, again)) // the same rows, which are stored already
	write(1)
	expect(40, 40)

	pending := varied(r, at, 30)
	at += 30
	for _, rec := range pending.Requests {
		rec.EnergyQuality, rec.GPUUj = meter.EnergyPending, meter.Int{}
	}
	must(t, s.Write(ctx, &sink.Rows{Requests: pending.Requests}))
	settled := &sink.Rows{}
	for _, rec := range pending.Requests {
		final := *rec
		final.EnergyQuality, final.GPUUj, final.EnergySource = meter.EnergyShared, meter.Some(7), "nvml"
		settled.Settled = append(settled.Settled, &final)
	}
	must(t, s.Write(ctx, settled))
	expect(70, 40)

	other, err := openBeside(ctx, Config{Path: s.Path(), Log: quiet()})
	must(t, err)
	write(3)
	more := varied(r, at, 3)
	at += 3
	must(t, other.Write(ctx, more)) // another process's rows lie between
	must(t, other.Close())
	write(14)
	expect(70, 40)
	pack(60)
	expect(90, 60)

	must(t, s.Write(ctx, &sink.Rows{})) // nothing
	write(10)
	_, err = s.conn.ExecContext(ctx, "DELETE FROM requests WHERE ship_seq = (SELECT max(ship_seq) FROM requests)")
	must(t, err)
	write(10) // requests are not what Write has seen
	expect(90, 80)
	pack(0)
	write(1)
	expect(110, 80)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if s.Write(ended, varied(r, at+100, 30)) == nil {
		t.Error("a Write whose context has ended succeeds")
	}
	write(30)
	expect(110, 80)
	pack(60)
	expect(130, 100)

	_, err = s.EnforceRetention(ctx, epoch, Retention{MaxBytes: 1})
	must(t, err)
	expect(0, 0)
	write(5)
	pack(0)
	write(16)
	expect(21, 21)

	must(t, s.Yield())
	write(50) // another process makes its blocks
	expect(21, 21)
}

// TestValuesThatNoBlockTakes: rows with values too far apart stay rows, and do not keep others from being packed.
func TestValuesThatNoBlockTakes(t *testing.T) {
	s, r := tempStore(t), rand.New(rand.NewPCG(8, 9))
	s.blockRows = 10
	for i := range 3 {
		rows := varied(r, i*10, 10)
		if i == 1 {
			rows.Requests[2].DurationUs, rows.Requests[3].DurationUs, rows.Requests[4].DurationUs = meter.Some(math.MinInt64), meter.Some(math.MaxInt64), meter.Int{}
		}
		must(t, s.Write(t.Context(), rows))
	}
	for range 2 {
		_, err := s.Pack(t.Context())
		must(t, err)
	}
	if n := holdTheRows(t, s); fmt.Sprint(n) != "map[ledger:30 power:30 requests:20]" {
		t.Errorf("rows in blocks: %v", n)
	}
	a, b, err := answers(t, tempReader(t, s), "SELECT count(*), min(duration_us), max(duration_us), sum(output_tokens) FROM requests")
	must(t, err)
	if d := cmp.Diff(b, a); d != "" {
		t.Errorf("tables (-) and blocks (+) differ: %s", d)
	}
}
