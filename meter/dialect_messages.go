package meter

// DialectMessages is Anthropic's messages.
const DialectMessages = "messages"

func messagesDialect() dialect {
	return dialect{
		name: DialectMessages, operation: operationChat, generates: true, computes: true,
		match: lastSegment("messages"),
		reply: []member{
			{"content_block", object(none, append(reasoning(), member{"type", leaf(repItemType)}, member{"text", leaf(repAnswer)})...)},
			{"message", messageNode()},
			{"stop_reason", leaf(repFinish)},
		},
		events: map[string]eventKind{
			"message_start":       kindMessageStart,
			"content_block_start": kindBlockStart,
			"message_stop":        kindMessageStop,
		},
	}
}

// messageNode is Anthropic's message_start, a line of Ollama's /api/chat, or some servers' words about an error.
func messageNode() *node {
	return object(repRootMessage, append(reasoning(),
		member{"model", leaf(repModel)},
		member{"usage", usageNode()},
		member{"content", leaf(repAnswer)},
		member{"tool_calls", list(none, object(none, member{"function", toolCall()}))},
	)...)
}
