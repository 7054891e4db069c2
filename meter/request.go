package meter

import (
	"io"
	"sync/atomic"
)

// request reads a request's body as it passes. It is touched by RequestBody alone until the exchange
// ends, because an upload may still run when the reply begins.
type request struct {
	scan  scanner
	model text
	user  text
	owner text // metadata.user_id
	named text // a member that names a session, the best so far by rank

	messages chain

	// completions is how many the request asks for, from when its body was read to the end; 0 before. The
	// reply's side reads it.
	completions atomic.Int64

	requestState
}

// requestState is cleared by forget in one assignment; see replyState.
type requestState struct {
	off     string // why the body is not read, "" if it is
	unread  string // an Unread constant; "" if it was read
	opening opening
	copy    io.Writer   // of the body; nil: none
	rank    sessionRank // of named; 0: none
	seen    bool        // a document began
	done    bool        // and ended: what follows is not looked at
	stream  Int
	limit   Int // max_tokens
	temp    Float
	seed    Int
	n       Int
	msgs    Int
	tools   Int
	inputs  Int
	prompts Int
	docs    Int
	images  int64
	audios  int64
	usage   Int // stream_options.include_usage
	perTok  Int // timings_per_token
	progr   Int // return_progress
	cache   Int // cache_prompt
	slot    Int // id_slot

	piece    []byte // of the body, while it is read
	bytes    int64  // of the body
	samples  int64  // of its text
	monotone int64  // of them, those of one repeated character

	promptTexts   int64 // elements of prompt that are prompts: strings and token lists
	promptNumbers bool  // prompt is one list of token numbers
}

// begin looks at the head. It forgets the last exchange's texts for good: they are people's.
func (r *request) begin(h RequestHead) {
	r.forget()
	r.scan.root, r.scan.to = requestSchema, r
	if h.Identify != nil && h.Identify.schema != nil {
		r.scan.root = h.Identify.schema
	}
	if e := h.header("Content-Encoding"); !h.Inflated && len(e) > 0 && !equalFold(e, "identity") {
		r.off, r.unread = "request body is compressed", UnreadEncoding
	} else if hasPrefixFold(h.header("Content-Type"), "multipart/") {
		r.off, r.unread = "request body is multipart", UnreadMultipart
	}
}

func (r *request) forget() {
	r.model.wipe()
	r.user.wipe()
	r.owner.wipe()
	r.named.wipe()
	r.messages.reset()
	r.scan.wipe()
	r.completions.Store(0)
	r.requestState = requestState{}
}

func (r *request) body(p []byte) {
	if r.opening.compressed(p) && r.off == "" {
		r.off, r.unread = unsaidEncoding, UnreadEncoding
	}
	r.bytes += int64(len(p))
	r.monotony(p)
	if r.copy != nil && r.off == "" {
		_, _ = r.copy.Write(p)
	}
	if r.off == "" && !r.done {
		r.piece = p
		r.scan.feed(p)
		r.messages.rest(p)
		r.piece = nil
	}
}

func (r *request) open(f field) {
	switch f &^ namesSession {
	case reqDoc:
		r.seen = true
	case reqMessage:
		r.messages.begin(r.scan.at)
	case reqPromptElem:
		r.promptTexts++
	}
}

func (r *request) close(f field, n int64) {
	switch f &^ namesSession {
	case reqDoc:
		r.done = true
		r.completions.Store(r.asks())
	case reqMessage:
		r.messages.end(r.piece[:r.scan.at])
	case reqMessages:
		r.msgs = Some(n)
	case reqTools:
		r.tools = Some(n)
	case reqInput:
		r.inputs = Some(n)
	case reqDocuments:
		r.docs = Some(n)
	case reqPrompt:
		r.prompts = Some(max(r.promptTexts, 1))
		if r.promptNumbers {
			r.prompts = Some(1)
		}
	}
}

func (r *request) scalar(f field, v value) {
	if f&namesSession != 0 {
		r.session(rankNamed, v)
	}
	switch f &^ namesSession {
	case reqModel:
		r.model.set(v)
	case reqUser:
		r.user.set(v)
	case reqMetadataUser:
		r.owner.set(v)
	case reqSession:
		r.session(rankSession, v)
	case reqCacheKey:
		r.session(rankCacheKey, v)
	case reqStream:
		r.stream = v.toBool()
	case reqMaxTokens:
		r.limit = v.count() // -1 is llama-server's "unlimited"
	case reqTemperature:
		r.temp.V, r.temp.Valid = v.float()
	case reqSeed:
		r.seed = v.integer()
	case reqN:
		r.n = v.count()
	case reqInput:
		r.inputs = Some(1)
	case reqPrompt:
		r.prompts = Some(1)
	case reqPromptElem:
		if v.kind == kindNumber {
			r.promptNumbers = true
			return
		}
		r.promptTexts++
	case reqPartType:
		r.part(v)
	case reqIncludeUsage:
		r.usage = v.toBool()
	case reqTimingsPerToken:
		r.perTok = v.toBool()
	case reqReturnProgress:
		r.progr = v.toBool()
	case reqCachePrompt:
		r.cache = v.toBool()
	case reqSlot:
		r.slot = v.count() // -1: any
	}
}

// asks returns the number of completions the request asks for.
func (r *request) asks() int64 { return max(r.n.V, 1) * max(r.prompts.V, 1) }

// part counts an image or audio among a message's content parts, by the names of all three dialects.
func (r *request) part(v value) {
	switch string(v.raw) {
	case "image_url", "image", "input_image":
		r.images++
	case "input_audio", "audio", "audio_url":
		r.audios++
	}
}

// session keeps a member that names a session, unless a better one was seen.
func (r *request) session(rank sessionRank, v value) {
	if v.nonEmpty() && (r.rank == 0 || rank < r.rank) {
		r.named.set(v)
		r.rank = rank
	}
}

// who returns the user and the session that the body names: OpenAI's user, else Anthropic's metadata.user_id, which may
// have a session in it.
func (r *request) who() (user, session string) {
	user, session = splitUser(r.owner.String())
	if len(r.user.b) > 0 {
		user = r.user.String()
	}
	if r.rank > 0 && (session == "" || r.rank < rankUser) {
		session = r.named.String()
	}
	return user, session
}
