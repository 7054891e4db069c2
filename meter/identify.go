package meter

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Modes of Identify.
const (
	IdentifyHash  = "hash"  // user, session, key and address as keyed hashes: the zero value's mode
	IdentifyPlain = "plain" // user, session and address as they are; the key still hashed
	IdentifyNone  = "none"  // none of the four
)

// Identify fills the columns that identify the client. In mode hash they are HMAC-SHA-256 under Key, cut to 64 bits, in
// hexadecimal: one person has one value on an installation, and the value reveals nothing without the key. The hash covers
// the column's name, so equal values of two columns differ. Without a Key, mode hash keeps nothing. Safe for concurrent use
// once set.
type Identify struct {
	Mode           string
	Key            []byte   // per-install secret
	SessionHeaders []string // the first of these in a request names its session; nil: DefaultSessionHeaders
	Agents         []AgentRule

	schema *node // of request bodies, with members that name a session; nil: the usual ones
	chains chains
	macs   sync.Pool // of hash.Hash under Key
}

// sessionField marks a member of the body among session headers.
const sessionField = "body:"

// Name is NameSessions with the rules of ParseAgentRules.
func (id *Identify) Name(sessions []string, agents map[string]string) (err error) {
	if err := id.NameSessions(sessions); err != nil {
		return fmt.Errorf("--session-headers: %w", err)
	}
	if id.Agents, err = ParseAgentRules(agents); err != nil {
		return fmt.Errorf("--agents: %w", err)
	}
	return nil
}

// NameSessions adds headers ("X-Chat-Id") and members of the body ("body:metadata.chat") that name a session; they come
// before the known ones. "only" in the first place leaves the known headers out. Call it before use.
func (id *Identify) NameSessions(names []string) error {
	known := defaultSessionHeaders[:]
	if len(names) > 0 && names[0] == "only" {
		names, known = names[1:], nil
	}
	id.SessionHeaders = []string{}
	var fields [][]string
	for _, name := range names {
		path, body := strings.CutPrefix(name, sessionField)
		switch parts := strings.Split(path, "."); {
		case path == "" || strings.ContainsAny(path, " :,") || body && (slices.Contains(parts, "") || len(parts) > maxSchemaDepth-1):
			return fmt.Errorf("%q names no session: write a header's name, or body: and a member such as body:metadata.chat", name)
		case body:
			fields = append(fields, parts)
		default:
			id.SessionHeaders = append(id.SessionHeaders, name)
		}
	}
	id.SessionHeaders = append(id.SessionHeaders, known...)
	if len(fields) > 0 {
		id.schema = requestSchemaWith(fields)
	}
	return nil
}

// inferred returns the session of a request of which no client named one, "" where nothing is kept of clients.
func (id *Identify) inferred(rec *Record, messages *chain) string {
	if id.Mode == IdentifyNone {
		return ""
	}
	return id.chains.session(rec.Agent+"\x00"+rec.APIKeyID+"\x00"+rec.ClientAddr, messages)
}

// DefaultSessionHeaders returns the session headers of known clients.
func DefaultSessionHeaders() []string { return slices.Clone(defaultSessionHeaders[:]) }

//nolint:gochecknoglobals // a constant
var defaultSessionHeaders = [...]string{"X-Wattline-Session", "X-Claude-Code-Session-Id", "X-Session-Affinity", "X-OpenWebUI-Chat-Id", "X-Session-Id", "Session-Id", "Session_id", "Thread-Id", "X-Conversation-Id"}

// Limits of the texts taken from one request's headers.
const (
	identityBytes = 256
	maxLabels     = 16
	labelKeyBytes = 64
)

// Fill sets agent, session, user, api_key_id, client_addr, client_request_id, trace_id and labels from
// the request's headers. header looks one up as RequestHead.Header does; clientAddr is the client's
// host:port. A trace_id comes from the client's traceparent; labels are unchanged if the request
// has none. A user named in the body is set later, by Meter.Fill.
func (id *Identify) Fill(rec *Record, header func(string) []byte, clientAddr string) {
	id.FillCached(rec, header, clientAddr, new(ConnIdentity))
}

// FillCached is Fill for the requests of one connection: known caches the last request's headers and the values derived
// from them, so that a repeated header costs a comparison and no hash.
func (id *Identify) FillCached(rec *Record, header func(string) []byte, clientAddr string, known *ConnIdentity) {
	rec.ClientRequestID = clip(header("X-Request-Id"), identityBytes)
	rec.TraceID = traceID(header("Traceparent"))
	if rec.Agent = known.name(header); rec.Agent == "Bun" && rec.Method == "HEAD" && rec.Path == "/" {
		rec.Agent = "claude-code" // its first question
	}
	if l := labels(header("X-Wattline-Labels")); len(l) > 0 {
		rec.Labels = l
	}
	if v := id.session(header); !known.session.is(v) {
		known.session.set(v, id.keep("session", clip(v, identityBytes)))
	}
	if v := header("X-OpenWebUI-User-Id"); !known.user.is(v) {
		known.user.set(v, id.person(clip(v, identityBytes)))
	}
	if v := id.apiKey(header); !known.key.is(v) {
		known.key.set(v, id.hash("key", string(v)))
	}
	if known.from != clientAddr {
		known.from, known.addr = clientAddr, id.keep("addr", host(clientAddr))
	}
	rec.Session, rec.User = known.session.kept, known.user.kept
	rec.APIKeyID, rec.ClientAddr = known.key.kept, known.addr
	for i := range id.Agents {
		if r := &id.Agents[i]; r.holds(rec, header, known.key.kept, clientAddr) {
			rec.Agent = r.name
			break
		}
	}
}

// ConnIdentity caches the identifying headers of a connection's last request and the values derived from them. It belongs
// to one Identify and one connection.
type ConnIdentity struct {
	agent, title, session, user, key cachedHeader
	sessioned                        bool // one of the headers that agentName looks at was there
	from, addr                       string
}

// cachedHeader is a header's value and the column's value derived from it.
type cachedHeader struct {
	value []byte
	kept  string
}

// name returns agentName of the headers, for which it looks again where one of them differs from the last request's.
func (c *ConnIdentity) name(header func(string) []byte) string {
	agent, title := header("User-Agent"), header("X-Title")
	if same := nonEmpty(header("Session_id")) || nonEmpty(header("Session-Id")) || nonEmpty(header("X-Claude-Code-Session-Id")); !c.agent.is(agent) || !c.title.is(title) || c.sessioned != same {
		c.sessioned = same
		c.title.set(title, "")
		c.agent.set(agent, agentName(header))
	}
	return c.agent.kept
}

func (s *cachedHeader) is(v []byte) bool { return bytes.Equal(s.value, v) }

func (s *cachedHeader) set(v []byte, kept string) { s.value, s.kept = append(s.value[:0], v...), kept }

// HashSession returns column session, in mode hash, for a session as its client names it.
func (id *Identify) HashSession(name string) string { return id.hash("session", name) }

// person returns column user for a user's name.
func (id *Identify) person(name string) string { return id.keep("user", name) }

// session returns the first session header that is not empty.
func (id *Identify) session(header func(string) []byte) []byte {
	names := id.SessionHeaders
	if names == nil {
		names = defaultSessionHeaders[:]
	}
	for _, name := range names {
		if v := header(name); nonEmpty(v) {
			return v
		}
	}
	return nil
}

// nonEmpty reports whether clip returns more than "".
func nonEmpty(v []byte) bool {
	v = bytes.TrimSpace(v)
	return len(v) > 0 && (v[0] < utf8.RuneSelf || clip(v, identityBytes) != "")
}

// apiKey returns the request's API key. It is hashed in every mode.
func (id *Identify) apiKey(header func(string) []byte) []byte {
	if id.Mode == IdentifyNone {
		return nil
	}
	key := bytes.TrimSpace(header("X-Api-Key"))
	if auth := bytes.TrimSpace(header("Authorization")); hasPrefixFold(auth, "Bearer ") {
		key = bytes.TrimSpace(auth[len("Bearer "):])
	}
	return key
}

func (id *Identify) keep(column, v string) string {
	switch id.Mode {
	case IdentifyPlain:
		return v
	case IdentifyNone:
		return ""
	}
	return id.hash(column, v)
}

func (id *Identify) hash(column, v string) string {
	if v == "" || len(id.Key) == 0 {
		return ""
	}
	mac, ok := id.macs.Get().(hash.Hash)
	if !ok {
		mac = hmac.New(sha256.New, id.Key)
	}
	defer id.macs.Put(mac)
	mac.Reset()
	room := make([]byte, 0, 256) // on the stack unless the value is longer
	mac.Write(append(append(append(room, column...), 0), v...))
	return hex.EncodeToString(mac.Sum(room[:0])[:8])
}

// host removes the port from host:port or [host]:port: it changes with each connection.
func host(addr string) string {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 || strings.IndexByte(addr, ':') < i && addr[0] != '[' {
		return addr // a name, a socket or an IPv6 address without a port
	}
	return strings.Trim(addr[:i], "[]")
}

// product returns the first product of a User-Agent (RFC 9110, 10.1.5), without its version.
func product(agent []byte) string {
	p := clip(agent, identityBytes)
	if i := strings.IndexAny(p, "/ \t("); i >= 0 {
		p = p[:i]
	}
	return p
}

// traceID returns the trace id of a W3C traceparent, "" if it is invalid.
func traceID(v []byte) string {
	const idAt, idEnd, whole = 3, 35, 55
	p := string(bytes.TrimSpace(v))
	if len(p) < whole || p[2] != '-' || p[idEnd] != '-' || p[52] != '-' || p[:2] == "ff" {
		return ""
	}
	id := p[idAt:idEnd]
	if strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

// labels parses "k=v,k=v". It leaves out whatever is not such a pair, is too long, or exceeds maxLabels.
func labels(v []byte) map[string]string {
	var out map[string]string
	for pair := range strings.SplitSeq(string(v), ",") {
		k, val, ok := strings.Cut(pair, "=")
		k, val = strings.TrimSpace(k), strings.TrimSpace(val)
		if !ok || k == "" || len(k) > labelKeyBytes || len(val) > identityBytes || !printable(k) || !printable(val) {
			continue
		}
		if _, again := out[k]; !again && len(out) == maxLabels {
			continue
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[k] = val
	}
	return out
}

// message is what is kept of an upstream's error message, which may quote the request: mode hash keeps the part before
// the first quotation, plain keeps all, none keeps nothing.
func (id *Identify) message(text string) string {
	switch {
	case id == nil || id.Mode == IdentifyHash || id.Mode == "":
		return redact(text)
	case id.Mode == IdentifyPlain:
		return text
	}
	return ""
}
