package proxy

import (
	"slices"
	"sync/atomic"
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
	Session   string    `json:"session,omitempty"`
	Model     string    `json:"model,omitempty"` // that it asks for, once its body was read
	Phase     string    `json:"phase"`           // sending, waiting, headed or producing
	AgeUs     int64     `json:"age_us"`
	TTFTUs    *int64    `json:"ttft_us"` // arrival of the first output - P0
	Events    int64     `json:"output_events"`

	Seq               uint64    `json:"-"` // as in Event
	SentAt, HeadedAt  time.Time `json:"-"` // P1 and H; zero before
	FirstAt           time.Time `json:"-"` // T1; zero before
	Streams, Computes bool      `json:"-"` // as in meter.Work; false before P1
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
		Agent: x.rec.Agent, Session: x.rec.Session, Events: x.events.Load(), Phase: "sending",
		Seq: x.seq, SentAt: x.wall(&x.sentAt), HeadedAt: x.wall(&x.headedAt), FirstAt: x.wall(&x.firstAt),
	}
	if x.worked.Load() {
		f.Model, f.Streams, f.Computes = x.work.Model, x.work.Streams, x.work.Computes
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

// wall is the time of a mark; zero before it.
func (x *exchange) wall(mark *atomic.Int64) (at time.Time) {
	if ns := mark.Load(); ns > 0 {
		at = x.rec.StartedAt.Add(time.Duration(ns - x.marks.P0))
	}
	return at
}
