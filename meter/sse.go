package meter

import "bytes"

// sse splits a text/event-stream into events by the WHATWG rules (HTML Living Standard, "Interpreting
// an event stream"): lines end in LF, CR or CRLF, one byte order mark at the start is dropped, lines
// that begin with a colon are comments, several data lines are joined by LF, an event whose blank line
// never came is not one. It holds no line: data goes on as it comes, and what it meant counts only
// when its event is complete.
type sse struct {
	to events

	state  sseState
	bom    uint8 // bytes of the byte order mark seen
	skipLF bool  // the last byte was CR: an LF completes it
	data   bool  // the event has a data line
	match  uint8 // bytes of the field name that fit "data"
	open   bool  // the event has begun: there is a line that is not a comment
	pings  int64 // comment lines

	whole []byte // from the event's first byte to the end of the piece; nil if it began in an earlier one
}

// events receives what sse finds.
type events interface {
	data(p []byte)       // a piece of the event's data
	event(whole []byte)  // the event is complete: its bytes if they lay in one piece, to the blank line's LF; else nil
	repeated([]byte) int // how many bytes at the start of an event need not be framed: events that were dealt with
}

type sseState uint8

const (
	atStart sseState = iota // of the stream: a byte order mark may come
	atLine                  // start of a line
	inName
	afterColon // one space is dropped
	inData
	inIgnored // a comment, or a field that the meter does not want
)

const byteOrderMark = "\xEF\xBB\xBF"

func (s *sse) reset() { *s = sse{to: s.to} }

func (s *sse) feed(p []byte) {
	s.whole = nil
	for len(p) > 0 {
		if s.skipLF {
			s.skipLF = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		switch s.state {
		case atStart:
			p = s.mark(p)
		case atLine:
			p = s.line(p)
		case inName:
			p = s.name(p)
		case afterColon:
			s.state = inData
			if p[0] == ' ' {
				p = p[1:]
			}
		default:
			p = s.rest(p)
		}
	}
	s.whole = nil // the caller's
}

// mark drops a byte order mark. A part of one that does not go on is a field name of no meaning.
func (s *sse) mark(p []byte) []byte {
	if p[0] == byteOrderMark[s.bom] {
		s.bom++
		if int(s.bom) == len(byteOrderMark) {
			s.state = atLine
		}
		return p[1:]
	}
	s.state = atLine
	if s.bom > 0 {
		s.state, s.match, s.open = inName, badName, true
	}
	return p
}

// badName marks a field name that cannot become "data" any more.
const badName = 0xFF

// line reads the first byte of a line.
func (s *sse) line(p []byte) []byte {
	const whole = "data: "
	switch p[0] {
	case '\n', '\r':
		s.skipLF = p[0] == '\r'
		s.dispatch(p[1:])
		return p[1:]
	case ':':
		s.pings++
		s.state, s.whole = inIgnored, nil
		return p[1:]
	}
	if !s.open {
		if n := s.to.repeated(p); n > 0 {
			return p[n:]
		}
		s.open, s.whole = true, p
	}
	if len(p) > len(whole) && string(p[:len(whole)]) == whole { // the usual case at once
		s.begin()
		s.state = inData
		return p[len(whole):]
	}
	s.state, s.match = inName, 0
	return p
}

// name compares the field name with "data".
func (s *sse) name(p []byte) []byte {
	const want = "data"
	switch c := p[0]; {
	case c == '\n' || c == '\r':
		s.skipLF = c == '\r'
		s.state = atLine
		if int(s.match) == len(want) {
			s.begin() // a field without colon has an empty value
		}
	case c == ':':
		s.state = inIgnored
		if int(s.match) == len(want) {
			s.begin()
			s.state = afterColon
		}
	case int(s.match) < len(want) && c == want[s.match]:
		s.match++
	default:
		s.match = badName
	}
	return p[1:]
}

// begin starts a data line.
func (s *sse) begin() {
	if s.data {
		s.to.data(lineFeed)
	}
	s.data = true
}

var lineFeed = []byte{'\n'} //nolint:gochecknoglobals // a constant

// rest reads to the end of a line.
func (s *sse) rest(p []byte) []byte {
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		end = len(p)
	}
	if cr := bytes.IndexByte(p[:end], '\r'); cr >= 0 {
		end = cr
	}
	if s.state == inData && end > 0 {
		s.to.data(p[:end])
	}
	if end == len(p) {
		return nil
	}
	s.skipLF = p[end] == '\r'
	s.state = atLine
	return p[end+1:]
}

// dispatch ends an event; behind is what follows it in its piece.
func (s *sse) dispatch(behind []byte) {
	had, whole := s.data, s.whole
	s.data, s.open, s.whole = false, false, nil
	if !had {
		return
	}
	if s.skipLF || whole == nil {
		s.to.event(nil) // where the end lies is not yet known
		return
	}
	s.to.event(whole[:cap(whole)-cap(behind)]) // both reach to the end of the same array
}

// unfinished reports that the stream ended within an event.
func (s *sse) unfinished() bool { return s.open }
