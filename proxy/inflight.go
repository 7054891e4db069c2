package proxy

import (
	"slices"
	"time"
)

// Inflight is one live request, as /api/inflight shows it.
type Inflight struct {
	ID        string    `json:"id"`
	Route     string    `json:"route"`
	StartedAt time.Time `json:"started_at"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Agent     string    `json:"agent,omitempty"`
	Phase     string    `json:"phase"` // sending, waiting, headed or producing
	AgeUs     int64     `json:"age_us"`
	TTFTUs    *int64    `json:"ttft_us"` // first output's arrival - P0, so far
	Events    int64     `json:"output_events"`
}

// Inflight lists the live requests, oldest first.
func (s *Server) Inflight() []Inflight {
	now := s.now()
	s.mu.Lock()
	out := make([]Inflight, 0, len(s.live))
	for _, x := range s.live {
		out = append(out, x.snapshot(now))
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Inflight) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}
