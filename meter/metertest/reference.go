// Package metertest has what tests of the meter and of replay's client share: replies of every kind that was once read
// wrongly (Corpus), replies made at random (Generate), and a second reader (Reference), which takes a reply whole, with
// encoding/json, and applies the rules of meter/DEFINITIONS.md as they are written there, however long that takes.
package metertest

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"wattline/meter"
)

// Reply is a reply of status 200 that ended by its own framing.
type Reply struct {
	Path        string // default: chat completions
	ContentType string // default: an event stream
	Request     string
	Body        string
}

// Facts are what a reader made of a reply. The three places are numbers of bytes after which it was known.
type Facts struct {
	Outcome                meter.Outcome
	Outputs, Notices       int64
	First, Answer, Last    int64 // of T1, O1 and Tn; 0: never
	Finish                 string
	Prompt, Cached, Output meter.Int
}

type object = map[string]any

// event is one of a stream, or one line of JSON.
type event struct {
	end     int64 // bytes up to its end
	failing bool  // by its name
	text    string
	doc     object // nil: no JSON object
}

// Reference reads a streamed reply.
func Reference(r Reply) Facts {
	var all []event
	if strings.HasPrefix(r.ContentType, "application/x-ndjson") {
		all = splitLines(r.Body)
	} else {
		all = splitEvents(r.Body)
	}
	return judge(all)
}

// splitLines reads lines of JSON: a line's value is there with its last byte.
func splitLines(body string) (all []event) {
	at := int64(0)
	for line := range strings.Lines(body) {
		text := strings.TrimRight(line, "\r\n ")
		e := event{end: at + int64(len(text)), text: strings.TrimPrefix(text, "\uFEFF")}
		if json.Unmarshal([]byte(e.text), &e.doc) == nil && e.doc != nil {
			all = append(all, e)
		}
		at += int64(len(line))
	}
	return all
}

// splitEvents is the WHATWG's description of an event stream, with the two signs of an error.
func splitEvents(body string) (all []event) {
	at, e, has := 0, event{}, false
	for at < len(body) {
		if at == 0 && strings.HasPrefix(body, "\uFEFF") {
			at = len("\uFEFF")
			continue
		}
		length := strings.IndexAny(body[at:], "\r\n")
		if length < 0 {
			break
		}
		line := body[at : at+length]
		next := at + length + 1
		end := int64(next) // a CR ends the line, whether or not an LF follows
		if body[at+length] == '\r' && next < len(body) && body[next] == '\n' {
			next++
		}
		at = next
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if has || e.failing {
				e.end, e.text = end, strings.TrimSuffix(e.text, "\n")
				_ = json.Unmarshal([]byte(e.text), &e.doc)
				all = append(all, e)
			}
			e, has = event{}, false
		case name == "error":
			e.failing = true
			fallthrough
		case name == "data":
			e.text, has = e.text+value+"\n", true
		case name == "event" && value == "error":
			e.failing = true
		}
	}
	return all
}

// at follows a path of members.
func at(d any, path ...string) any {
	for _, p := range path {
		o, _ := d.(object)
		d = o[p]
	}
	return d
}

func filled(v any) bool { s, ok := v.(string); return ok && s != "" }

// list makes one value a list of it.
func list(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

// reasons reports reasoning text under any of its names.
func reasons(d any) bool {
	for _, name := range []string{"reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thinking_blocks"} {
		for _, v := range list(at(d, name)) {
			if filled(v) || filled(at(v, "text")) || filled(at(v, "summary")) || filled(at(v, "content")) || filled(at(v, "thinking")) {
				return true
			}
		}
	}
	return false
}

func calls(d any) bool {
	for _, c := range append(list(at(d, "tool_calls")), object{"function": at(d, "function_call")}) {
		if filled(at(c, "function", "name")) || filled(at(c, "function", "arguments")) {
			return true
		}
	}
	return false
}

// said reports what a message or a delta says.
func said(d any) (output, answer bool) {
	for _, part := range list(at(d, "content")) {
		answer = answer || filled(part) || filled(at(part, "text"))
		output = output || reasons(part)
	}
	answer = answer || filled(at(d, "refusal")) || calls(d)
	return output || answer || reasons(d), answer
}

// output is what one completion generated in an event.
type output struct {
	completion int
	answers    bool // not reasoning
}

// seen is what one event shows.
type seen struct {
	outputs  []output
	ends     []int // completions that it ends
	of       int   // the completion its numbers stand beside
	total    bool  // its list of choices is empty
	named    bool
	runs     bool // it belongs to a completion that runs
	numbered bool
	failed   bool
	done     bool
	finish   []string
	told     map[string]object // by source
}

func fails(v any) bool {
	_, isObject := v.(object)
	return isObject || filled(v)
}

func index(v any) int { f, _ := v.(float64); return int(f) }

// look reads one event.
func look(e event) (s seen) {
	d := e.doc
	kind, _ := d["type"].(string)
	s.named = filled(d["model"]) || d["id"] != nil || d["created"] != nil || d["object"] != nil || d["type"] != nil || filled(at(d, "message", "model")) ||
		filled(at(d, "response", "model"))
	if c, ok := d["content"].(string); ok {
		s.named = true
		if c != "" {
			s.generates(index(d["index"]), true)
		}
	}
	s.failed = e.failing || kind == "error" || d["object"] == "error"
	s.failed = s.failed || fails(d["error"])
	if kind == "" {
		s.of = index(d["index"]) // llama-server's own form; typed dialects number the blocks of one completion
	}
	s.finished(s.of, d["stop_type"], d["done_reason"], d["stop_reason"], at(d, "delta", "stop_reason"), at(d, "response", "incomplete_details", "reason"))
	status, _ := at(d, "response", "status").(string)
	if len(s.ends) == 0 && status != "" && status != "in_progress" && status != "queued" {
		s.finished(0, status)
		s.failed = s.failed || status == "failed"
	}
	if d["done"] == true || d["stop"] == true || kind == "message_stop" || kind == "response.completed" || kind == "transcript.text.done" {
		s.ends = append(s.ends, s.of)
	}
	s.done = d["done"] == true || kind == "message_stop" || strings.HasPrefix(kind, "response.") && len(s.ends) > 0
	s.numbered = d["index"] != nil
	s.look(d, kind)
	choices, _ := d["choices"].([]any)
	s.total = d["choices"] != nil && len(choices) == 0
	for _, c := range choices {
		i := index(at(c, "index"))
		s.numbered = s.numbered || at(c, "index") != nil
		output, answer := said(at(c, "delta"))
		output = output || reasons(c) || filled(at(c, "text"))
		answer = answer || filled(at(c, "text"))
		s.failed = s.failed || fails(at(c, "error"))
		if output {
			s.generates(i, answer)
		}
		s.finished(i, at(c, "finish_reason"))
		s.of = i
	}
	s.runs = s.named && (len(s.outputs) > 0 || len(s.ends) == 0 && (len(choices) > 0 || kind != ""))
	s.numbers(d, kind)
	return s
}

func (s *seen) generates(completion int, answers bool) {
	s.outputs = append(s.outputs, output{completion, answers})
}

func (s *seen) finished(i int, reasons ...any) {
	for _, r := range reasons {
		if word, _ := r.(string); word != "" {
			s.ends = append(s.ends, i)
			s.finish = append(s.finish, word)
			s.failed = s.failed || word == "error"
		}
	}
}

// look reads the output of the dialects without choices.
func (s *seen) look(d object, kind string) {
	delta := d["delta"]
	switch {
	case filled(delta):
		s.generates(0, !strings.HasPrefix(kind, "response.reasoning"))
	case filled(at(delta, "text")), filled(at(delta, "partial_json")):
		s.generates(0, !strings.HasPrefix(kind, "response.reasoning"))
	case reasons(delta):
		s.generates(0, false)
	}
	block, _ := at(d, "content_block", "type").(string)
	item, _ := at(d, "item", "type").(string)
	switch {
	case kind == "content_block_start" && strings.HasSuffix(block, "tool_use"), filled(at(d, "content_block", "text")),
		kind == "response.output_item.added" && strings.HasSuffix(item, "_call"):
		s.generates(0, true)
	case reasons(d["content_block"]):
		s.generates(0, false)
	}
	output, answer := said(d["message"]) // Ollama's
	answer = answer || filled(d["response"])
	if output || answer || filled(d["thinking"]) {
		s.generates(0, answer)
	}
}

// numbers collects what each source tells, under one name each.
func (s *seen) numbers(d object, kind string) {
	s.told = map[string]object{}
	put := func(source, name string, v any) {
		if f, ok := v.(float64); ok && f >= 0 {
			if s.told[source] == nil {
				s.told[source] = object{}
			}
			s.told[source][name] = f
		}
	}
	for _, u := range []any{d["usage"], at(d, "message", "usage"), at(d, "response", "usage")} {
		put("usage", "whole", at(u, "prompt_tokens"))
		put("usage", "new", at(u, "input_tokens"))
		put("usage", "read", at(u, "cache_read_input_tokens"))
		put("usage", "written", at(u, "cache_creation_input_tokens"))
		put("usage", "cached", at(u, "prompt_tokens_details", "cached_tokens"))
		put("usage", "cached", at(u, "input_tokens_details", "cached_tokens"))
		put("usage", "output", at(u, "completion_tokens"))
		if kind != "message_start" {
			put("usage", "output", at(u, "output_tokens"))
		}
	}
	if u := s.told["usage"]; u != nil && prompt(u) == meter.Some(0) && count(u, "output").V == 0 {
		delete(s.told, "usage")
	}
	put("timings", "new", at(d, "timings", "prompt_n"))
	put("timings", "read", at(d, "timings", "cache_n"))
	put("timings", "output", at(d, "timings", "predicted_n"))
	put("native", "whole", cmp.Or(d["tokens_evaluated"], d["prompt_eval_count"]))
	put("native", "output", cmp.Or(d["tokens_predicted"], d["eval_count"]))
}

func count(o object, name string) meter.Int {
	f, ok := o[name].(float64)
	return meter.Int{V: int64(f), Valid: ok}
}

// prompt is told whole, or as its new part with what was read from and written into the cache.
func prompt(o object) meter.Int {
	if whole := count(o, "whole"); whole.Valid {
		return whole
	}
	if part := count(o, "new"); part.Valid {
		return meter.Some(part.V + count(o, "read").V + count(o, "written").V)
	}
	return meter.Int{}
}

func cached(o object) meter.Int {
	if c := count(o, "cached"); c.Valid {
		return c
	}
	return count(o, "read")
}

// judge applies the rules to all events together.
func judge(all []event) (f Facts) {
	var looks []seen
	var ends []int64
	done := false
	for _, e := range all {
		if e.text == "[DONE]" {
			done = true
			continue
		}
		if e.doc == nil && !e.failing {
			continue
		}
		looks, ends = append(looks, look(e)), append(ends, e.end)
	}
	// Outputs before the first event of a running completion that tells who sent it are notices. Where none tells, they
	// are unless something among them is no notice.
	first := slices.IndexFunc(looks, func(s seen) bool { return s.runs })
	if first < 0 {
		first = 0
		if !slices.ContainsFunc(looks, func(s seen) bool {
			return slices.ContainsFunc(s.outputs, func(o output) bool { return o.answers }) || len(s.ends) > 0 || s.numbered && len(s.outputs) > 0
		}) {
			first = len(looks)
		}
	}
	failed := false
	began := map[int]bool{}
	ended := map[int]int{} // completions by the event that ended them
	var finish []string
	for i, s := range looks {
		failed, done = failed || s.failed, done || s.done
		finish = append(finish, s.finish...)
		for _, c := range s.ends {
			if _, ok := ended[c]; !ok {
				ended[c] = i
			}
		}
		for _, o := range s.outputs {
			if i < first {
				f.Notices++
				continue
			}
			f.Outputs++
			f.First, f.Last = cmp.Or(f.First, ends[i]), ends[i]
			began[o.completion] = true
			if o.answers {
				f.Answer = cmp.Or(f.Answer, ends[i])
			}
		}
	}
	var words []string
	for _, w := range finish {
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	f.Finish = strings.Join(words, ",")
	switch {
	case failed:
		f.Outcome = meter.UpstreamError
	case !done && len(ended) < max(1, len(began)):
		f.Outcome = meter.Truncated
	default:
		f.Outcome = meter.OK
	}
	for _, source := range []string{"native", "timings", "usage"} { // the best last
		sum := tell(looks, ended, source)
		if p := prompt(sum); p.Valid {
			f.Prompt = p
		}
		if c := cached(sum); c.Valid {
			f.Cached = c
		}
		if o := count(sum, "output"); o.Valid {
			f.Output = o
		}
	}
	return f
}

// tell finds what a source told in the end. "Who may overwrite whom" in DEFINITIONS.md, word by word.
func tell(looks []seen, ended map[int]int, source string) object {
	early := object{}
	finals := map[int]object{}
	var totals []object // blocks
	then := 0           // completions that had ended at the newest total
	for i, s := range looks {
		told := s.told[source]
		if told == nil {
			continue
		}
		endedBy := 0
		for _, at := range ended {
			if at <= i {
				endedBy++
			}
		}
		last, isEnded := ended[s.of]
		switch {
		case s.total:
			if len(totals) == 0 || then > 0 && endedBy > then {
				totals = append(totals, object{})
			}
			maps.Copy(totals[len(totals)-1], told)
			then = endedBy
		case isEnded && last <= i || len(s.ends) > 0:
			if finals[s.of] == nil {
				finals[s.of] = object{}
			}
			maps.Copy(finals[s.of], told)
		default:
			maps.Copy(early, told)
		}
	}
	parts := slices.Collect(maps.Values(finals))
	if len(totals) > 0 {
		parts = totals
	}
	sum := object{}
	for _, p := range parts {
		for name, v := range p {
			had, _ := sum[name].(float64)
			sum[name] = had + v.(float64)
		}
	}
	for name, v := range early {
		if _, ok := sum[name]; !ok && name != "output" {
			sum[name] = v
		}
	}
	return sum
}
