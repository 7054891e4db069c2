package meter

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
)

// scanner reads JSON that arrives in pieces of any size and reports the few members that a schema
// names. It holds no document: what the schema does not name is skipped in constant memory, however
// long or deep it is, and of a wanted string at most keepBytes are kept. That is why it is ours:
// parsers that exist want the whole value in memory or a reader to block on, and a relay has neither.
//
// It accepts a superset of JSON (it does not check escapes, number grammar or the brackets inside what
// it skips, passes over a byte order mark before a document, and knows Python's NaN and Infinity): its task is to find members in replies that a JSON library wrote, not to validate. A
// document with a broken structure stops it: the rest is ignored until reset.
//
// Several documents in a row (NDJSON, or none at all) are read one after the other.
type scanner struct {
	root *node // assigned by reset's caller once, never changed while scanning
	to   sink

	state  scanState
	inKey  bool // the string being read is a member's name
	esc    bool // the byte before was a backslash
	split  bool // the token being read began in an earlier piece: its kept part is in buf
	quoted bool // skipping: inside a string
	lit    byte // first byte of the literal being read
	litN   int8
	at     int   // in the piece being read
	skip   int   // skipping: open brackets
	size   int64 // bytes of the token being read, between its quotes
	depth  int
	node   *node // schema of the value that comes next; nil: unknown
	n      int   // bytes in buf
	stack  [maxSchemaDepth]frame
	buf    [keepBytes]byte
}

const (
	keepBytes      = 512 // of one wanted string or number
	maxSchemaDepth = 10  // deeper than any schema here; a schema cannot refer to itself
)

// frame is one open object or array that the schema knows.
type frame struct {
	node  *node
	array bool
	n     int64 // elements or members begun
}

// sink receives the members that the scanner finds. Its methods must not keep value.raw.
type sink interface {
	open(f field)           // an object or array of a named member begins
	close(f field, n int64) // it ends; n is the number of its elements or members
	scalar(f field, v value)
}

// value is a string, number or literal.
type value struct {
	kind valueKind
	raw  []byte // between the quotes, escapes unresolved; at most keepBytes of it
	size int64  // its whole length
}

type valueKind uint8

const (
	kindNull valueKind = iota
	kindFalse
	kindTrue
	kindNumber
	kindString
	kindNaN // NaN or an infinity
)

type scanState uint8

const (
	wantDocument scanState = iota
	wantValue
	wantFirst // a value, or the end of an empty array
	wantName  // after a comma
	wantFirstName
	wantColon
	wantComma // or the end of the container
	inString
	inNumber
	inLiteral
	skipping
	broken
)

func (s *scanner) reset() {
	s.state, s.depth, s.skip, s.n = wantDocument, 0, 0, 0
	s.esc, s.split, s.quoted, s.inKey = false, false, false, false
}

// idle reports that no document is open: everything that began has ended.
func (s *scanner) idle() bool { return s.state == wantDocument }

func (s *scanner) feed(p []byte) {
	for i := 0; i < len(p); {
		c := p[i]
		s.at = i
		switch s.state {
		case inString:
			i += s.str(p[i:])
		case inNumber:
			i += s.number(p[i:])
		case inLiteral:
			i += s.literal(p[i:])
		case skipping:
			i += s.skipOver(p[i:])
		case broken:
			return
		case wantName, wantFirstName:
			i++
			if c == '"' {
				i += s.name(p[i:])
			} else if c > ' ' || !space(c) {
				s.noName(c)
			}
		case wantComma:
			i++
			if c > ' ' || !space(c) {
				s.comma(c)
			}
		case wantColon:
			i++
			if c == ':' {
				s.state = wantValue
			} else if c > ' ' || !space(c) {
				s.state = broken
			}
		default: // a value
			if c > ' ' || !space(c) {
				i += s.begin(p[i:])
			} else {
				i++
			}
		}
	}
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// name reads a member's name after its opening quote. Usually all of it and the colon are in this piece.
func (s *scanner) name(p []byte) int {
	if n := plain(p); n+1 < len(p) && p[n] == '"' && p[n+1] == ':' {
		s.node = s.stack[s.depth-1].node.member(p[:n])
		s.state = wantValue
		return n + 2
	}
	s.state, s.inKey, s.size, s.split, s.esc = inString, true, 0, false, false
	return s.str(p)
}

// text reads a string after its opening quote. Usually all of it is in this piece.
func (s *scanner) text(p []byte) int {
	if n := plain(p); n < len(p) && p[n] == '"' {
		if s.node != nil && s.node.field != none {
			s.to.scalar(s.node.field, value{kindString, p[:min(n, keepBytes)], int64(n)})
		}
		s.after()
		return n + 1
	}
	s.state, s.inKey, s.size, s.split, s.esc = inString, false, 0, false, false
	return s.str(p)
}

// noName handles a byte that does not begin a name.
func (s *scanner) noName(c byte) {
	if c == '}' && s.state == wantFirstName {
		s.end()
		return
	}
	s.state = broken
}

// comma handles the byte after a member or element.
func (s *scanner) comma(c byte) {
	f := &s.stack[s.depth-1]
	switch {
	case c == ',' && f.array:
		s.node = f.node.elem
		s.state = wantValue
	case c == ',':
		s.state = wantName
	case c == ']' && f.array, c == '}' && !f.array:
		s.end()
	default:
		s.state = broken
	}
}

// begin reads a value that starts at p[0] and returns the number of bytes consumed.
func (s *scanner) begin(p []byte) int {
	c := p[0]
	switch s.state {
	case wantDocument:
		if strings.IndexByte(byteOrderMark, c) >= 0 {
			return 1
		}
		s.node = s.root
	case wantFirst:
		if c == ']' {
			s.end()
			return 1
		}
	}
	if s.depth > 0 {
		s.stack[s.depth-1].n++
	}
	switch c {
	case '"':
		return 1 + s.text(p[1:])
	case '{', '[':
		s.push(c == '[')
		return 1
	case 't', 'f', 'n', 'N', 'I':
		s.state, s.lit, s.litN = inLiteral, c, 0
		return s.literal(p)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		s.state, s.size, s.split = inNumber, 0, false
		return s.number(p)
	}
	s.state = broken
	return 1
}

// push opens a container, or starts skipping one that the schema does not know.
func (s *scanner) push(array bool) {
	if s.node == nil || s.depth == maxSchemaDepth {
		s.state, s.skip, s.quoted, s.esc = skipping, 1, false, false
		return
	}
	s.stack[s.depth] = frame{node: s.node, array: array}
	s.depth++
	if s.node.field != none {
		s.to.open(s.node.field)
	}
	if array {
		s.node = s.node.elem
		s.state = wantFirst
		return
	}
	s.state = wantFirstName
}

// end closes the innermost known container.
func (s *scanner) end() {
	s.depth--
	f := &s.stack[s.depth]
	s.after()
	if f.node.field != none {
		s.to.close(f.node.field, f.n)
	}
}

// after sets the state that follows a complete value.
func (s *scanner) after() {
	if s.depth == 0 {
		s.state = wantDocument
		return
	}
	s.state = wantComma
}

// str continues a string and returns the number of bytes consumed.
func (s *scanner) str(p []byte) int {
	n, closed := skipString(p, &s.esc)
	if !closed {
		s.keep(p)
		return n
	}
	s.token(p[:n-1])
	s.closeString(p[:n-1])
	return n
}

// token accounts the last piece of a token; what came before is in buf.
func (s *scanner) token(last []byte) {
	if s.split {
		s.keep(last)
		return
	}
	s.size = int64(len(last))
}

// keep stores a piece of a token that goes on, or went on, in another piece.
func (s *scanner) keep(p []byte) {
	if !s.split {
		s.split, s.n = true, 0
	}
	s.size += int64(len(p))
	if s.inKey || s.node != nil || s.state == inNumber {
		s.n += copy(s.buf[s.n:], p)
	}
}

// raw returns the kept part of a token that ends with last.
func (s *scanner) raw(last []byte) []byte {
	if s.split {
		return s.buf[:s.n]
	}
	return last[:min(len(last), keepBytes)]
}

func (s *scanner) closeString(last []byte) {
	if s.inKey {
		s.node = s.stack[s.depth-1].node.member(s.raw(last))
		s.state = wantColon
		return
	}
	if s.node != nil && s.node.field != none {
		s.to.scalar(s.node.field, value{kindString, s.raw(last), s.size})
	}
	s.after()
}

func numberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'
}

func (s *scanner) number(p []byte) int {
	i := 0
	for i < len(p) && numberByte(p[i]) {
		i++
	}
	if i == len(p) {
		s.keep(p)
		return i
	}
	s.token(p[:i])
	if p[i] == 'I' && s.size == 1 && s.raw(p[:i])[0] == '-' {
		s.state, s.lit, s.litN = inLiteral, 'I', 0
		return i
	}
	s.closeNumber(p[:i])
	return i
}

func (s *scanner) closeNumber(last []byte) {
	if s.node != nil && s.node.field != none {
		s.to.scalar(s.node.field, value{kindNumber, s.raw(last), s.size})
	}
	s.after()
}

// finish ends a number that nothing followed: only the end of the input tells that it is complete.
func (s *scanner) finish() {
	if s.state == inNumber && s.depth == 0 {
		s.closeNumber(nil)
	}
}

func (s *scanner) literal(p []byte) int {
	word, kind := "null", kindNull
	switch s.lit {
	case 't':
		word, kind = "true", kindTrue
	case 'f':
		word, kind = "false", kindFalse
	case 'N':
		word, kind = "NaN", kindNaN
	case 'I':
		word, kind = "Infinity", kindNaN
	}
	i := 0
	for i < len(p) && int(s.litN) < len(word) {
		if p[i] != word[s.litN] {
			s.state = broken
			return i
		}
		s.litN++
		i++
	}
	if int(s.litN) == len(word) {
		if s.node != nil && s.node.field != none {
			s.to.scalar(s.node.field, value{kind: kind})
		}
		s.after()
	}
	return i
}

// skipOver passes over a container that the schema does not know.
func (s *scanner) skipOver(p []byte) int {
	i := 0
	for i < len(p) {
		if s.quoted {
			n, closed := skipString(p[i:], &s.esc)
			s.quoted = !closed
			i += n
			continue
		}
		switch p[i] {
		case '"':
			s.quoted = true
		case '{', '[':
			s.skip++
		case '}', ']':
			s.skip--
			if s.skip == 0 {
				s.after()
				return i + 1
			}
		}
		i++
	}
	return i
}

// stringWindow bounds how far a quote is sought before a backslash is: without it a long string with
// many escapes would be searched again from each of them.
const stringWindow = 512

// skipString returns how many bytes of p belong to the string, its closing quote included, and whether
// it ended there. esc says whether the byte before p was an escaping backslash, and is kept for the
// next piece.
func skipString(p []byte, esc *bool) (n int, closed bool) {
	for n < len(p) {
		if *esc {
			*esc = false
			n++
			continue
		}
		n += plain(p[n:])
		if n == len(p) {
			break
		}
		switch p[n] {
		case '"':
			return n + 1, true
		case '\\':
			*esc = true
			n++
		}
	}
	return n, false
}

// plain returns how many bytes p begins with that are neither quote nor backslash. It may stop early
// in a long string, never late: eight bytes at a time find the end of the usual short string soonest,
// vector instructions that of a long one.
func plain(p []byte) int {
	const ones = 0x0101010101010101
	const high, quotes, backslashes uint64 = 0x80 * ones, '"' * ones, '\\' * ones
	i := 0
	for ; i+8 <= len(p) && i < 64; i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		q, b := w^quotes, w^backslashes
		if hit := ((q-ones)&^q | (b-ones)&^b) & high; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	w := p[i:min(i+stringWindow, len(p))]
	if q := bytes.IndexByte(w, '"'); q >= 0 {
		w = w[:q]
	}
	if b := bytes.IndexByte(w, '\\'); b >= 0 {
		w = w[:b]
	}
	return i + len(w)
}

// wipe forgets the kept bytes too.
func (s *scanner) wipe() {
	clear(s.buf[:])
	s.reset()
}
