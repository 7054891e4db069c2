package meter

// DialectResponses is OpenAI's responses.
const DialectResponses = "responses"

func responsesDialect() dialect {
	incomplete := object(none, member{"reason", leaf(repFinish)})
	return dialect{
		name: DialectResponses, operation: operationChat, generates: true, computes: true,
		match: lastSegment("responses"),
		reply: []member{
			{"response", object(repAnswer, // a text in Ollama's /api/generate
				member{"model", leaf(repModel)},
				member{"status", leaf(repStatus)},
				member{"usage", usageNode()},
				member{"error", errorNode()},
				member{"incomplete_details", incomplete},
			)},
			{"item", object(none, member{"type", leaf(repItemType)})},
			{"status", leaf(repStatus)},
			{"incomplete_details", incomplete},
		},
		events: map[string]eventKind{
			"response.output_item.added":            kindItemAdded,
			"response.completed":                    kindResponseEnd,
			"response.incomplete":                   kindResponseEnd,
			"response.failed":                       kindResponseEnd,
			"response.reasoning.delta":              kindReasoningDelta,
			"response.reasoning_summary.delta":      kindReasoningDelta,
			"response.reasoning_text.delta":         kindReasoningDelta,
			"response.reasoning_summary_text.delta": kindReasoningDelta,
		},
	}
}
