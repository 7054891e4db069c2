package meter

// DialectEmbeddings is OpenAI's embeddings and llama-server's own.
const DialectEmbeddings = "embeddings"

func embeddingsDialect() dialect {
	return dialect{
		name: DialectEmbeddings, operation: operationEmbeddings, computes: true,
		match:   lastSegment("embeddings", "embedding", "embed"), // the last is Ollama's
		request: []member{{"content", list(reqInput, nil)}},
		reply:   []member{{"data", list(repResults, nil)}, {"embeddings", list(repResults, nil)}},
	}
}
