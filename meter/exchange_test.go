package meter_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"wattline/meter"
)

// exchange is a hand-written one: pieces of a reply at times in milliseconds after P0.
type exchange struct {
	path    string // default chat
	request string
	status  int    // default 200
	kind    string // default text/event-stream
	headers map[string]string
	headMs  int64 // default 5
	endMs   int64 // default: with the last piece
	unclean bool
	slots   *meter.SlotClock
	pieces  []timed
	keep    int // reads with stamps that are kept; default 8, -1: none
}

type timed struct {
	ms   int64
	text string
}

// at is a piece of one or more events of a stream: each given string is one event's data.
func at(ms int64, data ...string) timed {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return timed{ms, b.String()}
}

func (x exchange) run() outcome {
	if x.path == "" {
		x.path = chat
	}
	if x.status == 0 {
		x.status = 200
	}
	if x.kind == "" {
		x.kind = "text/event-stream"
	}
	if x.headMs == 0 {
		x.headMs = 5
	}
	h := http.Header{"Content-Type": {x.kind}}
	for k, v := range x.headers {
		h.Set(k, v)
	}
	r := reply{status: x.status, header: h, at: epochNs + x.headMs*1e6, clean: !x.unclean}
	for _, p := range x.pieces {
		r.body = append(r.body, piece{[]byte(p.text), epochNs + p.ms*1e6})
		r.end = epochNs + p.ms*1e6
	}
	if x.endMs > 0 {
		r.end = epochNs + x.endMs*1e6
	}
	tr := transcript{Method: http.MethodPost, Path: x.path, Body: x.request, SentUs: 2000, keep: max(0, cmp.Or(x.keep, 8))}
	return tr.playBody(new(meter.Meter), x.slots, &r)
}

// Events as llama-server writes them.
const (
	role       = `{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"model":"m"}`
	token      = `{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"x"}}],"model":"m"}`
	otherToken = `{"choices":[{"finish_reason":null,"index":1,"delta":{"content":"x"}}],"model":"m"}`
	think      = `{"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"x"}}],"model":"m"}`
	tool       = `{"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{"}}]}}],"model":"m"}`
	done       = `[DONE]`
)

// last is the event that ends a completion, with its timings.
func last(predicted int, promptMs float64) string {
	return fmt.Sprintf(`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m","timings":{"cache_n":2,"prompt_n":8,"prompt_ms":%g,"predicted_n":%d,"predicted_ms":50.5}}`, promptMs, predicted)
}

// some is a column's value: a number, or null for -1.
func wantInt(t *testing.T, name string, got meter.Int, want int64) {
	t.Helper()
	if want == -1 && got.Valid || want != -1 && got != meter.Some(want) {
		t.Errorf("%s = %v, want %d (-1: null)", name, got, want)
	}
}

func TestFirstTokenIsGeneratedOutput(t *testing.T) {
	x := exchange{}
	for ms := int64(100); ms < 700; ms += 100 {
		x.pieces = append(x.pieces, timed{ms, ":\n\n"})
	}
	x.pieces = append(x.pieces, at(700, role, token), at(720, token), at(730, last(2, 690), done))
	o := x.run()
	wantInt(t, "ttfb_us", o.Record.TTFBUs, 5_000)
	wantInt(t, "ttft_us", o.Record.TTFTUs, 700_000+flushNs/1e3)
	wantInt(t, "upstream_ttft_us", o.Record.UpstreamTTFTUs, 698_000)
	wantInt(t, "ttfo_us", o.Record.TTFOUs, 700_000)
	wantInt(t, "duration_us", o.Record.DurationUs, 730_000)
	wantInt(t, "decode_us", o.Record.DecodeUs, 20_000)
	wantInt(t, "prefill_us", o.Record.PrefillUs, 690_000)
	wantInt(t, "queue_us", o.Record.QueueUs, 3_000) // the head, which agrees with T1 - prompt_ms within 5 ms
	wantInt(t, "proxy_overhead_us", o.Record.ProxyOverheadUs, 1_000+flushNs/1e3)
	wantInt(t, "output_events", o.Record.OutputEvents, 2)
	wantInt(t, "itl_max_us", o.Record.ITLMaxUs, 20_000)
	wantInt(t, "write_blocked_us", o.Record.WriteBlockedUs, 9*flushNs/1e3)
	if o.details().Pings != meter.Some(6) || o.details().QueueSource != meter.SourceHead || o.details().PrefillSource != meter.SourceServer {
		t.Errorf("observations %+v", o.Observations)
	}
}

func TestOutputMembers(t *testing.T) {
	for _, c := range []struct {
		name, path, event string
		output, answer    bool
	}{
		{"role only", chat, role, false, false},
		{"content", chat, token, true, true},
		{"reasoning", chat, think, true, false},
		{"reasoning of vLLM", chat, `{"choices":[{"index":0,"delta":{"reasoning":"x"}}]}`, true, false},
		{"tool call", chat, tool, true, true},
		{"tool call arguments", chat, `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1"}}]}}]}`, true, true},
		{"tool calls, none", chat, `{"choices":[{"delta":{"content":"","tool_calls":[]}}]}`, false, false},
		{"legacy function call", chat, `{"choices":[{"delta":{"function_call":{"name":"f"}}}]}`, true, true},
		{"refusal", chat, `{"choices":[{"delta":{"refusal":"no"}}]}`, true, true},
		{"empty content", chat, `{"choices":[{"delta":{"content":""}}]}`, false, false},
		{"both kinds", chat, `{"choices":[{"delta":{"reasoning_content":"x","content":"y"}}]}`, true, true},
		{"index after delta", chat, `{"choices":[{"delta":{"content":"x"},"index":3}]}`, true, true},
		{"text", "/v1/completions", `{"choices":[{"text":"x","index":0,"finish_reason":null}]}`, true, true},
		{"native", "/completion", `{"index":0,"content":"x","stop":false}`, true, true},
		{"native end", "/completion", `{"content":"","stop":true,"stop_type":"limit"}`, false, false},
		{"messages text", "/v1/messages", `{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}`, true, true},
		{"messages thinking", "/v1/messages", `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}`, true, false},
		{"messages tool name", "/v1/messages", `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"f"}}`, true, true},
		{"messages tool input", "/v1/messages", `{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}`, true, true},
		{"messages text start", "/v1/messages", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`, false, false},
		{"messages signature", "/v1/messages", `{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"x"}}`, false, false},
		{"responses text", "/v1/responses", `{"type":"response.output_text.delta","delta":"x"}`, true, true},
		{"responses reasoning", "/v1/responses", `{"delta":"x","type":"response.reasoning_text.delta"}`, true, false},
		{"responses tool", "/v1/responses", `{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}`, true, true},
		{"responses message", "/v1/responses", `{"type":"response.output_item.added","item":{"type":"message"}}`, false, false},
		{"responses whole text", "/v1/responses", `{"type":"response.output_text.done","text":"xyz"}`, false, false},
		{"progress", chat, `{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"prompt_progress":{"total":9,"cache":1,"processed":4,"time_ms":7}}`, false, false},
		{"null", "/completion", `null`, false, false},
		{"not JSON", chat, `{"choices":[{"delta":{"content":"x"}}`, false, false},
		{"number", chat, `17`, false, false},
	} {
		o := exchange{path: c.path, pieces: []timed{at(10, c.event)}}.run()
		if o.Record.TTFTUs.Valid != c.output || o.Record.TTFOUs.Valid != c.answer {
			t.Errorf("%s: output %v answer %v, want %v %v", c.name, o.Record.TTFTUs.Valid, o.Record.TTFOUs.Valid, c.output, c.answer)
		}
	}
}

// TestErrors: where an error stands and what the row says of it.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		x       exchange
		outcome meter.Outcome
		text    string
	}{
		{"in a stream", exchange{pieces: []timed{at(9, role, token, `{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}`)}}, meter.UpstreamError, "Context size has been exceeded."},
		{"in a stream, a string", exchange{pieces: []timed{at(9, `{"error":"boom"}`)}}, meter.UpstreamError, "boom"},
		{"in a stream, no words", exchange{pieces: []timed{at(9, `{"error":{}}`)}}, meter.UpstreamError, "the upstream sent an error without a message inside its reply"},
		{"null is none", exchange{pieces: []timed{at(9, `{"error":null}`, done)}}, meter.OK, ""},
		{"messages", exchange{path: "/v1/messages", pieces: []timed{{9, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n"}}}, meter.UpstreamError, "busy"},
		{"responses", exchange{path: "/v1/responses", pieces: []timed{at(9, `{"type":"response.failed","response":{"status":"failed","error":{"code":"x","message":"bad"}}}`)}}, meter.UpstreamError, "bad"},
		{"status 400", exchange{status: 400, kind: "application/json", pieces: []timed{{9, `{"error":{"code":400,"message":"too long","n_prompt_tokens":9,"n_ctx":5}}`}}}, meter.UpstreamError, "too long"},
		{"vLLM", exchange{status: 400, kind: "application/json", pieces: []timed{{9, `{"object":"error","message":"bad model","type":"NotFoundError","code":404}`}}}, meter.UpstreamError, "bad model"},
		{"FastAPI", exchange{status: 422, kind: "application/json", pieces: []timed{{9, `{"detail":"no such field"}`}}}, meter.UpstreamError, "no such field"},
		{"unknown path", exchange{path: "/nowhere", status: 404, kind: "application/json; charset=utf-8", pieces: []timed{{9, `{"error":{"message":"File Not Found"}}`}}}, meter.UpstreamError, "File Not Found"},
		{"escapes", exchange{status: 500, kind: "application/json", pieces: []timed{{9, `{"error":{"message":"a \"b\" \u20ac cut \ud8"}}`}}}, meter.UpstreamError, "a \"b\" € cut "},
		{"quotes the request", exchange{status: 400, kind: "application/json", pieces: []timed{{9, `{"error":{"message":"no such role; messages = [{\"content\":\"S3CRET\"}]"}}`}}}, meter.UpstreamError, "no such role; messages [the rest is withheld: it may quote the request]"},
		{"a stream quotes the request", exchange{pieces: []timed{at(9, `{"error":"no \"S3CRET words\""}`)}}, meter.UpstreamError, "no [the rest is withheld: it may quote the request]"},
		{"compressed", exchange{headers: map[string]string{"Content-Encoding": "gzip"}, pieces: []timed{{9, "\x1f\x8b"}}}, meter.OK, "not metered: the reply is compressed (gzip); ask for it uncompressed (Accept-Encoding: identity)"},
		{"identity", exchange{headers: map[string]string{"Content-Encoding": "Identity"}, pieces: []timed{at(9, token, done)}}, meter.OK, ""},
		{"unknown content", exchange{kind: "audio/wav", pieces: []timed{{9, "RIFF"}}}, meter.OK, `not metered: unknown content type "audio/wav"`},
		{"unmetered path", exchange{path: "/props", kind: "application/json", pieces: []timed{{9, `{"error":{"message":"part of a page"}}`}}}, meter.OK, ""},
	} {
		o := c.x.run()
		if o.Record.Outcome != c.outcome || o.Record.Error != c.text {
			t.Errorf("%s: outcome %s, error %q; want %s, %q", c.name, o.Record.Outcome, o.Record.Error, c.outcome, c.text)
		}
	}
}

// TestCounts: which source wins, what disagrees, what is only a lower bound. The replies of vLLM,
// SGLang and Ollama are in the form that their sources give (vLLM issue 6540 and PR 6652, SGLang PR
// 19895, Ollama PR 6784).
func TestCounts(t *testing.T) {
	const vllmEnd = `{"choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"model":"m"}`
	for _, c := range []struct {
		name                   string
		x                      exchange
		prompt, cached, output int64 // -1: null
		source                 string
		disagree               bool
	}{
		{"timings", exchange{pieces: []timed{at(9, token, last(3, 1), done)}}, 10, 2, 3, "timings", false},
		{"usage wins", exchange{pieces: []timed{at(9, token, last(3, 1), `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3}}`, done)}}, 10, 2, 3, "usage", false},
		{"usage disagrees", exchange{pieces: []timed{at(9, token, last(3, 1), `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4}}`, done)}}, 10, 2, 4, "usage", true},
		{"native disagrees", exchange{path: "/completion", pieces: []timed{at(9, `{"stop":true,"stop_type":"eos","tokens_predicted":5,"tokens_evaluated":10,"timings":{"cache_n":2,"prompt_n":8,"predicted_n":4}}`)}}, 10, 2, 4, "timings", true},
		{"native alone", exchange{path: "/completion", pieces: []timed{at(9, `{"stop":true,"stop_type":"eos","tokens_predicted":5,"tokens_evaluated":10}`)}}, 10, -1, 5, "native", false},
		{"cut", exchange{unclean: true, pieces: []timed{at(9, role, token, token)}}, -1, -1, -1, "events", false},
		{"cut before output", exchange{unclean: true, pieces: []timed{at(9, role)}}, -1, -1, -1, "", false},
		{"cut with progress", exchange{unclean: true, pieces: []timed{at(9, `{"choices":[],"prompt_progress":{"total":90,"cache":10,"processed":40,"time_ms":7}}`)}}, 90, 10, -1, "", false},
		{"cut with timings per token", exchange{unclean: true, pieces: []timed{at(9, `{"choices":[{"index":0,"delta":{"content":"x"}}],"timings":{"cache_n":2,"prompt_n":8,"prompt_ms":1.5,"predicted_n":7}}`)}}, 10, 2, -1, "events", false},
		{"cut within the last event", exchange{unclean: true, pieces: []timed{at(9, token), {10, "data: " + last(3, 1) + "\n"}}}, -1, -1, -1, "events", false},
		{"left after the counts", exchange{unclean: true, pieces: []timed{at(9, token, last(3, 1))}}, 10, 2, 3, "timings", false},
		{"messages", exchange{path: "/v1/messages", pieces: []timed{at(9,
			`{"type":"message_start","message":{"model":"m","usage":{"cache_read_input_tokens":8,"input_tokens":6,"output_tokens":0}}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":8}}`, `{"type":"message_stop"}`)}}, 14, 8, 8, "usage", false},
		{"messages with a cache written", exchange{path: "/v1/messages", kind: "application/json", pieces: []timed{{9,
			`{"type":"message","stop_reason":"end_turn","usage":{"input_tokens":6,"cache_creation_input_tokens":4,"cache_read_input_tokens":8,"output_tokens":3}}`}}}, 18, 8, 3, "usage", false},
		{"vLLM without usage", exchange{pieces: []timed{at(9, role, token, token, vllmEnd, done)}}, -1, -1, -1, "events", false},
		{"vLLM with usage", exchange{pieces: []timed{at(9, role, token, vllmEnd, `{"choices":[],"usage":{"prompt_tokens":16,"total_tokens":19,"completion_tokens":3}}`, done)}}, 16, -1, 3, "usage", false},
		{"vLLM, usage in every chunk", exchange{pieces: []timed{at(9,
			`{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":16,"completion_tokens":1}}`,
			`{"choices":[{"index":0,"delta":{"content":"y"},"finish_reason":"stop"}],"usage":{"prompt_tokens":16,"completion_tokens":2}}`,
			`{"choices":[],"usage":{"prompt_tokens":16,"completion_tokens":2}}`, done)}}, 16, -1, 2, "usage", false},
		{"vLLM, usage in every chunk, cut", exchange{unclean: true, pieces: []timed{at(9,
			`{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":16,"completion_tokens":1}}`)}}, 16, -1, -1, "events", false},
		{"vLLM, n 2, one total", exchange{request: `{"n":2,"stream":true}`, pieces: []timed{at(9,
			`{"choices":[{"index":0,"delta":{"content":"x"}}]}`, `{"choices":[{"index":1,"delta":{"content":"x"}}]}`,
			`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, `{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`,
			`{"choices":[],"usage":{"prompt_tokens":16,"completion_tokens":9}}`, done)}}, 16, -1, 9, "usage", false},
		{"vLLM unstreamed, n 2", exchange{request: `{"n":2}`, kind: "application/json", pieces: []timed{{9,
			`{"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"length"}],"usage":{"prompt_tokens":16,"completion_tokens":9}}`}}}, 16, -1, 9, "usage", false},
		{"SGLang", exchange{pieces: []timed{at(9,
			`{"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null},"finish_reason":null,"matched_stop":null}],"usage":null}`,
			`{"choices":[{"index":0,"delta":{"role":null,"content":"x","reasoning_content":null,"tool_calls":null},"finish_reason":null,"matched_stop":null}],"usage":null}`,
			`{"choices":[{"index":0,"delta":{},"finish_reason":"stop","matched_stop":2}],"usage":null}`,
			`{"choices":[],"usage":{"prompt_tokens":20,"total_tokens":25,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"reasoning_tokens":0}}`, done)}}, 20, 4, 5, "usage", false},
		{"Ollama", exchange{pieces: []timed{at(9,
			`{"choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}],"system_fingerprint":"fp_ollama","usage":null}`,
			`{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":null}`,
			`{"choices":[],"usage":{"prompt_tokens":26,"completion_tokens":2,"total_tokens":28}}`, done)}}, 26, -1, 2, "usage", false},
		{"n 2, cut when one had ended", exchange{request: `{"n":2,"stream":true}`, unclean: true, pieces: []timed{at(9, token, otherToken, last(5, 1), otherToken)}}, -1, -1, -1, "events", false},
		{"n 2, cut before the other began", exchange{request: `{"n":2,"stream":true}`, unclean: true, pieces: []timed{at(9, token, last(5, 1))}}, -1, -1, -1, "events", false},
		{"n 2, left when both had ended", exchange{request: `{"n":2,"stream":true}`, unclean: true, pieces: []timed{at(9, token, otherToken, last(5, 1), strings.Replace(last(4, 1), `"index":0`, `"index":1`, 1))}}, 20, 4, 9, "timings", false},
		{"two prompts, cut, usage in every chunk", exchange{path: "/v1/completions", request: `{"prompt":["a","b"],"stream":true}`, unclean: true, pieces: []timed{at(9,
			`{"choices":[{"index":0,"text":"x"}],"usage":{"prompt_tokens":16,"completion_tokens":1}}`,
			`{"choices":[{"index":1,"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`)}}, -1, -1, -1, "events", false},
		{"zeros in every chunk, cut", exchange{path: "/v1/completions", unclean: true, pieces: []timed{at(9,
			`{"choices":[{"index":0,"text":"x"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`,
			`{"choices":[{"index":0,"text":"","finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`)}}, -1, -1, -1, "events", false},
		{"decision", exchange{path: "/v1/systemone", kind: "application/json", pieces: []timed{{9,
			`{"model":"m","answers":{"a":{"type":"noul","noul":0.25},"b":{"type":"score","score":1.5,"confidence":0.5}},"usage":{"input_tokens":57,"output_tokens":0}}`}}}, 57, -1, 0, "usage", false},
		{"nonsense counts", exchange{pieces: []timed{at(9, `{"choices":[],"usage":{"prompt_tokens":-4,"completion_tokens":"five"}}`)}}, -1, -1, -1, "", false},
	} {
		o := c.x.run()
		wantInt(t, c.name+": prompt_tokens", o.Record.PromptTokens, c.prompt)
		wantInt(t, c.name+": cached_tokens", o.Record.CachedTokens, c.cached)
		wantInt(t, c.name+": output_tokens", o.Record.OutputTokens, c.output)
		if o.Record.TokenSource != c.source || o.disputed() != c.disagree {
			t.Errorf("%s: source %q disagree %v, want %q %v", c.name, o.Record.TokenSource, o.disputed(), c.source, c.disagree)
		}
	}
}

func TestLowerBound(t *testing.T) {
	o := exchange{unclean: true, pieces: []timed{at(9, role, token, token,
		`{"choices":[{"index":0,"delta":{"content":"x"}}],"timings":{"predicted_n":7}}`)}}.run()
	wantInt(t, "output_tokens", o.Record.OutputTokens, -1)
	wantInt(t, "output_events", o.Record.OutputEvents, 3)
	wantInt(t, "AtLeast", o.details().AtLeast, 7)
	if o.Record.TokenSource != meter.TokensFromEvents || o.Record.Outcome != meter.Truncated {
		t.Errorf("source %q, outcome %q", o.Record.TokenSource, o.Record.Outcome)
	}
}

// TestReadsAndEvents tells outputs that came in one read from outputs that came apart.
func TestReadsAndEvents(t *testing.T) {
	o := exchange{pieces: []timed{at(10, role, token), at(30, token, token, token), {31, ": ping\n\n"}, at(40, token)}}.run()
	f, d := o.Observations, o.details()
	if d.OutputReads.V != 3 || d.MaxOutputsPerRead.V != 3 || len(f.Stamps) != 3 {
		t.Fatalf("%d reads, at most %d outputs, stamps %v", d.OutputReads.V, d.MaxOutputsPerRead.V, f.Stamps)
	}
	for i, want := range []meter.Stamp{{AtNs: 10e6, Outputs: 1}, {AtNs: 30e6, Outputs: 3}, {AtNs: 40e6, Outputs: 1}} {
		if f.Stamps[i] != want {
			t.Errorf("stamp %d is %+v, want %+v", i, f.Stamps[i], want)
		}
	}
	wantInt(t, "itl_max_us", o.Record.ITLMaxUs, 20_000)
	wantInt(t, "output_events", o.Record.OutputEvents, 5)
	if want := []uint32{20_000, 0, 0, 10_000}; !slices.Equal(o.Record.GapsUs, want) {
		t.Errorf("raw gaps %v, want %v", o.Record.GapsUs, want)
	}
}

// TestGapsOfSeveralCompletions: each completion has its own gaps.
func TestGapsOfSeveralCompletions(t *testing.T) {
	x := exchange{}
	piece := func(ms int64, index int) timed {
		return at(ms, fmt.Sprintf(`{"choices":[{"index":%d,"delta":{"content":"x"}}]}`, index))
	}
	for i := range int64(10) {
		x.pieces = append(x.pieces, piece(100+20*i, 0), piece(105+20*i, 1))
	}
	o := x.run()
	wantInt(t, "itl_max_us", o.Record.ITLMaxUs, 20_000)
	if p := o.Record.ITLP50Us.V; p < 19_800 || p > 20_200 {
		t.Errorf("itl_p50_us = %d, want 20,000 within 1 %%", p)
	}
	if o.Record.GapsUs != nil {
		t.Errorf("raw gaps %v across two completions", o.Record.GapsUs)
	}
	if o.Observations.Started != 2 {
		t.Errorf("%d completions, want 2", o.Observations.Started)
	}
	// Beyond what is tracked, outputs still count.
	o = exchange{pieces: []timed{piece(1, 1000), piece(2, 1000), piece(3, 63)}}.run()
	wantInt(t, "output_events", o.Record.OutputEvents, 3)
	wantInt(t, "itl_max_us", o.Record.ITLMaxUs, -1)
	wantInt(t, "untracked_outputs", o.details().UntrackedOutputs, 2)
}

// TestGapsAreCutAtTheLimit: a row says how many gaps had no room, and nothing where none were asked for.
func TestGapsAreCutAtTheLimit(t *testing.T) {
	for keep, want := range map[int]struct {
		gaps []uint32
		cut  int64
	}{-1: {nil, -1}, 2: {[]uint32{10_000, 0}, 2}, 4: {[]uint32{10_000, 0, 10_000, 10_000}, -1}} {
		o := exchange{pieces: []timed{at(10, token), at(20, token, token), at(30, token), at(40, token)}, keep: keep}.run()
		if !slices.Equal(o.Record.GapsUs, want.gaps) {
			t.Errorf("keep %d: gaps %v", keep, o.Record.GapsUs)
		}
		wantInt(t, "gaps_cut", o.details().GapsCut, want.cut)
	}
}

func TestStalls(t *testing.T) {
	x := exchange{}
	ms := int64(100)
	for i := range 40 {
		ms += 20
		switch i {
		case 10:
			ms += 100 // 120 ms: longer than 5 x 20 and than 50
		case 20:
			ms += 60 // 80 ms: shorter than 5 x 20
		case 30:
			ms += 400
		}
		x.pieces = append(x.pieces, at(ms, token))
	}
	o := x.run()
	wantInt(t, "stalls", o.Record.Stalls, 2)
	wantInt(t, "itl_max_us", o.Record.ITLMaxUs, 420_000)
	o = exchange{pieces: []timed{at(10, token), at(11, token), at(12, token), at(50, token)}}.run()
	wantInt(t, "stalls", o.Record.Stalls, 0) // 38 ms are not a stall, however short the others
	o = exchange{pieces: []timed{at(10, token)}}.run()
	wantInt(t, "stalls of one output", o.Record.Stalls, -1)
}

func TestProgress(t *testing.T) {
	progress := func(done int) string {
		return fmt.Sprintf(`{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"prompt_progress":{"total":100,"cache":10,"processed":%d,"time_ms":%d}}`, done, 3*done)
	}
	var m meter.Meter
	m.BeginRequest(meter.RequestHead{Path: chat})
	m.BeginReply(meter.ReplyHead{Status: 200, At: 5e6, Header: func(n string) []byte {
		return []byte(map[string]string{"Content-Type": "text/event-stream"}[n])
	}})
	if p := m.ReplyBody([]byte(at(0, progress(10)).text), 6e6, 6e6); p != (meter.Progress{PrefillDone: 10, PrefillTotal: 100}) {
		t.Errorf("progress %+v", p)
	}
	if p := m.ReplyBody([]byte(at(0, progress(60), progress(100), role, token, token).text), 7e6, 7e6); p != (meter.Progress{Outputs: 2, First: true, PrefillDone: 100, PrefillTotal: 100}) {
		t.Errorf("progress %+v", p)
	}
	if p := m.ReplyBody([]byte(at(0, token).text), 8e6, 8e6); p != (meter.Progress{Outputs: 1}) {
		t.Errorf("progress %+v", p)
	}
	var rec meter.Record
	m.Fill(&rec, meter.Marks{P0: 1e6, P1: 2e6, H: 5e6, E: 9e6}, false)
	wantInt(t, "prefill_us of a cut stream", rec.PrefillUs, 300_000)
	wantInt(t, "prompt_tokens of a cut stream", rec.PromptTokens, 100)
	if f := m.Observations(); rec.Details.PrefillSource != meter.SourceProgress || f.Progress.Events != 3 {
		t.Errorf("%q, %+v", rec.Details.PrefillSource, f.Progress)
	}
}

// TestUnstreamed: E minus the server's times is the slot's start; there is no first token.
func TestUnstreamed(t *testing.T) {
	o := exchange{request: `{"stream":false}`, kind: "application/json", headMs: 900, endMs: 901, pieces: []timed{{901,
		`{"choices":[{"finish_reason":"stop","index":0,"message":{"content":"xyz"}}],"model":"m","usage":{"prompt_tokens":10,"completion_tokens":5},"timings":{"cache_n":0,"prompt_n":10,"prompt_ms":300.5,"predicted_n":5,"predicted_ms":400.25}}`}}}.run()
	wantInt(t, "ttft_us", o.Record.TTFTUs, -1)
	wantInt(t, "queue_us", o.Record.QueueUs, 901_000-2_000-300_500-400_250)
	wantInt(t, "prefill_us", o.Record.PrefillUs, 300_500)
	wantInt(t, "decode_us", o.Record.DecodeUs, 400_250)
	wantInt(t, "output_events", o.Record.OutputEvents, -1)
	wantInt(t, "stream", o.Record.Stream, 0)
}

func TestNegativeQueueIsNull(t *testing.T) {
	o := exchange{headMs: 1, pieces: []timed{at(9, token, last(1, 8))}}.run() // the head came before P1 = 2 ms
	wantInt(t, "queue_us", o.Record.QueueUs, -1)
	if !o.details().NegativeQueue.Valid {
		t.Error("not counted")
	}
}

func TestRequestBody(t *testing.T) {
	o := exchange{path: "/v1/messages", request: `{"model":"asked","max_tokens":-1,"temperature":0.25,"seed":42,"stream":true,
		"system":[{"type":"text","text":"\"model\":\"no\""}],"tools":[{"name":"a"},{"name":"b"}],
		"messages":[{"role":"user","content":[{"type":"image"},{"type":"text"},{"type":"image_url"},{"type":"input_audio"}]},{"role":"user","content":"x"}],
		"stream_options":{"include_usage":true},"return_progress":true,"timings_per_token":false,"cache_prompt":false,"n":2}`,
		status: 503, kind: "application/json", pieces: []timed{{9, `{"error":{"message":"Loading model"}}`}}}.run()
	r, f := o.Record, o.details()
	if r.Model != "asked" || f.RequestedModel != "asked" || r.Error != "Loading model" {
		t.Errorf("model %q, asked %q, error %q", r.Model, f.RequestedModel, r.Error)
	}
	wantInt(t, "max_tokens", r.MaxTokens, -1)
	wantInt(t, "stream", r.Stream, 1)
	wantInt(t, "messages", r.Messages, 2)
	wantInt(t, "tools", r.Tools, 2)
	wantInt(t, "seed", f.Seed, 42)
	wantInt(t, "n", f.Completions, 2)
	wantInt(t, "include_usage", f.IncludeUsage, 1)
	wantInt(t, "return_progress", f.ReturnProgress, 1)
	wantInt(t, "timings_per_token", f.TimingsPerToken, 0)
	wantInt(t, "cache_prompt", f.CachePrompt, 0)
	if f.Temperature != (meter.Float{V: 0.25, Valid: true}) || f.Images.V != 2 || f.Audios.V != 1 {
		t.Errorf("temperature %v, %d images, %d audios", f.Temperature, f.Images.V, f.Audios.V)
	}
	for body, want := range map[string]int64{`"one"`: 1, `["one","two"]`: 2, `[1,2,3]`: 1, `[[1,2],[3]]`: 2, `[1,"mixed",2]`: 1, `[]`: 1} {
		o := exchange{path: "/completion", request: `{"prompt":` + body + `}`, pieces: []timed{at(9, token)}}.run()
		wantInt(t, "prompts in "+body, o.details().Prompts, want)
	}
}

func TestRequestBodyNotRead(t *testing.T) {
	for name, headers := range map[string]map[string]string{
		"request body is compressed": {"Content-Encoding": "zstd"},
		"request body is multipart":  {"content-type": "Multipart/form-data; boundary=x"},
	} {
		tr := transcript{Method: http.MethodPost, Path: "/v1/audio/transcriptions", Headers: headers, Body: `{"model":"no"}`}
		r := reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, at: epochNs + 1, clean: true,
			body: []piece{{[]byte(`{"text":"hello","usage":{"type":"tokens","input_tokens":14,"output_tokens":3}}`), epochNs + 2}}, end: epochNs + 3}
		o := tr.playBody(new(meter.Meter), nil, &r)
		if o.Observations.RequestSkipped != name || o.Record.Model != "" || o.Record.Dialect != meter.DialectTranscription {
			t.Errorf("%q: off %q, model %q, dialect %q", name, o.Observations.RequestSkipped, o.Record.Model, o.Record.Dialect)
		}
		wantInt(t, "output_tokens", o.Record.OutputTokens, 3)
	}
}

func TestDialects(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/chat/completions": meter.DialectChat, "/chat/completions": meter.DialectChat, "/api/chat": meter.DialectOllama, "/gpu1/v1/chat/completions": meter.DialectChat, "/api/generate": meter.DialectOllama,
		"/v1/completions": meter.DialectCompletions, "/completions": meter.DialectNative, "/completion": meter.DialectNative, "/infill": meter.DialectInfill,
		"/v1/responses": meter.DialectResponses, "/responses": meter.DialectResponses, "/v1/messages": meter.DialectMessages,
		"/v1/stream": meter.DialectResume, "/v1/stream/abc": meter.DialectResume, "/v1/embeddings": meter.DialectEmbeddings, "/embedding": meter.DialectEmbeddings,
		"/v1/rerank": meter.DialectRerank, "/reranking": meter.DialectRerank, "/tokenize": meter.DialectTokenize, "/v1/systemone": meter.DialectDecision, "/v1/messages/count_tokens": meter.DialectCount,
		"/v1/chat/completions/input_tokens": meter.DialectCount, "/v1/audio/transcriptions": meter.DialectTranscription,
		"/": "", "": "", "/health": "", "/v1/models": "", "/v1/chat/completions/control": "", "/chat": "", "/v1/streams": "", "/detokenize": "", "/slots/0": "",
	} {
		var m meter.Meter
		var rec meter.Record
		m.BeginRequest(meter.RequestHead{Path: path})
		m.Fill(&rec, meter.Marks{}, true)
		if rec.Dialect != want {
			t.Errorf("%s: %q, want %q", path, rec.Dialect, want)
		}
	}
}

// TestUploadBesideReply: a server may answer while the request still uploads. Run with -race.
func TestUploadBesideReply(t *testing.T) {
	var m meter.Meter
	m.BeginRequest(meter.RequestHead{Path: chat})
	m.RequestBody([]byte(`{"model":"asked","messages":["`))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 1000 {
			m.RequestBody([]byte("lorem ipsum "))
		}
		m.RequestBody([]byte(`"],"max_tokens":9}`))
	})
	m.BeginReply(meter.ReplyHead{Status: 200, At: 5e6, Header: func(n string) []byte {
		return []byte(map[string]string{"Content-Type": "text/event-stream"}[n])
	}})
	for i := range int64(1000) {
		m.ReplyBody([]byte(at(0, token).text), 6e6+i, 6e6+i)
	}
	m.ReplyBody([]byte(at(0, last(1000, 5), done).text), 8e6, 8e6)
	wg.Wait()
	var rec meter.Record
	m.Fill(&rec, meter.Marks{P0: 1e6, P1: 2e6, H: 5e6, E: 9e6}, true)
	wantInt(t, "max_tokens", rec.MaxTokens, 9)
	wantInt(t, "output_tokens", rec.OutputTokens, 1000)
	wantInt(t, "output_events", rec.OutputEvents, 1000)
}

// TestDisputedCounts: two sources that tell different numbers are both in the details, which name the count.
func TestDisputedCounts(t *testing.T) {
	for _, c := range []struct {
		request, end string
		want         []string
		keys         string // of details, in the order in which they stand there
	}{
		{`{"model":"disputed"}`, `"usage":{"prompt_tokens":10,"completion_tokens":4},"timings":{"cache_n":2,"prompt_n":8,"predicted_n":4}`, nil, ""},
		{`{}`, `"usage":{"prompt_tokens":10,"completion_tokens":5},"timings":{"cache_n":2,"prompt_n":8,"predicted_n":4}`, []string{"output"},
			`"disputed":"output","usage_prompt_tokens":10,"usage_output_tokens":5,"timings_prompt_tokens":10,"timings_cached_tokens":2,"timings_output_tokens":4`},
		{`{"model":"\"disputed\":\"cached\""}`, `"usage":{"prompt_tokens":11,"completion_tokens":4},"timings":{"cache_n":2,"prompt_n":8,"predicted_n":4},"tokens_predicted":9`,
			[]string{"prompt", "output"}, `"disputed":"prompt,output"`},
		{`{}`, `"usage":{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":3}},"timings":{"cache_n":2,"prompt_n":8,"predicted_n":4}`, []string{"cached"}, `"disputed":"cached"`},
	} {
		o := exchange{request: c.request, pieces: []timed{at(9, token, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],`+c.end+`}`, done)}}.run()
		text, err := o.Record.Details.MarshalText()
		if got := o.Record.Disputed(); err != nil || !slices.Equal(got, c.want) || !strings.Contains(string(text), c.keys) || !json.Valid(text) {
			t.Errorf("%s: disputed %q, want %q; details %s, %v", c.end, got, c.want, text, err)
		}
	}
}

// TestDecision: a route that answers questions with probabilities. The reply's form is read in llama.cpp's
// source; the small model is no decision model, so that a live server only refuses (kind error_decision).
func TestDecision(t *testing.T) {
	o := exchange{path: "/v1/systemone", kind: "application/json", headMs: 40, pieces: []timed{{40, `{"model":"m","answers":{"a":{"type":"noul","noul":0.25},"b":{"type":"score"}},"usage":{"input_tokens":57,"output_tokens":0}}`}},
		request: `{"model":"m","state":{"messages":[1,2]},"questions":{"a":{"type":"noul","instructions":"x"},"b":{"type":"score","criteria":["x","y"]}}}`}.run()
	wantInt(t, "inputs", o.details().Inputs, 2)
	wantInt(t, "results", o.details().Results, 2)
	wantInt(t, "prompt_tokens", o.Record.PromptTokens, 57)
	wantInt(t, "stream", o.Record.Stream, -1)
	wantInt(t, "queue_us", o.Record.QueueUs, -1)
	var m meter.Meter
	m.BeginRequest(meter.RequestHead{Path: "/v1/systemone"})
	if !m.Work().Computes {
		t.Error("the model does not run for it")
	}
}

// TestOutputsBeyondTheSixteenth: an event may bring output of more completions than an event has room for. Those are
// counted, have no gaps, and the details say how many they were.
func TestOutputsBeyondTheSixteenth(t *testing.T) {
	choices := make([]string, 19)
	for i := range choices {
		choices[i] = fmt.Sprintf(`{"index":%d,"delta":{"content":"x"}}`, i)
	}
	event := `{"choices":[` + strings.Join(choices, ",") + `]}`
	o := exchange{request: `{"stream":true,"n":19}`, pieces: []timed{at(9, event), at(12, event, done)}}.run()
	wantInt(t, "output_events", o.Record.OutputEvents, 38)
	wantInt(t, "uncounted_outputs", o.details().UncountedOutputs, 6)
	few := exchange{request: `{"stream":true}`, pieces: []timed{at(9, token, done)}}.run()
	wantInt(t, "uncounted_outputs of one completion", few.details().UncountedOutputs, -1)
}
