package meter

import (
	"encoding/json"
	"strconv"
	"strings"
)

// details appends to the empty b the row's column of that name: what the request asked for and the reply told beside the
// columns, as one JSON object that holds only what was there. DEFINITIONS.md lists the keys.
func (f *Facts) details(b []byte) []byte {
	b = append(b, '{')
	text := func(key, v string) {
		if v != "" {
			b = appendText(appendKey(b, key), v)
		}
	}
	num := func(key string, v Int) {
		if v.Valid {
			b = strconv.AppendInt(appendKey(b, key), v.V, 10)
		}
	}
	some := func(key string, v int64) { num(key, Int{V: v, Valid: v != 0}) }
	if f.RequestedModel != f.ServedModel {
		text("requested_model", f.RequestedModel)
	}
	if f.Temperature.Valid {
		b = strconv.AppendFloat(appendKey(b, "temperature"), f.Temperature.V, 'g', -1, 64)
	}
	num("seed", f.Seed)
	num("n", f.Completions)
	num("prompts", f.Prompts)
	num("inputs", f.Inputs)
	num("documents", f.Documents)
	some("images", f.Images)
	some("audios", f.Audios)
	num("include_usage", f.IncludeUsage)
	num("timings_per_token", f.TimingsPerToken)
	num("return_progress", f.ReturnProgress)
	num("cache_prompt", f.CachePrompt)
	num("asked_slot", f.AskedSlot)
	text("server_build", f.Fingerprint)
	num("slot", f.SlotID)
	num("results", f.Results)
	num("tokens", f.Tokens)
	num("counted_tokens", f.Counted)
	num("covered_completions", f.Covered)
	num("output_at_least", f.AtLeast)
	text("queue_from", f.QueueSource)
	text("prefill_from", f.PrefillSource)
	text("decode_from", f.DecodeSource)
	some("negative_queue", truth(f.NegativeQueue))
	if f.Disagree {
		text(disputedKey, strings.Join(f.disputed(), ","))
		for _, s := range []struct {
			name string
			c    Counts
		}{{"usage", f.Usage}, {"timings", f.Timings}, {"native", f.Native}} {
			num(s.name+"_prompt_tokens", s.c.Prompt)
			num(s.name+"_cached_tokens", s.c.Cached)
			num(s.name+"_output_tokens", s.c.Output)
		}
	}
	some("output_reads", f.OutputReads)
	some("max_outputs_per_read", f.MaxOutputsRead)
	some("pings", f.Pings)
	some("bad_events", f.BadEvents)
	if len(b) == 1 {
		return nil
	}
	return append(b, '}')
}

// disputedKey is the key under which details name the counts that two sources tell differently.
const disputedKey = "disputed"

// disputed names the token counts that two sources tell differently.
func (f *Facts) disputed() (names []string) {
	u, t, n := &f.Usage, &f.Timings, &f.Native
	differ := func(a, b Int) bool { return a.Valid && b.Valid && a.V != b.V }
	for _, c := range [...]struct {
		name                   string
		usage, timings, native Int
	}{
		{"prompt", u.Prompt, t.Prompt, n.Prompt},
		{"cached", u.Cached, t.Cached, n.Cached},
		{"output", u.Output, t.Output, n.Output},
	} {
		if differ(c.usage, c.timings) || differ(c.usage, c.native) || differ(c.timings, c.native) {
			names = append(names, c.name)
		}
	}
	return names
}

// Disputed returns the token counts (prompt, cached, output) of which two of the reply's sources told
// different numbers. Details has them all; the columns have the best source's.
func (r *Record) Disputed() []string {
	if !strings.Contains(r.Details, `"`+disputedKey+`"`) {
		return nil // nearly always; no value can hold the key, as its quotes would be escaped
	}
	var d map[string]any
	if json.Unmarshal([]byte(r.Details), &d) != nil {
		return nil
	}
	names, _ := d[disputedKey].(string)
	return strings.FieldsFunc(names, func(c rune) bool { return c == ',' })
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// appendText appends a string as JSON. Nearly all are names without a character that JSON or HTML minds.
func appendText(b []byte, v string) []byte {
	for i := range len(v) {
		if c := v[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			q, err := json.Marshal(v)
			if err != nil {
				q = []byte(`""`) // a string always encodes
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, v...)
	return append(b, '"')
}

func appendKey(b []byte, key string) []byte {
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, key...)
	return append(b, '"', ':')
}
