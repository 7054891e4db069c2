package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"wattline/meter"
	"wattline/sink"
)

// writer has the connection of Write, its prepared statements, and memory that is reused from row to row.
type writer struct {
	conn *writeConn
	args arguments

	requests, power, ledger, configs, gaps *statement // INSERTs
	unsettled                              *statement // INSERT of a request without the columns of joules
	settle, setShipSeq                     *statement // UPDATEs
	shipSeq                                *statement // SELECT
	insertBlock, insertColumn              *statement
	prompt                                 *statement // INSERT

	tables        *tables
	energyColumns []sink.Column[meter.Record]
	tails         *tails
}

func newWriter(conn *writeConn, blocks blockTables) (*writer, error) {
	tables := newTables()
	w := &writer{conn: conn, tables: tables, energyColumns: energyColumns(), tails: newTails(blocks, tables)}
	const ignore = "ON CONFLICT DO NOTHING"
	for _, s := range []struct {
		to  **statement
		sql string
	}{
		{&w.requests, w.tables.requests.insert(ignore)},
		{&w.power, w.tables.power.insert(ignore)},
		{&w.ledger, w.tables.ledger.insert(ignore)},
		{&w.configs, w.tables.configs.insert(ignore)},
		{&w.gaps, w.tables.gaps.insert(ignore)},
		{&w.unsettled, w.tables.unsettled.insert(ignore)},
		{&w.settle, settleStatement()},
		{&w.shipSeq, "SELECT value FROM counters WHERE name = 'ship_seq'"},
		{&w.setShipSeq, "UPDATE counters SET value = ? WHERE name = 'ship_seq'"},
		{&w.prompt, insertPrompt},
		{&w.insertBlock, insertBlock},
		{&w.insertColumn, "INSERT INTO block_columns (id, data) VALUES (?, ?)"},
	} {
		var err error
		if *s.to, err = conn.prepare(s.sql); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// settleStatement updates the energy columns of a stored row unless the row is final, since a final one may have
// been shipped. Its parameters are the energy columns, ship_seq and id.
func settleStatement() string {
	var sets []string
	for _, c := range energyColumns() {
		sets = append(sets, c.Name+" = ?")
	}
	return "UPDATE requests SET " + strings.Join(sets, ", ") + ", ship_seq = ? WHERE id = ? AND ship_seq IS NULL"
}

// Write commits rows in one transaction. A request with pending energy gets no ship_seq until it comes again in Settled. All
// other rows get one now and never change afterwards.
func (s *Store) Write(ctx context.Context, rows *sink.Rows) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.write.conn.transact(func() error { return s.write.writeAll(ctx, rows) })
	if err != nil {
		s.write.tails.forget()
		return explain("write to", s.path, err)
	}
	for _, t := range s.write.tails.all {
		if t.known && t.builder.rows >= s.blockRows {
			s.cut(t)
		}
	}
	return nil
}

// writeAll writes rows and counts ship_seq up by one for each row that is final. It reads the counter each time, because a
// process that has handed over still writes its last rows.
func (w *writer) writeAll(ctx context.Context, rows *sink.Rows) error {
	before, _, err := w.shipSeq.number(nil)
	if err != nil {
		return err
	}
	if before != w.tails.shipSeq {
		w.tails.forget()
	}
	now := before
	seq := &now
	for _, err := range []error{
		w.insertRequests(ctx, rows.Requests, seq),
		w.settleAll(ctx, rows.Settled, seq),
		insertAll(ctx, w, w.power, w.tables.power, w.tails.power, rows.Power, seq, always),
		insertAll(ctx, w, w.ledger, w.tables.ledger, w.tails.ledger, rows.Ledger, seq, always),
		insertAll(ctx, w, w.configs, w.tables.configs, nil, rows.Configs, seq, always),
		insertAll(ctx, w, w.gaps, w.tables.gaps, nil, rows.Gaps, seq, always),
		w.insertPrompts(ctx, rows.Prompts),
	} {
		if err != nil {
			return err
		}
	}
	if *seq == before {
		return nil
	}
	w.tails.shipSeq = *seq
	w.args.reset()
	w.args.add(*seq)
	_, err = w.setShipSeq.run(w.args)
	return err
}

func isFinal(r *meter.Record) bool { return r.EnergyQuality != meter.EnergyPending }

// insertRequests inserts rows. One that will be settled has no joules yet: its statement leaves those columns out, which
// saves a tenth of the row's cost (results/store.md).
func (w *writer) insertRequests(ctx context.Context, recs []*meter.Record, seq *int64) error {
	for i, rec := range recs {
		insert, t := w.requests, w.tables.requests
		if !isFinal(rec) && !slices.ContainsFunc(w.tables.joules, func(c meter.Column) bool { return !c.Null(rec) }) {
			insert, t = w.unsettled, w.tables.unsettled
		}
		if err := insertAll(ctx, w, insert, t, w.tails.requests, recs[i:i+1], seq, isFinal); err != nil {
			return err
		}
	}
	return nil
}

// settleAll makes rows final. A row that was dropped by a full queue before is inserted whole; a row that is already final
// does not change.
func (w *writer) settleAll(ctx context.Context, recs []*meter.Record, seq *int64) error {
	for i, rec := range recs {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.args.reset()
		for _, c := range w.energyColumns {
			if err := w.args.addField(c.Ptr(rec)); err != nil {
				return err
			}
		}
		w.args.add(*seq + 1)
		w.args.add(rec.ID)
		changed, err := w.settle.run(w.args)
		if err != nil {
			return err
		}
		if changed > 0 {
			*seq++
			w.tails.requests.add(rec, *seq)
			continue
		}
		if err := insertAll(ctx, w, w.requests, w.tables.requests, w.tails.requests, recs[i:i+1], seq, always); err != nil {
			return err
		}
	}
	return nil
}

func always[T any](*T) bool { return true }

// insertAll inserts rows and numbers the final ones from seq + 1 on.
func insertAll[T any](ctx context.Context, w *writer, insert *statement, t table[T], tail *tailOf[T], rows []*T, seq *int64, isFinal func(*T) bool) error {
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.args.reset()
		if err := t.addTo(&w.args, row); err != nil {
			return err
		}
		final := isFinal(row)
		if final {
			*seq++
			w.args.add(*seq)
		} else {
			w.args.add(nil)
		}
		added, err := insert.run(w.args)
		if err != nil {
			return err
		}
		if final && added > 0 {
			tail.add(row, *seq)
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

// closePending makes pending rows final, with quality partial: the process that would have settled them has ended, and
// their samples are lost. It leaves rows above upTo, a rowid, alone, and cancelled ones above cancelledUpTo.
func (s *Store) closePending(ctx context.Context, upTo, cancelledUpTo int64) error {
	return transact(ctx, s.conn, func() error {
		n, err := affected(s.conn.ExecContext(ctx, `
			UPDATE requests SET ship_seq = nth + (SELECT value FROM counters WHERE name = 'ship_seq'),
				energy_quality = CASE energy_quality WHEN 'pending' THEN 'partial' ELSE energy_quality END
			FROM (SELECT rowid AS open, row_number() OVER (ORDER BY rowid) AS nth FROM requests WHERE ship_seq IS NULL AND rowid <= ? AND (outcome IS NOT ? OR rowid <= ?))
			WHERE requests.rowid = open`, upTo, string(meter.Cancelled), cancelledUpTo))
		if err != nil || n == 0 {
			return err
		}
		s.log.Info("rows whose energy was not settled before their process ended are now partial", "rows", n)
		_, err = s.conn.ExecContext(ctx, "UPDATE counters SET value = value + ? WHERE name = 'ship_seq'", n)
		return err
	})
}

// abandonedCalls is for how many calls of closeAbandoned a cancelled request may stay pending: its server may go on with it
// for ten minutes.
const abandonedCalls = 12

// closeAbandoned closes the rows that were pending at its last call already, and cancelled ones that were at twelve calls
// before. Call it at intervals that are longer than any process waits for a row's energy: a predecessor settles its rows
// itself, unless it is killed.
func (s *Store) closeAbandoned(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.closePending(ctx, s.seenUpTo[0], s.seenUpTo[abandonedCalls-1])
	if err == nil {
		copy(s.seenUpTo[1:], s.seenUpTo[:])
		err = s.conn.QueryRowContext(ctx, "SELECT coalesce(max(rowid), 0) FROM requests").Scan(&s.seenUpTo[0])
	}
	return explain("close rows in", s.path, err)
}
