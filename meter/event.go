package meter

import "math/bits"

// event is the content of one event of a stream, or of one document.
type event struct {
	kind        eventKind
	index       int64
	choice      output // the one being read
	choiceFull  bool   // it holds output
	choiceEnds  bool   // it has a finish reason
	nOutputs    int
	uncounted   int64 // outputs beyond eventOutputs
	outputs     [eventOutputs]output
	ended       uint64 // completions with a finish reason, bits by index below trackedChoices
	ends        bool   // one of any index
	of          int64  // the completion that the numbers stand beside: the last one read
	noChoices   bool   // an empty list of choices: the event that carries the totals
	nChoices    int64
	numbered    bool // a choice or the event tells its index
	named       bool // it tells an id, a model or when it was created, as every server's own events do
	toolItem    bool // a tool call's block or item
	delta       bool // Responses' delta, a string
	model       text
	fingerprint text
	finish      wordSet
	status      text
	failed      bool
	failure     text
	slot        Int
	mark        bool // Ollama's "done"
	numbers     bool // one of the fields below is set
	odd         bool // a number is none: NaN, a text, negative
	told        [sources]told
	loadUs      Int
	progress    prefill
	results     Int
	tokens      Int
	counted     Int
}

// eventOutputs bounds the outputs kept of one event; further ones are only counted, also in Details.UncountedOutputs. llama-server puts one in an event, other servers rarely more.
const eventOutputs = 16

// output is a piece of generated output.
type output struct {
	choice int64
	answer bool // not reasoning
	tool   bool
}

// eventKind is an event's "type", in dialects that have one.
type eventKind uint8

const (
	kindUntyped eventKind = iota
	kindOther
	kindMessageStart
	kindBlockStart
	kindMessageStop
	kindItemAdded
	kindResponseEnd
	kindReasoningDelta
	kindTranscriptEnd
	kindErrorEvent
)

// eventKindByType maps the types of all dialects.
var eventKindByType = eventKinds() //nolint:gochecknoglobals // a constant table

func eventKindOf(name []byte) eventKind {
	if kind, ok := eventKindByType[string(name)]; ok {
		return kind
	}
	return kindOther
}

// reset forgets the event. The texts' bytes may stay: only their lengths count.
func (e *event) reset() {
	e.kind, e.index, e.choice, e.choiceFull, e.choiceEnds, e.nOutputs, e.uncounted = kindUntyped, 0, output{}, false, false, 0, 0
	e.ended, e.ends, e.of, e.noChoices, e.nChoices, e.numbered, e.named = 0, false, 0, false, 0, false, false
	e.toolItem, e.delta, e.failed, e.mark = false, false, false, false
	e.slot = Int{}
	e.model.empty()
	e.fingerprint.empty()
	e.finish.empty()
	e.status.empty()
	e.failure.empty()
	if !e.numbers {
		return
	}
	e.numbers, e.odd, e.told, e.loadUs = false, false, [sources]told{}, Int{}
	e.progress, e.results, e.tokens, e.counted = prefill{}, Int{}, Int{}, Int{}
}

func (e *event) open(f field) {
	switch f {
	case repChoice:
		e.choice, e.choiceFull, e.choiceEnds = output{}, false, false
	case repError:
		e.failed = true
	}
}

func (e *event) close(f field, n int64) {
	switch f {
	case repChoice:
		e.endChoice(e.choice.choice)
	case repChoices:
		e.noChoices, e.nChoices = n == 0, n
	case repResults:
		e.results, e.numbers = Some(n), true
	case repTokens:
		e.tokens, e.numbers = Some(n), true
	}
}

// endChoice stores what was read of one completion.
func (e *event) endChoice(index int64) {
	e.of = index
	if e.choiceEnds {
		e.ends = true
		if index >= 0 && index < trackedChoices {
			e.ended |= 1 << index
		}
	}
	switch {
	case !e.choiceFull:
	case e.nOutputs == eventOutputs:
		e.uncounted++
	default:
		e.choice.choice = index
		e.outputs[e.nOutputs] = e.choice
		e.nOutputs++
	}
	e.choice, e.choiceFull, e.choiceEnds = output{}, false, false
}

func (e *event) generated(answer, tool bool) {
	e.choiceFull = true
	e.choice.answer = e.choice.answer || answer
	e.choice.tool = e.choice.tool || tool
}

func (e *event) scalar(f field, v value) {
	switch f {
	case repAnswer, repNativeContent, repReasoning, repTool:
		e.named = e.named || f == repNativeContent // llama-server's own form, which tells neither id nor model
		if v.nonEmpty() {
			e.generated(f != repReasoning, f == repTool)
		}
	case repDelta:
		e.delta = v.nonEmpty()
	case repChoiceIndex:
		e.choice.choice, e.numbered = v.count().V, true
	case repIndex:
		e.index, e.numbered = v.count().V, true
	case repType:
		e.kind = eventKindOf(v.raw)
	case repObject:
		e.named = true
		e.failed = e.failed || string(v.raw) == "error" // vLLM's errors are such a document
	case repName:
		e.named = true
	case repItemType:
		e.toolItem = isCall(v.raw)
	case repModel:
		e.named = e.named || v.nonEmpty()
		e.model.set(v)
	case repFingerprint:
		e.fingerprint.set(v)
	case repFinish:
		e.finish.add(v)
		e.choiceEnds = e.choiceEnds || v.nonEmpty()
		e.failed = e.failed || string(v.raw) == "error" // OpenRouter's and vLLM's
	case repStatus:
		e.status.set(v)
	case repSlot:
		e.slot = v.count()
	case repDone:
		e.mark = v.kind == kindTrue
	case repError:
		e.failed = e.failed || v.nonEmpty() || v.kind == kindTrue || v.kind == kindNumber && string(v.raw) != "0"
		e.failure.set(v)
	case repErrorMessage, repRootMessage:
		e.failure.set(v)
	default:
		if f >= repUsagePrompt {
			e.count(f, v)
		}
	}
}

// isCall reports the type of a block or item in which the model calls something.
func isCall(name []byte) bool {
	return hasSuffix(name, "tool_use") || hasSuffix(name, "_call")
}

func hasSuffix(p []byte, s string) bool { return len(p) >= len(s) && string(p[len(p)-len(s):]) == s }

// meaning is where a field's number belongs.
type meaning struct {
	of   source
	what number
}

//nolint:gochecknoglobals // a constant table
var meanings = [fields]meaning{
	repUsagePrompt:     {usage, promptWhole},
	repUsageInput:      {usage, promptNew},
	repUsageCacheRead:  {usage, promptRead},
	repUsageCacheWrite: {usage, promptWritten},
	repUsageCached:     {usage, cachedWhole},
	repUsageOutput:     {usage, outputTokens},
	repUsageReasoning:  {usage, reasoningTokens},
	repPromptN:         {timings, promptNew},
	repCacheN:          {timings, promptRead},
	repPredictedN:      {timings, outputTokens},
	repDraftN:          {timings, draftTokens},
	repDraftAcceptedN:  {timings, draftAccepted},
	repPromptMs:        {timings, promptTime},
	repPredictedMs:     {timings, predictedTime},
	repTokensEvaluated: {native, promptWhole},
	repTokensPredicted: {native, outputTokens},
	repPromptNs:        {native, promptTime},
	repPredictedNs:     {native, predictedTime},
}

// count takes the numbers.
func (e *event) count(f field, v value) {
	if v.kind == kindNull {
		return
	}
	e.numbers = true
	var n Int
	switch f {
	case repPromptMs, repPredictedMs, repProgressMs:
		n = v.micros(1e3)
	case repPromptNs, repPredictedNs, repLoadNs:
		n = v.micros(1e-3)
	default:
		n = v.count()
	}
	if !n.Valid {
		e.odd = e.odd || f != repTokens && f != repResults
		return
	}
	switch f {
	case repProgressTotal:
		e.progress.total = n
	case repProgressCache:
		e.progress.cached = n
	case repProgressDone:
		e.progress.done = n
	case repProgressMs:
		e.progress.us = n
	case repInputTokens:
		e.counted = n
	case repLoadNs:
		e.loadUs = n
	case repResults, repTokens:
	default:
		m := meanings[f]
		e.told[m.of].set(m.what, n.V)
	}
}

// settle evaluates what depends on several members. It runs after all are read, since their order is not fixed.
func (e *event) settle() {
	if e.delta {
		e.generated(true, false)
	}
	if e.toolItem && (e.kind == kindBlockStart || e.kind == kindItemAdded) {
		e.generated(true, true)
	}
	if e.kind == kindReasoningDelta {
		e.choice.answer = false
	}
	index := e.index
	if e.kind != kindUntyped {
		e.named = true
		index = 0 // typed dialects number the blocks of one completion
	}
	switch s := e.status.b; string(s) {
	case "", "in_progress", "queued":
	default:
		e.choiceEnds = true
		if len(e.finish.b) == 0 {
			e.finish.copyFrom(&e.status)
		}
		e.failed = e.failed || string(s) == "failed"
	}
	switch e.kind {
	case kindErrorEvent:
		e.failed = true
	case kindMessageStop, kindResponseEnd, kindTranscriptEnd:
		e.choiceEnds = true
	}
	e.choiceEnds = e.choiceEnds || e.mark
	if e.nChoices == 0 {
		e.endChoice(index)
	}
	if e.numbers {
		e.settleCounts()
	}
}

func (e *event) settleCounts() {
	u := &e.told[usage]
	if e.kind == kindMessageStart {
		u.forget(outputTokens) // a placeholder: nothing has been generated yet
	}
	if c := u.counts(); c.Prompt == Some(0) && c.Output.V == 0 {
		*u = told{} // a placeholder that Ollama writes into every chunk: no prompt is empty
	}
}

// nEnded is how many of the completions in a set of bits have ended.
func nEnded(set uint64) int64 { return int64(bits.OnesCount64(set)) }
