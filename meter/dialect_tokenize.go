package meter

// DialectTokenize is llama-server's /tokenize. The model does not run.
const DialectTokenize = "tokenize"

func tokenizeDialect() dialect {
	return dialect{
		name: DialectTokenize, match: lastSegment("tokenize"),
		reply: []member{{"tokens", list(repTokens, nil)}},
	}
}
