package proxy

import (
	"slices"
	"time"
)

// Inflight is one live request in /api/inflight.
type Inflight struct {
	ID        string    `json:"id"`
	Route     string    `json:"route"`
	StartedAt time.Time `json:"started_at"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Agent     string    `json:"agent,omitempty"`
	Phase     string    `json:"phase"` // sending, waiting, headed or producing
	AgeUs     int64     `json:"age_us"`
	TTFTUs    *int64    `json:"ttft_us"` // arrival of the first output - P0
	Events    int64     `json:"output_events"`
}

// Inflight lists the live requests, oldest first.
func (s *Server) Inflight() []Inflight {
	s.mu.Lock()
	out := make([]Inflight, 0, len(s.live))
	for _, x := range s.live {
		out = append(out, x.snapshot())
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Inflight) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}

// snapshot runs under the Server's lock, concurrently with the relaying goroutine.
func (x *exchange) snapshot() Inflight {
	f := Inflight{
		ID: x.id, Route: x.srv.cfg.Name, StartedAt: x.rec.StartedAt, Method: x.rec.Method, Path: x.rec.Path,
		Agent: x.rec.Agent, Events: x.events.Load(), Phase: "sending",
	}
	switch first := x.firstAt.Load(); {
	case first > 0:
		us := (first - x.marks.P0) / 1000
		f.TTFTUs, f.Phase = &us, "producing"
	case x.headedAt.Load() > 0:
		f.Phase = "headed"
	case x.sentAt.Load() > 0:
		f.Phase = "waiting"
	}
	f.AgeUs = (x.srv.now() - x.marks.P0) / 1000 // computed last, so that it is not below ttft_us
	return f
}
