package clickhouse

import (
	"maps"

	"wattline/sink/store"
)

// Stats are a shipper's counters since it was made.
type Stats struct {
	Rows     map[string]uint64 // rows confirmed, by table
	Batches  uint64            // batches confirmed
	Failures uint64            // failed attempts, whether or not a batch was sent; each is retried
	// Of the batches sent more than once:
	FoundComplete uint64 // the rows had all arrived before: nothing was sent again
	Resent        uint64 // sent again under the same token
	Refilled      uint64 // the token was remembered but rows were missing: only those were sent, under another token
	Doubled       uint64 // rows found more than once; should be 0

	LastError string // "" while shipping works
}

// Stats returns the counters as they are now.
func (s *Shipper) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Rows = maps.Clone(s.stats.Rows)
	return out
}

func (s *Stats) shipped(b *store.Batch, out outcome) {
	s.Rows[b.Table] += uint64(len(b.IDs))
	s.Batches++
	s.Doubled += out.doubled
	if out.foundComplete {
		s.FoundComplete++
	}
	if out.resent {
		s.Resent++
	}
	if out.refilled {
		s.Refilled++
	}
}
