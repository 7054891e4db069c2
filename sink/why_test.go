package sink_test

import (
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

func TestWhy(t *testing.T) {
	began := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	s := meter.Some
	// request makes a stream that arrived so many ms after the beginning and waited and read its prompt so long.
	request := func(id, agent string, at, queue, prefill, prompt int64) *meter.Record {
		return &meter.Record{
			ID: id, Agent: agent, Upstream: "u", StartedAt: began.Add(time.Duration(at) * time.Millisecond), Stream: s(1), QueueUs: s(queue * 1000), PrefillUs: s(prefill * 1000),
			TTFTUs: s((queue + prefill + 100) * 1000), UpstreamTTFTUs: s((queue + prefill + 100) * 1000), DurationUs: s(60e6), PromptTokens: s(prompt), CachedTokens: s(0),
		}
	}
	rec := request("a", "claude-code", 0, 10_900, 1_100, 3000)
	cursor, opencode := request("b", "cursor", -500, 0, 6_500, 9000), request("c", "opencode", -400, 6_400, 4_900, 7000)
	later, elsewhere := request("d", "late", 11_000, 0, 5_000, 9000), request("e", "elsewhere", 0, 0, 9_000, 9000)
	elsewhere.Upstream = "v"
	near := []*meter.Record{later, rec, cursor, elsewhere, opencode}
	for _, c := range []struct {
		rec   *meter.Record
		near  []*meter.Record
		usual meter.Int
		want  string
	}{
		{rec, near, s(1_200_000), "first token after 12.1 s: 10.9 s behind 2 other prompts (cursor 9k, opencode 7k tokens), 1.1 s own prompt (3k tokens, 0 of them cached); usual for claude-code: 1.2 s"},
		{rec, []*meter.Record{cursor}, meter.Int{}, "first token after 12.1 s: 6.0 s behind another prompt (cursor 9k tokens), 4.9 s before the server began the prompt (slot, tokenising), 1.1 s own prompt (3k tokens, 0 of them cached)"},
		{rec, nil, meter.Int{}, "first token after 12.1 s: 10.9 s before the server began the prompt (slot, tokenising), 1.1 s own prompt (3k tokens, 0 of them cached)"},
		{&meter.Record{Stream: s(1), DurationUs: s(1)}, nil, meter.Int{}, ""},
		{&meter.Record{Stream: s(0), DurationUs: s(2_000_000), LoadUs: s(900_000), PrefillUs: s(100_000), DecodeUs: s(1_000_000)}, nil, s(1), "reply after 2.0 s: 900 ms loading the model, 100 ms own prompt, 1.0 s generation"},
	} {
		if got := sink.Why(c.rec, c.near, c.usual); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
