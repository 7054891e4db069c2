package twin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/meter/prompt"
	"wattline/replay/trace"
)

// world is a server with a prompt cache, and the agents that use it: their rows and fingerprints are as wattline keeps them.
type world struct {
	t    *testing.T
	key  prompt.Key
	rng  *rand.Rand
	now  time.Time
	kept [][]string // tokens of earlier prompts with their replies
	rows []*meter.Record
	fps  [][]byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, key: prompt.NewKey([]byte("secret of the tests")), rng: rand.New(rand.NewPCG(1, 2)), now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
}

type object = map[string]any

// tokenize cuts a text into tokens of different lengths: words of prose have one for some five bytes, JSON one for two.
func tokenize(text string) (out []string) {
	for len(text) > 0 {
		n := 1
		if c := text[0]; c >= 'a' && c <= 'z' || c == ' ' {
			for n = 1; n < len(text) && n < 6 && text[n] >= 'a' && text[n] <= 'z'; n++ {
			}
		} else if len(text) > 1 && text[0] >= '0' && text[0] <= '9' {
			n = 2
		}
		out, text = append(out, text[:n]), text[n:]
	}
	return out
}

func (w *world) prose(words int) string {
	var b strings.Builder
	for range words {
		for range 2 + w.rng.IntN(8) {
			b.WriteByte(byte('a' + w.rng.IntN(26)))
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// render is a template: a body's tokens. Reasoning is left out of earlier messages.
func render(body object) (out []string) {
	for _, tool := range body["tools"].([]object) {
		text, _ := json.Marshal(tool)
		out = append(append(out, "<tool>"), tokenize(string(text))...)
	}
	for _, m := range body["messages"].([]object) {
		out = append(append(out, fmt.Sprintf("<%s>", m["role"])), tokenize(fmt.Sprint(m["content"]))...)
		if calls, ok := m["tool_calls"]; ok {
			text, _ := json.Marshal(calls)
			out = append(out, tokenize(string(text))...)
		}
	}
	return append(out, "<assistant>")
}

// ask sends a body; the model replies with a text, of which the last tokens of reasoning come first.
func (w *world) ask(session string, body object, reasoning, reply string) *meter.Record {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	tokens := render(body)
	cached := 0
	var details *meter.Details
	for i, k := range w.kept {
		if n := common(tokens, k); n > 0 && n >= cached {
			cached, details = n, &meter.Details{CachePredecessor: w.rows[i].ID}
		}
	}
	cached = min(cached, len(tokens)-1)
	out := append(tokenize(reasoning), tokenize(reply)...)
	w.kept = append(w.kept, append(append([]string{}, tokens...), out[:len(out)-1]...)) // the last one is not computed
	rec := &meter.Record{
		ID: fmt.Sprintf("01f00000-0000-7000-8000-%012d", len(w.rows)), StartedAt: w.now, Upstream: "http://10.1.2.3:8080", Model: "tiny", Dialect: "chat", Method: "POST",
		Status: meter.Some(200), Outcome: meter.OK, Session: session, Stream: meter.Some(1), PromptTokens: meter.Some(int64(len(tokens))),
		CachedTokens: meter.Some(int64(cached)), OutputTokens: meter.Some(int64(len(out))), DurationUs: meter.Some(2_000_000),
		TTFTUs: meter.Some(int64(50_000 + 100*(len(tokens)-cached))), DecodeUs: meter.Some(int64(10_000 * (len(out) - 1))), Tools: meter.Some(3),
		GPUUj: meter.Some(int64(1_000_000 + 20_000*len(out))), EnergyQuality: meter.EnergyMeasured, CacheVerdict: "hit", Details: details,
	}
	p := prompt.Parse(w.key, text, nil)
	w.rows, w.fps = append(w.rows, rec), append(w.fps, p.Append(nil))
	w.now = w.now.Add(5 * time.Second)
	return rec
}

// prompt is the stored fingerprint of a body.
func (w *world) prompt(body object) []byte {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return prompt.Parse(w.key, text, nil).Append(nil)
}

// agent is a session with tools and reasoning, whose messages grow.
type agent struct {
	w        *world
	session  string
	tools    []object
	messages []object
}

func (w *world) agent(session, system string, tools []object) *agent {
	return &agent{w: w, session: session, tools: tools, messages: []object{{"role": "system", "content": system}}}
}

func (w *world) tools(n int) (out []object) {
	for i := range n {
		out = append(out, object{"type": "function", "function": object{"name": fmt.Sprint("tool", i), "description": w.prose(60), "parameters": object{"type": "object", "properties": object{"path": object{"type": "string"}}}}})
	}
	return out
}

func (a *agent) turn() *meter.Record {
	w := a.w
	if last := a.messages[len(a.messages)-1]; last["tool_calls"] != nil {
		a.messages = append(a.messages, object{"role": "tool", "tool_call_id": "", "content": w.prose(10 + w.rng.IntN(150))})
	} else {
		a.messages = append(a.messages, object{"role": "user", "content": w.prose(10 + w.rng.IntN(60))})
	}
	reasoning := ""
	if w.rng.IntN(3) == 0 { // the template drops it in the next turn: the reply is not reused
		reasoning = w.prose(20)
	}
	reply := w.prose(5 + w.rng.IntN(40))
	if reasoning != "" && w.rng.IntN(2) == 0 { // an empty message leaves no trace in the next prompt
		reply = ""
	}
	rec := w.ask(a.session, object{"tools": a.tools, "messages": append([]object{}, a.messages...)}, reasoning, reply)
	m := object{"role": "assistant", "content": reply}
	if reply != "" && w.rng.IntN(2) == 0 {
		m["tool_calls"] = []object{{"type": "function", "function": object{"name": "tool1", "arguments": w.prose(6)}}}
	}
	a.messages = append(a.messages, m)
	return rec
}

func common[T comparable](a, b []T) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// export makes the trace of a world's rows.
func (w *world) export() (*trace.Trace, trace.Manifest) {
	w.t.Helper()
	x := &Exporter{MadeBy: "wattline test"}
	for i, rec := range w.rows {
		x.Add(rec, w.fps[i])
	}
	t, m, err := x.Trace(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return t, m
}

// token is one of a twin's tokens: of a block, or of a reply.
type token struct {
	block  uint32
	reply  int
	offset int
}

// play sends a trace to a server with a prompt cache as replay does, and returns how many tokens each prompt reused.
func play(t *testing.T, tr *trace.Trace) (cached []int) {
	t.Helper()
	var prompts, kept [][]token
	for i := range tr.Records {
		r := &tr.Records[i]
		var own, tokens []token
		for _, b := range r.Blocks {
			for o := range int(b.Tokens) {
				own = append(own, token{block: b.ID, offset: o})
			}
		}
		if len(own) != r.Input {
			t.Fatalf("record %d has blocks of %d tokens for a prompt of %d", i, len(own), r.Input)
		}
		tokens = own
		if r.Parent >= 0 && r.ReplyTokens.Valid {
			p := prompts[r.Parent]
			tokens = append([]token{}, p...)
			for o := range int(r.ReplyTokens.V) {
				tokens = append(tokens, token{reply: r.Parent + 1, offset: o})
			}
			tokens = append(tokens, own[min(len(tokens), len(own)):]...)
		}
		if len(tokens) != r.Input {
			t.Errorf("record %d: the twin's prompt has %d tokens, not %d", i, len(tokens), r.Input)
		}
		n := 0
		for _, k := range kept {
			n = max(n, common(tokens, k))
		}
		cached = append(cached, min(n, len(tokens)-1))
		prompts = append(prompts, tokens)
		with := append([]token{}, tokens...)
		for o := range r.Output - 1 {
			with = append(with, token{reply: i + 1, offset: o})
		}
		kept = append(kept, with)
	}
	return cached
}
