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
}

// events receives what sse finds.
type events interface {
	data(p []byte) // a piece of the event's data
	event()        // the event is complete
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
	const usual = "data: "
	switch p[0] {
	case '\n', '\r':
		s.skipLF = p[0] == '\r'
		s.dispatch()
		return p[1:]
	case ':':
		s.pings++
		s.state = inIgnored
		return p[1:]
	}
	s.open = true
	if len(p) > len(usual) && string(p[:len(usual)]) == usual { // at once
		s.begin()
		s.state = inData
		return p[len(usual):]
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

// dispatch ends an event. One without data is none.
func (s *sse) dispatch() {
	had := s.data
	s.data, s.open = false, false
	if had {
		s.to.event()
	}
}

// unfinished reports that the stream ended within an event.
func (s *sse) unfinished() bool { return s.open }
