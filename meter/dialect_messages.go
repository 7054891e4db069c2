package meter

// DialectMessages is Anthropic's messages.
const DialectMessages = "messages"

func messagesDialect() dialect {
	return dialect{
		name: DialectMessages, operation: operationChat, generates: true, computes: true,
		match:   lastSegment("messages"),
		request: []member{{"metadata", object(none, member{"user_id", leaf(reqMetadataUser)})}},
		reply: []member{
			{"content_block", object(none, member{"type", leaf(repItemType)})},
			{"message", object(repRootMessage, member{"model", leaf(repModel)}, member{"usage", usageNode()})},
			{"stop_reason", leaf(repFinish)},
		},
		events: map[string]eventKind{
			"message_start":       kindMessageStart,
			"content_block_start": kindBlockStart,
			"message_stop":        kindMessageStop,
		},
	}
}
