package meter

// DialectChat is OpenAI's chat completions.
const DialectChat = "chat"

func chatDialect() dialect {
	return dialect{
		name: DialectChat, operation: operationChat, generates: true, computes: true,
		match: func(last, parent string) bool {
			return last == "completions" && parent == "chat"
		},
		request: []member{
			{"messages", list(reqMessages, object(reqMessage, member{"content", contentParts()}))},
			{"stream_options", object(none, member{"include_usage", leaf(reqIncludeUsage)})},
		},
		reply: []member{{"choices", list(repChoices, choiceNode())}},
	}
}

// choiceNode is one completion of a chat's reply or event, or of /v1/completions, which has text in it.
func choiceNode() *node {
	delta := object(none, append(reasoning(),
		member{"content", answer()},
		member{"refusal", leaf(repAnswer)},
		member{"tool_calls", list(none, object(none, member{"function", toolCall()}))},
		member{"function_call", toolCall()},
	)...)
	return object(repChoice, append(reasoning(),
		member{"finish_reason", leaf(repFinish)},
		member{"index", leaf(repChoiceIndex)},
		member{"delta", delta},
		member{"text", leaf(repAnswer)},
		member{"error", errorNode()},
	)...)
}
