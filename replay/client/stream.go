package client

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// event holds the fields read from one chat completion event.
type event struct {
	Model   string `json:"model"`
	Choices []struct {
		FinishReason *string `json:"finish_reason"`
		Delta        struct {
			Content   *string           `json:"content"`
			Reasoning *string           `json:"reasoning_content"`
			ToolCalls []json.RawMessage `json:"tool_calls"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *struct {
		CompletionTokens int64 `json:"completion_tokens"`
	} `json:"usage"`
	Timings *struct {
		CacheN      *int64  `json:"cache_n"`
		PromptN     int64   `json:"prompt_n"`
		PromptMs    float64 `json:"prompt_ms"`
		PredictedN  int64   `json:"predicted_n"`
		PredictedMs float64 `json:"predicted_ms"`
	} `json:"timings"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// output reports whether the event carries generated output, and whether some of it is not reasoning.
func (e *event) output() (any, answer bool) {
	for _, c := range e.Choices {
		d := c.Delta
		answer = answer || d.Content != nil && *d.Content != "" || len(d.ToolCalls) > 0
		any = any || d.Reasoning != nil && *d.Reasoning != ""
	}
	return any || answer, answer
}

// parseStream parses a whole stream after its end. An event's time is that of the read that completed
// its line.
func parseStream(c *capture, ex *replay.Exchange) {
	var outputs []time.Duration
	next := 0 // the first mark that may cover the line
	for from := 0; from < len(c.body); {
		length := bytes.IndexByte(c.body[from:], '\n')
		if length < 0 { // a line that the end of the stream cut is none
			break
		}
		line := bytes.TrimRight(c.body[from:from+length+1], "\r\n")
		from += length + 1
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok { // a comment ping, an event's name, or the blank line between events
			continue
		}
		for next < len(c.marks)-1 && c.marks[next].end < from {
			next++
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			continue
		}
		var e event
		if err := json.Unmarshal(data, &e); err != nil {
			ex.Error = "an event is no JSON: " + err.Error()
			continue
		}
		if take(&e, c.marks[next].at, ex) {
			outputs = append(outputs, c.marks[next].at)
		}
	}
	ex.Events = len(outputs)
	gaps(outputs, ex)
}

// take records one event, and reports whether it carried output.
func take(e *event, at time.Duration, ex *replay.Exchange) bool {
	us := meter.Some(at.Microseconds())
	any, answer := e.output()
	if any {
		if !ex.TTFTUs.Valid {
			ex.TTFTUs = us
		}
		ex.LastUs = us
	}
	if answer && !ex.TTFOUs.Valid {
		ex.TTFOUs = us
	}
	if e.Model != "" {
		ex.Model = baseName(e.Model)
	}
	for _, c := range e.Choices {
		if c.FinishReason != nil && *c.FinishReason != "" {
			ex.FinishReason = *c.FinishReason
		}
	}
	if e.Usage != nil {
		ex.OutputTokens, ex.TokenSource = meter.Some(e.Usage.CompletionTokens), meter.TokensFromUsage
	}
	if t := e.Timings; t != nil {
		ex.PromptN, ex.PromptMs, ex.PredictedMs = meter.Some(t.PromptN), replay.Some(t.PromptMs), replay.Some(t.PredictedMs)
		if t.CacheN != nil {
			ex.CacheN = meter.Some(*t.CacheN)
		}
		if !ex.OutputTokens.Valid {
			ex.OutputTokens, ex.TokenSource = meter.Some(t.PredictedN), meter.TokensFromTimings
		}
	}
	if e.Error != nil {
		ex.Error = "an error in the stream: " + e.Error.Message
	}
	return any
}

// gaps computes the inter-token times.
func gaps(outputs []time.Duration, ex *replay.Exchange) {
	if len(outputs) < 2 {
		return
	}
	ex.GapsUs = make([]int64, len(outputs)-1)
	for i := range ex.GapsUs {
		ex.GapsUs[i] = (outputs[i+1] - outputs[i]).Microseconds()
	}
	sorted := slices.Sorted(slices.Values(ex.GapsUs))
	at := func(p float64) meter.Int { return meter.Some(sorted[replay.Rank(p, len(sorted))]) }
	ex.ITLP50Us, ex.ITLP90Us, ex.ITLP99Us = at(0.50), at(0.90), at(0.99)
	ex.ITLMaxUs = meter.Some(sorted[len(sorted)-1])
}
