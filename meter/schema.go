package meter

import (
	"bytes"
	"math/bits"
	"slices"
)

// field names a JSON member that the meter wants.
type field uint8

// node is the schema of one JSON value: its own field (none: only its content matters), the wanted members of an object and
// the schema of an array's elements.
type node struct {
	field field
	elem  *node
	names []string
	nodes []*node
	table []uint8 // by slotOf: one more than a name's index, 0 where there is none; a power of two, at most half full
}

// slotOf returns the index where the search for a name begins: a hash of its length and three of its bytes.
func slotOf[S string | []byte](name S, table []uint8) int {
	n := len(name)
	return (n + 5*int(name[0]) + 11*int(name[n/2]) + 29*int(name[n-1])) & (len(table) - 1)
}

// member finds the schema of a member by its name as it stood in the document, nil if it is unknown.
func (n *node) member(name []byte) *node {
	if len(n.names) == 0 || len(name) == 0 {
		return nil
	}
	for at := slotOf(name, n.table); n.table[at] != 0; at = (at + 1) & (len(n.table) - 1) {
		if i := n.table[at] - 1; n.names[i] == string(name) {
			return n.nodes[i]
		}
	}
	if bytes.IndexByte(name, '\\') < 0 {
		return nil
	}
	if i := slices.Index(n.names, unescape(name)); i >= 0 { // rare, but JSON allows escapes in names
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
		at := slotOf(m.name, n.table)
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

// The fields of both schemas, in one set so that each has one meaning.
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
	reqMessage
	reqSession
	reqCacheKey
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

	// Reply: kind, model, end.
	repDoc
	repType
	repObject
	repName // id or created
	repModel
	repIndex
	repFinish
	repStatus
	repError
	repErrorMessage
	repRootMessage // some servers' errors are the document itself
	repFingerprint
	repSlot
	repDone // true ends the reply

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

	// Counts. Those from here to the end are numbers.
	repUsagePrompt
	repUsageInput
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
	repPromptNs
	repPredictedNs
	repLoadNs
	repProgressTotal
	repProgressCache
	repProgressDone
	repProgressMs

	// Replies that generate nothing.
	repResults
	repTokens
	repInputTokens

	fields // how many there are
)

// namesSession is set in a field beside its own meaning: the configuration says that the member names a session.
const namesSession field = 1 << 7

var _ = [namesSession - fields]struct{}{} // no field has that bit

// requestSchema is the schema of request bodies of all dialects: their names do not collide.
// Sources: llama.cpp's tools/server/README.md, the OpenAI and Anthropic API references.
//
//nolint:gochecknoglobals // constant tables; Go has no constant pointers
var requestSchema = requestSchemaWith(nil)

// requestSchemaWith is requestSchema with further members that name a session.
func requestSchemaWith(sessions [][]string) *node {
	members := append(requestMembers(), dialectMembers(func(d *dialect) []member { return d.request })...)
	return object(reqDoc, withSessionFields(members, sessions)...)
}

// requestMembers are the members common to several dialects.
func requestMembers() []member {
	return []member{
		{"model", leaf(reqModel)},
		{"stream", leaf(reqStream)},
		{"tools", list(reqTools, nil)},
		{"max_tokens", leaf(reqMaxTokens)},
		{"max_completion_tokens", leaf(reqMaxTokens)},
		{"n_predict", leaf(reqMaxTokens)},
		{"max_output_tokens", leaf(reqMaxTokens)},
		{"temperature", leaf(reqTemperature)},
		{"seed", leaf(reqSeed)},
		{"n", leaf(reqN)},
		{"n_cmpl", leaf(reqN)}, // llama-server's own name, accepted on every route
		{"prompt", list(reqPrompt, leaf(reqPromptElem))},
		{"input", list(reqInput, object(reqMessage, member{"content", contentParts()}))},
		{"user", leaf(reqUser)},
		{"metadata", object(none, member{"user_id", leaf(reqMetadataUser)}, member{"session_id", leaf(reqSession)})},
		{"client_metadata", object(none, member{"session_id", leaf(reqSession)})},
		{"session_id", leaf(reqSession)},
		{"prompt_cache_key", leaf(reqCacheKey)},
		{"timings_per_token", leaf(reqTimingsPerToken)},
		{"return_progress", leaf(reqReturnProgress)},
		{"cache_prompt", leaf(reqCachePrompt)},
		{"id_slot", leaf(reqSlot)},
	}
}

// withSessionFields returns members with further ones that name a session, by their paths in the document.
func withSessionFields(members []member, paths [][]string) []member {
	members = slices.Clone(members)
	for _, path := range paths {
		i := slices.IndexFunc(members, func(m member) bool { return m.name == path[0] })
		if i < 0 {
			i = len(members)
			members = append(members, member{path[0], object(none)})
		}
		if len(path) == 1 {
			n := *members[i].node
			n.field |= namesSession
			members[i].node = &n
			continue
		}
		old := members[i].node
		var inner []member
		for k, name := range old.names {
			inner = append(inner, member{name, old.nodes[k]})
		}
		members[i].node = object(old.field, withSessionFields(inner, [][]string{path[1:]})...).with(old.elem)
	}
	return members
}

// contentParts is a message's content when it is a list of parts: their types tell images and audio.
func contentParts() *node { return list(none, object(none, member{"type", leaf(reqPartType)})) }

// replySchema is the schema of a reply or of one event of a stream, for all dialects. A native
// reply to several prompts is an array of replies.
//
//nolint:gochecknoglobals // as above
var replySchema = replyDocument().with(replyDocument())

func replyDocument() *node {
	return object(repDoc, append(replyMembers(), dialectMembers(func(d *dialect) []member { return d.reply })...)...)
}

// replyMembers are the members common to several dialects: llama-server adds timings and prompt_progress to all.
func replyMembers() []member {
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
	delta := object(repDelta, append(reasoning(), // an object in Anthropic's events, a string in those of Responses and transcriptions
		member{"text", leaf(repAnswer)},
		member{"partial_json", leaf(repTool)},
		member{"stop_reason", leaf(repFinish)},
	)...)
	return []member{
		{"model", leaf(repModel)},
		{"id", leaf(repName)},
		{"created", leaf(repName)},
		{"object", leaf(repObject)},
		{"system_fingerprint", leaf(repFingerprint)},
		{"usage", usageNode()},
		{"timings", timings},
		{"error", errorNode()},
		{"detail", leaf(repRootMessage)},
		{"prompt_progress", progress},
		{"type", leaf(repType)},
		{"delta", delta},
	}
}

// reasoning are the members in which servers and gateways send reasoning, in whichever dialect: a text, an object with
// one, or a list of such. What is encrypted ("data", "encrypted_content", "signature") is no output.
func reasoning() []member {
	parts := func() *node {
		part := func() *node {
			return object(repReasoning,
				member{"text", leaf(repReasoning)},
				member{"summary", leaf(repReasoning)},
				member{"content", leaf(repReasoning)},
				member{"thinking", leaf(repReasoning)},
			)
		}
		return part().with(part())
	}
	return []member{
		{"reasoning_content", parts()}, // llama-server, SGLang, older vLLM
		{"reasoning", parts()},         // vLLM, Ollama, OpenRouter
		{"thinking", parts()},          // Anthropic, Ollama's own routes
		{"reasoning_text", parts()},    // Copilot
		{"reasoning_details", parts()}, // OpenRouter: reasoning.text, .summary, .encrypted
		{"thinking_blocks", parts()},   // LiteLLM
	}
}

// answer is a message's text, or a list of parts that are text or reasoning, as Mistral sends them.
func answer() *node {
	return leaf(repAnswer).with(object(none, append(reasoning(), member{"text", leaf(repAnswer)})...))
}

// toolCall names a function and its arguments; Ollama's arguments are an object.
func toolCall() *node {
	return object(none, member{"name", leaf(repTool)}, member{"arguments", leaf(repTool)})
}

func errorNode() *node { return object(repError, member{"message", leaf(repErrorMessage)}) }

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
		member{"input_tokens", leaf(repUsageInput)},
		member{"output_tokens", leaf(repUsageOutput)},
		member{"input_tokens_details", cached},
		member{"output_tokens_details", reasoning},
		member{"cache_read_input_tokens", leaf(repUsageCacheRead)},
		member{"cache_creation_input_tokens", leaf(repUsageCacheWrite)},
		member{"reasoning_tokens", leaf(repUsageReasoning)}, // SGLang
	)
}
