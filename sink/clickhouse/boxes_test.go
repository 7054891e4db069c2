package clickhouse

import (
	"wattline/sink/store"
)

// insertTwice sends the outbox's first batch twice, blindly, under its token, and confirms nothing.
func (w *world) insertTwice(c *Client, s *store.Store) {
	w.t.Helper()
	found, err := c.inspect(w.t.Context())
	must(w.t, err)
	b, err := s.NextBatch(w.t.Context(), 500)
	must(w.t, err)
	r, err := rowsOf(b, "fallback")
	must(w.t, err)
	sc := current()
	for range 2 {
		must(w.t, c.insert(w.t.Context(), sc.table(b.Table), found[b.Table], r))
	}
}
