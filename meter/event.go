package meter

// event is the content of one event of a stream, or of one document.
type event struct {
	kind        eventKind
	index       int64
	choice      output // the one being read
	choiceFull  bool   // it holds output
	nOutputs    int
	uncounted   int64 // outputs beyond eventOutputs
	outputs     [eventOutputs]output
	noChoices   bool // an empty list of choices: the event that carries the totals
	nChoices    int64
	toolItem    bool // a tool call's block or item
	delta       bool // Responses' delta, a string
	model       text
	fingerprint text
	finish      wordSet
	status      text
	failed      bool
	failure     text
	slot        Int
	numbers     bool // one of the fields below is set
	usage       Counts
	cacheRead   Int
	cacheWrite  Int
	timings     Counts
	cacheN      Int
	promptN     Int
	native      Counts
	progress    prefill
	results     Int
	tokens      Int
	counted     Int
}

// eventOutputs bounds the outputs kept of one event; further ones are only counted, in Details.UncountedOutputs. llama-server puts one in an event, other servers rarely more.
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
	e.kind, e.index, e.choice, e.choiceFull, e.nOutputs, e.uncounted = kindUntyped, 0, output{}, false, 0, 0
	e.noChoices, e.toolItem, e.delta, e.failed, e.nChoices = false, false, false, false, 0
	e.slot = Int{}
	e.model.empty()
	e.fingerprint.empty()
	e.finish.empty()
	e.status.empty()
	e.failure.empty()
	if !e.numbers {
		return
	}
	e.numbers = false
	e.cacheRead, e.cacheWrite, e.cacheN, e.promptN = Int{}, Int{}, Int{}, Int{}
	e.usage, e.timings, e.native = Counts{}, Counts{}, Counts{}
	e.progress, e.results, e.tokens, e.counted = prefill{}, Int{}, Int{}, Int{}
}

func (e *event) open(f field) {
	switch f {
	case repChoice:
		e.choice, e.choiceFull = output{}, false
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

// endChoice stores the output read for one completion.
func (e *event) endChoice(index int64) {
	switch {
	case !e.choiceFull:
	case e.nOutputs == eventOutputs:
		e.uncounted++
	default:
		e.choice.choice = index
		e.outputs[e.nOutputs] = e.choice
		e.nOutputs++
	}
	e.choice, e.choiceFull = output{}, false
}

func (e *event) generated(answer, tool bool) {
	e.choiceFull = true
	e.choice.answer = e.choice.answer || answer
	e.choice.tool = e.choice.tool || tool
}

func (e *event) scalar(f field, v value) {
	switch f {
	case repAnswer, repNativeContent, repReasoning, repTool:
		if v.nonEmpty() {
			e.generated(f != repReasoning, f == repTool)
		}
	case repDelta:
		e.delta = v.nonEmpty()
	case repChoiceIndex:
		e.choice.choice = v.count().V
	case repIndex:
		e.index = v.count().V
	case repType:
		e.kind = eventKindOf(v.raw)
	case repItemType:
		e.toolItem = string(v.raw) == "tool_use" || string(v.raw) == "function_call"
	case repModel:
		e.model.set(v)
	case repFingerprint:
		e.fingerprint.set(v)
	case repFinish:
		e.finish.add(v)
	case repStatus:
		e.status.set(v)
	case repSlot:
		e.slot = v.count()
	case repError:
		e.failed = v.nonEmpty()
		e.failure.set(v)
	case repErrorMessage, repRootMessage:
		e.failure.set(v)
	default:
		e.count(f, v)
	}
}

// count takes the numbers.
func (e *event) count(f field, v value) {
	e.numbers = true
	switch f {
	case repUsagePrompt:
		e.usage.Prompt = v.count()
	case repUsageOutput:
		e.usage.Output = v.count()
	case repUsageCached:
		e.usage.Cached = v.count()
	case repUsageReasoning:
		e.usage.Reasoning = v.count()
	case repUsageCacheRead:
		e.cacheRead = v.count()
	case repUsageCacheWrite:
		e.cacheWrite = v.count()
	case repCacheN:
		e.cacheN = v.count()
	case repPromptN:
		e.promptN = v.count()
	case repPromptMs:
		e.timings.PromptUs = v.micros()
	case repPredictedN:
		e.timings.Output = v.count()
	case repPredictedMs:
		e.timings.PredictedUs = v.micros()
	case repDraftN:
		e.timings.Draft = v.count()
	case repDraftAcceptedN:
		e.timings.DraftAccepted = v.count()
	case repTokensPredicted:
		e.native.Output = v.count()
	case repTokensEvaluated:
		e.native.Prompt = v.count()
	case repProgressTotal:
		e.progress.total = v.count()
	case repProgressCache:
		e.progress.cached = v.count()
	case repProgressDone:
		e.progress.done = v.count()
	case repProgressMs:
		e.progress.us = v.micros()
	case repInputTokens:
		e.counted = v.count()
	}
}

// settle evaluates what depends on several members. It runs after all are read, since their order is not fixed.
func (e *event) settle() {
	if e.delta {
		e.generated(e.kind != kindReasoningDelta, false)
	}
	if e.toolItem && (e.kind == kindBlockStart || e.kind == kindItemAdded) {
		e.generated(true, true)
	}
	index := e.index
	if e.kind != kindUntyped {
		index = 0 // typed dialects number the blocks of one completion
	}
	e.endChoice(index)
	if e.kind == kindErrorEvent {
		e.failed = true
	}
	switch s := e.status.b; string(s) {
	case "", "in_progress", "queued":
	default:
		if len(e.finish.b) == 0 {
			e.finish.copyFrom(&e.status)
		}
	}
	if e.numbers {
		e.settleCounts()
	}
}

func (e *event) settleCounts() {
	if e.cacheRead.Valid || e.cacheWrite.Valid { // Anthropic's input_tokens exclude cached ones
		e.usage.Cached = e.cacheRead
		if e.usage.Prompt.Valid {
			e.usage.Prompt.V += e.cacheRead.V + e.cacheWrite.V
		}
	}
	e.timings.Cached = e.cacheN
	if e.promptN.Valid {
		e.timings.Prompt = Some(e.promptN.V + e.cacheN.V)
	}
	if e.kind == kindMessageStart {
		e.usage.Output = Int{} // a placeholder: nothing has been generated yet
	}
	if e.usage.Prompt == Some(0) && e.usage.Output.V == 0 {
		e.usage = Counts{} // a placeholder that Ollama writes into every chunk: no prompt is empty
	}
}
