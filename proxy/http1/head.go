package http1

import (
	"bytes"
	"slices"
	"strconv"
)

// StatusError is the reason for answering a message with an error status instead of forwarding it.
type StatusError struct {
	Status int
	Reason string // one sentence for the client
}

func (e *StatusError) Error() string { return e.Reason }

// field is one header line, as offsets into the head's bytes, so that a head can be moved.
type field struct {
	start, end         int // the whole line, CRLF included
	nameEnd            int
	valueStart, valEnd int
}

// Framing is how a message's body is delimited.
type Framing uint8

// The framings. Sized is Content-Length with at least one byte.
const (
	NoBody Framing = iota
	Sized
	Chunked
	UntilClose
)

// Head is a message head: its bytes as received, CRLFCRLF included, and the parsed fields. Requests use method
// and target, replies Status.
type Head struct {
	Raw    []byte
	first  int // end of the first line, CRLF included
	fields []field

	methodEnd, targetStart, targetEnd int
	Status                            int
	HTTP10                            bool

	Body           Framing
	Length         int64 // with Sized
	Close          bool  // Connection: close
	KeepAlive      bool  // Connection: keep-alive
	Upgrade        bool  // Connection: upgrade and an Upgrade field
	ExpectContinue bool
	listed         [][2]int // other names listed in Connection, as offsets: hop-by-hop too
}

// Bounds of a head beside its size: the cost of each grows faster than its bytes.
const (
	maxFields = 1000
	maxListed = 64
)

// keptHead bounds the memory that a connection keeps from one head to the next.
const keptHead = 8 << 10

// Reset clears the head for the next message and keeps its memory.
func (h *Head) Reset() {
	if cap(h.Raw) > keptHead {
		*h = Head{}
		return
	}
	*h = Head{Raw: h.Raw[:0], fields: h.fields[:0], listed: h.listed[:0]}
}

// Release frees the head's bytes and keeps Status, Body, Length and the flags.
func (h *Head) Release() {
	h.Raw, h.fields, h.listed = nil, nil, nil
	h.first, h.methodEnd, h.targetStart, h.targetEnd = 0, 0, 0, 0
}

// HasMethod reports whether a request line was parsed.
func (h *Head) HasMethod() bool { return h.methodEnd > 0 }

// Method is a request's method.
func (h *Head) Method() []byte { return h.Raw[:h.methodEnd] }

// Target is a request's target as received.
func (h *Head) Target() []byte { return h.Raw[h.targetStart:h.targetEnd] }

// Path is the target without query; of an absolute-form target, its path.
func (h *Head) Path() []byte {
	t := h.Target()
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

func (h *Head) name(f field) []byte  { return h.Raw[f.start:f.nameEnd] }
func (h *Head) value(f field) []byte { return h.Raw[f.valueStart:f.valEnd] }

// Get returns the first value of a field, case ignored, or nil.
func (h *Head) Get(name string) []byte {
	for _, f := range h.fields {
		if f.nameEnd-f.start == len(name) && equalFold(h.name(f), name) {
			return h.value(f)
		}
	}
	return nil
}

// List returns the values of a field that is a list, all its lines joined, or nil.
func (h *Head) List(name string) (list []byte) {
	for _, f := range h.fields {
		switch {
		case f.nameEnd-f.start != len(name) || !equalFold(h.name(f), name):
		case list == nil:
			list = slices.Clip(h.value(f))
		default:
			list = append(append(list, ", "...), h.value(f)...)
		}
	}
	return list
}

// HeadEnd finds the end of a head in b: the index after CRLFCRLF, or -1 if it has not arrived yet. The
// search starts at offset from; the bytes before were searched by an earlier call. ok is false if a line
// ends in a bare line feed, which another parser might take for the end of the head.
func HeadEnd(b []byte, from int) (end int, ok bool) {
	end = -1
	since := max(from-3, 0)
	if i := bytes.Index(b[since:], []byte("\r\n\r\n")); i >= 0 {
		end = since + i + 4
		b = b[:end]
	}
	return end, !bareLF(b, from)
}

// bareLF reports whether b has a line feed without a carriage return at or after offset from.
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

// ParseRequest parses h.Raw as a request head. It refuses everything that two parsers might read
// differently, since the upstream's may disagree with this one (request smuggling: RFC 9112, 11.2).
func (h *Head) ParseRequest() error {
	line, ok := h.firstLine()
	if !ok {
		return &StatusError{400, "the request line has a control character"}
	}
	sp := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if sp <= 0 || last <= sp+1 || bytes.IndexByte(line[sp+1:last], ' ') >= 0 {
		return &StatusError{400, "the request line is not METHOD TARGET HTTP/1.1"}
	}
	if !isToken(line[:sp]) {
		return &StatusError{400, "the request's method has a character that is not allowed"}
	}
	for _, c := range line[sp+1 : last] {
		if c <= ' ' || c == 0x7f {
			return &StatusError{400, "the request's target has a control character"}
		}
	}
	switch string(line[last+1:]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.HTTP10 = true
	default:
		return &StatusError{505, "only HTTP/1.1 and HTTP/1.0 are supported"}
	}
	h.methodEnd, h.targetStart, h.targetEnd = sp, sp+1, last
	if err := h.parseFields(true); err != nil {
		return err
	}
	return h.requestFraming()
}

// ParseReply parses h.Raw as a reply head. It is less strict than ParseRequest: odd lines are passed on.
func (h *Head) ParseReply() (err error) {
	line, ok := h.firstLine()
	if !ok || len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return &StatusError{502, "the upstream's reply does not start with HTTP/1.1 and a status"}
	}
	h.HTTP10 = line[7] == '0'
	if h.Status, err = strconv.Atoi(string(line[9:12])); err != nil || h.Status < 100 {
		return &StatusError{502, "the upstream's reply has no status"}
	}
	return h.parseFields(false)
}

// firstLine returns the first line without CRLF; ok is false if it holds NUL, CR or LF.
func (h *Head) firstLine() (line []byte, ok bool) {
	i := bytes.Index(h.Raw, []byte("\r\n"))
	if i < 0 {
		return nil, false
	}
	h.first = i + 2
	line = h.Raw[:i]
	return line, bytes.IndexByte(line, 0) < 0 && bytes.IndexByte(line, '\n') < 0 && bytes.IndexByte(line, '\r') < 0
}

// parseFields splits the header lines. strict applies the rules for requests.
func (h *Head) parseFields(strict bool) error {
	for at := h.first; at < len(h.Raw)-2; {
		n := bytes.Index(h.Raw[at:], []byte("\r\n"))
		if n < 0 {
			return &StatusError{400, "a header line has no end"}
		}
		f := field{start: at, nameEnd: at, end: at + n + 2}
		line := h.Raw[at : at+n]
		at = f.end
		if strict && len(h.fields) >= maxFields {
			return &StatusError{431, "the request has too many header lines"}
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isToken(line[:colon]) {
			switch {
			case strict:
				return &StatusError{400, "a header line is folded or has no valid name"}
			case len(line) > 0 && (line[0] == ' ' || line[0] == '\t'): // RFC 9112, 5.2
				return &StatusError{502, "the upstream's reply has a folded header line"}
			}
			h.fields = append(h.fields, f) // passed on as received, without a name
			continue
		}
		if strict && !isFieldValue(line[colon+1:]) {
			return &StatusError{400, "a header value has a control character"}
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
			return &StatusError{400, "Connection lists too many names"}
		}
		return &StatusError{502, "the upstream's Connection lists too many names"}
	}
	h.Upgrade = h.Upgrade && h.Get("upgrade") != nil
	return nil
}

// readConnection reads the options of a Connection field; every other name in it is hop-by-hop.
func (h *Head) readConnection(f field) {
	at := f.valueStart
	for part := range bytes.SplitSeq(h.value(f), []byte(",")) {
		tok := bytes.Trim(part, " \t")
		switch {
		case equalFold(tok, "close"):
			h.Close = true
		case equalFold(tok, "keep-alive"):
			h.KeepAlive = true
		case equalFold(tok, "upgrade"):
			h.Upgrade = true
		case len(tok) > 0:
			i := at + bytes.Index(part, tok)
			h.listed = append(h.listed, [2]int{i, i + len(tok)})
		}
		at += len(part) + 1
	}
}

// requestFraming sets Body and Length and refuses every ambiguity (RFC 9112, 6.3).
func (h *Head) requestFraming() error {
	var lengths, codings, hosts int
	for _, f := range h.fields {
		name, value := h.name(f), h.value(f)
		switch {
		case equalFold(name, "content-length"):
			lengths++
			n, ok := parseLength(value)
			if !ok {
				return &StatusError{400, "Content-Length is not one number"}
			}
			h.Length = n
		case equalFold(name, "transfer-encoding"):
			codings++
			if !equalFold(value, "chunked") {
				return &StatusError{400, "Transfer-Encoding other than chunked is not supported"}
			}
		case equalFold(name, "host"):
			hosts++
		case equalFold(name, "expect"):
			h.ExpectContinue = equalFold(value, "100-continue")
		}
	}
	switch {
	case lengths > 1 || codings > 1 || hosts > 1:
		return &StatusError{400, "Content-Length, Transfer-Encoding or Host is given more than once"}
	case lengths > 0 && codings > 0:
		return &StatusError{400, "Content-Length and Transfer-Encoding exclude each other"}
	case codings > 0 && h.HTTP10:
		return &StatusError{400, "HTTP/1.0 has no Transfer-Encoding"}
	case codings > 0:
		h.Body = Chunked
	case h.Length > 0:
		h.Body = Sized
	}
	return nil
}

// FrameReply sets Body and Length of a reply to a request with this method.
func (h *Head) FrameReply(method []byte) error {
	if string(method) == "HEAD" || h.Status < 200 || h.Status == 204 || h.Status == 304 {
		h.Body = NoBody
		return nil
	}
	if te := h.Get("transfer-encoding"); te != nil {
		// Only the last coding delimits; with any other the body ends at the close.
		if i := bytes.LastIndexByte(te, ','); i >= 0 {
			te = bytes.Trim(te[i+1:], " \t")
		}
		h.Body = UntilClose
		if equalFold(te, "chunked") {
			h.Body = Chunked
		}
		return nil
	}
	if cl := h.Get("content-length"); cl != nil {
		n, ok := parseLength(cl)
		if !ok || h.contradicts("content-length", cl) {
			return &StatusError{502, "the upstream's Content-Length is not one number"}
		}
		h.Body, h.Length = Sized, n
		if n == 0 {
			h.Body = NoBody
		}
		return nil
	}
	h.Body = UntilClose
	return nil
}

// contradicts reports whether the head has a field of this name with another value.
func (h *Head) contradicts(name string, value []byte) bool {
	return slices.ContainsFunc(h.fields, func(f field) bool { return equalFold(h.name(f), name) && !bytes.Equal(h.value(f), value) })
}

// hopByHop reports whether a field is for this hop only. Transfer-Encoding and Trailer are passed on, since
// bodies keep their framing.
func (h *Head) hopByHop(f field) bool {
	name := h.name(f)
	switch len(name) { // compares only names of these lengths
	case len("connection"), len("proxy-connection"):
		if equalFold(name, "connection") || equalFold(name, "keep-alive") || equalFold(name, "proxy-connection") {
			return true
		}
	case len("upgrade"):
		if equalFold(name, "upgrade") {
			return !h.Upgrade
		}
	}
	for _, l := range h.listed {
		listed := h.Raw[l[0]:l[1]]
		// Listing a field that frames the body must not remove it.
		if bytes.EqualFold(name, listed) && !equalFold(name, "transfer-encoding") &&
			!equalFold(name, "content-length") && !equalFold(name, "host") {
			return true
		}
	}
	return false
}

// AppendEndToEnd appends the first line and every end-to-end field to dst, as received, except fields
// named drop and without the final CRLF.
func (h *Head) AppendEndToEnd(dst []byte, drop string) []byte {
	if len(h.listed) == 0 && drop == "" && !h.hasHop() {
		return append(dst, h.Raw[:len(h.Raw)-2]...)
	}
	dst = append(dst, h.Raw[:h.first]...)
	for _, f := range h.fields {
		if h.hopByHop(f) || (drop != "" && equalFold(h.name(f), drop)) {
			continue
		}
		dst = append(dst, h.Raw[f.start:f.end]...)
	}
	return dst
}

func (h *Head) hasHop() bool {
	return slices.ContainsFunc(h.fields, h.hopByHop)
}

// parseLength parses a Content-Length: digits only, no sign, no list.
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

// isFieldValue reports whether b has no control character except tab.
func isFieldValue(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// equalFold compares ASCII and ignores case. It is faster than bytes.EqualFold and does not allocate.
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
