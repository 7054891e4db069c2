package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// TablePrompts has the fingerprints of prompts. It is of this store alone: its rows are not shipped, have no ship_seq, and other
// versions of wattline do not mind it, so it needs no step of the schema.
const TablePrompts = "prompts"

const createPrompts = `
CREATE TABLE IF NOT EXISTS prompts ("id" TEXT NOT NULL UNIQUE, "started_at" TEXT NOT NULL, "fingerprint" BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS prompts_started_at ON prompts (started_at);
CREATE INDEX IF NOT EXISTS requests_cache_lost ON requests (started_at) WHERE cache_lost_tokens > 0; -- few rows: queries cache-*
`

const insertPrompt = "INSERT INTO prompts (id, started_at, fingerprint) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

func (w *writer) insertPrompts(ctx context.Context, rows []*sink.Prompt) error {
	for _, p := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.prompt.run(w.args.all(p.ID, literal(p.StartedAt), p.Fingerprint)); err != nil {
			return err
		}
	}
	return nil
}

// promptChunk is the number of fingerprints deleted in one transaction: they are large.
const promptChunk = 200

// expirePrompts deletes fingerprints from before a time.
func (s *Store) expirePrompts(ctx context.Context, before time.Time, expired *int64) error {
	for {
		n, err := s.exclusively(ctx, func() (int64, error) {
			return affected(s.conn.ExecContext(ctx, "DELETE FROM prompts WHERE rowid IN (SELECT rowid FROM prompts WHERE started_at < ? LIMIT ?)", literal(before), promptChunk))
		})
		*expired += n
		if err != nil || n < promptChunk {
			return err
		}
	}
}

// evictPrompts deletes the oldest fingerprints and returns how many.
func (s *Store) evictPrompts(ctx context.Context) (int64, error) {
	return s.exclusively(ctx, func() (int64, error) {
		return affected(s.conn.ExecContext(ctx, "DELETE FROM prompts WHERE rowid IN (SELECT rowid FROM prompts ORDER BY started_at LIMIT ?)", promptChunk))
	})
}

// KeptPrompt is a stored fingerprint with its request's row.
type KeptPrompt struct {
	Record      *meter.Record
	Fingerprint []byte
}

// Prompts returns the latest fingerprints since a time, at most limit, the oldest first. A store of an older version has none.
func (r *Reader) Prompts(ctx context.Context, since time.Time, limit int) (out []KeptPrompt, err error) {
	found, err := r.fingerprints(ctx, "WHERE started_at >= ? ORDER BY started_at DESC LIMIT ?", literal(since), limit)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	recs, _, err := r.requests(ctx, "rowid", "WHERE id IN (SELECT id FROM prompts WHERE started_at >= ? ORDER BY started_at DESC LIMIT ?) ORDER BY started_at", literal(since), limit)
	for _, rec := range recs {
		if b := found[rec.ID]; b != nil {
			out = append(out, KeptPrompt{rec, b})
		}
	}
	return out, err
}

// fingerprints reads fingerprints by the ids of their requests.
func (r *Reader) fingerprints(ctx context.Context, tail string, args ...any) (found map[string][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var there bool
	if err := r.db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'prompts'").Scan(&there); err != nil || !there {
		return nil, explain("read", r.path, err)
	}
	rows, err := r.db.QueryContext(ctx, "SELECT id, fingerprint FROM prompts "+tail, args...)
	if err != nil {
		return nil, explain("read", r.path, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found = map[string][]byte{}
	for rows.Next() {
		var id string
		var b sql.RawBytes
		if err := rows.Scan(&id, &b); err != nil {
			return nil, explain("read", r.path, err)
		}
		found[id] = append([]byte(nil), b...)
	}
	return found, explain("read", r.path, rows.Err())
}

// promptedChunk is the number of rows that EachPrompted reads at once, with their fingerprints.
const promptedChunk = 500

// EachPrompted calls f with every request of a user started at or after since and before until, the earliest first, and with
// its fingerprint, nil where none was kept. It holds no transaction while f runs.
func (r *Reader) EachPrompted(ctx context.Context, since, until time.Time, f func(*meter.Record, []byte) error) error {
	at, id := since, ""
	for {
		recs, _, err := r.requests(ctx, "rowid", "WHERE started_at >= ? AND (started_at, id) > (?, ?) AND started_at < ? AND ("+sink.Work+") ORDER BY started_at, id LIMIT ?",
			literal(at), literal(at), id, literal(until), promptedChunk)
		if err != nil || len(recs) == 0 {
			return err
		}
		last := recs[len(recs)-1]
		found, err := r.fingerprints(ctx, "WHERE started_at BETWEEN ? AND ?", literal(recs[0].StartedAt), literal(last.StartedAt))
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if err := f(rec, found[rec.ID]); err != nil {
				return err
			}
		}
		at, id = last.StartedAt, last.ID
	}
}

// Config returns the row of table configs with this id, nil where there is none.
func (r *Reader) Config(ctx context.Context, id string) (*sink.ServerConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	found, _, err := newTables().configs.read(ctx, r.db, "rowid", "WHERE config_id = ?", id)
	if err != nil || len(found) == 0 {
		return nil, explain("read", r.path, err)
	}
	return found[0], nil
}
