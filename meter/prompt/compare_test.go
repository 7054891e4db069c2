package prompt

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// talk builds requests of a session.
type talk struct {
	System   string
	Tools    []map[string]any
	Messages []map[string]any
	Extra    map[string]any
}

func newTalk() *talk {
	t := &talk{System: "You are a careful agent in a repository.\n" + strings.Repeat("Follow the rules of the house. ", 30)}
	for _, name := range []string{"read", "write", "list", "run"} {
		t.Tools = append(t.Tools, map[string]any{"type": "function", "function": map[string]any{"name": name, "description": strings.Repeat("It can "+name+" a file. ", 8)}})
	}
	return t
}

// turn adds a question, the agent's call and the tool's result.
func (s *talk) turn(n int) *talk {
	s.Messages = append(s.Messages,
		map[string]any{"role": "user", "content": fmt.Sprintf("Question %d: what is in the file number %d, and why?", n, n)},
		map[string]any{"role": "assistant", "content": fmt.Sprintf("I look into file %d.", n), "reasoning_content": strings.Repeat(fmt.Sprintf("thought %d ", n), 20)},
		map[string]any{"role": "tool", "tool_call_id": fmt.Sprint("c", n), "content": strings.Repeat(fmt.Sprintf("line of file %d; ", n), 30)})
	return s
}

func (s *talk) ask(text string) *talk {
	s.Messages = append(s.Messages, map[string]any{"role": "user", "content": text})
	return s
}

func (s *talk) body(t testing.TB) []byte {
	t.Helper()
	out := map[string]any{"messages": append([]map[string]any{{"role": "system", "content": s.System}}, s.Messages...), "tools": s.Tools}
	for k, v := range s.Extra {
		out[k] = v
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// session returns a talk of so many turns.
func session(turns int) *talk {
	s := newTalk()
	for i := range turns {
		s.turn(i)
	}
	return s
}

// changes are what clients do to a session's earlier prompt, with the cause that must be named.
//
//nolint:gochecknoglobals // of the tests
var changes = []struct {
	cause, part string
	what        string
	before, now func(s *talk)
}{
	{VolatileLine, "system", "counter", func(s *talk) { s.System = "request 17\n" + s.System }, func(s *talk) { s.System = "request 18\n" + s.System }},
	{VolatileLine, "system", "time", func(s *talk) { s.System += "\nIt is Monday, 2026-11-30 17:04." }, func(s *talk) { s.System += "\nIt is Monday, 2026-11-30 17:05." }},
	{VolatileLine, "system", "time", func(s *talk) { s.System += "\nThe time is 17:12." }, func(s *talk) { s.System += "\nThe time is 17:21." }},
	{VolatileLine, "system", "date", func(s *talk) { s.System += "\nToday is 30 Nov." }, func(s *talk) { s.System += "\nToday is 1 Dec." }},
	{VolatileLine, "system", "hash", func(s *talk) { s.System = "x-anthropic-billing-header: cch=36ee5;\n" + s.System }, func(s *talk) { s.System = "x-anthropic-billing-header: cch=0aaa9;\n" + s.System }},
	{VolatileLine, "system", "hash", func(s *talk) { s.System += "\nHEAD is 8f3a91c2" }, func(s *talk) { s.System += "\nHEAD is 1b7de004" }},
	{VolatileLine, "system", "path", func(s *talk) { s.System += "\ncwd: /tmp/a-x/work" }, func(s *talk) { s.System += "\ncwd: /tmp/b-yy/work" }},
	{VolatileLine, "tool 2", "id", func(s *talk) { describeTool(s, 1, "run id 7c1f0b88-aaaa-4bbb-8ccc-0123456789ab") }, func(s *talk) { describeTool(s, 1, "run id 90ee3c12-dddd-4eee-8fff-ba9876543210") }},
	{ToolsReordered, "tool 1", "", nil, func(s *talk) { slices.Reverse(s.Tools) }},
	{ToolsChanged, "tool 4", "", nil, func(s *talk) { s.Tools = s.Tools[:3] }},
	{ToolsChanged, "tool 1", "", nil, func(s *talk) { describeTool(s, 0, "now with more words") }},
	{SystemChanged, "system", "", nil, func(s *talk) { s.System = strings.Replace(s.System, "careful", "daring and quick", 1) }},
	{SettingsChanged, "settings", "", func(s *talk) { s.Extra = map[string]any{"reasoning_effort": "low"} }, func(s *talk) { s.Extra = map[string]any{"reasoning_effort": "high"} }},
	{HistoryEdited, "message 2 (user, text)", "", nil, func(s *talk) { s.Messages[0]["content"] = "Question nought: something else entirely was meant" }},
	{HistoryCompacted, "message 2 (user, text)", "", nil, func(s *talk) {
		s.Messages = append([]map[string]any{{"role": "user", "content": "Summary of what was said so far."}}, s.Messages[6:]...)
	}},
	{HistoryCompacted, "message 4 (tool, tool result)", "", nil, func(s *talk) { s.Messages[2]["content"] = "[old result cleared]" }},
	{ReasoningDropped, "message 3 (assistant, text)", "", nil, func(s *talk) { delete(s.Messages[1], "reasoning_content") }},
	{MessageInserted, "message 3 (user, text)", "", nil, func(s *talk) {
		s.Messages = slices.Insert(s.Messages, 1, map[string]any{"role": "user", "content": "By the way: the plan has changed a little."})
	}},
	{MessageMoved, "message 8 (user, text)", "", func(s *talk) { remind(s, 6) }, func(s *talk) { remind(s, 9) }},
	{MessageMoved, "message 8 (user, text)", "", func(s *talk) { s.Messages[6]["content"] = reminder + "\n" + s.Messages[6]["content"].(string) }, func(s *talk) {
		s.ask(reminder + "\nand now?")
	}},
	{ImageReencoded, "message 2 (user, image)", "", func(s *talk) { s.Messages[0]["content"] = image("AAAABBBBCCCC") }, func(s *talk) { s.Messages[0]["content"] = image("DDDDEEEEFFFF") }},
	{Reserialised, "message 3 (assistant, tool call)", "", func(s *talk) { call(s, `{"path":"a/b","line":12,"mode":"r"}`) }, func(s *talk) { call(s, `{"mode": "r", "line": 12, "path": "a/b"}`) }},
}

const reminder = "<system-reminder>Keep the list of tasks up to date, and do not mention this to the user.</system-reminder>"

func remind(s *talk, at int) {
	s.Messages = slices.Insert(s.Messages, at, map[string]any{"role": "user", "content": reminder})
}

func image(text string) []map[string]any {
	return []map[string]any{{"type": "image_url", "image_url": map[string]any{"url": "data:image/png;base64," + strings.Repeat(text, 100)}}, {"type": "text", "text": "what is on it?"}}
}

func call(s *talk, arguments string) {
	delete(s.Messages[1], "reasoning_content")
	s.Messages[1]["content"] = nil
	s.Messages[1]["tool_calls"] = []map[string]any{{"id": "c", "type": "function", "function": map[string]any{"name": "read", "arguments": arguments}}}
}

func describeTool(s *talk, i int, text string) {
	f := s.Tools[i]["function"].(map[string]any)
	f["description"] = f["description"].(string) + text
}

// TestChanges: each change is named, at its part, and what was there before counts as kept.
func TestChanges(t *testing.T) {
	for i, c := range changes {
		before, now := session(3), session(3).ask("And what follows from that for the next one?")
		if c.before != nil {
			c.before(before)
		}
		c.now(now)
		p, q := Parse(testKey, before.body(t), nil), Parse(testKey, now.body(t), nil)
		d := Compare(q, p, false)
		if d.Change.Cause != c.cause || c.what != d.Change.What || d.Name != c.part {
			t.Errorf("%d: %q of %q (%s), want %s of %s (%s)\n%s\n%s", i, d.Change.Cause, d.Name, d.Change.What, c.cause, c.part, c.what, d.Change.Before, d.Change.Now)
			continue
		}
		if d.Matched > d.Kept || d.Kept > q.Weight()+partWeight {
			t.Errorf("%d: matched %v, kept %v of %v", i, d.Matched, d.Kept, q.Weight())
		}
		// What was kept is the earlier prompt, as far as q has it: all but the last question and what q left out.
		least := 0.75 * math.Min(p.Weight(), q.Weight())
		if c.cause == HistoryCompacted {
			least = 0.5 * q.Weight()
		}
		if d.Kept < least {
			t.Errorf("%d, %s: kept %.0f, of %.0f before and %.0f now", i, c.cause, d.Kept, p.Weight(), q.Weight())
		}
		// Without texts the place is still known, and nothing is called volatile that was not seen to be.
		p.Text, q.Text = nil, nil
		if blind := Compare(q, p, false); blind.Part != d.Part || blind.Change.Cause == VolatileLine || blind.Change.Cause == Reserialised {
			t.Errorf("%d: without texts %q at part %d", i, blind.Change.Cause, blind.Part)
		}
	}
}

// TestCleanSessions: what grows at its end, goes on from an earlier place, or only begins alike is no change.
func TestCleanSessions(t *testing.T) {
	other := newTalk().ask("A sub-agent's task: list all the files of the house.")
	for name, now := range map[string]*talk{
		"grown":             session(3).turn(3).ask("next"),
		"the same again":    session(3),
		"a branch":          session(2).ask("Rather look into something else altogether, will you?"),
		"a regenerated end": session(2).turn(7),
		"a sub-agent":       other,
		"a short one":       newTalk().ask("hi"),
	} {
		d := Compare(Parse(testKey, now.body(t), nil), Parse(testKey, session(3).body(t), nil), false)
		if d.Change.Cause != "" {
			t.Errorf("%s: %+v", name, d.Change)
		}
		if d.Common == 0 || d.Matched == 0 {
			t.Errorf("%s: nothing in common", name)
		}
	}
	agent, helper := session(2), newTalk()
	remind(agent, 0)
	helper.System = "A helper."
	helper.ask(reminder).ask("Find a name for the talk.")
	if d := Compare(Parse(testKey, helper.body(t), nil), Parse(testKey, agent.body(t), nil), false); d.Change.Cause != "" {
		t.Errorf("a helper that is reminded as the agent is: %+v", d.Change)
	}
	a, b := other, newTalk().ask("A sub-agent's task: list all the files of the garden.")
	if d := Compare(Parse(testKey, a.body(t), nil), Parse(testKey, b.body(t), nil), false); d.Change.Cause != "" {
		t.Errorf("two sub-agents: %+v", d.Change)
	}
}

// TestOrderOfMembers: tools may stand behind the messages in a body, and come first in a prompt.
func TestOrderOfMembers(t *testing.T) {
	a := Parse(testKey, []byte(`{"tools":[{"name":"f"}],"messages":[{"role":"user","content":"q"}]}`), nil)
	b := Parse(testKey, []byte(`{ "messages": [ {"content": "q", "role": "user"} ], "model": "m", "tools": [ {"name": "f"} ] }`), nil)
	if d := Compare(a, b, false); !d.Whole || d.Common != a.Bytes {
		t.Errorf("%+v", d)
	}
}

// TestOrderOfTheTemplate: a template may put the system prompt before the tools, so a change in one of the two says little of
// the other.
func TestOrderOfTheTemplate(t *testing.T) {
	now := session(2)
	now.System = "request 18\n" + now.System
	before := session(2)
	before.System = "request 17\n" + before.System
	d := Compare(Parse(testKey, now.body(t), nil), Parse(testKey, before.body(t), nil), false)
	if d.Matched > 20 {
		t.Errorf("matched %v, where the template may begin with the system prompt", d.Matched)
	}
}

// TestNativePrompt: a prompt that is one text, with a line that changes at its beginning.
func TestNativePrompt(t *testing.T) {
	text := strings.Repeat("An old line of the conversation that stays. ", 50)
	body := func(date, tail string) []byte {
		b, _ := json.Marshal(map[string]any{"prompt": "Date: " + date + "\n" + text + tail})
		return b
	}
	q, p := Parse(testKey, body("2026-11-30 10:02", "and more at the end"), nil), Parse(testKey, body("2026-11-30 10:01", ""), nil)
	d := Compare(q, p, false)
	if d.Change.Cause != VolatileLine || d.Change.What != "time" || d.Offset != 21 || d.Kept < 0.9*p.Weight() {
		t.Errorf("%+v", d)
	}
}
