package meter

import (
	"encoding/json"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
)

// SessionInferred is Details.SessionSource of a session that no client named.
const SessionInferred = "inferred"

// sessionRank orders the members of a body that name a session: a lower one wins.
type sessionRank uint8

const (
	rankNamed    sessionRank = iota + 1 // a member that the configuration names
	rankSession                         // client_metadata.session_id, metadata.session_id, session_id
	rankUser                            // the session inside Anthropic's metadata.user_id
	rankCacheKey                        // prompt_cache_key: agents use the session's id for it
)

// splitUser takes Claude Code's metadata.user_id apart, which names account, device and session, as JSON or joined by
// underscores: the user without the session, which changes every time. Other texts are a user as they are.
func splitUser(text string) (user, session string) {
	var parts struct {
		Account string `json:"account_uuid"`
		Device  string `json:"device_id"`
		Session string `json:"session_id"`
	}
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &parts) == nil && parts.Account+parts.Device+parts.Session != "" {
		return firstOf(parts.Account, parts.Device), parts.Session
	}
	if i := strings.LastIndex(text, "_session_"); i >= 0 && strings.HasPrefix(text, "user_") {
		return strings.TrimSuffix(text[:i], "_account_"), text[i+len("_session_"):]
	}
	return text, ""
}

// prompts of a chat are the messages of its request, hashed one by one as they pass: chain values tell whether one
// request's messages are the beginning of another's.
type chain struct {
	hash   maphash.Hash
	from   int    // where the message begins in the piece being read; -1: none is open
	value  uint64 // of the messages so far
	n      int64
	recent [chainKept]uint64 // the last values, by number of messages modulo chainKept
}

// chainKept bounds by how many messages a request may be longer than the one that it continues.
const chainKept = 32

//nolint:gochecknoglobals // of this process: values are compared within it only
var chainSeed = maphash.MakeSeed()

func (c *chain) reset() {
	c.hash.SetSeed(chainSeed)
	c.from, c.value, c.n = -1, 0, 0
}

// begin starts a message at p[at:] of the piece being read.
func (c *chain) begin(at int) {
	c.hash.Reset()
	c.from = at
}

// rest takes what a piece has of an open message.
func (c *chain) rest(p []byte) {
	if c.from >= 0 {
		_, _ = c.hash.Write(p[c.from:])
		c.from = 0
	}
}

// end ends the message with p[:end].
func (c *chain) end(p []byte) {
	if c.from < 0 {
		return
	}
	_, _ = c.hash.Write(p[c.from:])
	c.from = -1
	c.value = maphash.Comparable(chainSeed, [2]uint64{c.value, c.hash.Sum64()})
	c.n++
	c.recent[c.n%chainKept] = c.value
}

// maxChains bounds the requests whose messages are remembered.
const maxChains = 4096

// chains remember the messages of requests, as hashes under a key of this process, and the sessions inferred from them.
type chains struct {
	mu       sync.Mutex
	sessions map[uint64]string
	oldest   [maxChains]uint64 // a ring of the keys
	next     int
}

// session returns the session of a client's request: that of the longest earlier request of the client with messages
// with which this one's begin, or a new one. "" for a request without messages.
func (s *chains) session(client string, c *chain) string {
	if c.n == 0 {
		return ""
	}
	key := func(v uint64) uint64 {
		return maphash.Comparable(chainSeed, [2]uint64{v, maphash.String(chainSeed, client)})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions = make(map[uint64]string)
	}
	whole := key(c.value)
	for n := c.n; n > 0 && n > c.n-chainKept; n-- {
		if name, ok := s.sessions[key(c.recent[n%chainKept])]; ok {
			if n != c.n {
				s.remember(whole, name)
			}
			return name
		}
	}
	name := SessionInferred + "-" + strconv.FormatUint(whole>>16, 36)
	s.remember(whole, name)
	return name
}

func (s *chains) remember(key uint64, name string) {
	if old := s.oldest[s.next]; old != 0 {
		delete(s.sessions, old)
	}
	s.oldest[s.next] = key
	s.next = (s.next + 1) % maxChains
	s.sessions[key] = name
}
