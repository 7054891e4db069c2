package metertest

import "wattline/meter"

// Case is a reply of a kind that was once read wrongly, or is easily.
type Case struct {
	Line string // of the kinds: notices, reasoning, failures, usage
	Name string
	Reply
	Want string // Facts, as a text
}

// events frames each text as an event's data.
func events(data ...string) (body string) {
	for _, d := range data {
		body += "data: " + d + "\n\n"
	}
	return body
}

const (
	role      = `{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"id":"c","created":1,"model":"m"}`
	token     = `{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"x"}}],"id":"c","created":1,"model":"m"}`
	second    = `{"choices":[{"finish_reason":null,"index":1,"delta":{"content":"x"}}],"id":"c","created":1,"model":"m"}`
	stop      = `{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"c","created":1,"model":"m"}`
	stop1     = `{"choices":[{"finish_reason":"stop","index":1,"delta":{}}],"id":"c","created":1,"model":"m"}`
	stopUsage = `{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":16}}`
	total     = `{"choices":[],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":16}}`
	timing    = `{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m","timings":{"cache_n":2,"prompt_n":8,"prompt_ms":1,"predicted_n":3,"predicted_ms":1}}`
	done      = `[DONE]`
)

// notice is what llama-swap's sendLoadingState writes.
func notice(text string) string {
	return `{"choices":[{"delta":{"reasoning_content":"` + text + `"}}]}`
}

// delta is a chat event with this delta.
func delta(d string) string {
	return `{"choices":[{"finish_reason":null,"index":0,"delta":` + d + `}],"id":"c","created":1,"model":"m"}`
}

// reasoned is a reply of one such delta and then an answer.
func reasoned(name, d string, outputs string) Case {
	return Case{"reasoning", name, Reply{Body: events(role, delta(d), token, stop, done)}, "ok, " + outputs + " out, tokens -/-/-"}
}

// Corpus is read alike by the meter, replay's client and Reference.
func Corpus() []Case {
	messages := func(data ...string) Reply { return Reply{Path: "/v1/messages", Body: events(data...)} }
	chat := func(data ...string) Reply { return Reply{Body: events(data...)} }
	raw := func(body string) Reply { return Reply{Body: body} }
	lines := func(path, body string) Reply {
		return Reply{Path: path, ContentType: "application/x-ndjson", Body: body}
	}
	const start = `{"type":"message_start","message":{"id":"i","model":"m","usage":{"input_tokens":25,"cache_read_input_tokens":4000,"output_tokens":1}}}`
	const text = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`
	return []Case{
		{"notices", "a model's load", chat(notice("llama-swap loading"), notice("."), role, token, token, stop, done), "ok, 2 out, tokens -/-/-, 2 notices"},
		{"notices", "a queue position", chat(notice("Queue posi"), notice("tion: #1"), token, stop, done), "ok, 1 out, tokens -/-/-, 2 notices"},
		{"notices", "a notice as an answer", chat(`{"choices":[{"delta":{"content":"please wait"}}]}`, role, token, stop, done), "ok, 1 out, tokens -/-/-, 1 notices"},
		{"notices", "numbered", chat(`{"choices":[{"index":0,"delta":{"reasoning_content":"loading"}}]}`, role, token, stop, done), "ok, 1 out, tokens -/-/-, 1 notices"},
		{"notices", "the load fails", chat(notice("loading"), notice("."), `{"error":{"message":"unable to start process"}}`), "upstream_error, 0 out, tokens -/-/-, 2 notices"},
		{"notices", "before messages", messages(notice("loading"), start, text, `{"type":"message_stop"}`), "ok, 1 out, tokens 4025/4000/-, 1 notices"},
		{"notices", "before a native stream", Reply{Path: "/completion", Body: events(notice("loading"), `{"index":0,"content":"x","stop":false}`, `{"content":"","stop":true,"stop_type":"eos","tokens_predicted":1,"tokens_evaluated":9}`)}, "ok, 1 out, tokens 9/-/1, 1 notices"},
		{"notices", "a server that never tells who it is", chat(`{"choices":[{"delta":{"content":"x"}}]}`, `{"choices":[{"delta":{"content":"y"},"finish_reason":"stop"}]}`), "ok, 2 out, tokens -/-/-"},
		{"notices", "one that only reasons, and ends", chat(notice("hm"), notice("hm"), `{"choices":[{"delta":{},"finish_reason":"stop"}]}`), "ok, 2 out, tokens -/-/-"},

		reasoned("reasoning_content", `{"reasoning_content":"hm"}`, "2"),
		reasoned("reasoning", `{"reasoning":"hm"}`, "2"),
		reasoned("reasoning, an object", `{"reasoning":{"content":"hm"}}`, "2"),
		reasoned("thinking", `{"thinking":"hm"}`, "2"),
		reasoned("reasoning_text", `{"reasoning_text":"hm"}`, "2"),
		reasoned("reasoning_details, text", `{"reasoning_details":[{"type":"reasoning.text","text":"hm","signature":null}]}`, "2"),
		reasoned("reasoning_details, summary", `{"reasoning_details":[{"type":"reasoning.summary","summary":"hm"}]}`, "2"),
		reasoned("reasoning_details, encrypted", `{"reasoning_details":[{"type":"reasoning.encrypted","data":"eyJ"}]}`, "1"),
		reasoned("reasoning beside its details", `{"reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm"}]}`, "2"),
		reasoned("thinking_blocks", `{"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":""}]}`, "2"),
		reasoned("content in parts, thinking", `{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}`, "2"),
		reasoned("content in parts, text", `{"content":[{"type":"text","text":"hi"}]}`, "2"),
		reasoned("empty shapes", `{"reasoning":null,"reasoning_content":"","reasoning_details":[],"thinking":"","content":""}`, "1"),
		{"reasoning", "completions", Reply{Path: "/v1/completions", Body: events(`{"choices":[{"index":0,"text":"","reasoning":"hm"}],"model":"m"}`, `{"choices":[{"index":0,"text":"x","finish_reason":"stop"}],"model":"m"}`)}, "ok, 2 out, tokens -/-/-"},
		{"reasoning", "messages, begun with text", messages(start, `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"hm"}}`, `{"type":"message_stop"}`), "ok, 1 out, tokens 4025/4000/-"},
		{"reasoning", "messages, redacted", messages(start, `{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"eyJ"}}`, `{"type":"message_stop"}`), "ok, 0 out, tokens 4025/4000/-"},
		{"reasoning", "responses, an object", Reply{Path: "/v1/responses", Body: events(`{"type":"response.reasoning.delta","delta":{"text":"hm"}}`, `{"type":"response.completed","response":{"model":"m","status":"completed"}}`)}, "ok, 1 out, tokens -/-/-"},
		{"reasoning", "responses, encrypted", Reply{Path: "/v1/responses", Body: events(`{"type":"response.output_item.added","item":{"type":"reasoning","encrypted_content":"eyJ"}}`, `{"type":"response.completed","response":{"model":"m","status":"completed"}}`)}, "ok, 0 out, tokens -/-/-"},
		{"reasoning", "Ollama's own", lines("/api/chat", `{"model":"m","message":{"content":"","thinking":"hm"},"done":false}`+"\n"+`{"model":"m","message":{"content":"x"},"done":true,"done_reason":"stop"}`+"\n"), "ok, 2 out, tokens -/-/-"},

		{"failures", "event: error, a text", raw(events(role, token) + "event: error\ndata: upstream died\n\n"), "upstream_error, 1 out, tokens -/-/-"},
		{"failures", "event: error, an object", raw(events(role, token) + "event: error\ndata: {\"code\":500}\n\n"), "upstream_error, 1 out, tokens -/-/-"},
		{"failures", "event: error, nothing", raw(events(role, token) + "event:error\n\n"), "upstream_error, 1 out, tokens -/-/-"},
		{"failures", "the older field", raw(events(role, token) + "error: {\"code\":500,\"message\":\"slot unavailable\"}\n\n"), "upstream_error, 1 out, tokens -/-/-"},
		{"failures", "an object called error", chat(role, `{"object":"error","message":"no","code":400}`, done), "upstream_error, 0 out, tokens -/-/-"},
		{"failures", "in a choice", chat(role, `{"choices":[{"index":0,"delta":{},"error":{"code":502,"message":"no"}}],"model":"m"}`, done), "upstream_error, 0 out, tokens -/-/-"},
		{"failures", "finish_reason error", chat(role, token, `{"choices":[{"index":0,"delta":{},"finish_reason":"error"}],"model":"m"}`, done), "upstream_error, 1 out, tokens -/-/-"},
		{"failures", "response.failed without words", Reply{Path: "/v1/responses", Body: events(`{"type":"response.failed","response":{"status":"failed","error":null}}`)}, "upstream_error, 0 out, tokens -/-/-"},
		{"failures", "Ollama's", lines("/api/generate", `{"model":"m","response":"x","done":false}`+"\n"+`{"error":"an error was encountered while running the model"}`+"\n"), "upstream_error, 1 out, tokens -/-/-"},
		{"failures", "neither finish_reason nor [DONE]", chat(role, token, token), "truncated, 2 out, tokens -/-/-"},
		{"failures", "nothing at all", raw(": ping\n\n"), "truncated, 0 out, tokens -/-/-"},
		{"failures", "messages without an end", messages(start, text), "truncated, 1 out, tokens 4025/4000/-"},
		{"failures", "one completion of two ends", chat(token, second, stop), "truncated, 2 out, tokens -/-/-"},
		{"failures", "stop without [DONE]", chat(role, token, stop), "ok, 1 out, tokens -/-/-"},
		{"failures", "[DONE] without stop", chat(role, token, done), "ok, 1 out, tokens -/-/-"},
		{"failures", "data: without a space", raw("data:" + role + "\n\ndata:" + token + "\n\ndata:" + timing + "\n\ndata:[DONE]\n\n"), "ok, 1 out, tokens 10/2/3"},
		{"failures", "several data lines", raw("data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"x\"}}],\ndata: \"model\":\"m\"}\n\n" + events(timing, done)), "ok, 1 out, tokens 10/2/3"},
		{"failures", "wrapped pings", raw(events(role, ": ping", "", token) + "data\n\n" + events(`{"type":"ping"}`, timing, done)), "ok, 1 out, tokens 10/2/3"},
		{"failures", "bare CR", raw("data: " + role + "\r\rdata: " + token + "\r\rdata: " + timing + "\r\rdata: [DONE]\r\r"), "ok, 1 out, tokens 10/2/3"},

		{"usage", "two events with a finish_reason", chat(role, token, stopUsage, stopUsage, done), "ok, 1 out, tokens 612/-/16"},
		{"usage", "the total twice", chat(role, token, stop, total, total, done), "ok, 1 out, tokens 612/-/16"},
		{"usage", "in a later event with choices", chat(role, token, stop, `{"choices":[{"index":0,"delta":{},"finish_reason":null}],"model":"m","usage":{"prompt_tokens":612,"completion_tokens":16}}`, done), "ok, 1 out, tokens 612/-/16"},
		{"usage", "message_delta repeats input_tokens", messages(start, text, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":25,"output_tokens":8}}`, `{"type":"message_stop"}`), "ok, 1 out, tokens 4025/4000/8"},
		{"usage", "cache keys beside prompt_tokens", chat(role, token, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"model":"m","usage":{"prompt_tokens":4025,"completion_tokens":8,"cache_read_input_tokens":4000}}`, done), "ok, 1 out, tokens 4025/4000/8"},
		{"usage", "n 2, one usage with the last", chat(token, second, stop, `{"choices":[{"finish_reason":"stop","index":1,"delta":{}}],"model":"m","usage":{"prompt_tokens":21,"completion_tokens":8}}`, done), "ok, 2 out, tokens 21/-/8"},
		{"usage", "n 2, two ends each", chat(token, second, timing, timing, `{"choices":[{"finish_reason":"stop","index":1,"delta":{}}],"model":"m","timings":{"cache_n":2,"prompt_n":8,"predicted_n":4}}`, done), "ok, 2 out, tokens 20/4/7"},
		{"usage", "n 2, one total", chat(token, second, stop, stop1, `{"choices":[],"usage":{"prompt_tokens":21,"completion_tokens":9}}`, done), "ok, 2 out, tokens 21/-/9"},
		{"usage", "n 2, a total each", chat(token, stop, total, second, stop1, total, done), "ok, 2 out, tokens 1224/-/32"},
		{"usage", "Ollama's /api/chat", lines("/api/chat", `{"model":"m","message":{"content":"x"},"done":false}`+"\n"+`{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","load_duration":8000000000,"prompt_eval_count":26,"prompt_eval_duration":130000000,"eval_count":298,"eval_duration":4000000000}`+"\n"), "ok, 1 out, tokens 26/-/298"},
		{"usage", "Ollama's /api/generate", lines("/api/generate", `{"model":"m","response":"x","done":false}`+"\n"+`{"model":"m","response":"","done":true,"done_reason":"length","prompt_eval_count":26,"eval_count":3}`), "ok, 1 out, tokens 26/-/3"},
		{"usage", "a byte order mark", raw("\uFEFF" + events(role, token, timing, done)), "ok, 1 out, tokens 10/2/3"},
		{"usage", "a byte order mark before a line", lines("/api/chat", "\uFEFF"+`{"model":"m","message":{"content":"x"},"done":true,"prompt_eval_count":2,"eval_count":1}`+"\n"), "ok, 1 out, tokens 2/-/1"},
	}
}

// Odd are replies that encoding/json does not read, so that Reference has nothing to say.
func Odd() []Case {
	return []Case{
		{"usage", "NaN among what is not wanted", Reply{Body: events(`{"choices":[{"index":0,"delta":{"content":"x"},"logprobs":{"v":[NaN,-Infinity]}}],"model":"m"}`, timing, done)}, "ok, 1 out, tokens 10/2/3"},
		{"usage", "NaN as a count", Reply{Body: events(token, `{"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":16}}`, done)}, "ok, 1 out, tokens -/-/16, unread: reply_number"},
		{"usage", "UTF-16", Reply{Body: utf16(events(token, timing, done))}, "ok, 0 out, tokens -/-/-, unread: reply_format"},
		{"usage", "no JSON", Reply{Body: events("hello", "world", done)}, "ok, 0 out, tokens -/-/-, unread: reply_format"},
	}
}

func utf16(s string) string {
	out := "\xFF\xFE"
	for _, c := range []byte(s) {
		out += string([]byte{c, 0})
	}
	return out
}

// Told is Facts as a text, and what could not be read.
func Told(f Facts, rec *meter.Record) string {
	if rec.Details != nil && rec.Details.Unread != "" {
		return f.String() + ", unread: " + rec.Details.Unread
	}
	return f.String()
}
