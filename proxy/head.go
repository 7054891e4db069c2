package proxy

import (
	"bytes"
	"slices"
	"strconv"
)

// refusal is why a request is not forwarded: the status the client is given and one sentence.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

// field is one header line of a head, as offsets into its bytes, so that a head can move.
type field struct {
	start, end         int // the whole line, CRLF included
	nameEnd            int
	valueStart, valEnd int
}

// framing is how a message's body is delimited.
type framing uint8

const (
	noBody framing = iota
	sized
	chunked
	untilClose
)

// head is a message head: its bytes as received, CRLFCRLF included, and what was read from them.
// The same type serves requests and replies; a reply uses status, a request method and target.
type head struct {
	raw    []byte
	first  int // end of the first line, CRLF included
	fields []field

	methodEnd, targetStart, targetEnd int
	status                            int
	http10                            bool

	body      framing
	length    int64 // with sized
	closing   bool  // Connection: close
	keepAlive bool  // Connection: keep-alive
	upgrade   bool  // Connection: upgrade and an Upgrade field
	expect    bool
	listed    [][2]int // names listed in Connection, as offsets: hop-by-hop too
}

// Bounds of what a head may hold beside its size: each costs time that grows faster than its bytes.
const (
	maxFields = 1000
	maxListed = 64
)

// keptHead is how much memory of one head is kept for the next: idle connections are many.
const keptHead = 8 << 10

// reset forgets the head and keeps its memory.
func (h *head) reset() {
	if cap(h.raw) > keptHead {
		*h = head{}
		return
	}
	*h = head{raw: h.raw[:0], fields: h.fields[:0], listed: h.listed[:0]}
}

// drop gives up the head's bytes and keeps what was read from them.
func (h *head) drop() {
	h.raw, h.fields, h.listed = nil, nil, nil
	h.first, h.methodEnd, h.targetStart, h.targetEnd = 0, 0, 0, 0
}

func (h *head) method() []byte { return h.raw[:h.methodEnd] }
func (h *head) target() []byte { return h.raw[h.targetStart:h.targetEnd] }

// path is the target without query; of an absolute-form target, its path.
func (h *head) path() []byte {
	t := h.target()
	if i := bytes.IndexAny(t, "?#"); i >= 0 {
		t = t[:i]
	}
	if len(t) > 0 && t[0] != '/' {
		if i := bytes.Index(t, []byte("://")); i >= 0 {
			if j := bytes.IndexByte(t[i+3:], '/'); j >= 0 {
				return t[i+3+j:]
			}
			return []byte("/")
		}
	}
	return t
}

func (h *head) name(f field) []byte  { return h.raw[f.start:f.nameEnd] }
func (h *head) value(f field) []byte { return h.raw[f.valueStart:f.valEnd] }

// get returns the first value of a field, case ignored, or nil.
func (h *head) get(name string) []byte {
	for _, f := range h.fields {
		if f.nameEnd-f.start == len(name) && equalFold(h.name(f), name) {
			return h.value(f)
		}
	}
	return nil
}

// headEnd finds the end of a head in b, looking from the byte offset from on (what lies before was
// searched already): the index behind CRLFCRLF, or -1 while it has not arrived. ok is false if a line
// of the head ends in a bare line feed, which others might take for an end.
func headEnd(b []byte, from int) (end int, ok bool) {
	end = -1
	since := max(from-3, 0)
	if i := bytes.Index(b[since:], []byte("\r\n\r\n")); i >= 0 {
		end = since + i + 4
		b = b[:end]
	}
	return end, !bareLF(b, from)
}

// bareLF reports whether a line feed without a carriage return stands in b at or behind from.
func bareLF(b []byte, from int) bool {
	for at := from; at < len(b); {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return false
		}
		if at+i == 0 || b[at+i-1] != '\r' {
			return true
		}
		at += i + 1
	}
	return false
}

// parseRequest reads h.raw as a request head and refuses what could be read in two ways: such a
// request must not reach the upstream, whose parser may choose the other one (RFC 9112, 11.2).
func (h *head) parseRequest() error {
	line, ok := h.firstLine()
	if !ok {
		return &refusal{400, "the request line has a control character"}
	}
	sp := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if sp <= 0 || last <= sp+1 || bytes.IndexByte(line[sp+1:last], ' ') >= 0 {
		return &refusal{400, "the request line is not METHOD TARGET HTTP/1.1"}
	}
	if !isToken(line[:sp]) {
		return &refusal{400, "the request's method has a character that is not allowed"}
	}
	for _, c := range line[sp+1 : last] {
		if c <= ' ' || c == 0x7f {
			return &refusal{400, "the request's target has a control character"}
		}
	}
	switch string(line[last+1:]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.http10 = true
	default:
		return &refusal{505, "only HTTP/1.1 and HTTP/1.0 are spoken here"}
	}
	h.methodEnd, h.targetStart, h.targetEnd = sp, sp+1, last
	if err := h.parseFields(true); err != nil {
		return err
	}
	return h.requestFraming()
}

// parseReply reads h.raw as a reply head. An upstream is trusted more than a client, but a reply whose
// length cannot be told is an error.
func (h *head) parseReply() (err error) {
	line, ok := h.firstLine()
	if !ok || len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return &refusal{502, "the upstream's reply does not start with HTTP/1.1 and a status"}
	}
	h.http10 = line[7] == '0'
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil || h.status < 100 {
		return &refusal{502, "the upstream's reply has no status"}
	}
	return h.parseFields(false)
}

// firstLine returns the line without its end; ok is false if it holds what could end it elsewhere.
func (h *head) firstLine() (line []byte, ok bool) {
	i := bytes.Index(h.raw, []byte("\r\n"))
	if i < 0 {
		return nil, false
	}
	h.first = i + 2
	line = h.raw[:i]
	return line, bytes.IndexByte(line, 0) < 0 && bytes.IndexByte(line, '\n') < 0 && bytes.IndexByte(line, '\r') < 0
}

// parseFields splits the header lines. strict refuses what a request may not contain.
func (h *head) parseFields(strict bool) error {
	for at := h.first; at < len(h.raw)-2; {
		n := bytes.Index(h.raw[at:], []byte("\r\n"))
		if n < 0 {
			return &refusal{400, "a header line has no end"}
		}
		f := field{start: at, nameEnd: at, end: at + n + 2}
		line := h.raw[at : at+n]
		at = f.end
		if strict && len(h.fields) >= maxFields {
			return &refusal{431, "the request has too many header lines"}
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isToken(line[:colon]) {
			switch {
			case strict:
				return &refusal{400, "a header line is folded or has no valid name"}
			case len(line) > 0 && (line[0] == ' ' || line[0] == '\t'): // RFC 9112, 5.2: what it continues may not be passed on
				return &refusal{502, "the upstream's reply has a folded header line"}
			}
			h.fields = append(h.fields, f) // an upstream's odd line is passed on untouched, without a name
			continue
		}
		if strict && !isFieldValue(line[colon+1:]) {
			return &refusal{400, "a header value has a control character"}
		}
		f.nameEnd = f.start + colon
		v := bytes.Trim(line[colon+1:], " \t")
		f.valueStart = f.start + colon + 1
		if len(v) > 0 {
			f.valueStart += bytes.Index(line[colon+1:], v[:1])
		}
		f.valEnd = f.valueStart + len(v)
		h.fields = append(h.fields, f)
		if equalFold(h.name(f), "connection") {
			h.readConnection(f)
		}
	}
	if len(h.listed) > maxListed {
		if strict {
			return &refusal{400, "Connection lists too many names"}
		}
		return &refusal{502, "the upstream's Connection lists too many names"}
	}
	h.upgrade = h.upgrade && h.get("upgrade") != nil
	return nil
}

// readConnection notes the options of a Connection field; every other name in it is hop-by-hop.
func (h *head) readConnection(f field) {
	at := f.valueStart
	for part := range bytes.SplitSeq(h.value(f), []byte(",")) {
		tok := bytes.Trim(part, " \t")
		switch {
		case equalFold(tok, "close"):
			h.closing = true
		case equalFold(tok, "keep-alive"):
			h.keepAlive = true
		case equalFold(tok, "upgrade"):
			h.upgrade = true
		case len(tok) > 0:
			i := at + bytes.Index(part, tok)
			h.listed = append(h.listed, [2]int{i, i + len(tok)})
		}
		at += len(part) + 1
	}
}

// requestFraming decides how the body is delimited, refusing every doubt (RFC 9112, 6.3).
func (h *head) requestFraming() error {
	var lengths, codings, hosts int
	for _, f := range h.fields {
		name, value := h.name(f), h.value(f)
		switch {
		case equalFold(name, "content-length"):
			lengths++
			n, ok := parseLength(value)
			if !ok {
				return &refusal{400, "Content-Length is not one number"}
			}
			h.length = n
		case equalFold(name, "transfer-encoding"):
			codings++
			if !equalFold(value, "chunked") {
				return &refusal{400, "Transfer-Encoding other than chunked is not taken"}
			}
		case equalFold(name, "host"):
			hosts++
		case equalFold(name, "expect"):
			h.expect = equalFold(value, "100-continue")
		}
	}
	switch {
	case lengths > 1 || codings > 1 || hosts > 1:
		return &refusal{400, "Content-Length, Transfer-Encoding or Host stands more than once"}
	case lengths > 0 && codings > 0:
		return &refusal{400, "Content-Length and Transfer-Encoding exclude each other"}
	case codings > 0 && h.http10:
		return &refusal{400, "HTTP/1.0 knows no Transfer-Encoding"}
	case codings > 0:
		h.body = chunked
	case h.length > 0:
		h.body = sized
	}
	return nil
}

// replyFraming decides how the reply's body is delimited, given the request's method.
func (h *head) replyFraming(method []byte) error {
	if string(method) == "HEAD" || h.status < 200 || h.status == 204 || h.status == 304 {
		h.body = noBody
		return nil
	}
	if te := h.get("transfer-encoding"); te != nil {
		// Only the last coding delimits; anything but chunked there runs until the close.
		if i := bytes.LastIndexByte(te, ','); i >= 0 {
			te = bytes.Trim(te[i+1:], " \t")
		}
		h.body = untilClose
		if equalFold(te, "chunked") {
			h.body = chunked
		}
		return nil
	}
	if cl := h.get("content-length"); cl != nil {
		n, ok := parseLength(cl)
		if !ok || h.contradicts("content-length", cl) {
			return &refusal{502, "the upstream's Content-Length is not one number"}
		}
		h.body, h.length = sized, n
		if n == 0 {
			h.body = noBody
		}
		return nil
	}
	h.body = untilClose
	return nil
}

// contradicts reports whether a field of this name has another value than this one.
func (h *head) contradicts(name string, value []byte) bool {
	return slices.ContainsFunc(h.fields, func(f field) bool { return equalFold(h.name(f), name) && !bytes.Equal(h.value(f), value) })
}

// hopByHop reports whether a field ends at this hop. Transfer-Encoding and Trailer stay: bodies keep
// their framing here.
func (h *head) hopByHop(f field) bool {
	name := h.name(f)
	switch len(name) { // few have one of these lengths
	case len("connection"), len("proxy-connection"):
		if equalFold(name, "connection") || equalFold(name, "keep-alive") || equalFold(name, "proxy-connection") {
			return true
		}
	case len("upgrade"):
		if equalFold(name, "upgrade") {
			return !h.upgrade
		}
	}
	for _, l := range h.listed {
		listed := h.raw[l[0]:l[1]]
		// A client may not have a field that frames its body taken away by naming it.
		if bytes.EqualFold(name, listed) && !equalFold(name, "transfer-encoding") &&
			!equalFold(name, "content-length") && !equalFold(name, "host") {
			return true
		}
	}
	return false
}

// appendEndToEnd appends the first line and every end-to-end field to dst, as received, leaving out
// fields named drop; without the final CRLF.
func (h *head) appendEndToEnd(dst []byte, drop string) []byte {
	if len(h.listed) == 0 && drop == "" && !h.hasHop() {
		return append(dst, h.raw[:len(h.raw)-2]...)
	}
	dst = append(dst, h.raw[:h.first]...)
	for _, f := range h.fields {
		if h.hopByHop(f) || (drop != "" && equalFold(h.name(f), drop)) {
			continue
		}
		dst = append(dst, h.raw[f.start:f.end]...)
	}
	return dst
}

func (h *head) hasHop() bool {
	return slices.ContainsFunc(h.fields, h.hopByHop)
}

// parseLength reads a Content-Length: digits only, no sign, no list.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// isToken reports whether b is a token of RFC 9110, 5.6.2.
func isToken(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return true
}

// isFieldValue reports whether b holds only what a field value may: no control character but tab.
func isFieldValue(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// equalFold compares ASCII, case ignored; s is lower case or not.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
