package meter

// DialectDecision is llama-server's /v1/systemone: questions answered without generating.
const DialectDecision = "decision"

func decisionDialect() dialect {
	return dialect{
		name: DialectDecision, computes: true,
		match:   lastSegment("systemone"),
		request: []member{{"questions", leaf(reqInput)}},
		reply:   []member{{"answers", leaf(repResults)}},
	}
}
