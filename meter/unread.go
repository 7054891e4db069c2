package meter

import "strings"

// Reasons why a body was not read, or not to its end: the entries of Details.Unread, behind "request_" or "reply_".
const (
	UnreadEncoding  = "encoding"  // a content coding that is not known
	UnreadCorrupt   = "corrupt"   // the compressed bytes are not what their coding says
	UnreadCut       = "cut"       // they end early, though the body did not
	UnreadBomb      = "bomb"      // they inflate to far more than a body has
	UnreadBehind    = "behind"    // they came faster than they could be inflated
	UnreadWindow    = "window"    // they need more memory than there is for them
	UnreadMultipart = "multipart" // a form, which is not JSON
	UnreadType      = "type"      // a content type that is not known
	UnreadFormat    = "format"    // not JSON
	UnreadNumber    = "number"    // JSON, but a count in it is no number
)

// Entries of Details.Unread that concern the whole exchange.
const (
	UnreadPath      = "path"      // a path that is not known and may have made the model compute
	UnreadWebSocket = "websocket" // a connection that changed its protocol
)

// RequestUnread says that RequestBody was not shown all of the request's body, and why. It is called like RequestBody.
func (m *Meter) RequestUnread(reason string) { m.request.unread = reason }

// ReplyUnread says that ReplyBody was not shown all of the reply's body, and why.
func (m *Meter) ReplyUnread(reason string) { m.reply.unread = reason }

// ReadsRequest reports whether the request's body is of use to the meter. It is valid after BeginRequest.
func (m *Meter) ReadsRequest() bool { return m.request.off == "" }

// ReadsReply reports whether the reply's body is of use to the meter. It is valid after BeginReply.
func (m *Meter) ReadsReply() bool { return m.reply.mode != notMetered }

// opening is how a body began.
type opening struct {
	b [2]byte
	n uint8 // bytes that came, up to 2
}

// compressed takes a piece of the body and reports whether the body begins as gzip or zstd does, which no JSON or stream of
// events can.
func (o *opening) compressed(p []byte) bool {
	if o.n == 2 || len(p) == 0 {
		return false
	}
	o.n += uint8(copy(o.b[o.n:], p))
	return o.n == 2 && (o.b == [2]byte{0x1f, 0x8b} || o.b == [2]byte{0x28, 0xb5})
}

const unsaidEncoding = "the body is compressed, and no Content-Encoding says so"

// Unread returns the entries of Details.Unread.
func (r *Record) Unread() []string {
	if r.Details == nil || r.Details.Unread == "" {
		return nil
	}
	return strings.Split(r.Details.Unread, ",")
}

// unreadTexts are column error's texts about a reply that was not read.
//
//nolint:gochecknoglobals // a constant table
var unreadTexts = map[string]string{
	UnreadCorrupt: "its compressed bytes are damaged",
	UnreadCut:     "its compressed bytes end early",
	UnreadBomb:    "it inflates to far more bytes than a reply has",
	UnreadBehind:  "it came faster than it could be inflated",
	UnreadWindow:  "it needs more memory to inflate than there is for it",
}

// fillUnread says what of the exchange was not read.
func (m *Meter) fillUnread(rec *Record) {
	switch d := &m.details; {
	case m.status == 101:
		*d = Details{Unread: UnreadWebSocket}
	case m.dialect.name == "":
		*d = Details{}
		if m.sends && m.reply.computed && !idlePath(rec.Path) {
			d.Unread = UnreadPath
		}
	default:
		request, reply := m.request.whyUnread(), m.reply.whyUnread()
		switch {
		case request != "" && reply != "":
			d.Unread = "request_" + request + ",reply_" + reply
		case request != "":
			d.Unread = "request_" + request
		case reply != "":
			d.Unread = "reply_" + reply
		}
		if text := unreadTexts[reply]; text != "" && m.status < 400 {
			rec.Error = firstOf(rec.Error, "not fully metered: the reply could not be read to its end, "+text)
		}
	}
}

// whyUnread returns why a body of which bytes came was not read, "" if it was.
func (r *request) whyUnread() string {
	if r.unread == "" && r.opening.n > 0 && r.off == "" && (!r.seen || r.scan.state == broken) {
		return UnreadFormat
	}
	if r.opening.n == 0 && (r.unread == UnreadEncoding || r.unread == UnreadMultipart) {
		return ""
	}
	return r.unread
}

func (r *reply) whyUnread() string {
	switch {
	case r.unread != "":
	case r.mode == document && r.opening.n > 0 && r.scan.state == broken, r.badEvents > 0 && r.badEvents == r.events:
		return UnreadFormat
	case r.odd:
		return UnreadNumber
	}
	if r.opening.n == 0 && (r.unread == UnreadEncoding || r.unread == UnreadType) {
		return ""
	}
	return r.unread
}

// idlePath reports a path of which it is known that the model does not compute for it, whatever the method: llama-server's
// (tools/server/server.cpp) and Ollama's.
func idlePath(path string) bool {
	path = strings.TrimRight(path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	for _, p := range idlePaths {
		if last == p || p[0] == '/' && strings.Contains(path, p) {
			return true
		}
	}
	return false
}

//nolint:gochecknoglobals // a constant table
var idlePaths = [...]string{
	"apply-template", "detokenize", "lora-adapters", "props", "tools", "cors-proxy", "mcp",
	"/slots/", "/models/", "/conversations/", "/files/",
	"show", "create", "copy", "delete", "pull", "push",
}
