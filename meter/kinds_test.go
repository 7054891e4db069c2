package meter_test

import (
	"encoding/base64"
	"strings"
)

// flavour is a way to start llama-server that some requests need.
type flavour struct {
	name     string
	args     []string
	template string        // a chat template, written to a file
	project  func() string // a multimodal projector, written to a file
	router   bool          // no model: a folder of two
}

// kind is one kind of request.
type kind struct {
	name    string
	method  string // default POST
	path    string
	headers map[string]string
	body    string
	cut     int    // the client leaves after so many reads
	before  *kind  // sent first, on the same server: what it is about
	beside  string // body of a second request to the same path that runs meanwhile
}

// thinks opens a reasoning block in the prompt; the server's budget closes it.
const thinks = `{%- for message in messages %}<|{{ message.role }}|>
{%- if message.role == "assistant" and message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|><think>
{% endif %}`

// callsTools marks a call by words that are single tokens of the small model, so that a bias on the
// first makes a model with random weights call a tool; the grammar then does the rest.
const callsTools = `{%- if tools %}<|system|>Tools: {{ tools | tojson }}
{% endif %}
{%- for message in messages %}
{%- if message.role == "assistant" and message.tool_calls %}
<|assistant|>{%- if message.content %}{{ message.content }}{%- endif %}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
dozu{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}cuza
{%- endfor %}
{%- else %}
<|{{ message.role }}|>{{ message.content }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
<|assistant|>
{%- endif %}`

const (
	chat       = "/v1/chat/completions"
	hello      = `"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"write some code please"}]`
	schema     = `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`
	openTool   = `"tools":[{"type":"function","function":{"name":"get_weather","description":"w","parameters":` + schema + `}}],"tool_choice":"required"`
	claudeTool = `"tools":[{"name":"get_weather","input_schema":` + schema + `}],"tool_choice":{"type":"any"}`
	flatTool   = `"tools":[{"type":"function","name":"get_weather","parameters":` + schema + `}],"tool_choice":"required"`
	callNow    = `"logit_bias":[["dozu",50],[2044,60]]` // 2044: the end token, which the grammar holds back until the call is made
)

// suite is every kind of request with the server it needs.
func suite() map[*flavour][]kind {
	long := strings.Repeat("lorem ipsum dolor sit amet ", 300)
	return map[*flavour][]kind{
		{name: "plain", args: []string{"-np", "4", "-c", "32768"}}: {
			{name: "chat_stream", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":12,"seed":7,"temperature":0.8,"user":"ann"}`},
			{name: "chat", path: chat, body: `{` + hello + `,"max_tokens":12}`},
			{name: "chat_short_path", path: "/chat/completions", body: `{` + hello + `,"stream":true,"max_completion_tokens":5}`},
			{name: "chat_stream_usage", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":12,"stream_options":{"include_usage":true}}`},
			{name: "chat_stream_timings", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":6,"timings_per_token":true}`},
			{name: "chat_stream_timings_usage", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":6,"timings_per_token":true,"stream_options":{"include_usage":true}}`},
			{name: "chat_stream_progress", path: chat, body: `{"messages":[{"role":"user","content":"` + long + `"}],"stream":true,"max_tokens":4,"return_progress":true,"cache_prompt":false}`},
			{name: "chat_stream_logprobs", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":4,"logprobs":true,"top_logprobs":2}`},
			{name: "chat_stream_n2", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":4,"n":2}`},
			{name: "chat_stream_n2_usage", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":4,"n":2,"stream_options":{"include_usage":true}}`},
			{name: "chat_n2", path: chat, body: `{` + hello + `,"max_tokens":4,"n":2}`},
			{name: "chat_n_cmpl", path: chat, body: `{` + hello + `,"max_tokens":4,"n_cmpl":2}`},
			{name: "chat_stream_utf8", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":20,"grammar":"root ::= \"éß€\"+"}`},
			{name: "chat_stream_stop", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":200,"stop":["ba"],"seed":3}`},
			{name: "chat_stream_cut", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":2000,"timings_per_token":true}`, cut: 9},
			{name: "completions_stream", path: "/v1/completions", body: `{"prompt":"write some code","stream":true,"max_tokens":8}`},
			{name: "completions", path: "/v1/completions", body: `{"prompt":"write some code","max_tokens":8}`},
			{name: "completions_stream_prompts", path: "/v1/completions", body: `{"prompt":["ab","cd efg"],"stream":true,"max_tokens":3}`},
			{name: "completions_prompts", path: "/v1/completions", body: `{"prompt":["ab","cd efg"],"max_tokens":3}`},
			{name: "native_stream", path: "/completion", body: `{"prompt":"write some code","stream":true,"n_predict":8}`},
			{name: "native", path: "/completion", body: `{"prompt":"write some code","n_predict":8}`},
			{name: "native_plural_path", path: "/completions", body: `{"prompt":"write some code","stream":true,"n_predict":4,"timings_per_token":true}`},
			{name: "native_stream_progress", path: "/completion", body: `{"prompt":"` + long + `","stream":true,"n_predict":4,"return_progress":true,"cache_prompt":false}`},
			{name: "native_stream_prompts", path: "/completion", body: `{"prompt":["ab","cd efg"],"stream":true,"n_predict":3}`},
			{name: "native_prompts", path: "/completion", body: `{"prompt":["ab","cd efg"],"n_predict":3}`},
			{name: "native_tokens_prompt", path: "/completion", body: `{"prompt":[12,34,56,78],"stream":true,"n_predict":3}`},
			{name: "native_stream_probs", path: "/completion", body: `{"prompt":"write","stream":true,"n_predict":3,"n_probs":2}`},
			{name: "native_stream_cut", path: "/completion", body: `{"prompt":"write some code","stream":true,"n_predict":2000}`, cut: 8},
			{name: "responses_stream", path: "/v1/responses", body: `{"input":"write some code","stream":true,"max_output_tokens":8}`},
			{name: "responses", path: "/v1/responses", body: `{"input":[{"role":"user","content":"write some code"}],"max_output_tokens":8}`},
			{name: "messages_stream", path: "/v1/messages", body: `{` + hello + `,"stream":true,"max_tokens":8,"metadata":{"user_id":"bob"}}`},
			{name: "messages", path: "/v1/messages", body: `{` + hello + `,"max_tokens":8}`},
			{name: "messages_stream_cut", path: "/v1/messages", body: `{` + hello + `,"stream":true,"max_tokens":2000}`, cut: 6},
			{name: "resume", method: "GET", path: "/v1/stream?conv_id=c1", before: &kind{
				name: "resumed", path: chat, headers: map[string]string{"X-Conversation-Id": "c1"}, body: `{` + hello + `,"stream":true,"max_tokens":9}`}},
			{name: "native_slot", path: "/completion", body: `{"prompt":"hi","n_predict":4,"stream":true,"id_slot":2}`},
			{name: "tokenize", path: "/tokenize", body: `{"content":"hello there"}`},
			{name: "count_messages", path: "/v1/messages/count_tokens", body: `{` + hello + `,"max_tokens":2}`},
			{name: "count_chat", path: "/v1/chat/completions/input_tokens", body: `{` + hello + `}`},
			{name: "unmetered", path: "/apply-template", body: `{` + hello + `}`},
			{name: "error_bad_json", path: chat, body: `{"messages":[}`},
			{name: "error_image", path: chat, body: `{"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"max_tokens":2}`},
			{name: "error_decision", path: "/v1/systemone", body: `{"state":"a user cannot log in","questions":{"urgent":{"type":"noul","instructions":"Is it urgent?"}}}`},
			{name: "error_infill", path: "/infill", body: `{"input_prefix":"a","input_suffix":"b","n_predict":2}`},
		},
		{name: "pings", args: []string{"-np", "1", "-c", "65536", "-b", "32", "-ub", "32", "--sse-ping-interval", "1"}}: {
			{name: "chat_stream_pings", path: chat, body: `{"messages":[{"role":"user","content":"` + long + `"}],"stream":true,"max_tokens":6,"cache_prompt":false}`},
		},
		{name: "small", args: []string{"-np", "2", "-c", "512", "--kv-unified"}}: {
			{name: "error_context", path: chat, body: `{"messages":[{"role":"user","content":"` + long + `"}],"stream":true,"max_tokens":4}`},
			{name: "chat_stream_error", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":2000}`, beside: `{` + hello + `,"max_tokens":2000}`},
		},
		{name: "tools", args: []string{"-np", "2", "-c", "8192", "--jinja"}, template: callsTools}: {
			{name: "tools_chat_stream", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":120,"seed":1,` + openTool + `,` + callNow + `}`},
			{name: "tools_chat", path: chat, body: `{` + hello + `,"max_tokens":120,"seed":1,` + openTool + `,` + callNow + `}`},
			{name: "tools_messages_stream", path: "/v1/messages", body: `{` + hello + `,"stream":true,"max_tokens":120,"seed":1,` + claudeTool + `,` + callNow + `}`},
			{name: "tools_responses_stream", path: "/v1/responses", body: `{"input":"hi","stream":true,"max_output_tokens":120,"seed":1,` + flatTool + `,` + callNow + `}`},
		},
		{name: "thinks", args: []string{"-np", "2", "-c", "8192", "--jinja", "--reasoning-format", "deepseek", "--reasoning-budget", "6"}, template: thinks}: {
			{name: "thinks_chat_stream", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":20,"stream_options":{"include_usage":true}}`},
			{name: "thinks_chat", path: chat, body: `{` + hello + `,"max_tokens":20}`},
			{name: "thinks_messages_stream", path: "/v1/messages", body: `{` + hello + `,"stream":true,"max_tokens":20}`},
			{name: "thinks_responses_stream", path: "/v1/responses", body: `{"input":"hi","stream":true,"max_output_tokens":20}`},
		},
		{name: "draft", args: []string{"-np", "2", "-c", "8192", "--spec-type", "draft-simple", "--spec-draft-n-max", "4", "-md", "MODEL"}}: {
			{name: "draft_chat_stream", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":24,"temperature":0}`},
			{name: "draft_chat_stream_rejects", path: chat, body: `{` + hello + `,"stream":true,"max_tokens":24,"temperature":2,"seed":3}`},
			{name: "draft_native", path: "/completion", body: `{"prompt":"write some code","n_predict":24,"temperature":0}`},
		},
		{name: "embeds", args: []string{"-np", "2", "-c", "2048", "--embeddings", "--pooling", "mean"}}: {
			{name: "embeddings", path: "/v1/embeddings", body: `{"input":["hi","there you"],"model":"small"}`},
			{name: "embeddings_base64", path: "/v1/embeddings", body: `{"input":"hi","encoding_format":"base64"}`},
			{name: "embeddings_native", path: "/embedding", body: `{"content":"hi"}`},
		},
		{name: "reranks", args: []string{"-np", "2", "-c", "2048", "--reranking"}}: {
			{name: "rerank", path: "/v1/rerank", body: `{"query":"hi","documents":["a","bcd","zu"]}`},
		},
		{name: "infills", args: []string{"-np", "2", "-c", "2048", "--override-kv",
			"tokenizer.ggml.fim_pre_token_id=int:300,tokenizer.ggml.fim_suf_token_id=int:301,tokenizer.ggml.fim_mid_token_id=int:302"}}: {
			{name: "infill_stream", path: "/infill", body: `{"input_prefix":"a","input_suffix":"b","n_predict":6,"stream":true}`},
			{name: "infill", path: "/infill", body: `{"input_prefix":"a","input_suffix":"b","n_predict":6}`},
		},
		{name: "sees", args: []string{"-np", "2", "-c", "4096"}, project: imageProjector}: {
			{name: "image_chat_stream", path: chat, body: `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + picture() + `"}},{"type":"text","text":"what is it?"}]}],"stream":true,"max_tokens":6}`},
			{name: "image_messages", path: "/v1/messages", body: `{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + strings.TrimPrefix(picture(), "data:image/png;base64,") + `"}},{"type":"text","text":"what is it?"}]}],"max_tokens":6}`},
		},
		{name: "hears", args: []string{"-np", "2", "-c", "4096"}, project: audioProjector}: {
			{name: "audio_chat_stream", path: chat, body: `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"format":"wav","data":"` + base64.StdEncoding.EncodeToString([]byte(sound())) + `"}},{"type":"text","text":"what is it?"}]}],"stream":true,"max_tokens":6}`},
			{name: "transcription", path: "/v1/audio/transcriptions", headers: map[string]string{"Content-Type": multipart}, body: form("model=small", "max_tokens=6")},
			{name: "transcription_stream", path: "/v1/audio/transcriptions", headers: map[string]string{"Content-Type": multipart}, body: form("model=small", "max_tokens=6", "stream=true")},
		},
		{name: "router", args: []string{"-c", "2048"}, router: true}: {
			{name: "router_chat_stream", path: chat, body: `{"model":"first",` + hello + `,"stream":true,"max_tokens":6}`},
			{name: "router_messages", path: "/v1/messages", body: `{"model":"second",` + hello + `,"max_tokens":6}`},
			{name: "router_unknown_model", path: chat, body: `{"model":"third",` + hello + `,"stream":true,"max_tokens":6}`},
		},
	}
}

// transcript is a kind's request, unsent.
func (k *kind) transcript(f *flavour) *transcript {
	method := k.method
	if method == "" {
		method = "POST"
	}
	return &transcript{
		Name: "llama-server/" + k.name, Server: f.name + ": " + strings.Join(f.args, " "),
		Method: method, Path: k.path, Headers: k.headers, Body: k.body,
	}
}
