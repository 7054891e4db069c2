package meter_test

import (
	"fmt"
	"strings"
	"testing"

	"wattline/meter"
)

// loading is what llama-swap streams while it loads a model.
const loading = `{"choices":[{"delta":{"reasoning_content":"."}}]}`

// TestNotices: what a gateway says before the server's reply is no output. It becomes load_us, and the rest of what lies
// before the slot's start is the queue.
func TestNotices(t *testing.T) {
	clock := new(meter.SlotClock)
	x := exchange{headMs: 90, slots: clock}
	for ms := int64(100); ms <= 8000; ms += 100 {
		x.pieces = append(x.pieces, at(ms, loading))
	}
	x.pieces = append(x.pieces, at(8060, role, token), at(8080, token), at(8111, last(2, 40), done))
	r := x.run().Record
	wantInt(t, "ttft_us", r.TTFTUs, 8_060_000+flushNs/1e3)
	wantInt(t, "output_events", r.OutputEvents, 2)
	wantInt(t, "notices", r.Details.Notices, 80)
	wantInt(t, "load_us", r.LoadUs, 8_000_000-2_000)
	wantInt(t, "queue_us", r.QueueUs, 20_000) // S is at 8,020
	wantInt(t, "itl_max_us", r.ITLMaxUs, 20_000)
	if len(r.GapsUs) != 1 || r.Details.QueueSource != meter.SourceServer {
		t.Errorf("gaps %v, queue from %s", r.GapsUs, r.Details.QueueSource)
	}
	// The clock learnt nothing: the next stream without prompt_ms trusts the head as the first of an upstream does.
	o := exchange{slots: clock, headers: map[string]string{"Server": "llama.cpp"}, pieces: []timed{at(50, token, done)}}.run()
	wantInt(t, "queue_us of a later stream", o.Record.QueueUs, 3_000)
}

// TestClientLeavesWhileLoading: a stream of notices alone has no first token.
func TestClientLeavesWhileLoading(t *testing.T) {
	o := exchange{unclean: true, pieces: []timed{at(100, loading), at(900, loading)}}.run()
	wantInt(t, "ttft_us", o.Record.TTFTUs, -1)
	wantInt(t, "output_events", o.Record.OutputEvents, 0)
	wantInt(t, "load_us", o.Record.LoadUs, 898_000)
}

// TestNoticesAreNotTold: observers hear of output when it is known to be output.
func TestNoticesAreNotTold(t *testing.T) {
	m := streaming(chat)
	if p := m.ReplyBody([]byte(at(0, loading, loading).text), 6e6, 6e6); p != (meter.Progress{}) {
		t.Errorf("notices: %+v", p)
	}
	if p := m.ReplyBody([]byte(at(0, role, token).text), 7e6, 7e6); p != (meter.Progress{Outputs: 1, First: true}) {
		t.Errorf("the first token: %+v", p)
	}
	m = streaming(chat) // a server that never tells who it is, but ends
	if p := m.ReplyBody([]byte(at(0, loading, loading, `{"choices":[{"delta":{},"finish_reason":"stop"}]}`).text), 7e6, 7e6); p != (meter.Progress{Outputs: 2, First: true}) {
		t.Errorf("outputs that no name told: %+v", p)
	}
}

// TestDisputedMarks: T1 and Tn are held against the server's own times.
func TestDisputedMarks(t *testing.T) {
	end := func(promptMs, predictedMs float64) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"model":"m","timings":{"cache_n":2,"prompt_n":8,"prompt_ms":%g,"predicted_n":5,"predicted_ms":%g}}`, promptMs, predictedMs)
	}
	tools := strings.Replace(tool, `"index":0,"delta"`, `"index":0,"delta"`, 1)
	for _, c := range []struct {
		name   string
		pieces []timed
		want   string
	}{
		{"agree", []timed{at(600, token), at(1600, token, end(590, 1000))}, ""},
		{"within a stall", []timed{at(600, token), at(1800, token, end(590, 1000))}, ""},
		{"words before the prompt was done", []timed{at(100, role, token), at(8000, token), at(9000, token, end(900, 990))}, "first,last"},
		{"a late end", []timed{at(600, token), at(1600, token), at(4000, token, end(590, 1000))}, "last"},
		{"withheld", []timed{at(3600, token), at(3601, token, end(590, 3000))}, "first"},
		{"withheld by a parser of tool calls", []timed{at(3600, tools), at(3601, tools, end(590, 3000))}, ""},
		{"no times", []timed{at(100, token), at(9000, token, done)}, ""},
	} {
		clock := new(meter.SlotClock)
		o := exchange{pieces: c.pieces, slots: clock}.run()
		if got := o.details().DisputedMarks; got != c.want || o.details().ServerDecodeUs.Valid != (c.want != "") {
			t.Errorf("%s: %q, want %q; %v", c.name, got, c.want, o.details().ServerDecodeUs)
		}
		// What contradicts the server teaches nothing: a head that is no slot's start is not taken for one, nor given up.
		after := exchange{slots: clock, headers: map[string]string{"Server": "llama.cpp"}, pieces: []timed{at(50, token, done)}}.run()
		if learnt := after.Record.QueueUs != meter.Some(3_000); learnt && c.want != "" {
			t.Errorf("%s: the clock learnt from it", c.name)
		}
	}
	// A client that does not read moves Tn.
	slow := streaming(chat)
	slow.ReplyBody([]byte(at(0, role, token).text), 600e6, 3000e6)
	slow.ReplyBody([]byte(at(0, token, end(590, 100), done).text), 3000e6, 3001e6)
	var rec meter.Record
	slow.Fill(&rec, meter.Marks{P0: 1, P1: 2, H: 3, E: 3001e6}, true)
	if rec.Details.DisputedMarks != "" {
		t.Errorf("a slow client: %s", rec.Details.DisputedMarks)
	}
}

// TestOllamaTimes: Ollama tells how long it loaded.
func TestOllamaTimes(t *testing.T) {
	x := exchange{path: "/api/chat", kind: "application/x-ndjson", headMs: 8200, pieces: []timed{
		{8202, `{"model":"m","message":{"role":"assistant","content":"x"},"done":false}` + "\n"},
		{9200, `{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","load_duration":8000000000,"prompt_eval_count":26,"prompt_eval_duration":130000000,"eval_count":2,"eval_duration":1000000000}` + "\n"},
	}, request: `{"model":"m","options":{"num_predict":9,"temperature":0.5,"seed":4}}`}
	r := x.run().Record
	wantInt(t, "load_us", r.LoadUs, 8_000_000)
	wantInt(t, "prefill_us", r.PrefillUs, 130_000)
	wantInt(t, "queue_us", r.QueueUs, 8_202_000-130_000-2_000-8_000_000)
	wantInt(t, "stream", r.Stream, 1)
	wantInt(t, "max_tokens", r.MaxTokens, 9)
	wantInt(t, "S - P1", r.BeforeSlotUs(), 8_070_000)
	if r.FinishReason != "stop" || r.Outcome != meter.OK || r.Dialect != meter.DialectOllama {
		t.Errorf("%s, %s, %s", r.FinishReason, r.Outcome, r.Dialect)
	}
	x.kind, x.pieces = "application/json", []timed{{9200, x.pieces[1].text}}
	r = x.run().Record
	wantInt(t, "load_us, unstreamed", r.LoadUs, 8_000_000)
	wantInt(t, "output_tokens, unstreamed", r.OutputTokens, 2)
	wantInt(t, "decode_us, unstreamed", r.DecodeUs, 1_000_000)
}

// TestDocumentsThatEndEarly: a reply in one piece that its framing ended is held to be whole only if its JSON is.
func TestDocumentsThatEndEarly(t *testing.T) {
	for body, want := range map[string]meter.Outcome{
		`{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}`: meter.OK,
		`{"choices":[{"message":{"content":"x"`:                            meter.Truncated,
		"\uFEFF" + `{"choices":[]}`:                                        meter.OK,
		`no JSON`:                                                          meter.OK, // details.unread says so
	} {
		o := exchange{kind: "application/json", pieces: []timed{{9, body}}}.run()
		if o.Record.Outcome != want || (o.details().Unread != "") != (body == `no JSON`) {
			t.Errorf("%s: %s, unread %q", body, o.Record.Outcome, o.details().Unread)
		}
	}
}

// TestUnstreamedSums: a usage that tells more than the timings of the first completion is the sum.
func TestUnstreamedSums(t *testing.T) {
	for usage, want := range map[int]int64{3: -1, 7: 7} {
		o := exchange{request: `{"n":2}`, kind: "application/json", pieces: []timed{{9, fmt.Sprintf(
			`{"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":%d},"timings":{"cache_n":2,"prompt_n":8,"predicted_n":3}}`, usage)}}}.run()
		wantInt(t, "output_tokens", o.Record.OutputTokens, want)
	}
	// A client that leaves when all have ended, and one usage came with the last.
	o := exchange{unclean: true, request: `{"n":2,"stream":true}`, pieces: []timed{at(9, token, otherToken,
		`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}]}`, `{"choices":[{"finish_reason":"stop","index":1,"delta":{}}],"usage":{"prompt_tokens":21,"completion_tokens":8}}`)}}.run()
	wantInt(t, "output_tokens of a stream left at its end", o.Record.OutputTokens, 8)
}

// TestPromptCut: the session's own ratio of bytes to tokens says whether a prompt was cut.
func TestPromptCut(t *testing.T) {
	ratios := new(meter.PromptRatios)
	ask := func(session, text string, tokens int) bool {
		var m meter.Meter
		rec := meter.Record{Session: session}
		m.BeginRequest(meter.RequestHead{Method: "POST", Path: chat, Prompts: ratios})
		body := `{"model":"m","messages":[{"role":"user","content":"` + text + `"}]}`
		for rest := body; len(rest) > 0; { // as it comes from a socket
			n := min(len(rest), 4000)
			m.RequestBody([]byte(rest[:n]))
			rest = rest[n:]
		}
		m.BeginReply(meter.ReplyHead{Status: 200, Header: func(n string) []byte {
			return []byte(map[string]string{"Content-Type": "application/json"}[n])
		}})
		m.ReplyBody(fmt.Appendf(nil, `{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":1}}`, tokens), 1, 1)
		m.Fill(&rec, meter.Marks{P0: 1, P1: 1, H: 1, E: 2}, true)
		return rec.Details.PromptCut == meter.Some(1)
	}
	words := strings.Repeat("lorem ipsum dolor sit amet ", 24_000) // 648 kB
	if ask("a", words, 16_387) {
		t.Error("the first of all is flagged, with nothing to compare")
	}
	ratios = new(meter.PromptRatios)
	for n := 400; n <= 12_800; n *= 2 { // a session grows by four bytes a token
		if ask("a", words[:4*n], n) {
			t.Errorf("%d tokens", n)
		}
	}
	if !ask("a", words, 16_387) {
		t.Error("648 kB and 16,387 tokens are not flagged")
	}
	if !ask("new", words, 16_387) {
		t.Error("a new session beside it is not")
	}
	if ask("a", strings.Repeat("a", 640_000), 16_387) {
		t.Error("a repeated character is flagged")
	}
	if ask("a", words, 150_000) {
		t.Error("a long prompt that was read whole is flagged")
	}
	if ask("a", words[:7000], 30) {
		t.Error("a body smaller than any context is flagged")
	}
}
