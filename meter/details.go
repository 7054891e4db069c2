package meter

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Details are facts about the request and the reply that have no column. A null Int, a null Float or an empty string is
// not known. DEFINITIONS.md explains each. A Details is not changed once a Record refers to it: several rows may share one.
type Details struct {
	// From the request.
	PathBytes       Int    // the path's length, where the row has its beginning only
	RequestedModel  string // where the reply names another
	Temperature     Float
	Seed            Int
	Completions     Int // n
	Prompts         Int // prompts in one request: elements of an array prompt
	Inputs          Int // texts to embed or tokenise, questions to decide, or items of a Responses input
	Documents       Int // to rerank
	Images, Audios  Int
	SessionSource   string // SessionInferred, or ""
	IncludeUsage    Int    // stream_options.include_usage, 0 or 1
	TimingsPerToken Int
	ReturnProgress  Int
	CachePrompt     Int
	RequestedSlot   Int // id_slot

	// From the reply.
	ServerBuild string // system_fingerprint: llama-server's build
	Slot        Int    // which of the server's slots served it
	Results     Int    // embeddings, documents ranked, or questions answered
	Tokens      Int    // tokens that /tokenize returned
	Counted     Int    // prompt tokens that a counting route returned
	Covered     Int    // completions that the counts cover, where fewer than the exchange had: no sum exists
	AtLeast     Int    // output tokens at least, where their number is not known

	// Where each phase came from: SourceHead, SourceServer, SourceProgress or SourceMarks; "" where it is null.
	QueueSource   string
	PrefillSource string
	DecodeSource  string
	NegativeQueue Int // 1: S lay before P1, so queue_us is null

	// Disputed names the counts (prompt, cached, output) that differ between two sources, joined by commas. The sources'
	// counts are set only where some differ.
	Disputed               string
	Usage, Timings, Native TokenCounts

	// From the meter.
	Unread            string // what could not be read, and why: Unread constants, joined by commas
	OutputReads       Int    // reads that brought output
	MaxOutputsPerRead Int
	Pings             Int    // SSE comments
	BadEvents         Int    // events that were not one complete JSON document; ignored otherwise
	Notices           Int    // outputs that were a gateway's words before the server's reply
	DisputedMarks     string // T1 and Tn, where the server's own times contradict them: "first", "last"
	ServerDecodeUs    Int    // the server's predicted_ms, where one of the two is disputed
	PromptCut         Int    // 1: far fewer prompt tokens than the session's earlier requests had for so many bytes
	UncountedOutputs  Int    // outputs beyond the 16th of one event: counted, but without gaps
	UntrackedOutputs  Int    // outputs of completions beyond the 64th: without gaps
	Abandoned         Int    // 1: the client left, and the server may have worked on for it; the joules are of all that it did
	GapsCut           Int    // gaps that were to be kept (RequestHead.KeepStamps) and had no room

	// From package cache.
	CacheWhy           string // the evidence of the verdict, or why there is none
	CachePredecessor   string // id of the request that it was compared with
	CacheMatchedBytes  Int    // with which both prompts begin
	CacheMatchedTokens Int
	CacheExpectedSigma Int    // standard error of cache_expected_tokens
	CacheOffset        Int    // where the first changed part differs, in bytes
	CacheTakenBy       string // id of the request that took the slot

	stored string // the text it was read from, possibly written by another version
}

// Where a phase came from.
const (
	SourceHead     = "head"     // the reply's head marks the slot's start
	SourceServer   = "server"   // the server's prompt_ms and predicted_ms
	SourceProgress = "progress" // the server's prefill progress
	SourceMarks    = "marks"    // our stamps
)

// TokenCounts are one source's numbers of tokens.
type TokenCounts struct{ Prompt, Cached, Output Int }

// Float is a number that may be absent. The zero value is null.
type Float struct {
	V     float64
	Valid bool
}

// detail is one member of the column's JSON object. ptr returns a *string, *Int or *Float.
type detail struct {
	key string
	ptr func(*Details) any
}

//nolint:gochecknoglobals // a constant table
var detailTable = [...]detail{
	{"path_bytes", func(d *Details) any { return &d.PathBytes }},
	{"requested_model", func(d *Details) any { return &d.RequestedModel }},
	{"temperature", func(d *Details) any { return &d.Temperature }},
	{"seed", func(d *Details) any { return &d.Seed }},
	{"n", func(d *Details) any { return &d.Completions }},
	{"prompts", func(d *Details) any { return &d.Prompts }},
	{"inputs", func(d *Details) any { return &d.Inputs }},
	{"documents", func(d *Details) any { return &d.Documents }},
	{"images", func(d *Details) any { return &d.Images }},
	{"audios", func(d *Details) any { return &d.Audios }},
	{"session_from", func(d *Details) any { return &d.SessionSource }},
	{"include_usage", func(d *Details) any { return &d.IncludeUsage }},
	{"timings_per_token", func(d *Details) any { return &d.TimingsPerToken }},
	{"return_progress", func(d *Details) any { return &d.ReturnProgress }},
	{"cache_prompt", func(d *Details) any { return &d.CachePrompt }},
	{"asked_slot", func(d *Details) any { return &d.RequestedSlot }},
	{"server_build", func(d *Details) any { return &d.ServerBuild }},
	{"slot", func(d *Details) any { return &d.Slot }},
	{"results", func(d *Details) any { return &d.Results }},
	{"tokens", func(d *Details) any { return &d.Tokens }},
	{"counted_tokens", func(d *Details) any { return &d.Counted }},
	{"covered_completions", func(d *Details) any { return &d.Covered }},
	{"output_at_least", func(d *Details) any { return &d.AtLeast }},
	{"queue_from", func(d *Details) any { return &d.QueueSource }},
	{"prefill_from", func(d *Details) any { return &d.PrefillSource }},
	{"decode_from", func(d *Details) any { return &d.DecodeSource }},
	{"negative_queue", func(d *Details) any { return &d.NegativeQueue }},
	{"disputed", func(d *Details) any { return &d.Disputed }},
	{"usage_prompt_tokens", func(d *Details) any { return &d.Usage.Prompt }},
	{"usage_cached_tokens", func(d *Details) any { return &d.Usage.Cached }},
	{"usage_output_tokens", func(d *Details) any { return &d.Usage.Output }},
	{"timings_prompt_tokens", func(d *Details) any { return &d.Timings.Prompt }},
	{"timings_cached_tokens", func(d *Details) any { return &d.Timings.Cached }},
	{"timings_output_tokens", func(d *Details) any { return &d.Timings.Output }},
	{"native_prompt_tokens", func(d *Details) any { return &d.Native.Prompt }},
	{"native_cached_tokens", func(d *Details) any { return &d.Native.Cached }},
	{"native_output_tokens", func(d *Details) any { return &d.Native.Output }},
	{"unread", func(d *Details) any { return &d.Unread }},
	{"output_reads", func(d *Details) any { return &d.OutputReads }},
	{"max_outputs_per_read", func(d *Details) any { return &d.MaxOutputsPerRead }},
	{"pings", func(d *Details) any { return &d.Pings }},
	{"bad_events", func(d *Details) any { return &d.BadEvents }},
	{"notices", func(d *Details) any { return &d.Notices }},
	{"disputed_marks", func(d *Details) any { return &d.DisputedMarks }},
	{"server_decode_us", func(d *Details) any { return &d.ServerDecodeUs }},
	{"prompt_cut", func(d *Details) any { return &d.PromptCut }},
	{"uncounted_outputs", func(d *Details) any { return &d.UncountedOutputs }},
	{"untracked_outputs", func(d *Details) any { return &d.UntrackedOutputs }},
	{"abandoned", func(d *Details) any { return &d.Abandoned }},
	{"gaps_cut", func(d *Details) any { return &d.GapsCut }},
	{"cache_why", func(d *Details) any { return &d.CacheWhy }},
	{"cache_predecessor", func(d *Details) any { return &d.CachePredecessor }},
	{"cache_matched_bytes", func(d *Details) any { return &d.CacheMatchedBytes }},
	{"cache_matched_tokens", func(d *Details) any { return &d.CacheMatchedTokens }},
	{"cache_expected_sigma", func(d *Details) any { return &d.CacheExpectedSigma }},
	{"cache_offset", func(d *Details) any { return &d.CacheOffset }},
	{"cache_taken_by", func(d *Details) any { return &d.CacheTakenBy }},
}

// AppendText appends the column's text: one JSON object without nulls.
func (d *Details) AppendText(b []byte) ([]byte, error) {
	if d.stored != "" {
		return append(b, d.stored...), nil
	}
	separator := byte('{')
	for _, m := range detailTable {
		field := m.ptr(d)
		if nullDetail(field) {
			continue
		}
		b = append(append(append(b, separator, '"'), m.key...), '"', ':')
		separator = ','
		switch p := field.(type) {
		case *Int:
			b = strconv.AppendInt(b, p.V, 10)
		case *Float:
			b = strconv.AppendFloat(b, p.V, 'g', -1, 64)
		case *string:
			b = appendJSONString(b, *p)
		}
	}
	if separator == '{' {
		b = append(b, '{')
	}
	return append(b, '}'), nil
}

func nullDetail(field any) bool {
	switch p := field.(type) {
	case *Int:
		return !p.Valid
	case *Float:
		return !p.Valid
	case *string:
		return *p == ""
	}
	return true
}

// Equal reports whether two rows' details have the same text.
func (d *Details) Equal(o *Details) bool {
	if d == nil || o == nil {
		return d == o
	}
	a, _ := d.MarshalText()
	b, _ := o.MarshalText()
	return string(a) == string(b)
}

// MarshalText returns the column's text. In a JSON document it is therefore a string, as every engine has it.
func (d *Details) MarshalText() ([]byte, error) { return d.AppendText(nil) }

// UnmarshalText reads a column's text. The text itself is kept, so that members which only another version knows survive
// when the row is written again.
func (d *Details) UnmarshalText(text []byte) error {
	*d = Details{stored: string(text)}
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return nil // the text is kept unread
	}
	for _, m := range detailTable {
		raw, ok := members[m.key]
		if !ok {
			continue
		}
		switch p := m.ptr(d).(type) { // a member of another type stays null
		case *Float:
			p.Valid = json.Unmarshal(raw, &p.V) == nil
		case *Int:
			if p.UnmarshalJSON(raw) != nil {
				*p = Int{}
			}
		case *string:
			if json.Unmarshal(raw, p) != nil {
				*p = ""
			}
		}
	}
	return nil
}

// Disputed returns the token counts (prompt, cached, output) that differ between two sources of the reply. Details has all
// sources' numbers, the columns the best source's.
func (r *Record) Disputed() []string {
	if r.Details == nil || r.Details.Disputed == "" {
		return nil
	}
	return strings.Split(r.Details.Disputed, ",")
}

// OutputAtLeast is a lower bound of the output tokens where their number is not known: what a stream had told or shown
// when it was cut, or the tokens of one completion of several.
func (r *Record) OutputAtLeast() Int {
	if r.Details == nil || r.OutputTokens.Valid {
		return Int{}
	}
	return r.Details.AtLeast
}

// disputedCounts names the token counts that differ between two sources.
func disputedCounts(u, t, n *Counts) (names []string) {
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

// nonZero is a number that is null when it is 0.
func nonZero(n int64) Int { return Int{V: n, Valid: n != 0} }

// appendJSONString appends a string as JSON. Nearly all are names that need no escape.
func appendJSONString(b []byte, v string) []byte {
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
