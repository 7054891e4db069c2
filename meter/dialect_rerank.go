package meter

// DialectRerank ranks documents.
const DialectRerank = "rerank"

func rerankDialect() dialect {
	return dialect{
		name: DialectRerank, computes: true,
		match:   lastSegment("rerank", "reranking"),
		request: []member{{"documents", list(reqDocuments, nil)}, {"texts", list(reqDocuments, nil)}},
		reply:   []member{{"results", list(repResults, nil)}},
	}
}
