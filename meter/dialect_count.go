package meter

// DialectCount counts a prompt's tokens. The model does not run.
const DialectCount = "count"

func countDialect() dialect {
	return dialect{
		name: DialectCount, match: lastSegment("input_tokens", "count_tokens"),
		reply: []member{{"input_tokens", leaf(repInputTokens)}},
	}
}
