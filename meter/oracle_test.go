package meter_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"wattline/meter"
)

// The oracle reads a reply a second way: whole, with encoding/json, taking for each completion the last
// numbers that name it. What it finds must be what the meter found while the bytes passed.

// told holds what a reply says about itself.
type told struct {
	prompt, cached, output int64
	drafted, accepted      int64
	completions            int
	ended                  bool // every completion that began has its final numbers
	events                 int  // pieces of output in a stream
}

type document = map[string]any

func number(d document, path ...string) (int64, bool) {
	for _, p := range path[:len(path)-1] {
		d, _ = d[p].(document)
	}
	f, ok := d[path[len(path)-1]].(float64)
	return int64(f), ok
}

func sub(d document, path ...string) document {
	for _, p := range path {
		d, _ = d[p].(document)
	}
	return d
}

// documents splits a reply into its JSON documents.
func documents(t testing.TB, r *reply) (docs []document) {
	t.Helper()
	body := string(r.bytes())
	parts := []string{body}
	if strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		parts = nil
		for ev := range strings.SplitSeq(body, "\n\n") {
			for l := range strings.SplitSeq(ev, "\n") {
				if data, ok := strings.CutPrefix(l, "data: "); ok && data != "[DONE]" {
					parts = append(parts, data)
				}
			}
		}
		if !r.clean && len(parts) > 0 && !strings.HasSuffix(body, "\n\n") {
			parts = parts[:len(parts)-1] // cut in the middle
		}
	}
	for _, p := range parts {
		var v any
		if err := json.Unmarshal([]byte(p), &v); err != nil {
			t.Fatalf("%v in %.80q", err, p)
		}
		switch v := v.(type) {
		case document:
			docs = append(docs, v)
		case []any:
			for _, e := range v {
				docs = append(docs, e.(document))
			}
		}
	}
	return docs
}

// ask reads a reply whole.
func ask(t testing.TB, r *reply) told {
	last := map[int64]document{} // by completion: the last numbers that name it
	var ended []int64
	var out told
	var start document // Anthropic's message_start
	for _, d := range documents(t, r) {
		index, _ := number(d, "index")
		choices, isChat := d["choices"].([]any)
		finish := d["stop"] == true || d["stop_type"] != nil || d["type"] == "message_delta" || d["type"] == "message" || d["type"] == "transcript.text.done"
		if isChat && len(choices) > 0 {
			c := choices[0].(document)
			index, _ = number(c, "index")
			finish = c["finish_reason"] != nil
		} else if isChat && len(ended) > 0 {
			index, finish = ended[len(ended)-1], true
		}
		if sub(d, "message")["usage"] != nil {
			start = sub(d, "message", "usage")
			continue
		}
		if d["type"] == "message_delta" || strings.HasPrefix(asString(d["type"]), "content_block") {
			index = 0
		}
		if d["object"] == "response" || d["type"] == "response.completed" {
			finish = true
		}
		if finish {
			last[index] = d
			ended = append(ended, index)
		}
		if generatedIn(d) {
			out.events++
		}
	}
	slices.Sort(ended)
	out.completions = len(slices.Compact(ended))
	for _, d := range last {
		out.add(d, start)
		out.ended = out.ended || sub(d, "timings") != nil || sub(d, "usage") != nil || sub(d, "response", "usage") != nil || d["tokens_predicted"] != nil
	}
	return out
}

func asString(v any) string { s, _ := v.(string); return s }

// add sums one completion's last numbers: timings where it has them, usage otherwise.
func (o *told) add(d, start document) {
	if t := sub(d, "timings"); t != nil {
		n, _ := number(t, "prompt_n")
		c, _ := number(t, "cache_n")
		p, _ := number(t, "predicted_n")
		o.prompt, o.cached, o.output = o.prompt+n+c, o.cached+c, o.output+p
		dn, _ := number(t, "draft_n")
		da, _ := number(t, "draft_n_accepted")
		o.drafted, o.accepted = o.drafted+dn, o.accepted+da
		return
	}
	u := sub(d, "usage")
	if u == nil {
		u = sub(d, "response", "usage")
	}
	for _, names := range [][]string{{"prompt_tokens"}, {"input_tokens"}} {
		n, _ := number(u, names...)
		o.prompt += n
	}
	if u["input_tokens"] != nil {
		delete(start, "input_tokens") // told once more at the end; Ollama only guesses it at the start
	}
	if start == nil && u["cache_read_input_tokens"] != nil {
		start = u
		o.prompt = 0
	}
	in, _ := number(start, "input_tokens")
	read, _ := number(start, "cache_read_input_tokens")
	o.prompt, o.cached = o.prompt+in+read, o.cached+read
	c1, _ := number(u, "prompt_tokens_details", "cached_tokens")
	c2, _ := number(u, "input_tokens_details", "cached_tokens")
	o.cached += c1 + c2
	for _, name := range []string{"completion_tokens", "output_tokens"} {
		n, _ := number(u, name)
		o.output += n
	}
}

// generatedIn says whether a stream's event holds generated output.
func generatedIn(d document) bool {
	if choices, _ := d["choices"].([]any); len(choices) > 0 {
		c := choices[0].(document)
		delta := sub(c, "delta")
		return asString(delta["content"]) != "" || asString(delta["reasoning_content"]) != "" || asString(delta["reasoning"]) != "" || delta["tool_calls"] != nil || asString(c["text"]) != ""
	}
	delta := sub(d, "delta")
	return asString(d["content"]) != "" || asString(d["delta"]) != "" ||
		asString(delta["text"]) != "" || asString(delta["thinking"]) != "" || asString(delta["partial_json"]) != "" ||
		sub(d, "content_block")["type"] == "tool_use" ||
		d["type"] == "response.output_item.added" && sub(d, "item")["type"] == "function_call"
}

// checkCounts demands that the record says what the reply says.
func checkCounts(t testing.TB, tr *transcript, r *reply, o outcome) {
	t.Helper()
	rec := o.Record
	if r.status >= 400 {
		if rec.Error == "" || rec.OutputTokens.Valid || rec.PromptTokens.Valid {
			t.Errorf("%s: status %d: error %q, tokens %v of %v", tr.Name, r.status, rec.Error, rec.OutputTokens, rec.PromptTokens)
		}
		return
	}
	if rec.Dialect == "" || strings.HasPrefix(rec.Dialect, meter.DialectCount) || rec.Dialect == meter.DialectTokenize {
		if rec.OutputTokens.Valid || rec.PromptTokens.Valid {
			t.Errorf("%s: tokens in a row that generated none", tr.Name)
		}
		return
	}
	if rec.PromptTokens == meter.Some(0) {
		t.Errorf("%s: a prompt of no tokens", tr.Name)
	}
	want := ask(t, r)
	if rec.Stream.V == 1 && rec.OutputEvents != meter.Some(int64(want.events)) {
		t.Errorf("%s: output_events %v, the reply has %d", tr.Name, rec.OutputEvents, want.events)
	}
	if !want.ended || o.details().Covered.Valid {
		if rec.OutputTokens.Valid {
			t.Errorf("%s: output_tokens %v although the reply tells no whole count", tr.Name, rec.OutputTokens)
		}
		return
	}
	equal := func(column string, got meter.Int, want int64) {
		if got.V != want {
			t.Errorf("%s: %s %v, the reply says %d", tr.Name, column, got, want)
		}
	}
	equal("prompt_tokens", rec.PromptTokens, want.prompt)
	equal("cached_tokens", rec.CachedTokens, want.cached)
	equal("output_tokens", rec.OutputTokens, want.output)
	equal("draft_tokens", rec.DraftTokens, want.drafted)
	equal("draft_accepted_tokens", rec.DraftAcceptedTokens, want.accepted)
	if o.disputed() {
		t.Errorf("%s: sources disagree: %+v", tr.Name, o.Observations)
	}
	if rec.Stream.V == 1 && rec.OutputEvents.V > rec.OutputTokens.V {
		t.Errorf("%s: %d events of output, %d tokens: not a lower bound", tr.Name, rec.OutputEvents.V, rec.OutputTokens.V)
	}
}
