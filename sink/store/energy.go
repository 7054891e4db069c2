package store

import (
	"context"
	"time"

	"wattline/sink"
)

// Power returns the rows of table power that begin in [from, to), in order of time.
func (r *Reader) Power(ctx context.Context, from, to time.Time) ([]*sink.Power, error) {
	return between(ctx, r, newTables().power, from, to)
}

// Ledger returns the rows of table ledger that begin in [from, to), in order of time.
func (r *Reader) Ledger(ctx context.Context, from, to time.Time) ([]*sink.Ledger, error) {
	return between(ctx, r, newTables().ledger, from, to)
}

func between[T any](ctx context.Context, r *Reader, t table[T], from, to time.Time) ([]*T, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, _, err := t.read(ctx, r.db, "rowid", "WHERE at >= ? AND at < ? ORDER BY at, device", literal(from), literal(to))
	return rows, explain("read", r.path, err)
}
