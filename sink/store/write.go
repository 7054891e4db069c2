package store

import (
	"context"
	"database/sql"
	"strings"

	"wattline/meter"
	"wattline/sink"
)

// inserts is what Write needs beside the rows: the connection, its prepared statements, and memory that
// serves row after row.
type inserts struct {
	on                                                 *direct
	request, settled, power, ledger, config, gaps, seq *statement
	row                                                values

	requestsTable table[meter.Record]
	powerTable    table[sink.Power]
	ledgerTable   table[sink.Ledger]
	configsTable  table[sink.ServerConfig]
	gapsTable     table[sink.Gaps]
	energyColumns []meter.Column
}

func newInserts(on *direct) (*inserts, error) {
	w := &inserts{
		on: on, requestsTable: requestsTable(), powerTable: powerTable(), ledgerTable: ledgerTable(), configsTable: configsTable(), gapsTable: gapsTable(),
		energyColumns: energyColumns(),
	}
	for _, s := range []struct {
		to  **statement
		sql string
	}{
		{&w.request, w.requestsTable.insert("ON CONFLICT DO NOTHING")},
		{&w.settled, settle()},
		{&w.power, w.powerTable.insert("ON CONFLICT DO NOTHING")},
		{&w.ledger, w.ledgerTable.insert("ON CONFLICT DO NOTHING")},
		{&w.config, w.configsTable.insert("ON CONFLICT DO NOTHING")},
		{&w.gaps, w.gapsTable.insert("ON CONFLICT DO NOTHING")},
		{&w.seq, "UPDATE counters SET value = ? WHERE name = 'ship_seq'"},
	} {
		var err error
		if *s.to, err = on.prepare(s.sql); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// settle updates the energy columns of a row that Write put there before, and leaves alone one that may
// have been shipped. Its parameters are the energy columns, ship_seq and id.
func settle() string {
	sets := make([]string, 0, 24)
	for _, c := range energyColumns() {
		sets = append(sets, c.Name+" = ?")
	}
	return "UPDATE requests SET " + strings.Join(sets, ", ") + ", ship_seq = ? WHERE id = ? AND ship_seq IS NULL"
}

// Write commits rows in one transaction. A request whose energy is pending gets no ship_seq until it
// comes again among Settled; everything else gets one now and never changes afterwards.
func (s *Store) Write(ctx context.Context, rows *sink.Rows) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := s.shipSeq
	err := s.write.on.transact(func() error { return s.write.all(ctx, rows, &seq, s.shipSeq) })
	if err != nil {
		return explain("write to", s.path, err)
	}
	s.shipSeq = seq
	return nil
}

// Settle writes the final energy columns of one row: Write with nothing else.
func (s *Store) Settle(ctx context.Context, rec *meter.Record) error {
	return s.Write(ctx, &sink.Rows{Settled: []*meter.Record{rec}})
}

// all writes rows, counting seq up from what it was.
func (w *inserts) all(ctx context.Context, rows *sink.Rows, seq *int64, was int64) error {
	final := func(r *meter.Record) bool { return r.EnergyQuality != meter.EnergyPending }
	for _, err := range []error{
		insertAll(ctx, w, w.request, w.requestsTable, rows.Requests, seq, final),
		w.settleAll(ctx, rows.Settled, seq),
		insertAll(ctx, w, w.power, w.powerTable, rows.Power, seq, always),
		insertAll(ctx, w, w.ledger, w.ledgerTable, rows.Ledger, seq, always),
		insertAll(ctx, w, w.config, w.configsTable, rows.Configs, seq, always),
		insertAll(ctx, w, w.gaps, w.gapsTable, rows.Gaps, seq, always),
	} {
		if err != nil {
			return err
		}
	}
	if *seq == was {
		return nil
	}
	w.row.reset()
	w.row.addInt(*seq)
	_, err := w.seq.run(&w.row)
	return err
}

// settleAll makes rows final. A row whose first insert was dropped by a full queue is inserted whole; one
// that is final already stays as it is.
func (w *inserts) settleAll(ctx context.Context, recs []*meter.Record, seq *int64) error {
	for i, rec := range recs {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.row.reset()
		for _, c := range w.energyColumns {
			if err := w.row.add(c.Ptr(rec)); err != nil {
				return err
			}
		}
		w.row.addInt(*seq + 1)
		w.row.addText(rec.ID)
		n, err := w.settled.run(&w.row)
		if err != nil {
			return err
		}
		if n > 0 {
			*seq++
			continue
		}
		if err := insertAll(ctx, w, w.request, w.requestsTable, recs[i:i+1], seq, always); err != nil {
			return err
		}
	}
	return nil
}

func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func always[T any](*T) bool { return true }

// insertAll inserts rows, numbering the final ones from seq on.
func insertAll[T any](ctx context.Context, w *inserts, into *statement, t table[T], rows []*T, seq *int64, final func(*T) bool) error {
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.row.reset()
		if err := t.add(&w.row, row); err != nil {
			return err
		}
		if final(row) {
			*seq++
			w.row.addInt(*seq)
		} else {
			w.row.addNull()
		}
		if _, err := into.run(&w.row); err != nil {
			return err
		}
	}
	return nil
}

// closePending makes the rows that a crash left pending final: their joules will never be known whole.
func (s *Store) closePending(ctx context.Context) error {
	return transact(ctx, s.conn, func() error {
		res, err := s.conn.ExecContext(ctx, `
			UPDATE requests SET ship_seq = ? + nth, energy_quality = CASE energy_quality WHEN 'pending' THEN 'partial' ELSE energy_quality END
			FROM (SELECT rowid AS open, row_number() OVER (ORDER BY rowid) AS nth FROM requests WHERE ship_seq IS NULL)
			WHERE requests.rowid = open`, s.shipSeq)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil || n == 0 {
			return err
		}
		s.shipSeq += n
		s.log.Info("rows whose energy was not settled before the last stop are now partial", "rows", n)
		_, err = s.conn.ExecContext(ctx, "UPDATE counters SET value = ? WHERE name = 'ship_seq'", s.shipSeq)
		return err
	})
}
