package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"wattline/meter"
	"wattline/sink"
)

// statements are the writer's prepared inserts.
type statements struct {
	request, settled, power, ledger, config, gaps, seq *sql.Stmt
}

func (w *statements) prepare(ctx context.Context, conn *sql.Conn) error {
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.request, requestsTable().insert("ON CONFLICT DO NOTHING")},
		{&w.settled, settle()},
		{&w.power, powerTable().insert("ON CONFLICT DO NOTHING")},
		{&w.ledger, ledgerTable().insert("ON CONFLICT DO NOTHING")},
		{&w.config, configsTable().insert("ON CONFLICT DO NOTHING")},
		{&w.gaps, gapsTable().insert("ON CONFLICT DO NOTHING")},
		{&w.seq, "UPDATE counters SET value = ? WHERE name = 'ship_seq'"},
	} {
		stmt, err := conn.PrepareContext(ctx, s.text)
		if err != nil {
			return err
		}
		*s.stmt = stmt
	}
	return nil
}

func (w *statements) close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{w.request, w.settled, w.power, w.ledger, w.config, w.gaps, w.seq} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
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
	err := transact(ctx, s.conn, func() error { return s.insert(ctx, rows, &seq) })
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

func (s *Store) insert(ctx context.Context, rows *sink.Rows, seq *int64) error {
	final := func(r *meter.Record) bool { return r.EnergyQuality != meter.EnergyPending }
	for _, err := range []error{
		insertAll(ctx, s.write.request, requestsTable(), rows.Requests, seq, final),
		s.settleAll(ctx, rows.Settled, seq),
		insertAll(ctx, s.write.power, powerTable(), rows.Power, seq, always),
		insertAll(ctx, s.write.ledger, ledgerTable(), rows.Ledger, seq, always),
		insertAll(ctx, s.write.config, configsTable(), rows.Configs, seq, always),
		insertAll(ctx, s.write.gaps, gapsTable(), rows.Gaps, seq, always),
	} {
		if err != nil {
			return err
		}
	}
	if *seq == s.shipSeq {
		return nil
	}
	_, err := s.write.seq.ExecContext(ctx, *seq)
	return err
}

// settleAll makes rows final. A row whose first insert was dropped by a full queue is inserted whole; one
// that is final already stays as it is.
func (s *Store) settleAll(ctx context.Context, recs []*meter.Record, seq *int64) error {
	columns := energyColumns()
	args := make([]any, 0, len(columns)+2)
	row := uninterrupted(ctx)
	for _, rec := range recs {
		if err := ctx.Err(); err != nil {
			return err
		}
		args = args[:0]
		for _, c := range columns {
			v, err := argument(c.Ptr(rec))
			if err != nil {
				return err
			}
			args = append(args, v)
		}
		n, err := affected(s.write.settled.ExecContext(row, append(args, *seq+1, rec.ID)...))
		if err != nil {
			return err
		}
		if n > 0 {
			*seq++
			continue
		}
		if err := insertAll(ctx, s.write.request, requestsTable(), []*meter.Record{rec}, seq, always); err != nil {
			return err
		}
	}
	return nil
}

// uninterrupted is for statements of one row within a transaction, which wait for nothing: for one that
// could be interrupted the driver starts a goroutine, which costs a fifth of an insert.
func uninterrupted(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func always[T any](*T) bool { return true }

// insertAll inserts rows, numbering the final ones from seq on.
func insertAll[T any](ctx context.Context, stmt *sql.Stmt, t table[T], rows []*T, seq *int64, final func(*T) bool) error {
	args := make([]any, 0, len(t.columns)+1)
	one := uninterrupted(ctx)
	for _, row := range rows {
		err := ctx.Err()
		if err != nil {
			return err
		}
		if args, err = t.arguments(args[:0], row); err != nil {
			return err
		}
		if final(row) {
			*seq++
			args = append(args, *seq)
		} else {
			args = append(args, nil)
		}
		if _, err := stmt.ExecContext(one, args...); err != nil {
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
