package cache

import (
	"slices"
	"strconv"
	"strings"

	"wattline/meter"
	"wattline/meter/prompt"
)

// Request is a prompt that a server worked on. It is not changed once a History has it, but for Prompt.Text, which the History
// forgets when its memory is full.
type Request struct {
	ID      string
	Server  string // whose cache it is: upstream and model
	Session string // as the client named it; "" where it did not
	Prompt  *prompt.Prompt

	Started, Ended int64 // when it got its slot and when it ended, ns

	PromptTokens, CachedTokens, OutputTokens meter.Int

	CachePrompt meter.Int // the request's cache_prompt
	Slot        meter.Int
	ConfigID    string
	Generation  int64 // how often the server was seen to begin anew
	LoadUs      meter.Int
	Facts       Facts
	Earlier     bool // it is of an earlier run of wattline, and what the server did since is not known

	Unread string // why the body was not read; "" if it was

	size   int64
	textAt int64 // when its text was last of use
}

// Facts are what is known of a server while it answers.
type Facts struct {
	Slots         meter.Int
	ContextTokens meter.Int // of a slot
	CacheRAM      meter.Int // --cache-ram, MiB, where its command line has it
}

// FactsOf returns what is known of a server: its slots, its context and its command line.
func FactsOf(slots, contextTokens meter.Int, flags []string) Facts {
	f := Facts{Slots: slots, ContextTokens: contextTokens}
	for i, flag := range flags {
		name, value, joined := strings.Cut(flag, "=")
		if !joined && i+1 < len(flags) {
			value = flags[i+1]
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && (name == "--cache-ram" || name == "-cram") {
			f.CacheRAM = meter.Some(n)
		}
	}
	return f
}

// Limits of a History.
const (
	maxPerServer   = 256
	maxServers     = 64
	maxFingerprint = 32 << 20 // bytes of all fingerprints, texts not counted
)

// History remembers prompts. Its methods must not run at the same time.
type History struct {
	// TextBytes bounds the texts that are kept; the prompts least lately compared with lose theirs.
	TextBytes int64

	servers map[string][]*Request // in order of their ends
	texts   int64
	sizes   int64
	clock   int64 // counts uses
}

// Texts returns how many bytes of text are kept.
func (h *History) Texts() int64 { return h.texts }

// Add remembers a finished request.
func (h *History) Add(q *Request) {
	if h.servers == nil {
		h.servers = map[string][]*Request{}
	}
	if len(h.servers) >= maxServers && h.servers[q.Server] == nil {
		h.forgetServer()
	}
	h.use(q)
	if q.Prompt != nil {
		h.texts += int64(cap(q.Prompt.Text))
		q.size = fingerprintBytes(&q.Prompt.Fingerprint)
		h.sizes += q.size
	}
	list := append(h.servers[q.Server], q)
	slices.SortStableFunc(list[max(0, len(list)-8):], func(a, b *Request) int { return int(min(max(a.Ended-b.Ended, -1), 1)) })
	h.servers[q.Server] = list
	for len(h.servers[q.Server]) > maxPerServer {
		h.forgetOldest(q.Server)
	}
	for h.sizes > maxFingerprint {
		h.forgetOldest(h.oldestServer())
	}
	h.Shrink(h.TextBytes)
}

func fingerprintBytes(f *prompt.Fingerprint) (n int64) {
	for i := range f.Parts {
		n += int64(72 + 8*len(f.Parts[i].Blocks))
	}
	return n
}

func (h *History) use(q *Request) {
	h.clock++
	q.textAt = h.clock
}

// Shrink forgets texts until at most so many bytes of them are left.
func (h *History) Shrink(limit int64) {
	for h.texts > limit {
		var oldest *Request
		for _, list := range h.servers {
			for _, q := range list {
				if q.Prompt != nil && cap(q.Prompt.Text) > 0 && (oldest == nil || q.textAt < oldest.textAt) {
					oldest = q
				}
			}
		}
		if oldest == nil {
			return
		}
		h.dropText(oldest)
	}
}

func (h *History) dropText(q *Request) {
	if q.Prompt != nil {
		h.texts -= int64(cap(q.Prompt.Text))
		q.Prompt.Text = nil
	}
}

func (h *History) forgetOldest(server string) {
	list := h.servers[server]
	h.dropText(list[0])
	h.sizes -= list[0].size
	list[0] = nil
	if h.servers[server] = list[1:]; len(list) == 1 {
		delete(h.servers, server)
	}
}

// oldestServer is the one whose oldest prompt was of use least lately.
func (h *History) oldestServer() (name string) {
	var at int64
	for server, list := range h.servers {
		if name == "" || list[0].textAt < at {
			name, at = server, list[0].textAt
		}
	}
	return name
}

func (h *History) forgetServer() {
	for server := h.oldestServer(); len(h.servers[server]) > 0; {
		h.forgetOldest(server)
	}
}
