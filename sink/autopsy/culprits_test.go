package autopsy_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/meter/prompt"
)

// culprit is what a client does to its prompts in every turn, or from one turn on.
type culprit struct {
	name   string
	cause  string
	from   int // the first turn with a loss
	change func(a *agent, body object)
	// clean is the same client without the fault: its prompts have the same form, and do not change.
	clean func(a *agent, body object)
}

func messagesOf(body object) []object { return body["messages"].([]object) }

func systemText(body object, text string) {
	m := messagesOf(body)[0]
	m["content"] = text
}

func withReasoning(a *agent, body object, keep int) {
	for i, m := range messagesOf(body) {
		if m["role"] == "assistant" && i >= keep {
			m["reasoning_content"] = syllables(i+300, a.words)
		}
	}
}

//nolint:gochecknoglobals // a constant
var reminder = "<system-reminder> " + syllables(9, 60) + "</system-reminder>"

// compact replaces the history but for the last turns by a summary.
func compact(a *agent, body object, turns int) {
	m := messagesOf(body)
	kept := m[len(m)-2*turns-1:] // the last turns, and the new question
	body["messages"] = append([]object{m[0], {"role": "user", "content": "summary " + syllables(77, a.words)}}, kept...)
}

//nolint:gochecknoglobals // of the tests
var culprits = []culprit{
	{"a counter in the system prompt", prompt.VolatileLine, 1,
		func(a *agent, body object) {
			systemText(body, fmt.Sprintf("x-billing: cch=%05d;\n", a.turn+11)+a.system)
		},
		func(a *agent, body object) { systemText(body, "x-billing: cch=00000;\n"+a.system) }},
	{"the minute of the day", prompt.VolatileLine, 1,
		func(a *agent, body object) {
			systemText(body, fmt.Sprintf("Time: 2026-11-30 10:%02d\n", a.turn)+a.system)
		},
		func(a *agent, body object) { systemText(body, "Time: 2026-11-30 10:00\n"+a.system) }},
	{"a random id in a tool", prompt.VolatileLine, 1,
		func(a *agent, body object) {
			toolText(body, 1, fmt.Sprintf("run %08x4f2a", 0x9e3779b1*uint32(a.turn+1)))
		},
		func(a *agent, body object) { toolText(body, 1, "run 000000004f2a") }},
	{"tools reordered", prompt.ToolsReordered, 1,
		func(a *agent, body object) {
			tools := body["tools"].([]object)
			for range a.turn % 3 {
				tools[0], tools[1], tools[2] = tools[1], tools[2], tools[0]
			}
		}, nil},
	{"a moved reminder", prompt.MessageMoved, 1,
		func(a *agent, body object) {
			m := messagesOf(body)
			m[len(m)-1]["content"] = reminder + "\n" + m[len(m)-1]["content"].(string)
		},
		func(a *agent, body object) {
			m := messagesOf(body)
			m[1]["content"] = reminder + "\n" + m[1]["content"].(string)
		}},
	{"reasoning dropped", prompt.ReasoningDropped, 3,
		func(a *agent, body object) { withReasoning(a, body, a.turn/3*6) }, nil}, // without the fault it never sends any
	{"compaction", prompt.HistoryCompacted, 5,
		func(a *agent, body object) {
			if a.turn >= 5 {
				compact(a, body, a.turn-3)
			}
		}, nil},
	{"an edited early message", prompt.HistoryEdited, 4,
		func(a *agent, body object) {
			if a.turn >= 4 {
				messagesOf(body)[1]["content"] = "edited: " + syllables(4242, a.words)
			}
		}, nil},
	{"tool calls serialised anew", prompt.Reserialised, 2,
		func(a *agent, body object) { toolCall(body, a.turn) },
		func(a *agent, body object) { toolCall(body, 0) }},
}

func toolText(body object, i int, text string) {
	tools := body["tools"].([]object)
	f := object{}
	for k, v := range tools[i]["function"].(object) {
		f[k] = v
	}
	f["description"] = text + " " + f["description"].(string)
	tools[i] = object{"type": "function", "function": f}
}

// toolCall gives the first answer a call whose arguments are written in one way or in another.
func toolCall(body object, turn int) {
	m := messagesOf(body)
	if len(m) < 3 {
		return
	}
	arguments := `{"path":"ba/ce/di","line":12,"mode":"fo gu"}`
	if turn%2 == 0 {
		arguments = `{"mode": "fo gu", "path": "ba/ce/di", "line": 12}`
	}
	m[2]["tool_calls"] = []object{{"id": "call1", "type": "function", "function": object{"name": "tool1", "arguments": arguments}}}
	rest := append([]object{{"role": "tool", "tool_call_id": "call1", "content": syllables(5, 40)}}, m[3:]...)
	body["messages"] = append(m[:3:3], rest...)
}

func whole(t *testing.T) bool {
	t.Helper()
	return os.Getenv("WATTLINE_SOAK") != ""
}

// TestCulpritsSoak: ten sessions of nine turns, each with a client's fault, and the same sessions without it.
func TestCulpritsSoak(t *testing.T) {
	if !whole(t) {
		t.Skip("WATTLINE_SOAK=1 runs it; TestCulprits is a shorter one")
	}
	runCulprits(t, 9, 60)
}

// TestCulprits: each client's fault is named, at the turn in which it costs something, and costs what the server computed.
func TestCulprits(t *testing.T) { runCulprits(t, 6, 14) }

func runCulprits(t *testing.T, turns, words int) {
	b := newBench(t, cache.Facts{})
	for i, c := range culprits {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			clean := newAgent(b, fmt.Sprintf("clean%d", i), words)
			clean.change = c.clean
			faulty := newAgent(b, fmt.Sprintf("fault%d", i), words)
			faulty.change = c.change
			named := 0
			for turn := range turns {
				reuse, row := clean.step(), faulty.step()
				if reuse.CacheVerdict == cache.Client || reuse.CacheVerdict == cache.Server {
					t.Errorf("turn %d without the fault: %s", turn, say(reuse))
				}
				if turn == 0 {
					continue
				}
				loses := row.CachedTokens.V < row.CacheExpectedTokens.V*9/10
				if turn < c.from || !loses {
					if row.CacheVerdict == cache.Server || row.CacheVerdict == cache.Client && row.CacheCause != c.cause {
						t.Errorf("turn %d: %s", turn, say(row))
					}
					continue
				}
				if row.CacheVerdict != cache.Client || row.CacheCause != c.cause {
					t.Errorf("turn %d: %s, want client %s", turn, say(row), c.cause)
					continue
				}
				named++
				t.Logf("turn %d: %s; without the fault the server reused %d", turn, say(row), reuse.CachedTokens.V)
				if c.name == "compaction" { // the clean session is longer
					continue
				}
				within := 0.02*float64(reuse.CachedTokens.V) + float64(prompt.Block)*float64(row.PromptTokens.V)/float64(row.RequestBytes.V)
				if off := float64(row.CacheExpectedTokens.V - reuse.CachedTokens.V); off > within || off < -within {
					t.Errorf("turn %d: expected %d, and without the fault the server reused %d", turn, row.CacheExpectedTokens.V, reuse.CachedTokens.V)
				}
			}
			if named == 0 {
				t.Error("it cost nothing: the test is wrong")
			}
		})
	}
}

// say is a row's verdict in words.
func say(r *meter.Record) string {
	d := r.Details
	return strings.Join([]string{r.CacheVerdict, r.CacheCause, r.CachePart, fmt.Sprintf("prompt %d, reused %d, expected %d ± %d, matched %d, lost %d", r.PromptTokens.V, r.CachedTokens.V,
		r.CacheExpectedTokens.V, d.CacheExpectedSigma.V, d.CacheMatchedTokens.V, r.CacheLostTokens.V), d.CacheWhy}, ", ")
}
