package meter_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-faster/jx"

	"wattline/meter"
	"wattline/meter/metertest"
)

// eventsOf returns the events of a captured stream, each with its blank line.
func eventsOf(t testing.TB, name string) [][]byte {
	t.Helper()
	all := loadTranscripts(t)
	i := slices.IndexFunc(all, func(tr *transcript) bool { return tr.Name == name })
	if i < 0 {
		t.Fatalf("no transcript %s", name)
	}
	r := all[i].reply(t)
	return bytes.SplitAfter(r.bytes(), []byte("\n\n"))
}

// The two events that matter: the one that every token brings, here with several texts as they were
// captured, and the one that ends a stream.
func tokenEvents(t testing.TB) [][]byte { return eventsOf(t, "llama-server/chat_stream")[1:9] }
func finalEvent(t testing.TB) []byte {
	events := eventsOf(t, "llama-server/chat_stream_usage")
	return events[len(events)-3]
}

// streaming is a meter in the middle of a stream.
func streaming(path string) *meter.Meter {
	var m meter.Meter
	m.BeginRequest(meter.RequestHead{Method: http.MethodPost, Path: path})
	m.BeginReply(meter.ReplyHead{Status: 200, At: 1, Header: func(name string) []byte {
		if name == "Content-Type" {
			return []byte("text/event-stream")
		}
		return nil
	}})
	return &m
}

// TestNoAllocationPerEvent: whatever the event, the meter allocates nothing once it has seen a stream.
func TestNoAllocationPerEvent(t *testing.T) {
	for _, tr := range loadTranscripts(t) {
		r := tr.reply(t)
		if !strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
			continue
		}
		m := streaming(pathOf(tr.Path))
		body, now := r.bytes(), int64(1)
		m.ReplyBody(body, now, now)
		m.ReplyBody(body, now+1e6, now+1e6) // the first gap makes the sketch
		if n := testing.AllocsPerRun(20, func() {
			for rest := body; len(rest) > 0; {
				n := min(len(rest), 1000)
				now += 1e6
				m.ReplyBody(rest[:n], now, now+1e4)
				rest = rest[n:]
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for its events", tr.Name, n)
		}
	}
}

// TestFewAllocationsPerExchange bounds what a whole exchange costs with a Meter that is used again: the
// strings of its row.
func TestFewAllocationsPerExchange(t *testing.T) {
	all := loadTranscripts(t)
	tr := all[slices.IndexFunc(all, func(tr *transcript) bool { return tr.Name == "llama-server/chat_stream" })]
	r := tr.reply(t)
	var m meter.Meter
	var rec meter.Record
	head := meter.RequestHead{Method: http.MethodPost, Path: chat}
	reply := meter.ReplyHead{Status: 200, Header: func(name string) []byte {
		if name == "Content-Type" {
			return []byte("text/event-stream")
		}
		return nil
	}}
	body, request := r.bytes(), []byte(tr.Body)
	run := func() {
		m.BeginRequest(head)
		m.RequestBody(request)
		m.BeginReply(reply)
		m.ReplyBody(body, 5e6, 6e6)
		rec = meter.Record{}
		m.Fill(&rec, meter.Marks{P0: 1, P1: 2, H: 3, E: 4}, true)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 20 {
		t.Errorf("%v allocations an exchange, want at most 20", n)
	}
	if !rec.OutputTokens.Valid {
		t.Error("nothing was metered")
	}
}

// The events of one completion, those of a native stream, which count, and the last of a stream.
// cpu-ns/op is the figure to look at on a machine that does other things too.
func BenchmarkTokenEvent(b *testing.B) { benchmarkEvents(b, tokenEvents(b)...) }
func BenchmarkNativeTokenEvent(b *testing.B) {
	benchmarkEvents(b, eventsOf(b, "llama-server/native_stream")[:5]...)
}
func BenchmarkFinalEvent(b *testing.B) { benchmarkEvents(b, finalEvent(b)) }

func benchmarkEvents(b *testing.B, events ...[]byte) {
	m := streaming(chat)
	now, i := int64(1), 0
	b.SetBytes(int64(len(events[0])))
	b.ReportAllocs()
	began := metertest.CPUTime()
	for b.Loop() {
		now += 1e7
		if i++; i == len(events) {
			i = 0
		}
		m.ReplyBody(events[i], now, now+2e4)
	}
	reportCPU(b, began)
}

func reportCPU(b *testing.B, began time.Duration) {
	if spent := metertest.CPUTime() - began; spent > 0 {
		b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	}
}

// TestTokenEventCost: a token event costs at most 0.22 of what encoding/json needs for its JSON alone. Each round
// measures both, in CPU time, and the median of the rounds counts: a slow or busy machine slows both.
func TestTokenEventCost(t *testing.T) {
	if metertest.CPUTime() == 0 {
		t.Skip("this system does not tell the CPU time of a process")
	}
	events, m, now := tokenEvents(t), streaming(chat), int64(1)
	data := bytes.TrimSpace(bytes.TrimPrefix(events[1], []byte("data: ")))
	const each, rounds = 5_000, 41
	limit := 0.22
	if raceDetector {
		limit = 1 // it instruments every access, and ours are many and small
	}
	ratios := make([]float64, 0, rounds)
	for range rounds {
		began := metertest.CPUTime()
		for i := range each {
			now += 1e7
			m.ReplyBody(events[i%len(events)], now, now+2e4)
		}
		ours := metertest.CPUTime() - began
		began = metertest.CPUTime()
		for range each {
			var e jsonEvent
			if err := json.Unmarshal(data, &e); err != nil {
				t.Fatal(err)
			}
		}
		ratios = append(ratios, float64(ours)/float64(metertest.CPUTime()-began))
	}
	slices.Sort(ratios)
	t.Logf("a token event costs %.3f of encoding/json: median of %d rounds, from %.3f to %.3f", ratios[rounds/2], rounds, ratios[0], ratios[rounds-1])
	if ratios[rounds/2] > limit {
		t.Errorf("a token event costs %.3f of what encoding/json needs, the aim is %v", ratios[rounds/2], limit)
	}
}

// jsonEvent tells encoding/json the same members.
type jsonEvent struct {
	Choices []struct {
		FinishReason *string `json:"finish_reason"`
		Index        int     `json:"index"`
		Delta        struct {
			Content          *string `json:"content"`
			ReasoningContent *string `json:"reasoning_content"`
		} `json:"delta"`
	} `json:"choices"`
	Model string `json:"model"`
	Usage *struct {
		PromptTokens     int64 `json:"prompt_tokens"`
		CompletionTokens int64 `json:"completion_tokens"`
		Details          struct {
			CachedTokens int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Timings *struct {
		CacheN      int64   `json:"cache_n"`
		PromptN     int64   `json:"prompt_n"`
		PromptMs    float64 `json:"prompt_ms"`
		PredictedN  int64   `json:"predicted_n"`
		PredictedMs float64 `json:"predicted_ms"`
	} `json:"timings"`
}

func BenchmarkTokenEventEncodingJSON(b *testing.B) { benchmarkJSON(b, tokenEvents(b)[1]) }
func BenchmarkFinalEventEncodingJSON(b *testing.B) { benchmarkJSON(b, finalEvent(b)) }

// benchmarkJSON does the JSON part alone, on data already framed.
func benchmarkJSON(b *testing.B, event []byte) {
	data := bytes.TrimSpace(bytes.TrimPrefix(event, []byte("data: ")))
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	began := metertest.CPUTime()
	for b.Loop() {
		var e jsonEvent
		if err := json.Unmarshal(data, &e); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, began)
}

// BenchmarkTokenEventJX finds content and model alone with the fastest library we know, on data already
// framed and whole.
func BenchmarkTokenEventJX(b *testing.B) {
	data := bytes.TrimSpace(bytes.TrimPrefix(tokenEvents(b)[1], []byte("data: ")))
	var d jx.Decoder
	found := 0
	text := func(d *jx.Decoder) error {
		s, err := d.StrBytes()
		found += len(s)
		return err
	}
	within := func(name string, then func(*jx.Decoder) error) func(*jx.Decoder, []byte) error {
		return func(d *jx.Decoder, key []byte) error {
			if string(key) == name {
				return then(d)
			}
			return d.Skip()
		}
	}
	content := within("content", text)
	delta := within("delta", func(d *jx.Decoder) error { return d.ObjBytes(content) })
	choice := func(d *jx.Decoder) error { return d.ObjBytes(delta) }
	document := func(d *jx.Decoder, key []byte) error {
		switch string(key) {
		case "choices":
			return d.Arr(choice)
		case "model":
			return text(d)
		}
		return d.Skip()
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	began := metertest.CPUTime()
	for b.Loop() {
		d.ResetBytes(data)
		if err := d.ObjBytes(document); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, began)
}

// BenchmarkRequestImage is a request with a megabyte of base64.
func BenchmarkRequestImage(b *testing.B) {
	body := []byte(`{"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0K", 128<<10) + `"}}]}],"model":"m"}`)
	var m meter.Meter
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		m.BeginRequest(meter.RequestHead{Method: http.MethodPost, Path: chat})
		m.RequestBody(body)
	}
}
