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
	// Of the batches:
	FoundComplete uint64 // the rows were all there: nothing was sent
	Resent        uint64 // sent again under the same token
	Refilled      uint64 // only some of the rows were there: the others were given another batch
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
	s.Rows[b.Table] += uint64(len(b.IDs) - len(out.missing))
	s.Batches++
	s.Doubled += out.doubled
	if out.foundComplete {
		s.FoundComplete++
	}
	if out.resent {
		s.Resent++
	}
	if len(out.missing) > 0 {
		s.Refilled++
	}
}
