package meter

import (
	"slices"
	"strings"
)

// dialect describes one API to the meter. Each has a file of its own, dialect_NAME.go. The zero value stands for paths
// that are not metered.
type dialect struct {
	name      string // value of column dialect
	operation string // gen_ai.operation.name of OpenTelemetry's conventions; "" where they have none
	generates bool   // its replies hold generated tokens
	computes  bool   // the model runs for its requests

	// match reports whether a path that ends in parent/last belongs to the dialect.
	match func(last, parent string) bool
	// request and reply are the JSON members that only this dialect has; schema.go has the common ones.
	request, reply []member
	// events maps values of an event's "type" to kinds; others are ignored.
	events map[string]eventKind
}

// dialects lists all dialects. The first match of a path counts.
//
//nolint:gochecknoglobals // a constant table
var dialects = [...]dialect{
	ollamaDialect(),
	chatDialect(),
	completionsDialect(),
	nativeDialect(),
	infillDialect(),
	responsesDialect(),
	messagesDialect(),
	transcriptionDialect(),
	embeddingsDialect(),
	rerankDialect(),
	decisionDialect(),
	tokenizeDialect(),
	countDialect(),
	resumeDialect(),
}

// dialectOf returns a request's dialect. The paths are those of llama-server (tools/server/server.cpp) and the
// OpenAI-compatible ones of vLLM, SGLang and Ollama. A prefix before them (--api-prefix, a gateway's mount point)
// does not matter. /v1 is optional, as in llama-server, except that its /v1/completions and /completions are two dialects.
// OPTIONS (sent by browsers ahead of a request) and HEAD cause no work; GET causes work only for the rest of a stream.
func dialectOf(method, path string) dialect {
	path = strings.TrimRight(path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	parent := strings.TrimSuffix(path[:len(path)-len(last)], "/")
	parent = parent[strings.LastIndexByte(parent, '/')+1:]
	i := slices.IndexFunc(dialects[:], func(d dialect) bool { return d.match(last, parent) })
	if i < 0 || method == "OPTIONS" || method == "HEAD" || method == "GET" && dialects[i].name != DialectResume {
		return dialect{}
	}
	return dialects[i]
}

// Operation returns OpenTelemetry's gen_ai.operation.name for a dialect: the conventions' word where they have one,
// else the dialect's own name, and "" for no dialect.
func Operation(dialect string) string {
	for i := range dialects {
		if d := &dialects[i]; d.name == dialect && d.operation != "" {
			return d.operation
		}
	}
	return dialect
}

// The conventions' operations.
const (
	operationChat       = "chat"
	operationText       = "text_completion"
	operationEmbeddings = "embeddings"
)

// lastSegment matches paths that end in one of the names.
func lastSegment(names ...string) func(last, parent string) bool {
	return func(last, _ string) bool { return slices.Contains(names, last) }
}

// dialectMembers collects the request or reply members of all dialects.
func dialectMembers(of func(*dialect) []member) (out []member) {
	for i := range dialects {
		out = append(out, of(&dialects[i])...)
	}
	return out
}

// eventKinds joins the dialects' event types.
func eventKinds() map[string]eventKind {
	out := map[string]eventKind{"error": kindErrorEvent}
	for i := range dialects {
		for name, kind := range dialects[i].events {
			out[name] = kind
		}
	}
	return out
}
