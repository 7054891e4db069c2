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

	drop  bool // not forwarded: it is hop-by-hop, or frames what another field or the status frames
	zeros int  // leading zeros of the value that are not forwarded
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
// and target, replies Status. What is to be left out or written anew is marked when the head is parsed, and
// AppendEndToEnd does it.
type Head struct {
	Raw    []byte
	first  int // end of the first line, CRLF included
	fields []field

	methodStart, methodEnd, targetStart, targetEnd int

	edited   bool // AppendEndToEnd differs from Raw
	respaced bool // the request line has more spaces than two

	Status int
	HTTP10 bool

	Body           Framing
	Length         int64 // with Sized
	Close          bool  // Connection: close, or a framing that only the connection's end makes safe
	KeepAlive      bool  // Connection: keep-alive
	Upgrade        bool  // Connection: upgrade and an Upgrade field
	ExpectContinue bool
	listed         [][2]int // other names listed in Connection, as offsets: hop-by-hop too
}

// maxFields bounds a request's header lines.
const maxFields = 1000

// fewListed is how many names in Connection are compared one by one.
const fewListed = 8

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
	h.first, h.methodStart, h.methodEnd, h.targetStart, h.targetEnd = 0, 0, 0, 0, 0
}

// HasMethod reports whether a request line was parsed.
func (h *Head) HasMethod() bool { return h.methodEnd > 0 }

// Method is a request's method.
func (h *Head) Method() []byte { return h.Raw[h.methodStart:h.methodEnd] }

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
	method, target, version, ok := requestWords(line)
	if !ok {
		return &StatusError{400, "the request line is not METHOD TARGET HTTP/1.1"}
	}
	if !isToken(line[method[0]:method[1]]) {
		return &StatusError{400, "the request's method has a character that is not allowed"}
	}
	for _, c := range line[target[0]:target[1]] {
		if c <= ' ' || c == 0x7f {
			return &StatusError{400, "the request's target has a control character"}
		}
	}
	switch string(line[version[0]:version[1]]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.HTTP10 = true
	default:
		return &StatusError{505, "only HTTP/1.1 and HTTP/1.0 are supported"}
	}
	h.methodStart, h.methodEnd, h.targetStart, h.targetEnd = method[0], method[1], target[0], target[1]
	h.respaced = len(line) != method[1]-method[0]+target[1]-target[0]+len(" HTTP/1.1 ")
	h.edited = h.respaced
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

// requestWords returns the three words of a request line, which spaces separate (RFC 9112, 3).
func requestWords(line []byte) (method, target, version [2]int, ok bool) {
	at := 0
	next := func() (word [2]int) {
		for at < len(line) && line[at] == ' ' {
			at++
		}
		word[0] = at
		if at += bytes.IndexByte(line[at:], ' '); at < word[0] {
			at = len(line)
		}
		word[1] = at
		return word
	}
	method, target, version = next(), next(), next()
	rest := next()
	return method, target, version, version[0] < version[1] && rest[0] == rest[1]
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
		f := field{start: at, nameEnd: at, valueStart: at, valEnd: at, end: at + n + 2}
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
	h.Upgrade = h.Upgrade && h.Get("upgrade") != nil
	h.dropHops()
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

// requestFraming sets Body and Length. What could be read in two ways is refused (RFC 9112, 6.3); what says one
// thing in an odd way is marked, so that it is forwarded in the usual way.
func (h *Head) requestFraming() error {
	var codings, hosts int
	var length *field
	for i := range h.fields {
		f := &h.fields[i]
		name, value := h.name(*f), h.value(*f)
		switch {
		case equalFold(name, "content-length"):
			if length != nil && !bytes.Equal(value, h.value(*length)) {
				return &StatusError{400, "Content-Length is given more than once, with different values"}
			}
			if h.readLength(f, length != nil); h.Length < 0 {
				return &StatusError{400, "Content-Length is not one number"}
			}
			length = f
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
	case codings > 1 || hosts > 1:
		return &StatusError{400, "Transfer-Encoding or Host is given more than once"}
	case h.Length > 0 && codings > 0:
		return &StatusError{400, "Content-Length and Transfer-Encoding exclude each other"}
	case codings > 0:
		h.Body = Chunked
		if length != nil { // zero: some clients send it
			h.dropFields("content-length")
		}
		if length != nil || h.HTTP10 { // RFC 9112, 6.1: nothing behind it may be taken for a request
			h.Close, h.edited = true, true
		}
	case h.Length > 0:
		h.Body = Sized
	}
	return nil
}

// readLength sets Length from a Content-Length field, -1 if that is not one number. One that repeats another
// is not forwarded, and leading zeros are not, since some parsers read them as octal.
func (h *Head) readLength(f *field, repeats bool) {
	h.Length, f.zeros = parseLength(h.value(*f))
	f.drop = repeats
	h.edited = h.edited || repeats || f.zeros > 0
}

// dropFields marks all fields of a name as not to be forwarded. It reports whether there was one.
func (h *Head) dropFields(name string) (had bool) {
	for i := range h.fields {
		if f := &h.fields[i]; equalFold(h.name(*f), name) {
			f.drop, h.edited, had = true, true, true
		}
	}
	return had
}

// dropHops marks the hop-by-hop fields.
func (h *Head) dropHops() {
	var many map[string]bool
	if len(h.listed) > fewListed {
		many = make(map[string]bool, len(h.listed))
		for _, l := range h.listed {
			many[string(bytes.ToLower(h.Raw[l[0]:l[1]]))] = true
		}
	}
	for i := range h.fields {
		if f := &h.fields[i]; h.hopByHop(h.name(*f), many) {
			f.drop, h.edited = true, true
		}
	}
}

// hopByHop reports whether a field is for this hop only. Transfer-Encoding and Trailer are passed on, since
// bodies keep their framing.
func (h *Head) hopByHop(name []byte, many map[string]bool) bool {
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
	if !h.lists(name, many) {
		return false
	}
	// Listing a field that frames the body must not remove it.
	return !equalFold(name, "transfer-encoding") && !equalFold(name, "content-length") && !equalFold(name, "host")
}

// lists reports whether Connection lists a name. many are the listed names, where they are many.
func (h *Head) lists(name []byte, many map[string]bool) bool {
	if many != nil {
		return many[string(bytes.ToLower(name))]
	}
	return slices.ContainsFunc(h.listed, func(l [2]int) bool { return bytes.EqualFold(name, h.Raw[l[0]:l[1]]) })
}

// AppendEndToEnd appends the first line and every end-to-end field to dst, without the final CRLF. They are as
// received, except what was marked at parsing; fields named drop are left out.
func (h *Head) AppendEndToEnd(dst []byte, drop string) []byte {
	if !h.edited && drop == "" {
		return append(dst, h.Raw[:len(h.Raw)-2]...)
	}
	dst = h.appendFirst(dst)
	for _, f := range h.fields {
		if f.drop || drop != "" && equalFold(h.name(f), drop) {
			continue
		}
		dst = append(dst, h.Raw[f.start:f.valueStart]...)
		dst = append(dst, h.Raw[f.valueStart+f.zeros:f.end]...)
	}
	return dst
}

// appendFirst appends the first line. A chunked request of HTTP/1.0, which has no chunks, becomes one of HTTP/1.1,
// which needs a Host; an empty one names no host (RFC 9112, 3.2).
func (h *Head) appendFirst(dst []byte) []byte {
	raised := h.HTTP10 && h.Status == 0 && h.Body == Chunked
	if !h.respaced && !raised {
		return append(dst, h.Raw[:h.first]...)
	}
	dst = append(append(dst, h.Method()...), ' ')
	dst = append(append(dst, h.Target()...), " HTTP/1.1\r\n"...)
	if !raised && h.HTTP10 {
		dst[len(dst)-3] = '0'
	}
	if raised && h.Get("host") == nil {
		dst = append(dst, "Host:\r\n"...)
	}
	return dst
}

// parseLength parses a Content-Length: digits only, no sign, no list. It returns -1 for any other, and how many
// zeros stand before the number.
func parseLength(b []byte) (n int64, zeros int) {
	for zeros < len(b)-1 && b[zeros] == '0' {
		zeros++
	}
	if len(b) == 0 || len(b)-zeros > 18 {
		return -1, 0
	}
	for _, c := range b[zeros:] {
		if c < '0' || c > '9' {
			return -1, 0
		}
		n = n*10 + int64(c-'0')
	}
	return n, zeros
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
