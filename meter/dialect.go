package meter

import "strings"

// The dialects: what a path speaks. A Record's Dialect is one of them, or null where the path is not
// known to generate or count anything.
const (
	DialectChat          = "chat"          // OpenAI chat completions
	DialectCompletions   = "completions"   // OpenAI completions
	DialectNative        = "native"        // llama-server's own /completion
	DialectInfill        = "infill"        // llama-server's /infill, replies as native
	DialectResponses     = "responses"     // OpenAI responses
	DialectMessages      = "messages"      // Anthropic messages
	DialectResume        = "resume"        // the rest of an earlier stream, in that stream's dialect
	DialectTranscription = "transcription" // OpenAI audio transcriptions
	DialectEmbeddings    = "embeddings"
	DialectRerank        = "rerank"
	DialectDecision      = "decision" // llama-server's /v1/systemone: questions answered without generating
	DialectTokenize      = "tokenize"
	DialectCount         = "count" // prompt tokens counted, nothing generated
)

// dialectOf tells what a path speaks. The routes are those that llama-server registers (its
// tools/server/server.cpp) and the OpenAI-compatible ones of vLLM, SGLang and Ollama. A prefix before
// them (--api-prefix, a gateway's mount point) does not matter; /v1 is optional as llama-server has it,
// except that its /v1/completions and /completions are two dialects. OPTIONS, which
// browsers send ahead of a request, and HEAD ask for no work, and GET only for the rest of a stream.
func dialectOf(method, path string) string {
	dialect := dialectOfPath(path)
	switch method {
	case "OPTIONS", "HEAD":
		return ""
	case "GET":
		if dialect != DialectResume {
			return ""
		}
	}
	return dialect
}

func dialectOfPath(path string) string {
	path = strings.TrimRight(path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	parent := strings.TrimSuffix(path[:len(path)-len(last)], "/")
	parent = parent[strings.LastIndexByte(parent, '/')+1:]
	switch last {
	case "completions":
		switch parent {
		case "chat":
			return DialectChat
		case "v1":
			return DialectCompletions
		}
		return DialectNative
	case "completion":
		return DialectNative
	case "chat":
		if parent == "api" {
			return DialectChat
		}
	case "infill":
		return DialectInfill
	case "responses":
		return DialectResponses
	case "messages":
		return DialectMessages
	case "stream":
		return DialectResume
	case "transcriptions":
		return DialectTranscription
	case "embeddings", "embedding":
		return DialectEmbeddings
	case "rerank", "reranking":
		return DialectRerank
	case "systemone":
		return DialectDecision
	case "tokenize":
		return DialectTokenize
	case "input_tokens", "count_tokens":
		return DialectCount
	}
	if parent == "stream" {
		return DialectResume
	}
	return ""
}

// generates reports whether a dialect's replies hold generated tokens.
func generates(dialect string) bool {
	switch dialect {
	case "", DialectEmbeddings, DialectRerank, DialectDecision, DialectTokenize, DialectCount:
		return false
	}
	return true
}
