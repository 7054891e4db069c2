package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// Batch is a fixed set of rows of one table on its way to a database. Exactly one of the row slices is
// filled, the one of Table, in ship_seq order, and beside IDs.
type Batch struct {
	Seq   int64  // number in table batches
	Token string // 32 hex digits, random ones and a hash of the rows: the deduplication token
	Table string // TableRequests, TablePower, TableLedger, TableConfigs or TableGaps
	// IDs identify the rows anywhere: a request's id, a sample's instance, device and time, a config's id.
	IDs []string
	// Again is whether NextBatch has returned this batch before, in this or an earlier process: the rows may have been sent.
	Again bool

	Requests []*meter.Record
	Power    []*sink.Power
	Ledger   []*sink.Ledger
	Configs  []*sink.ServerConfig
	Gaps     []*sink.Gaps

	first, last int64   // ship_seq range
	seqs        []int64 // ship_seq of the rows, beside IDs
}

// keptBatches is the number of confirmed batches kept in table batches, for diagnosis.
const keptBatches = 1000

// gapsWeight is the size of a row of itl_gaps, in rows of other tables.
const gapsWeight = 20

// NextBatch returns the batch to send now, or nil when nothing waits. An unconfirmed batch is returned again with the same
// rows and token, whatever maxRows is. Else the oldest waiting rows of one table, at most maxRows, become a new batch. It and
// its rows are on the disk before NextBatch returns, so that no power loss can take back what was sent.
func (s *Store) NextBatch(ctx context.Context, maxRows int) (*Batch, error) {
	s.fixing.Lock()
	defer s.fixing.Unlock()
	b, err := s.openBatch(ctx, s.reads)
	if err == nil && b == nil {
		b, err = s.fixBatch(ctx, maxRows)
	}
	if err != nil {
		return nil, explain("pick rows to ship from", s.path, err)
	}
	return b, nil
}

// ConfirmBatch records that the rows of the batch have arrived, but for those with the ids of missing: they wait again, as the
// newest rows, for another batch. Confirming twice is harmless.
func (s *Store) ConfirmBatch(ctx context.Context, seq int64, missing ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := transact(ctx, s.conn, func() error {
		if err := s.requeue(ctx, seq, missing); err != nil {
			return err
		}
		_, err := s.conn.ExecContext(ctx, `
			UPDATE counters SET value = b.last_ship_seq FROM batches AS b
			WHERE b.seq = ? AND b.confirmed_at IS NULL AND counters.name = 'shipped_' || b.of_table`, seq)
		if err != nil {
			return err
		}
		_, err = s.conn.ExecContext(ctx, "UPDATE batches SET confirmed_at = ? WHERE seq = ? AND confirmed_at IS NULL", literal(time.Now()), seq)
		if err != nil {
			return err
		}
		_, err = s.conn.ExecContext(ctx, "DELETE FROM batches WHERE confirmed_at IS NOT NULL AND seq <= ?", seq-keptBatches)
		return err
	})
	return explain("confirm a batch in", s.path, err)
}

// requeue gives rows of the unconfirmed batch the next numbers. Blocks that have the old ones are made again.
func (s *Store) requeue(ctx context.Context, seq int64, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	b, err := s.openBatch(ctx, s.conn)
	if err != nil {
		return err
	}
	if b == nil || b.Seq != seq {
		return fmt.Errorf("batch %d is not open", seq)
	}
	var shipSeq int64
	if err := s.conn.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = 'ship_seq'").Scan(&shipSeq); err != nil {
		return err
	}
	lacks := make(map[string]bool, len(missing))
	for _, id := range missing {
		lacks[id] = true
	}
	for i, id := range b.IDs {
		if !lacks[id] {
			continue
		}
		shipSeq++
		if _, err := s.conn.ExecContext(ctx, "UPDATE "+b.Table+" SET ship_seq = ? WHERE ship_seq = ?", shipSeq, b.seqs[i]); err != nil { //nolint:gosec // a table of ours
			return err
		}
	}
	if _, err := s.conn.ExecContext(ctx, "DELETE FROM blocks WHERE of_table = ? AND last_ship_seq >= ? AND after_ship_seq < ?", b.Table, b.first, b.last); err != nil {
		return err
	}
	_, err = s.conn.ExecContext(ctx, "UPDATE counters SET value = ? WHERE name = 'ship_seq'", shipSeq)
	return err
}

// openBatch returns the unconfirmed batch, if there is one.
func (s *Store) openBatch(ctx context.Context, db querier) (*Batch, error) {
	b := &Batch{Again: true}
	var rows int
	err := db.QueryRowContext(ctx, "SELECT seq, token, of_table, rows, first_ship_seq, last_ship_seq FROM batches WHERE confirmed_at IS NULL").
		Scan(&b.Seq, &b.Token, &b.Table, &rows, &b.first, &b.last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := b.load(ctx, db, -1); err != nil {
		return nil, err
	}
	if len(b.IDs) != rows || b.Token != b.token(b.Token[:nonceDigits]) && b.Token != b.token("") {
		return nil, &Error{Kind: ErrDamaged, Path: s.path, text: fmt.Sprintf(
			"batch %d of %s had %d rows and now has %d others: the store was changed from outside; delete that row from table batches to ship the remaining rows", b.Seq, s.path, rows, len(b.IDs))}
	}
	return b, nil
}

// fixBatch makes a batch of the oldest waiting rows.
func (s *Store) fixBatch(ctx context.Context, maxRows int) (*Batch, error) {
	b, err := s.oldestWaiting(ctx)
	if err != nil || b == nil {
		return nil, err
	}
	if b.Table == TableGaps {
		maxRows = max(1, maxRows/gapsWeight)
	}
	if err := b.load(ctx, s.reads, maxRows); err != nil || len(b.IDs) == 0 {
		return nil, err
	}
	b.Token = b.token(fmt.Sprintf("%0*x", nonceDigits, rand.Uint32()))
	s.mu.Lock()
	defer s.mu.Unlock()
	res, err := s.conn.ExecContext(ctx, "INSERT INTO batches (token, of_table, rows, first_ship_seq, last_ship_seq, made_at) VALUES (?, ?, ?, ?, ?, ?)",
		b.Token, b.Table, len(b.IDs), b.first, b.last, literal(time.Now()))
	if err != nil {
		return nil, err
	}
	b.Seq, err = res.LastInsertId()
	return b, err
}

// oldestWaiting returns a batch without rows, of the table that has the oldest waiting row, or nil. Its range has no upper
// bound yet.
func (s *Store) oldestWaiting(ctx context.Context) (*Batch, error) {
	var oldest *Batch
	for _, t := range newTables().all() {
		name := t.tableName()
		var first sql.NullInt64
		err := s.reads.QueryRowContext(ctx, "SELECT min(ship_seq) FROM "+name+" WHERE ship_seq > (SELECT value FROM counters WHERE name = ?)", "shipped_"+name).Scan(&first)
		if err != nil {
			return nil, err
		}
		if first.Valid && (oldest == nil || first.Int64 < oldest.first) {
			oldest = &Batch{Table: name, first: first.Int64, last: 1<<63 - 1}
		}
	}
	return oldest, nil
}

// load reads the rows of the batch's range, at most limit (-1: all), and narrows the range to them.
func (b *Batch) load(ctx context.Context, db querier, limit int) error {
	for _, t := range newTables().all() {
		if t.tableName() == b.Table {
			return t.load(ctx, b, db, limit)
		}
	}
	return fmt.Errorf("a batch of unknown table %q", b.Table)
}

// nonceDigits is the length of the random beginning of a token.
const nonceDigits = 8

// token is a nonce and a hash of the rows. A copy of the file that is put back, and rows that wait again, make batches of the
// same rows under tokens that ClickHouse has not seen. An earlier version of wattline used none ("").
func (b *Batch) token(nonce string) string {
	sum := sha256.Sum256([]byte(nonce + b.Table + "\n" + strings.Join(b.IDs, "\n")))
	return nonce + hex.EncodeToString(sum[:16])[len(nonce):]
}

// Lost returns the number of rows dropped by the size limit before they were shipped.
func (s *Store) Lost(ctx context.Context) (n int64, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT sum(value) FROM counters WHERE name LIKE 'lost\_%' ESCAPE '\'`).Scan(&n)
	return n, explain("count what was lost in", s.path, err)
}

// Waiting counts the rows that have not been shipped yet.
type Waiting struct {
	Rows    map[string]int64 // final rows that are not confirmed, by table
	Pending int64            // requests with pending energy: they cannot ship yet
	Oldest  time.Time        // start of the oldest waiting request; zero without one
}

// Waiting counts the rows that wait.
func (s *Store) Waiting(ctx context.Context) (Waiting, error) {
	w := Waiting{Rows: map[string]int64{}}
	oldest := sql.NullString{}
	err := s.reads.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM requests WHERE ship_seq IS NULL),
			(SELECT started_at FROM requests WHERE ship_seq > (SELECT value FROM counters WHERE name = 'shipped_requests') ORDER BY ship_seq LIMIT 1)`).
		Scan(&w.Pending, &oldest)
	for _, t := range newTables().all() {
		if err != nil {
			break
		}
		var n int64
		name := t.tableName()
		err = s.reads.QueryRowContext(ctx, "SELECT count(*) FROM "+name+" WHERE ship_seq > (SELECT value FROM counters WHERE name = ?)", "shipped_"+name).Scan(&n)
		w.Rows[name] = n
	}
	if err == nil && oldest.Valid {
		w.Oldest, err = time.Parse(TimeLayout, oldest.String)
	}
	return w, explain("count what waits in", s.path, err)
}
