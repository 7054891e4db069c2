package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Retention is how long rows are kept. Zero values mean the default.
type Retention struct {
	Requests time.Duration // requests and minutes of power and ledger; default 400 days
	Samples  time.Duration // seconds of power and ledger, which then become minutes; default 14 days
	Gaps     time.Duration // raw gaps; default 7 days
	Prompts  time.Duration // fingerprints; default 7 days
	// MaxBytes is the limit of the size of all rows, with their indices and blocks (default 2 GiB). Above it the oldest are
	// deleted, shipped or not.
	MaxBytes int64
	// Shipping keeps rows that were not shipped until MaxBytes forces them out; those are counted as lost.
	Shipping bool
}

// KeepFor is the time of a Retention that keeps rows for d: of 0 it keeps none, where a Retention's zero means the default.
func KeepFor(d time.Duration) time.Duration { return max(d, 1) }

// WithDefaults replaces zero values by the defaults.
func (r Retention) WithDefaults() Retention {
	if r.Requests <= 0 {
		r.Requests = 400 * 24 * time.Hour
	}
	if r.Samples <= 0 {
		r.Samples = 14 * 24 * time.Hour
	}
	if r.Gaps <= 0 {
		r.Gaps = 7 * 24 * time.Hour
	}
	if r.Prompts <= 0 {
		r.Prompts = 7 * 24 * time.Hour
	}
	if r.MaxBytes <= 0 {
		r.MaxBytes = 2 << 30
	}
	return r
}

// RetentionResult counts the rows of one EnforceRetention.
type RetentionResult struct {
	Expired     int64 // rows deleted for their age
	Downsampled int64 // rows merged into minutes
	Evicted     int64 // rows deleted because of MaxBytes
	Lost        int64 // those of Evicted that were to be shipped and had not been
}

const (
	// retentionChunk is the number of rows deleted in one transaction, so that Write never waits long.
	retentionChunk = 2000
	// retentionInterval is the time between two runs of RunRetention.
	retentionInterval = time.Minute
	// logInterval is the time between two looks at the log's size: 200 requests a second write a megabyte a second.
	logInterval = 5 * time.Second
)

// RunRetention applies a retention, and closes rows of processes that were killed, once a minute until ctx ends. It logs
// lost rows, and, at most once an hour, failures and that the file was moved or deleted.
func (s *Store) RunRetention(ctx context.Context, r Retention) {
	tick := time.NewTicker(retentionInterval)
	defer tick.Stop()
	logTick := time.NewTicker(logInterval)
	defer logTick.Stop()
	var loggedAt, goneAt, toldAt, unpackedAt time.Time
	for {
		if s.gone() && time.Since(goneAt) > time.Hour {
			s.log.Error("the store's file was moved or deleted: rows are still written to the moved file; put it back or restart wattline", "path", s.path)
			goneAt = time.Now()
		}
		done, err := s.EnforceRetention(ctx, time.Now(), r)
		err = errors.Join(err, s.closeAbandoned(ctx))
		tick.Reset(retentionInterval) // a whole one to the next closeAbandoned, however long the rest takes
		if done.Lost > 0 {
			s.log.Warn("the store reached its size limit: the oldest rows were dropped before they were shipped",
				"rows", done.Lost, "path", s.path, "limit_bytes", r.WithDefaults().MaxBytes)
		}
		if err != nil && ctx.Err() == nil && time.Since(loggedAt) > time.Hour {
			s.log.Error("retention failed", "error", err)
			loggedAt = time.Now()
		}
		if _, err := s.Pack(ctx); err != nil && ctx.Err() == nil && time.Since(unpackedAt) > time.Hour {
			s.log.Warn("rows are not copied for fast queries; these read the rows themselves", "error", err)
			unpackedAt = time.Now()
		}
		for due := false; !due; {
			select {
			case <-tick.C:
				due = true
			case <-logTick.C:
				s.keepLogSmall(ctx, &toldAt)
			case <-ctx.Done():
				return
			}
		}
	}
}

// EnforceRetention deletes and downsamples rows that are too old at now, then deletes the oldest ones above MaxBytes. Its transactions are small, so that Write can run in between.
func (s *Store) EnforceRetention(ctx context.Context, now time.Time, r Retention) (RetentionResult, error) {
	r = r.WithDefaults()
	var done RetentionResult
	old, oldGaps := now.Add(-r.Requests), now.Add(-r.Gaps)
	err := s.expire(ctx, r.Shipping, &done.Expired,
		expiry{TableRequests, "started_at", old}, expiry{TablePower, "at", old}, expiry{TableLedger, "at", old}, expiry{TableGaps, "started_at", oldGaps})
	if err == nil {
		err = s.expirePrompts(ctx, now.Add(-r.Prompts), &done.Expired)
	}
	if err == nil {
		err = downsampleTable(ctx, s, newTables().power, downsamplePower, now.Add(-r.Samples), r.Shipping, &done.Downsampled)
	}
	if err == nil {
		err = downsampleTable(ctx, s, newTables().ledger, downsampleLedger, now.Add(-r.Samples), r.Shipping, &done.Downsampled)
	}
	if err == nil {
		err = s.evict(ctx, r.MaxBytes, r.Shipping, &done)
	}
	if err == nil {
		err = s.shrink(ctx, r.MaxBytes)
	}
	return done, explain("enforce retention in", s.path, err)
}

// isExpendable returns the condition on rows that may expire: they were shipped, or there is no shipping and no unconfirmed
// batch has them.
func isExpendable(table string, shipping bool) string {
	if shipping {
		return "ship_seq <= (SELECT value FROM counters WHERE name = 'shipped_" + table + "')"
	}
	return "ship_seq IS NOT NULL AND NOT EXISTS (SELECT 1 FROM batches WHERE confirmed_at IS NULL AND of_table = '" + table +
		"' AND ship_seq BETWEEN first_ship_seq AND last_ship_seq)"
}

// expiry is the time before which rows of a table expire, by column at.
type expiry struct {
	table, at string
	before    time.Time
}

// expire deletes rows that are too old.
func (s *Store) expire(ctx context.Context, shipping bool, expired *int64, what ...expiry) error {
	for _, t := range what {
		for {
			n, err := s.exclusively(ctx, func() (int64, error) {
				return affected(s.conn.ExecContext(ctx, "DELETE FROM "+t.table+" WHERE rowid IN (SELECT rowid FROM "+t.table+
					" WHERE "+t.at+" < ? AND "+isExpendable(t.table, shipping)+" LIMIT ?)", literal(t.before), retentionChunk))
			})
			if err != nil {
				return err
			}
			*expired += n
			if n < retentionChunk {
				break
			}
		}
	}
	return nil
}

// exclusively runs f in a transaction, and never while the rows of a batch are being chosen.
func (s *Store) exclusively(ctx context.Context, f func() (int64, error)) (n int64, err error) {
	s.fixing.Lock()
	defer s.fixing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	err = transact(ctx, s.conn, func() error {
		var err error
		n, err = f()
		return err
	})
	if n > 0 {
		s.write.tails.forget()
	}
	return n, err
}

// downsampleTable merges the seconds before a time into minutes, one hour in a transaction.
func downsampleTable[T any](ctx context.Context, s *Store, t table[T], merge func([]*T) ([]*T, []int), before time.Time, shipping bool, downsampled *int64) error {
	before = before.Truncate(downsampledSpan)
	for {
		more := false
		n, err := s.exclusively(ctx, func() (n int64, err error) {
			n, more, err = downsampleHour(ctx, s, t, merge, before, shipping)
			return n, err
		})
		*downsampled += n
		if err != nil || !more {
			return err
		}
	}
}

// downsampleHour downsamples the oldest hour that still has seconds. It does nothing while that hour has rows that must not
// change because they have not been shipped.
func downsampleHour[T any](ctx context.Context, s *Store, t table[T], merge func([]*T) ([]*T, []int), before time.Time, shipping bool) (n int64, more bool, err error) {
	var done int64
	if err = s.conn.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = ?", "thinned_"+t.name).Scan(&done); err != nil {
		return 0, false, err
	}
	var oldest sql.NullString
	err = s.conn.QueryRowContext(ctx, "SELECT min(at) FROM "+t.name+" WHERE at >= ?", literal(time.UnixMicro(done))).Scan(&oldest)
	if err != nil || !oldest.Valid {
		return 0, false, err
	}
	start, err := time.Parse(TimeLayout, oldest.String)
	if err != nil {
		return 0, false, err
	}
	end := start.Truncate(downsampledSpan).Add(time.Hour)
	if end.After(before) {
		end = before
	}
	if !start.Before(end) {
		return 0, false, nil
	}
	const window = " WHERE at >= ? AND at < ?"
	bounds := []any{literal(start), literal(end)}
	var kept int
	err = s.conn.QueryRowContext(ctx, "SELECT count(*) FROM "+t.name+window+" AND NOT ("+isExpendable(t.name, shipping)+")", bounds...).Scan(&kept)
	if err != nil || kept > 0 {
		return 0, false, err
	}
	rows, seqs, err := t.read(ctx, s.conn, "ship_seq", window+" ORDER BY at", bounds...)
	if err != nil {
		return 0, false, err
	}
	if _, err = s.conn.ExecContext(ctx, "DELETE FROM "+t.name+window, bounds...); err != nil { //nolint:gosec // a table of ours
		return 0, false, err
	}
	if err = insertDownsampled(ctx, s.conn, t, merge, rows, seqs); err != nil {
		return 0, false, err
	}
	_, err = s.conn.ExecContext(ctx, "UPDATE counters SET value = ? WHERE name = ?", end.UnixMicro(), "thinned_"+t.name)
	return int64(len(rows)), true, err
}

// insertDownsampled writes the merged rows. Each gets the highest ship_seq of the rows it replaces: all of them were shipped,
// or none will be.
func insertDownsampled[T any](ctx context.Context, conn *sql.Conn, t table[T], merge func([]*T) ([]*T, []int), rows []*T, seqs []int64) error {
	merged, into := merge(rows)
	highest := make([]int64, len(merged))
	for i, m := range into {
		highest[m] = max(highest[m], seqs[i])
	}
	insert := t.insert("")
	for i, row := range merged {
		args := make([]any, 0, len(t.columns)+1)
		for _, c := range t.columns {
			v, err := fieldValue(c.Ptr(row))
			if err != nil {
				return err
			}
			args = append(args, v)
		}
		if _, err := conn.ExecContext(ctx, insert, append(args, highest[i])...); err != nil {
			return err
		}
	}
	return nil
}

// Size is the size of a store.
type Size struct {
	FileBytes int64 // of the database file
	UsedBytes int64 // of it, used by rows and indices
}

// Size returns the size of the store.
func (s *Store) Size(ctx context.Context) (Size, error) {
	var pages, free, page int64
	err := s.reads.QueryRowContext(ctx, "SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_size FROM pragma_page_size)").Scan(&pages, &free, &page)
	return Size{pages * page, (pages - free) * page}, explain("measure", s.path, err)
}

// evict deletes the oldest rows of all tables until the rest takes 95 % of limit.
func (s *Store) evict(ctx context.Context, limit int64, shipping bool, done *RetentionResult) error {
	target := limit
	for {
		size, err := s.Size(ctx)
		if err != nil || size.UsedBytes <= target {
			return err
		}
		target = limit / 100 * 95
		if n, err := s.evictPrompts(ctx); err != nil || n > 0 { // what is easiest to do without
			if done.Evicted += n; err != nil {
				return err
			}
			continue
		}
		var lost int64
		n, err := s.exclusively(ctx, func() (n int64, err error) {
			n, lost, err = evictChunk(ctx, s.conn, shipping)
			return n, err
		})
		if err != nil {
			return err
		}
		done.Evicted, done.Lost = done.Evicted+n, done.Lost+lost
		if n == 0 {
			return nil // no rows are left to delete
		}
	}
}

// evictChunk deletes the rows with the lowest ship_seq of all tables. It deletes all rows of an unconfirmed batch or none:
// an incomplete batch could not be confirmed.
func evictChunk(ctx context.Context, conn *sql.Conn, shipping bool) (n, lost int64, err error) {
	var upTo sql.NullInt64
	err = conn.QueryRowContext(ctx, `
		WITH oldest(seq) AS (
			SELECT * FROM (SELECT ship_seq FROM requests WHERE ship_seq IS NOT NULL ORDER BY ship_seq LIMIT ?1)
			UNION ALL SELECT * FROM (SELECT ship_seq FROM power ORDER BY ship_seq LIMIT ?1)
			UNION ALL SELECT * FROM (SELECT ship_seq FROM ledger ORDER BY ship_seq LIMIT ?1)
			UNION ALL SELECT * FROM (SELECT ship_seq FROM itl_gaps ORDER BY ship_seq LIMIT ?1)),
		chunk(seq) AS (SELECT max(seq) FROM (SELECT seq FROM oldest ORDER BY seq LIMIT ?1))
		SELECT max(seq, coalesce((SELECT last_ship_seq FROM batches WHERE confirmed_at IS NULL AND of_table <> ?2 AND first_ship_seq <= seq), 0)) FROM chunk`,
		retentionChunk, TableConfigs).Scan(&upTo)
	if err != nil || !upTo.Valid {
		return 0, 0, err
	}
	if _, err = conn.ExecContext(ctx, "DELETE FROM batches WHERE confirmed_at IS NULL AND of_table <> ? AND last_ship_seq <= ?", TableConfigs, upTo.Int64); err != nil {
		return 0, 0, err
	}
	for _, t := range []string{TableRequests, TablePower, TableLedger, TableGaps} {
		unshipped, err := affected(conn.ExecContext(ctx, "DELETE FROM "+t+" WHERE ship_seq <= ? AND ship_seq > (SELECT value FROM counters WHERE name = ?)", upTo.Int64, "shipped_"+t))
		if err != nil {
			return 0, 0, err
		}
		shipped, err := affected(conn.ExecContext(ctx, "DELETE FROM "+t+" WHERE ship_seq <= ?", upTo.Int64))
		if err != nil {
			return 0, 0, err
		}
		n += unshipped + shipped
		if !shipping {
			continue
		}
		if _, err = conn.ExecContext(ctx, "UPDATE counters SET value = value + ? WHERE name = ?", unshipped, "lost_"+t); err != nil {
			return 0, 0, err
		}
		lost += unshipped
	}
	return n, lost, nil
}

// shrink returns free pages to the file system if they are more than a quarter of the file, or if the file is above the
// limit. Fewer are kept for the next rows.
func (s *Store) shrink(ctx context.Context, limit int64) error {
	for {
		size, err := s.Size(ctx)
		if err != nil || size.FileBytes == size.UsedBytes {
			return err
		}
		if free := size.FileBytes - size.UsedBytes; size.FileBytes <= limit && free < size.FileBytes/4 {
			return nil
		}
		s.mu.Lock()
		_, err = s.conn.ExecContext(ctx, "PRAGMA incremental_vacuum(1000)")
		s.mu.Unlock()
		if err != nil {
			return err
		}
		after, err := s.Size(ctx)
		if err != nil || after.FileBytes == size.FileBytes {
			return err
		}
	}
}
