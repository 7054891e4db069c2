package meter

// DialectOllama is Ollama's own API: lines of JSON, unless "stream" is false. llama-server answers /api/chat as a chat.
const DialectOllama = "ollama"

func ollamaDialect() dialect {
	return dialect{
		name: DialectOllama, operation: operationChat, generates: true, computes: true,
		match:   func(last, parent string) bool { return parent == "api" && (last == "chat" || last == "generate") },
		request: []member{{"options", object(none, member{"num_predict", leaf(reqMaxTokens)}, member{"temperature", leaf(reqTemperature)}, member{"seed", leaf(reqSeed)})}},
		reply: []member{
			{"thinking", leaf(repReasoning)},
			{"done", leaf(repDone)},
			{"done_reason", leaf(repFinish)},
			{"prompt_eval_count", leaf(repTokensEvaluated)},
			{"eval_count", leaf(repTokensPredicted)},
			{"load_duration", leaf(repLoadNs)},
			{"prompt_eval_duration", leaf(repPromptNs)},
			{"eval_duration", leaf(repPredictedNs)},
		},
	}
}
