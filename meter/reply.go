package meter

import (
	"bytes"
	"sync/atomic"
)

// reply reads a reply's body as it passes: one document, several, or the events of a stream. What an
// event holds is collected in ev and counts only when the event is complete.
type reply struct {
	scan scanner
	sse  sse
	time timeline
	ev   event

	model       text
	fingerprint text
	failure     text // message of an error in the body, or what may be one if the status is an error
	raw         text // data of an event named "error", as a JSON string's inside
	finishes    wordSet
	tallies     [sources]tally

	replyState
}

// replyState is cleared by forget in one assignment. The buffers above are cleared where they lie: a copy of them
// would be 18 KiB of every proxying goroutine's stack.
type replyState struct {
	mode     replyMode
	off      string // why the body is not metered, "" if it is
	unread   string // an Unread constant; "" if it was read
	opening  opening
	streams  Int   // whether the head says that a stream follows; null where it does not say
	computed bool  // the head is that of a reply for which a model may have computed
	llama    bool  // the head has "Server: llama.cpp"
	read     int64 // stamps of the piece being read
	written  int64
	answered Progress // of the ReplyBody under way

	lead  [2]byte // the body's first bytes
	leadN int

	// Gateways write notices into a stream before the server's reply ("loading model", "queue position 3"), as reasoning
	// text. They tell no id, model or time of creation, which the server's own events do.
	named    bool  // an event of a running completion told one of these
	spoken   bool  // outputs that told none are the server's all the same: no notice answers or ends
	held     int   // such outputs of reasoning, which are not told yet
	began    bool  // the first output was told
	notices  int64 // outputs that were none
	noticeAt int64 // read stamp of the last

	failed    bool
	slot      Int
	events    int64 // complete events with data, or documents
	uncounted int64 // outputs that an event had no room for
	badEvents int64 // of them, those that were not JSON
	blockedNs int64
	odd       bool // a count was no number
	done      bool // "[DONE]", message_stop, response.completed or the last completion's "stop":true was seen
	doneMatch int  // bytes of the event's data that fit "[DONE]"; -1: none

	ended     uint64 // completions that have ended, bits by index below trackedChoices
	endedMore int64  // ends of others
	loadUs    Int    // Ollama's load_duration
	progress  prefill
	results   Int
	tokens    Int
	counted   Int
	tools     bool // a tool call was among the output

	answers int64         // most completions in one event or document
	asked   *atomic.Int64 // completions that the request asks for, 0 while that is not known
}

type replyMode uint8

const (
	notMetered replyMode = iota
	document             // JSON, one or several
	eventStream
	lines // of JSON, one an event
)

// prefill is the last prompt_progress.
type prefill struct {
	total, cached, done Int
	us                  Int
	n                   int64
}

func (r *reply) begin(h ReplyHead, dialect string) {
	r.scan.root, r.scan.to = replySchema, r
	r.sse.to = r
	r.llama = equalFold(h.header("Server"), "llama.cpp")
	kind := h.header("Content-Type")
	mode := notMetered
	switch {
	case hasPrefixFold(kind, "text/event-stream"):
		mode, r.streams = eventStream, Some(1)
	case hasPrefixFold(kind, "application/x-ndjson"), hasPrefixFold(kind, "application/ndjson"), hasPrefixFold(kind, "application/jsonl"):
		mode, r.streams = lines, Some(1)
	case hasPrefixFold(kind, "application/json"), hasPrefixFold(kind, "application/problem+json"):
		mode, r.streams = document, Some(0)
	}
	switch e := h.header("Content-Encoding"); {
	case dialect == "" && h.Status < 400: // nothing known about this path
		r.computed = mode != notMetered
	case !h.Inflated && len(e) > 0 && !equalFold(e, "identity"):
		r.off = "not metered: the reply is compressed (" + clip(e, 32) + "); ask for it uncompressed (Accept-Encoding: identity)"
		r.unread = UnreadEncoding
	case mode != notMetered:
		r.mode = mode
	case dialect != "":
		r.off, r.unread = "not metered: unknown content type "+quoted(kind), UnreadType
	}
}

func (r *reply) forget() {
	r.model.wipe()
	r.finishes.wipe()
	r.fingerprint.wipe()
	r.failure.wipe()
	r.raw.wipe()
	for i := range r.tallies {
		r.tallies[i].reset()
	}
	r.scan.wipe()
	r.sse.reset()
	r.time.reset()
	r.ev.reset()
	r.replyState = replyState{}
}

func (r *reply) body(p []byte, read, written int64) Progress {
	if r.opening.compressed(p) && r.mode != notMetered {
		r.mode, r.off, r.unread = notMetered, "not metered: "+unsaidEncoding, UnreadEncoding
	}
	r.answered = Progress{}
	from := read
	if read == r.read { // another piece of the same read: what is new is the time since its last flush
		from = r.written
	}
	r.blockedNs += max(0, written-from)
	r.read, r.written = read, written
	if r.leadN < len(r.lead) {
		r.begins(p)
	}
	switch r.mode {
	case eventStream:
		r.sse.feed(p)
	case document:
		r.scan.feed(p)
	case lines:
		r.lines(p)
	}
	return r.answered
}

// inEvents reports whether the reply comes in events.
func (r *reply) inEvents() bool { return r.mode == eventStream || r.mode == lines }

// begins looks at the body's first two bytes: a NUL or half a byte order mark among them is UTF-16.
func (r *reply) begins(p []byte) {
	r.leadN += copy(r.lead[r.leadN:], p)
	if r.mode != notMetered && utf16Begins(r.lead[:r.leadN]) {
		r.mode, r.off, r.unread = notMetered, "not metered: the reply is UTF-16, which JSON and event streams are not (RFC 8259, 8.1)", UnreadFormat
	}
}

func utf16Begins(p []byte) bool {
	return bytes.IndexByte(p, 0) >= 0 || string(p) == "\xFF\xFE" || string(p) == "\xFE\xFF"
}

// lines reads lines of JSON. A document counts when it is complete; what a line's end finds incomplete is dropped.
func (r *reply) lines(p []byte) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			r.scan.feed(p)
			return
		}
		r.scan.feed(p[:end])
		r.scan.finish()
		if !r.scan.idle() {
			r.events++
			r.badEvents++
			r.scan.reset()
		}
		r.ev.reset()
		p = p[end+1:]
	}
}

const doneMark = "[DONE]"

// data takes a piece of an event's data.
func (r *reply) data(p []byte) {
	if r.sse.failing {
		r.keepRaw(p)
	}
	if r.doneMatch >= 0 {
		for _, c := range p {
			if r.doneMatch >= len(doneMark) || c != doneMark[r.doneMatch] {
				r.doneMatch = -1
				break
			}
			r.doneMatch++
		}
	}
	r.scan.feed(p)
}

// keepRaw keeps the data of an event named "error".
func (r *reply) keepRaw(p []byte) {
	for _, c := range p {
		if len(r.raw.b) >= keepBytes-1 {
			return
		}
		if c == '\\' {
			r.raw.b = append(r.raw.b, c)
		}
		r.raw.b = append(r.raw.b, c)
	}
}

// event ends an event of a stream.
func (r *reply) event() {
	r.scan.finish()
	switch failing := r.sse.failing; {
	case r.doneMatch == len(doneMark):
		r.done = true
	case !r.scan.idle() && !failing:
		r.events++
		r.badEvents++
	default:
		if failing {
			if !r.scan.idle() {
				r.ev.reset()
			}
			r.ev.failed = true
			if len(r.ev.failure.b) == 0 {
				r.ev.failure.copyFrom(&r.raw)
			}
			r.raw.empty()
		}
		r.events++
		r.commit()
	}
	r.doneMatch = 0
	r.scan.reset()
	r.ev.reset()
}

// commit makes a complete event or document count.
func (r *reply) commit() {
	e := &r.ev
	e.settle()
	if r.inEvents() {
		r.outputs(e)
	}
	r.failed = r.failed || e.failed
	if len(r.failure.b) == 0 {
		r.failure.copyFrom(&e.failure)
	}
	if len(r.model.b) == 0 {
		r.model.copyFrom(&e.model)
	}
	if len(r.fingerprint.b) == 0 {
		r.fingerprint.copyFrom(&e.fingerprint)
	}
	r.finishes.merge(&e.finish)
	r.answers = max(r.answers, e.nChoices)
	if e.slot.Valid { // llama-server sends -1 while the request runs
		r.slot, r.answered.Slot = e.slot, e.slot
	}
	if e.ends {
		r.ended |= e.ended
		if e.ended == 0 {
			r.endedMore++
		}
	}
	if e.numbers {
		r.counts(e)
		r.plain(e)
	}
	if e.kind == kindMessageStop || e.kind == kindResponseEnd || e.mark && r.mode == lines || r.inEvents() && r.nativeEnd(e) {
		r.done = true
	}
}

// nativeEnd reports the event that ends llama-server's own stream, which has no other mark: that of the last completion.
func (r *reply) nativeEnd(e *event) bool {
	if !e.told[native].get(outputTokens).Valid || !e.ends || r.asked == nil {
		return false
	}
	n := r.asked.Load()
	return n > 0 && r.completionsEnded() >= n
}

// completionsEnded is how many of the reply's completions have ended.
func (r *reply) completionsEnded() int64 { return nEnded(r.ended) + r.endedMore }

// outputs puts what the event generated on the timeline.
func (r *reply) outputs(e *event) {
	if !r.named && e.named && (e.nOutputs > 0 || !e.ends && (e.nChoices > 0 || e.kind != kindUntyped)) {
		r.named = true
		r.dropNotices()
	}
	r.uncounted += e.uncounted
	r.time.events += e.uncounted
	told, answers := e.nOutputs+int(e.uncounted), false
	for _, o := range e.outputs[:e.nOutputs] {
		r.time.output(o.choice, o.answer, r.read, r.written)
		r.tools = r.tools || o.tool
		answers = answers || o.answer
	}
	if !r.named && !r.spoken {
		if r.spoken = answers || e.ends || e.numbered && e.nOutputs > 0; !r.spoken {
			r.held += told
			return
		}
		told, r.held = told+r.held, 0
	}
	if told > 0 && !r.began {
		r.began, r.answered.First = true, true
	}
	r.answered.Outputs += told
}

// dropNotices takes what came so far for words of a gateway.
func (r *reply) dropNotices() {
	if r.time.events == 0 {
		return
	}
	r.notices, r.noticeAt = r.notices+r.time.events, r.time.last
	r.held, r.uncounted, r.tools = 0, 0, false
	r.time.restart()
}

// counts enters the event's numbers. Those of a completion that has ended are final, all others are true so far.
func (r *reply) counts(e *event) {
	r.odd = r.odd || e.odd
	final := !r.inEvents() || e.ends || e.of >= 0 && e.of < trackedChoices && r.ended>>e.of&1 == 1
	for i := range e.told {
		switch o, t := &e.told[i], &r.tallies[i]; {
		case o.has == 0:
		case e.noChoices:
			t.whole(o, r.completionsEnded())
		case final:
			t.final(e.of, o, r.completionsEnded())
		default:
			t.soFar(o)
		}
	}
	if e.loadUs.Valid {
		r.loadUs = e.loadUs
	}
	if p := e.progress; p.done.Valid {
		p.n = r.progress.n + 1
		r.progress = p
		r.answered.PrefillDone, r.answered.PrefillTotal = p.done.V, p.total.V
	}
}

func (r *reply) open(f field) { r.ev.open(f) }

func (r *reply) close(f field, n int64) {
	r.ev.close(f, n)
	if f == repDoc && (r.mode == document || r.mode == lines) {
		r.events++
		r.commit()
		r.ev.reset()
	}
}

func (r *reply) scalar(f field, v value) { r.ev.scalar(f, v) }

// plain enters what replies tell that generate nothing.
func (r *reply) plain(e *event) {
	if e.results.Valid {
		r.results = e.results
	}
	if e.tokens.Valid {
		r.tokens = e.tokens
	}
	if e.counted.Valid {
		r.counted = e.counted
	}
}

// cut tells why a reply that ended by its own framing is not whole all the same, "" if it is.
func (r *reply) cut() string {
	switch {
	case r.mode == document && !r.scan.idle() && r.scan.state != broken:
		return "the reply's JSON ended early"
	case !r.inEvents(), r.done, r.sse.open && r.doneMatch == len(doneMark):
		return ""
	case r.completionsEnded() == 0:
		return "the stream ended without a finish reason and without an end mark"
	case r.completionsEnded() < r.time.started():
		return "the stream ended before each of its completions had a finish reason"
	}
	return ""
}
