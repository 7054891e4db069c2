package client

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/metertest"
	"wattline/replay"
)

// captured is a reply whose bytes arrived in these pieces, one every 10 ms.
func captured(pieces ...string) *capture {
	c := &capture{}
	for i, p := range pieces {
		c.body = append(c.body, p...)
		c.marks = append(c.marks, mark{len(c.body), time.Duration(i+1) * 10 * time.Millisecond})
	}
	return c
}

const (
	role      = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"model":"/models/m.gguf"}` + "\n\n"
	empty     = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":""}}]}` + "\n\n"
	thought   = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"hm"}}]}` + "\n\n"
	word      = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"ba"}}]}` + "\n\n"
	call      = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}` + "\n\n"
	stop      = `data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}]}` + "\n\n"
	last      = `data: {"choices":[],"usage":{"completion_tokens":4,"prompt_tokens":12,"total_tokens":16},"timings":{"cache_n":2,"prompt_n":10,"prompt_ms":5.5,"predicted_n":4,"predicted_ms":7.25}}` + "\n\n"
	onlyTimes = `data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"timings":{"cache_n":0,"prompt_n":10,"prompt_ms":5.5,"predicted_n":3,"predicted_ms":7.25}}` + "\n\n"
	ping      = ": ping\n\n"
	done      = "data: [DONE]\n\n"
)

// parsed reads a stream that ended by its own framing.
func parsed(c *capture) *replay.Exchange {
	ex := &replay.Exchange{Status: http.StatusOK}
	parseReply(c, ex, chatPath, http.Header{"Content-Type": {"text/event-stream"}}, true)
	return ex
}

func us(ms int64) meter.Int { return meter.Some(ms * 1000) }

func TestParseStream(t *testing.T) {
	for name, c := range map[string]struct {
		in                            *capture
		ttft, ttfo, last              meter.Int
		events                        int
		tokens                        meter.Int
		source, finish, errorContains string
	}{
		"plain":                        {captured(role, word, word, stop+last, done), us(20), us(20), us(30), 2, meter.Some(4), "usage", "length", ""},
		"role and first word together": {captured(role+word, word, last+done), us(10), us(10), us(20), 2, meter.Some(4), "usage", "", ""},
		"pings first":                  {captured(ping, ping+role+word, last, done), us(20), us(20), us(20), 1, meter.Some(4), "usage", "", ""},
		"reasoning is output":          {captured(role, thought, thought, word, last+done), us(20), us(40), us(40), 3, meter.Some(4), "usage", "", ""},
		"a tool call is output":        {captured(role, call, last+done), us(20), us(20), us(20), 1, meter.Some(4), "usage", "", ""},
		"empty content is not":         {captured(role+empty, empty, word, last+done), us(30), us(30), us(30), 1, meter.Some(4), "usage", "", ""},
		"timings without usage":        {captured(word, word, onlyTimes, done), us(10), us(10), us(20), 2, meter.Some(3), "timings", "length", ""},
		"nothing generated":            {captured(role, last, done), meter.Int{}, meter.Int{}, meter.Int{}, 0, meter.Some(4), "usage", "", ""},
		"an error in the stream":       {captured(word, "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n"), us(10), us(10), us(10), 1, meter.Int{}, "", "", "out of memory"},
		"an event that is no JSON":     {captured(word, "data: {\n\n", done), us(10), us(10), us(10), 1, meter.Int{}, "", "", ""},
		"stop without [DONE]":          {captured(word, stop), us(10), us(10), us(10), 1, meter.Int{}, "", "length", ""},
		"CRLF and no space":            {captured(strings.NewReplacer("\n", "\r\n", "data: ", "data:").Replace(word + last + done)), us(10), us(10), us(10), 1, meter.Some(4), "usage", "", ""},
		"cut before an event's end":    {captured(word, strings.TrimSuffix(word, "\n\n")), us(10), us(10), us(10), 1, meter.Int{}, "", "", "without a finish reason"},
	} {
		ex := parsed(c.in)
		if ex.TTFTUs != c.ttft || ex.TTFOUs != c.ttfo || ex.LastUs != c.last || ex.Events != c.events || ex.OutputTokens != c.tokens || ex.TokenSource != c.source {
			t.Errorf("%s: ttft %v ttfo %v last %v events %d tokens %v by %q", name, ex.TTFTUs, ex.TTFOUs, ex.LastUs, ex.Events, ex.OutputTokens, ex.TokenSource)
		}
		if ex.FinishReason != c.finish || !strings.Contains(ex.Error, c.errorContains) || (ex.Error == "") != (c.errorContains == "") {
			t.Errorf("%s: finish %q, error %q", name, ex.FinishReason, ex.Error)
		}
	}
}

// However the bytes were cut, an event's time is that of the read that completed its blank line.
func TestStreamSplits(t *testing.T) {
	whole := role + ping + thought + word + empty + word + call + stop + last + done
	ends := map[string]int{}
	at := 0
	for _, p := range []string{role, ping, thought, word, empty, word, call} {
		at += len(p)
		ends[p] = at - 1 // the blank line
	}
	for cut := 1; cut < len(whole); cut++ {
		ex := parsed(captured(whole[:cut], whole[cut:]))
		time := func(end int) meter.Int {
			if end < cut {
				return us(10)
			}
			return us(20)
		}
		if ex.Events != 4 || ex.OutputTokens != meter.Some(4) || ex.Error != "" {
			t.Fatalf("cut at %d: %d events, %v tokens, error %q", cut, ex.Events, ex.OutputTokens, ex.Error)
		}
		// The newline that completes the event is at end: it has arrived with the first piece if end < cut.
		if ex.TTFTUs != time(ends[thought]) || ex.LastUs != time(ends[call]) {
			t.Fatalf("cut at %d: ttft %v, last %v; thought ends at %d, call at %d", cut, ex.TTFTUs, ex.LastUs, ends[thought], ends[call])
		}
	}
}

func TestGaps(t *testing.T) {
	pieces := []string{role}
	for range 11 {
		pieces = append(pieces, word)
	}
	c := captured(pieces...)
	c.marks[6].at += 5 * time.Millisecond // one event late, the next gap shorter
	ex := parsed(c)
	if ex.ITLP50Us != us(10) || ex.ITLMaxUs != us(15) || len(ex.GapsUs) != 10 || ex.ITLP99Us != us(15) || ex.ITLP90Us != us(10) {
		t.Errorf("p50 %v p90 %v p99 %v max %v of %v", ex.ITLP50Us, ex.ITLP90Us, ex.ITLP99Us, ex.ITLMaxUs, ex.GapsUs)
	}
}

// claims is what the client says of a reply, in the words of the meter's outcomes.
func claims(ex *replay.Exchange) metertest.Facts {
	f := metertest.Facts{Outcome: meter.OK, Outputs: int64(ex.Events), First: ex.TTFTUs.V, Answer: ex.TTFOUs.V, Last: ex.LastUs.V, Finish: ex.FinishReason, Output: ex.OutputTokens}
	if strings.HasPrefix(ex.Error, "an error in the stream: ") {
		f.Outcome = meter.UpstreamError
	} else if ex.Error != "" {
		f.Outcome = meter.Truncated
	}
	return f
}

// holdToReference compares the client with the second reader. Each byte is a read, a microsecond after the one before.
func holdToReference(t *testing.T, r metertest.Reply) {
	t.Helper()
	c := &capture{body: []byte(r.Body)}
	for i := range c.body {
		c.marks = append(c.marks, mark{i + 1, time.Duration(i+1) * time.Microsecond})
	}
	want := metertest.Reference(r)
	want.Prompt, want.Cached, want.Notices = meter.Int{}, meter.Int{}, 0 // the client tells prompt_n and cache_n as they are
	if got := claims(parsed(c)); got != want {
		t.Errorf("%q\nthe client:    %+v\nthe reference: %+v", r.Body, got, want)
	}
}

func ofChats(r metertest.Reply) bool {
	return (r.Path == "" || r.Path == metertest.Chat) && (r.ContentType == "" || r.ContentType == metertest.Stream)
}

// TestCorpus: the client reads the corpus of the meter's tests as the meter does.
func TestCorpus(t *testing.T) {
	n := 0
	for _, c := range metertest.Corpus() {
		if ofChats(c.Reply) {
			n++
			holdToReference(t, c.Reply)
		}
	}
	if n < 30 {
		t.Errorf("%d replies", n)
	}
	for seed := range uint64(1000) {
		if r := metertest.Generate(seed, int(seed%12)); ofChats(r) {
			holdToReference(t, r)
		}
	}
}

func FuzzClient(f *testing.F) {
	f.Add(uint64(1), byte(9))
	f.Fuzz(func(t *testing.T, seed uint64, events byte) {
		if r := metertest.Generate(seed, int(events%40)); ofChats(r) {
			holdToReference(t, r)
		}
	})
}
