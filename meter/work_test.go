package meter_test

import (
	"fmt"
	"testing"

	"wattline/meter"
)

// TestOnlyWorkIsMetered: browsers send OPTIONS ahead of a request from another origin.
func TestOnlyWorkIsMetered(t *testing.T) {
	for _, c := range []struct{ method, path, want string }{
		{"POST", chat, meter.DialectChat}, {"OPTIONS", chat, ""}, {"HEAD", chat, ""}, {"GET", "/v1/messages", ""},
		{"GET", "/v1/stream", meter.DialectResume}, {"OPTIONS", "/v1/stream/abc", ""},
	} {
		var m meter.Meter
		rec := meter.Record{}
		m.BeginRequest(meter.RequestHead{Method: c.method, Path: c.path})
		m.BeginReply(meter.ReplyHead{Status: 200, At: 5e6, Header: func(n string) []byte {
			return []byte(map[string]string{"Content-Type": "text/html"}[n])
		}})
		m.Fill(&rec, meter.Marks{P0: 1e6, P1: 2e6, H: 5e6, E: 9e6}, true)
		if rec.Dialect != c.want || c.want == "" && (m.Work().Computes || rec.Error != "") {
			t.Errorf("%s %s: dialect %q, error %q, work %+v", c.method, c.path, rec.Dialect, rec.Error, m.Work())
		}
	}
}

// TestUnstreamedChoicesAreCounted: whatever made a server give several completions, counts that are the first one's are no
// sum: n is one name for it, n_cmpl llama-server's own, and the reply shows how many there are.
func TestUnstreamedChoicesAreCounted(t *testing.T) {
	const counts = `"usage":{"prompt_tokens":10,"completion_tokens":4},"timings":{"cache_n":2,"prompt_n":8,"prompt_ms":1,"predicted_n":4,"predicted_ms":2}}`
	const choice = `{"index":0,"finish_reason":"length","message":{"content":"a"}}`
	for _, c := range []struct {
		request, choices string
		output, covered  int64
	}{
		{`{"n":2}`, choice + "," + choice, -1, 1},
		{`{"n_cmpl":2}`, choice + "," + choice, -1, 1},
		{`{}`, choice + "," + choice, -1, 1},
		{`{}`, choice, 4, -1},
	} {
		o := exchange{request: c.request, kind: "application/json", headMs: 40, pieces: []timed{{40, `{"choices":[` + c.choices + `],` + counts}}}.run()
		wantInt(t, c.request+" output_tokens", o.Record.OutputTokens, c.output)
		wantInt(t, c.request+" covered", o.details().Covered, c.covered)
	}
}

// TestWorkOfSeveralCompletions: from the request alone, for the division of energy.
func TestWorkOfSeveralCompletions(t *testing.T) {
	for body, want := range map[string]bool{
		`{"n":2}`: true, `{"n":1}`: false, `{"prompt":"a"}`: false, `{"prompt":["a","b"]}`: true, `{"prompt":[1,2,3]}`: false, `{"prompt":["a"],"n_cmpl":3}`: true,
		`{"prompt":[[1,2],[3]]}`: true, `{"messages":[{"content":"n"},{"content":"m"}]}`: false, `{"prompt":[1,"a",2]}`: false,
	} {
		var m meter.Meter
		m.BeginRequest(meter.RequestHead{Method: "POST", Path: "/completion"})
		m.RequestBody([]byte(body))
		if got := m.Work().Several; got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}

// TestNativeStreamEnd: a client that leaves at "stop":true has had all; not before the last completion's.
func TestNativeStreamEnd(t *testing.T) {
	const output, stop = "data: {\"index\":%d,\"content\":\"x\",\"stop\":false,\"tokens_predicted\":1}\n\n", "data: {\"index\":%d,\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\",\"tokens_predicted\":1}\n\n"
	for _, c := range []struct {
		request string
		most    int // ends after which it is over; 0: that is never known
	}{
		{`{"prompt":"a"}`, 1}, {`{"prompt":["a","b"]}`, 2}, {`{"prompt":["a","b"],"n":2}`, 4}, {`{"prompt":["a`, 0},
	} {
		m := streaming("/completion")
		m.RequestBody([]byte(c.request))
		for i := range 4 {
			if p := m.ReplyBody(fmt.Appendf(nil, output, i), 6e6, 6e6); p.Done != (c.most > 0 && i >= c.most) {
				t.Errorf("%s: output of completion %d: done %v", c.request, i, p.Done)
			}
			if p := m.ReplyBody(fmt.Appendf(nil, stop, i), 7e6, 7e6); p.Done != (c.most > 0 && i+1 >= c.most) {
				t.Errorf("%s: end of completion %d: done %v", c.request, i, p.Done)
			}
		}
	}
}

// TestOperation: a dialect without a word in the conventions keeps its own.
func TestOperation(t *testing.T) {
	for dialect, want := range map[string]string{"": "", meter.DialectInfill: "text_completion", meter.DialectRerank: "rerank", "of another version": "of another version"} {
		if got := meter.Operation(dialect); got != want {
			t.Errorf("%q: %q, want %q", dialect, got, want)
		}
	}
}
