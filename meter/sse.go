package meter

import "bytes"

// sse splits a text/event-stream into events by the WHATWG rules (HTML Living Standard, "Interpreting
// an event stream"): lines end in LF, CR or CRLF, one byte order mark at the start is dropped, lines
// that begin with a colon are comments, several data lines are joined by LF, an event with a blank line that
// never came is not one. It holds no line: data goes on as it comes, and what it meant counts only
// when its event is complete.
//
// One field beside data matters: an event of the name "error" is a failure whatever its data. Builds of llama-server
// before 2025 wrote a field "error" in the place of data.
type sse struct {
	to events

	state   sseState
	next    sseState // behind a colon
	bom     uint8    // bytes of the byte order mark seen
	skipLF  bool     // the last byte was CR: an LF completes it
	data    bool     // the event has a data line
	failing bool     // the event is named "error", or has such a field
	word    [6]byte
	wordN   int   // bytes of the field name, or of the event's name, that word holds
	open    bool  // the event has begun: there is a line that is not a comment
	pings   int64 // comment lines
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
	inEventName
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
			s.state = s.next
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
		s.state, s.wordN, s.open = inName, len(s.word), true
	}
	return p
}

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
	s.state, s.wordN = inName, 0
	return p
}

// name reads a field's name: as much of it as tells it from others.
func (s *sse) name(p []byte) []byte {
	switch c := p[0]; {
	case c == '\n' || c == '\r':
		s.skipLF = c == '\r'
		s.field() // without a colon its value is empty
		s.state = atLine
	case c == ':':
		s.state = afterColon
		if s.next = s.field(); s.next == inIgnored {
			s.state = inIgnored
		}
	default:
		s.keep(c)
	}
	return p[1:]
}

func (s *sse) keep(c byte) {
	if s.wordN < len(s.word) {
		s.word[s.wordN] = c
		s.wordN++
	}
}

// field begins the field whose name was read, and returns the state in which its value is read.
func (s *sse) field() sseState {
	switch string(s.word[:s.wordN]) {
	case "error":
		s.failing = true
		fallthrough
	case "data":
		s.begin()
		return inData
	case "event":
		s.wordN = 0
		return inEventName
	}
	return inIgnored
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
	switch {
	case s.state == inData && end > 0:
		s.to.data(p[:end])
	case s.state == inEventName:
		for _, c := range p[:min(end, len(s.word))] {
			s.keep(c)
		}
	}
	if end == len(p) {
		return nil
	}
	s.failing = s.failing || s.state == inEventName && string(s.word[:s.wordN]) == "error"
	s.skipLF = p[end] == '\r'
	s.state = atLine
	return p[end+1:]
}

// dispatch ends an event. One without data is none, unless it is an error.
func (s *sse) dispatch() {
	had := s.data || s.failing
	s.open = false
	if had {
		s.to.event()
	}
	s.data, s.failing = false, false
}

// unfinished reports that the stream ended within an event.
func (s *sse) unfinished() bool { return s.open }
