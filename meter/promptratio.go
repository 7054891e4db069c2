package meter

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// PromptRatios learns how many bytes of request body stand for a prompt token, for each session of one upstream, and finds
// prompts that were cut: Ollama and others drop the oldest text of a prompt that exceeds their context, without a word.
// The exchanges of one upstream share one. The zero value is ready; safe for concurrent use.
type PromptRatios struct {
	mu   sync.Mutex // guards all below
	seed maphash.Seed
	of   map[uint64]float64 // the most bytes a token lately, by session
}

const (
	ratioSessions   = 1024    // then all are forgotten
	ratioLearnBytes = 2 << 10 // smaller bodies are mostly names and punctuation
	ratioJudgeBytes = 8 << 10 // no context is smaller
	ratioOwn        = 2.5     // as many times the session's own ratio is a cut
	ratioOthers     = 4       // and as many times other sessions', for one that has none yet
)

// cut enters a request and reports whether its prompt was cut.
func (p *PromptRatios) cut(session, model string, bytes, tokens int64) bool {
	if p == nil || tokens <= 0 || bytes < ratioLearnBytes {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || len(p.of) > ratioSessions {
		p.seed, p.of = maphash.MakeSeed(), map[uint64]float64{}
	}
	all := maphash.String(p.seed, model)
	own := all ^ maphash.String(p.seed, session)<<1 | 1
	ratio := float64(bytes) / float64(tokens)
	limit := ratioOthers * p.of[all]
	if r, ok := p.of[own]; ok {
		limit = ratioOwn * r
	}
	if limit > 0 && ratio > limit && bytes >= ratioJudgeBytes {
		return true
	}
	for _, key := range [...]uint64{all, own} {
		p.of[key] = max(ratio, 0.9*p.of[key]+0.1*ratio)
	}
	return false
}

// sampleEvery is how many bytes of a body lie between two samples of monotony.
const sampleEvery = 256

// monotony counts samples of a body's text, and those of one repeated character: a row of spaces or dashes, which
// becomes few tokens.
func (r *request) monotony(p []byte) {
	const ones = 0x0101010101010101
	for ; len(p) >= 8; p = p[min(len(p), sampleEvery):] {
		r.samples++
		if w := binary.LittleEndian.Uint64(p); w == w&0xFF*ones {
			r.monotone++
		}
	}
}

// textBytes is the size of the body without rows of one character.
func (r *request) textBytes() int64 {
	return r.bytes - int64(float64(r.bytes)*float64(r.monotone)/float64(max(r.samples, 1)))
}

// promptCut reports whether the server took fewer tokens of the prompt than it was sent.
func (m *Meter) promptCut(rec *Record) Int {
	q := &m.request
	if q.off != "" || q.unread != "" || q.images+q.audios > 0 || !rec.PromptTokens.Valid || m.dialect.name == DialectResume {
		return Int{}
	}
	who := firstOf(rec.Session, firstOf(rec.User, firstOf(rec.APIKeyID, rec.ClientAddr)))
	if !m.prompts.cut(who, rec.Model, q.textBytes(), rec.PromptTokens.V) {
		return Int{}
	}
	return Some(1)
}
