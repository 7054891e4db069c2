package meter

// Llama-server's own routes.
const (
	DialectNative = "native" // /completion
	DialectInfill = "infill" // /infill, with native replies
)

func nativeDialect() dialect {
	return dialect{
		name: DialectNative, operation: operationText, generates: true, computes: true,
		match: lastSegment("completion", "completions"), // /v1/completions matched before
		reply: []member{
			{"index", leaf(repIndex)},
			{"content", leaf(repNativeContent)},
			{"stop_type", leaf(repFinish)},
			{"stop", leaf(repDone)},
			{"id_slot", leaf(repSlot)},
			{"tokens_predicted", leaf(repTokensPredicted)},
			{"tokens_evaluated", leaf(repTokensEvaluated)},
			{"__verbose", object(none, member{"id_slot", leaf(repSlot)})}, // the native reply within an OpenAI one, of a server started with -lv 10
		},
	}
}

func infillDialect() dialect {
	return dialect{name: DialectInfill, operation: operationText, generates: true, computes: true, match: lastSegment("infill")}
}
