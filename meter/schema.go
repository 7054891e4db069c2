package meter

import (
	"bytes"
	"math/bits"
	"slices"
)

// field names a JSON member that the meter wants.
type field uint8

// node says what is wanted of one JSON value: its own field (none: only what is inside), the members
// it may have as an object and the schema of its elements as an array.
type node struct {
	field field
	elem  *node
	names []string
	nodes []*node
	table []uint8 // by place: one more than a name's index, 0 where there is none; a power of two, at most half full
}

// place is where the search for a name begins in a table. What it looks at tells the names here apart well.
func place[S string | []byte](name S, table []uint8) int {
	n := len(name)
	return (n + 5*int(name[0]) + 11*int(name[n/2]) + 29*int(name[n-1])) & (len(table) - 1)
}

// member finds the schema of a member by its name as it stood in the document, nil if it is unknown.
func (n *node) member(name []byte) *node {
	if len(n.names) == 0 || len(name) == 0 {
		return nil
	}
	for at := place(name, n.table); n.table[at] != 0; at = (at + 1) & (len(n.table) - 1) {
		if i := n.table[at] - 1; n.names[i] == string(name) {
			return n.nodes[i]
		}
	}
	if bytes.IndexByte(name, '\\') < 0 {
		return nil
	}
	if i := slices.Index(n.names, unescape(name)); i >= 0 { // nobody writes names so, but JSON allows it
		return n.nodes[i]
	}
	return nil
}

type member struct {
	name string
	node *node
}

// leaf is a scalar, or a container of which only its presence and length matter.
func leaf(f field) *node { return &node{field: f} }

// object wants members.
func object(f field, members ...member) *node {
	n := &node{field: f, table: make([]uint8, 1<<bits.Len(uint(2*len(members))))}
	for i, m := range members {
		n.names = append(n.names, m.name)
		n.nodes = append(n.nodes, m.node)
		at := place(m.name, n.table)
		for n.table[at] != 0 {
			at = (at + 1) & (len(n.table) - 1)
		}
		n.table[at] = uint8(i + 1)
	}
	return n
}

// list wants the elements of an array.
func list(f field, elem *node) *node { return &node{field: f, elem: elem} }

// with adds an element schema to an object's: a value that may be either.
func (n *node) with(elem *node) *node {
	n.elem = elem
	return n
}

// The fields of both schemas. One set, so that a field says by itself what it is.
const (
	none field = iota

	// Request.
	reqDoc
	reqModel
	reqStream
	reqMaxTokens
	reqTemperature
	reqSeed
	reqN
	reqMessages
	reqTools
	reqPrompt
	reqPromptElem
	reqInput
	reqDocuments
	reqPartType
	reqUser
	reqMetadataUser
	reqIncludeUsage
	reqTimingsPerToken
	reqReturnProgress
	reqCachePrompt
	reqSlot

	// Reply: what it is, whose, how it ended.
	repDoc
	repType
	repModel
	repIndex
	repFinish
	repStatus
	repError
	repErrorMessage
	repRootMessage // some servers' errors are the document itself
	repFingerprint
	repSlot

	// Generated output.
	repChoices
	repChoice
	repChoiceIndex
	repAnswer
	repReasoning
	repTool
	repNativeContent
	repDelta
	repItemType

	// Counts.
	repUsagePrompt
	repUsageOutput
	repUsageCached
	repUsageCacheRead
	repUsageCacheWrite
	repUsageReasoning
	repCacheN
	repPromptN
	repPromptMs
	repPredictedN
	repPredictedMs
	repDraftN
	repDraftAcceptedN
	repTokensPredicted
	repTokensEvaluated
	repProgressTotal
	repProgressCache
	repProgressDone
	repProgressMs

	// Replies that generate nothing.
	repResults
	repTokens
	repInputTokens
)

// requestSchema is what is wanted of a request's body, of every dialect: their names do not collide.
// Sources: llama.cpp's tools/server/README.md, the OpenAI and Anthropic API references.
//
//nolint:gochecknoglobals // constant tables; Go has no constant pointers
var requestSchema = object(reqDoc,
	member{"model", leaf(reqModel)},
	member{"messages", list(reqMessages, object(none, member{"content", parts}))},
	member{"stream", leaf(reqStream)},
	member{"tools", list(reqTools, nil)},
	member{"max_tokens", leaf(reqMaxTokens)},
	member{"max_completion_tokens", leaf(reqMaxTokens)},
	member{"n_predict", leaf(reqMaxTokens)},
	member{"max_output_tokens", leaf(reqMaxTokens)},
	member{"temperature", leaf(reqTemperature)},
	member{"seed", leaf(reqSeed)},
	member{"n", leaf(reqN)},
	member{"n_cmpl", leaf(reqN)}, // llama-server's own name for it, which it takes on every route
	member{"prompt", list(reqPrompt, leaf(reqPromptElem))},
	member{"input", list(reqInput, object(none, member{"content", parts}))},
	member{"content", list(reqInput, nil)},
	member{"questions", leaf(reqInput)},
	member{"documents", list(reqDocuments, nil)},
	member{"texts", list(reqDocuments, nil)},
	member{"user", leaf(reqUser)},
	member{"metadata", object(none, member{"user_id", leaf(reqMetadataUser)})},
	member{"stream_options", object(none, member{"include_usage", leaf(reqIncludeUsage)})},
	member{"timings_per_token", leaf(reqTimingsPerToken)},
	member{"return_progress", leaf(reqReturnProgress)},
	member{"cache_prompt", leaf(reqCachePrompt)},
	member{"id_slot", leaf(reqSlot)},
)

// parts is a message's content when it is a list of parts: their types tell images and audio.
var parts = list(none, object(none, member{"type", leaf(reqPartType)})) //nolint:gochecknoglobals // as above

// replySchema is what is wanted of a reply or of one event of a stream, of every dialect. A native
// reply to several prompts is an array of replies.
//
//nolint:gochecknoglobals // as above
var replySchema = object(repDoc, replyMembers()...).with(object(repDoc, replyMembers()...))

func replyMembers() []member {
	failure := object(repError, member{"message", leaf(repErrorMessage)})
	usage := usageNode()
	return slices.Concat(chatMembers(usage, failure), nativeMembers(), messagesMembers(usage), responsesMembers(usage, failure), plainMembers())
}

// chatMembers are those of /v1/chat/completions and /v1/completions, of every server.
func chatMembers(usage, failure *node) []member {
	function := object(none, member{"name", leaf(repTool)}, member{"arguments", leaf(repTool)})
	delta := object(none,
		member{"content", leaf(repAnswer)},
		member{"reasoning_content", leaf(repReasoning)}, // llama-server, SGLang, older vLLM
		member{"reasoning", leaf(repReasoning)},         // vLLM, Ollama
		member{"refusal", leaf(repAnswer)},
		member{"tool_calls", list(none, object(none, member{"function", function}))},
		member{"function_call", function},
	)
	choice := object(repChoice,
		member{"finish_reason", leaf(repFinish)},
		member{"index", leaf(repChoiceIndex)},
		member{"delta", delta},
		member{"text", leaf(repAnswer)},
	)
	timings := object(none,
		member{"cache_n", leaf(repCacheN)},
		member{"prompt_n", leaf(repPromptN)},
		member{"prompt_ms", leaf(repPromptMs)},
		member{"predicted_n", leaf(repPredictedN)},
		member{"predicted_ms", leaf(repPredictedMs)},
		member{"draft_n", leaf(repDraftN)},
		member{"draft_n_accepted", leaf(repDraftAcceptedN)},
	)
	progress := object(none,
		member{"total", leaf(repProgressTotal)},
		member{"cache", leaf(repProgressCache)},
		member{"processed", leaf(repProgressDone)},
		member{"time_ms", leaf(repProgressMs)},
	)
	return []member{
		{"choices", list(repChoices, choice)},
		{"model", leaf(repModel)},
		{"system_fingerprint", leaf(repFingerprint)},
		{"usage", usage},
		{"timings", timings},
		{"error", failure},
		{"detail", leaf(repRootMessage)},
		{"prompt_progress", progress},
	}
}

// nativeMembers are those of llama-server's own /completion and /infill, beside timings.
func nativeMembers() []member {
	return []member{
		{"index", leaf(repIndex)},
		{"content", leaf(repNativeContent)},
		{"stop_type", leaf(repFinish)},
		{"id_slot", leaf(repSlot)},
		{"tokens_predicted", leaf(repTokensPredicted)},
		{"tokens_evaluated", leaf(repTokensEvaluated)},
		{"__verbose", object(none, member{"id_slot", leaf(repSlot)})}, // the native reply within an OpenAI one, of a server started with -lv 10
	}
}

// messagesMembers are those of /v1/messages. Its "delta" is an object, that of Responses a string.
func messagesMembers(usage *node) []member {
	delta := object(repDelta,
		member{"text", leaf(repAnswer)},
		member{"thinking", leaf(repReasoning)},
		member{"partial_json", leaf(repTool)},
		member{"stop_reason", leaf(repFinish)},
	)
	return []member{
		{"type", leaf(repType)},
		{"delta", delta},
		{"content_block", object(none, member{"type", leaf(repItemType)})},
		{"message", object(repRootMessage, member{"model", leaf(repModel)}, member{"usage", usage})},
		{"stop_reason", leaf(repFinish)},
	}
}

// responsesMembers are those of /v1/responses.
func responsesMembers(usage, failure *node) []member {
	incomplete := object(none, member{"reason", leaf(repFinish)})
	return []member{
		{"response", object(none,
			member{"model", leaf(repModel)},
			member{"status", leaf(repStatus)},
			member{"usage", usage},
			member{"error", failure},
			member{"incomplete_details", incomplete},
		)},
		{"item", object(none, member{"type", leaf(repItemType)})},
		{"status", leaf(repStatus)},
		{"incomplete_details", incomplete},
	}
}

// plainMembers are those of replies that generate nothing: embeddings, rerank, tokenize, token counts.
func plainMembers() []member {
	return []member{
		{"data", list(repResults, nil)},
		{"results", list(repResults, nil)},
		{"answers", leaf(repResults)},
		{"tokens", list(repTokens, nil)},
		{"input_tokens", leaf(repInputTokens)},
	}
}

// usageNode reads the usage of every dialect. OpenAI's prompt_tokens and Responses' input_tokens
// include cached tokens, Anthropic's input_tokens do not.
func usageNode() *node {
	cached := object(none, member{"cached_tokens", leaf(repUsageCached)})
	reasoning := object(none, member{"reasoning_tokens", leaf(repUsageReasoning)})
	return object(none,
		member{"completion_tokens", leaf(repUsageOutput)},
		member{"prompt_tokens", leaf(repUsagePrompt)},
		member{"prompt_tokens_details", cached},
		member{"completion_tokens_details", reasoning},
		member{"input_tokens", leaf(repUsagePrompt)},
		member{"output_tokens", leaf(repUsageOutput)},
		member{"input_tokens_details", cached},
		member{"output_tokens_details", reasoning},
		member{"cache_read_input_tokens", leaf(repUsageCacheRead)},
		member{"cache_creation_input_tokens", leaf(repUsageCacheWrite)},
		member{"reasoning_tokens", leaf(repUsageReasoning)}, // SGLang
	)
}
