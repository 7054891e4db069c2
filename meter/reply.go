package meter

import "sync/atomic"

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
	finishes    wordSet

	replyState
}

// replyState is cleared by forget in one assignment. The buffers above are cleared where they lie: a copy of them
// would be 18 KiB of every proxying goroutine's stack.
type replyState struct {
	mode     replyMode
	off      string // why the body is not metered, "" if it is
	unread   string // an Unread constant; "" if it was read
	shown    bool   // a byte of the body came
	streams  Int    // whether the head says that a stream follows; null where it does not say
	computed bool   // the head is that of a reply for which a model may have computed
	llama    bool   // the head has "Server: llama.cpp"
	read     int64  // stamps of the piece being read
	written  int64
	answered Progress // of the ReplyBody under way

	failed    bool
	slot      Int
	events    int64 // complete events with data, or documents
	uncounted int64 // outputs that an event had no room for
	badEvents int64 // of them, those that were not JSON
	blockedNs int64
	done      bool // "[DONE]", message_stop, response.completed or the last completion's "stop":true was seen
	doneMatch int  // bytes of the event's data that fit "[DONE]"; -1: none

	usage   tally
	timings tally
	native  tally

	progress prefill
	results  Int
	tokens   Int
	counted  Int
	tools    bool // a tool call was among the output

	answers int64         // most completions in one event or document
	asked   *atomic.Int64 // completions that the request asks for, 0 while that is not known
}

type replyMode uint8

const (
	notMetered replyMode = iota
	document             // JSON, one or several
	eventStream
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
	case hasPrefixFold(kind, "application/json"), hasPrefixFold(kind, "application/problem+json"):
		mode, r.streams = document, Some(0)
	}
	switch e := h.header("Content-Encoding"); {
	case dialect == "" && h.Status < 400: // nothing known about this path
		r.computed = mode != notMetered || hasPrefixFold(kind, "application/x-ndjson")
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
	r.scan.wipe()
	r.sse.reset()
	r.time.reset()
	r.ev.reset()
	r.replyState = replyState{}
}

func (r *reply) body(p []byte, read, written int64) Progress {
	r.shown = r.shown || len(p) > 0
	r.answered = Progress{}
	from := read
	if read == r.read { // another piece of the same read: what is new is the time since its last flush
		from = r.written
	}
	r.blockedNs += max(0, written-from)
	r.read, r.written = read, written
	switch r.mode {
	case eventStream:
		r.sse.feed(p)
	case document:
		r.scan.feed(p)
	}
	return r.answered
}

const doneMark = "[DONE]"

// data takes a piece of an event's data.
func (r *reply) data(p []byte) {
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

// event ends an event of a stream.
func (r *reply) event() {
	r.scan.finish()
	switch {
	case r.doneMatch == len(doneMark):
		r.done = true
	case !r.scan.idle():
		r.events++
		r.badEvents++
	default:
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
	streamed := r.mode == eventStream
	if streamed {
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
	if e.numbers {
		r.counts(e, streamed)
		r.plain(e)
	}
	if e.kind == kindMessageStop || e.kind == kindResponseEnd || streamed && r.nativeEnd(e) {
		r.done = true
	}
}

// nativeEnd reports the event that ends llama-server's own stream, which has no other mark: that of the last completion.
func (r *reply) nativeEnd(e *event) bool {
	if !e.native.Output.Valid || len(e.finish.b) == 0 || r.asked == nil {
		return false
	}
	n := r.asked.Load()
	return n > 0 && r.native.n[final] >= n
}

// outputs puts what the event generated on the timeline.
func (r *reply) outputs(e *event) {
	r.uncounted += e.uncounted
	if e.nOutputs > 0 && r.time.events == 0 {
		r.answered.First = true
	}
	r.answered.Outputs += e.nOutputs
	for _, o := range e.outputs[:e.nOutputs] {
		r.time.output(o.choice, o.answer, r.read, r.written)
		r.tools = r.tools || o.tool
	}
}

// counts enters the event's numbers. Those of an event that ends a completion are final, all others
// are what was true so far.
func (r *reply) counts(e *event, streamed bool) {
	stage := soFar
	switch {
	case e.noChoices:
		stage = total
	case !streamed, len(e.finish.b) > 0, e.kind == kindResponseEnd, e.kind == kindTranscriptEnd:
		stage = final
	}
	r.usage.enter(&e.usage, stage)
	r.timings.enter(&e.timings, stage)
	r.native.enter(&e.native, stage)
	if p := e.progress; p.done.Valid {
		p.n = r.progress.n + 1
		r.progress = p
		r.answered.PrefillDone, r.answered.PrefillTotal = p.done.V, p.total.V
	}
}

func (r *reply) open(f field) { r.ev.open(f) }

func (r *reply) close(f field, n int64) {
	r.ev.close(f, n)
	if f == repDoc && r.mode == document {
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
