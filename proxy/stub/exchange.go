package stub

import (
	"context"
	"fmt"
	"hash/crc64"
	"net/http"
	"slices"
	"time"
)

// Exchange records one request and its reply. A zero time means that it has not happened.
type Exchange struct {
	ID     string // the request's X-Request-Id
	Header http.Header

	Arrived    time.Time // last byte of the request
	Headed     time.Time // the head was written
	First      time.Time // the first token was written
	Ended      time.Time // the reply was complete, or given up
	PeerClosed time.Time // the peer's FIN or reset, also after the end of the reply

	Complete bool // the reply was written to its end
	Output   int  // tokens written

	Writes    int // write calls
	WireBytes int64
	WireSum   uint64 // CRC-64 (ECMA) of the reply's bytes, head and framing included
}

// Exchanges returns copies of all exchanges so far, in order of arrival. It needs Config.Record.
func (s *Server) Exchanges() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Exchange, len(s.exchanges))
	for i, e := range s.exchanges {
		out[i] = *e
	}
	return out
}

// Await waits until the newest exchange with this X-Request-Id ("": any) satisfies until, and returns a copy.
// It needs Config.Record.
func (s *Server) Await(ctx context.Context, id string, until func(Exchange) bool) (Exchange, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		var last *Exchange
		for _, e := range slices.Backward(s.exchanges) {
			if id == "" || e.ID == id {
				last = e
				break
			}
		}
		if last != nil && until(*last) {
			e := *last
			s.mu.Unlock()
			return e, nil
		}
		s.awaiting++
		s.mu.Unlock()
		select {
		case <-changed:
			s.awaited()
		case <-ctx.Done():
			s.awaited()
			if last == nil {
				return Exchange{}, fmt.Errorf("stub: no request %q came: %w", id, ctx.Err())
			}
			return Exchange{}, fmt.Errorf("stub: request %q did not reach the awaited state: %w", id, ctx.Err())
		}
	}
}

func (s *Server) awaited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaiting--
}

// open makes an exchange and, with Config.Record, keeps it.
func (s *Server) open(r *request) *Exchange {
	e := &Exchange{ID: r.Header.Get("X-Request-Id"), Arrived: r.arrived}
	if !s.cfg.Record {
		return e
	}
	e.Header = r.Header
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges = append(s.exchanges, e)
	s.announce()
	return e
}

// note changes an exchange and wakes callers of Await.
func (s *Server) note(change func()) {
	if !s.cfg.Record {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.announce()
}

// announce wakes Await. The caller holds mu.
func (s *Server) announce() {
	if s.awaiting == 0 {
		return
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

//nolint:gochecknoglobals // a constant table
var crcTable = crc64.MakeTable(crc64.ECMA)
