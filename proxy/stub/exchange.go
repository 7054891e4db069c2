package stub

import (
	"context"
	"fmt"
	"hash/crc64"
	"net/http"
	"slices"
	"time"
)

// Write is one write call on the peer's connection.
type Write struct {
	At time.Time // just before the call; with Go's monotonic reading
	N  int
}

// Exchange is what a Server did with one request. A time that is zero has not happened.
type Exchange struct {
	ID     string // the request's X-Request-Id
	Method string
	Target string
	Header http.Header

	BodyBytes int64
	BodySum   uint64 // CRC-64 (ECMA) of the request's body, framing removed

	Arrived    time.Time // last byte of the request
	Slotted    time.Time // a slot started
	Headed     time.Time // the head was written
	First      time.Time // the first token was written
	Last       time.Time // the last token was written
	Ended      time.Time // the reply was complete, or given up
	PeerClosed time.Time // the peer's FIN or reset, also behind the end of the reply

	Complete bool // the reply was written to its end
	Slot     int  // -1: none
	Prompt   int  // tokens
	Cached   int  // of those
	Output   int  // tokens written

	Writes    []Write
	WireBytes int64
	WireSum   uint64 // CRC-64 (ECMA) of the reply's bytes, head and framing included
	Wire      []byte // those bytes, with KeepBytes
}

// Exchanges returns copies of all exchanges so far, in order of arrival. It needs Config.Record.
func (s *Server) Exchanges() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Exchange, len(s.exchanges))
	for i, e := range s.exchanges {
		out[i] = e.copy()
	}
	return out
}

// Await returns a copy of the newest exchange whose request had X-Request-Id: id ("" for any), as soon
// as until holds for it. It needs Config.Record.
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
			e := last.copy()
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
			return Exchange{}, fmt.Errorf("stub: request %q did not come to what was awaited: %w", id, ctx.Err())
		}
	}
}

func (s *Server) awaited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaiting--
}

func (e *Exchange) copy() Exchange {
	c := *e
	c.Writes, c.Wire = slices.Clone(e.Writes), slices.Clone(e.Wire)
	return c
}

// open makes an exchange; one that is not recorded is only a place to note things in.
func (s *Server) open(r *request) *Exchange {
	e := &Exchange{
		ID: r.Header.Get("X-Request-Id"), Method: r.Method, Target: r.RequestURI,
		BodyBytes: r.bodyBytes, BodySum: r.bodySum, Arrived: r.arrived, Slot: -1,
	}
	if !s.cfg.Record {
		return e
	}
	e.Header = r.Header.Clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges = append(s.exchanges, e)
	s.announce()
	return e
}

// note changes an exchange and wakes whoever awaits one.
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

// Sum is the checksum in BodySum and WireSum.
func Sum(p []byte) uint64 { return crc64.Checksum(p, crcTable) }
