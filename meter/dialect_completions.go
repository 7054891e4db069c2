package meter

// DialectCompletions is OpenAI's completions. Their replies have a chat's members (dialect_chat.go).
const DialectCompletions = "completions"

func completionsDialect() dialect {
	return dialect{
		name: DialectCompletions, operation: operationText, generates: true, computes: true,
		match: func(last, parent string) bool { return last == "completions" && parent == "v1" },
	}
}
