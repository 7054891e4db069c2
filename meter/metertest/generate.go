package metertest

import (
	"math/rand/v2"
	"strings"
)

// pools are events by dialect. Those of one pool may follow each other in any order.
//
//nolint:gochecknoglobals // constant tables
var pools = []struct {
	path, kind string
	events     []string
}{
	{Chat, Stream, []string{
		`{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"id":"c","created":1,"model":"m","object":"chat.completion.chunk"}`,
		`{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"x"}}],"id":"c","created":1,"model":"m"}`,
		`{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"x"}}],"id":"c","created":1,"model":"m"}`,
		`{"choices":[{"index":1,"delta":{"content":"x"}}],"id":"c"}`,
		`{"choices":[{"index":0,"delta":{"content":"x"}},{"index":1,"delta":{"reasoning_content":"x"}}],"created":1}`,
		`{"choices":[{"index":0,"delta":{"reasoning":"x"}}],"model":"m"}`,
		`{"choices":[{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.text","text":"x"}]}}],"model":"m"}`,
		`{"choices":[{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}}],"model":"m"}`,
		`{"choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"x"}]}]}}],"model":"m"}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}],"model":"m"}`,
		`{"choices":[{"delta":{"reasoning_content":"loading"}}]}`,
		`{"choices":[{"delta":{"reasoning_content":"."}}]}`,
		`{"choices":[{"delta":{"content":"anonymous"}}]}`,
		`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m"}`,
		`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":16}}`,
		`{"choices":[{"finish_reason":"length","index":1,"delta":{}}],"model":"m","timings":{"cache_n":2,"prompt_n":8,"predicted_n":5}}`,
		`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m","timings":{"cache_n":2,"prompt_n":9,"predicted_n":7}}`,
		`{"choices":[{"index":0,"delta":{}}],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":17,"prompt_tokens_details":{"cached_tokens":600}}}`,
		`{"choices":[{"index":1,"delta":{"content":"x"}}],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":2}}`,
		`{"choices":[],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":33}}`,
		`{"choices":[],"model":"m","usage":{"prompt_tokens":9,"completion_tokens":3},"timings":{"cache_n":1,"prompt_n":8,"predicted_n":3}}`,
		`{"choices":[],"model":"m","usage":{"prompt_tokens":0,"completion_tokens":0}}`,
		`{"error":{"message":"no"}}`, `{"error":null}`, `[DONE]`, `{"choices":[{"index":0,`, `: ping`, ``,
	}},
	{"/v1/messages", Stream, []string{
		`{"type":"message_start","message":{"id":"i","model":"m","content":[],"usage":{"input_tokens":25,"cache_read_input_tokens":4000,"cache_creation_input_tokens":7,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"f"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}`,
		`{"type":"ping"}`,
		`{"choices":[{"delta":{"reasoning_content":"loading"}}]}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":25,"output_tokens":8}}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}`,
		`{"type":"message_delta","delta":{},"usage":{"input_tokens":26,"cache_read_input_tokens":3999,"output_tokens":3}}`,
		`{"type":"message_stop"}`, `{"type":"error","error":{"type":"overloaded_error","message":"busy"}}`,
	}},
	{"/v1/responses", Stream, []string{
		`{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress"}}`,
		`{"type":"response.output_item.added","item":{"type":"reasoning","encrypted_content":"x"}}`,
		`{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}`,
		`{"type":"response.reasoning_summary_text.delta","delta":"x"}`, `{"type":"response.reasoning.delta","delta":{"text":"x"}}`,
		`{"type":"response.output_text.delta","delta":"x"}`, `{"type":"response.output_text.done","text":"x"}`,
		`{"type":"response.completed","response":{"model":"m","status":"completed","usage":{"input_tokens":12,"output_tokens":6,"input_tokens_details":{"cached_tokens":4}}}}`,
		`{"type":"response.failed","response":{"status":"failed","error":{"message":"bad"}}}`,
	}},
	{"/completion", Stream, []string{
		`{"index":0,"content":"x","stop":false}`, `{"content":"x","stop":false}`, `{"index":0,"content":"","stop":false}`,
		`{"index":1,"content":"x","stop":false,"tokens_predicted":4,"tokens_evaluated":10}`,
		`{"index":0,"content":"","stop":true,"stop_type":"limit","model":"m","tokens_predicted":5,"tokens_evaluated":10,"timings":{"cache_n":2,"prompt_n":8,"predicted_n":5}}`,
		`{"index":0,"content":"","stop":true,"stop_type":"eos","tokens_predicted":6,"tokens_evaluated":10}`,
	}},
	{"/api/chat", "application/x-ndjson", []string{
		`{"model":"m","message":{"role":"assistant","content":"x"},"done":false}`, `{"model":"m","message":{"role":"assistant","content":"","thinking":"x"},"done":false}`,
		`{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":false}`,
		`{"model":"m","response":"x","done":false}`, `{"model":"m","response":"","thinking":"x","done":false}`, `{"error":"no"}`, `{"model":`, ``,
		`{"model":"m","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"prompt_eval_count":26,"eval_count":298}`,
		`{"model":"m","response":"","done_reason":"length","done":true,"prompt_eval_count":27,"eval_count":3}`,
	}},
}

// Generate makes a reply from a dialect's events, framed in every way that the standard allows.
func Generate(seed uint64, events int) Reply {
	r := rand.New(rand.NewPCG(seed, 17)) //nolint:gosec // no secret
	pool := pools[r.IntN(len(pools))]
	if r.IntN(2) == 0 {
		pool = pools[0] // the one with the most rules
	}
	var b strings.Builder
	if r.IntN(4) == 0 {
		b.WriteString("\uFEFF")
	}
	usual := r.IntN(2) == 0
	for range events {
		data := pool.events[r.IntN(len(pool.events))]
		if pool.kind != Stream {
			b.WriteString(data + []string{"\n", "\r\n"}[r.IntN(2)])
			continue
		}
		if usual {
			b.WriteString("data: " + data + "\n\n")
			continue
		}
		frame(&b, r, data)
	}
	if r.IntN(3) == 0 && pool.kind == Stream {
		b.WriteString("data: [DONE]\n\n")
	}
	return Reply{Path: pool.path, ContentType: pool.kind, Body: b.String()}
}

func frame(b *strings.Builder, r *rand.Rand, data string) {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	end := pick("\n", "\r", "\r\n")
	if r.IntN(6) == 0 {
		b.WriteString(pick(": ping", ":", "id: 7", "retry: 10", "nonsense", "event", "event: ok", "event: errors", "event:message") + end)
	}
	if r.IntN(12) == 0 {
		if sign := pick("event: error", "event:error", "error: "+data); sign[5] == ':' && sign[:5] == "error" {
			b.WriteString(sign + end + end)
			return
		} else {
			b.WriteString(sign + end)
		}
	}
	if r.IntN(12) == 0 {
		b.WriteString(pick(": only a comment", "data", "event: error") + end + end)
	}
	space := pick(" ", " ", "")
	lines := []string{data}
	if i := strings.IndexByte(data, ','); i > 0 && r.IntN(4) == 0 {
		lines = []string{data[:i+1], data[i+1:]}
	}
	for _, l := range lines {
		b.WriteString("data:" + space + l + end)
	}
	b.WriteString(end)
}
