package cache

import (
	"encoding/json"
	"strings"
	"testing"

	"wattline/meter"
)

// told is a request of messages of users and the agent in turn, each as it is.
func told(system string, messages ...string) []byte {
	list := []map[string]string{{"role": "system", "content": system + strings.Repeat(" The rules of the house are kept.", 40)}}
	for i, m := range messages {
		list = append(list, map[string]string{"role": []string{"user", "assistant"}[i%2], "content": m})
	}
	b, _ := json.Marshal(map[string]any{"messages": list})
	return b
}

func text(word string, tokens int) string { return strings.Repeat(word, 4*tokens)[:4*tokens-16] }

func said(n int64) func(*Request) { return func(q *Request) { q.OutputTokens = meter.Some(n) } }

// TestReply: the reply that comes back is expected where the shared prompt reaches the earlier one's end, and nowhere else.
func TestReply(t *testing.T) {
	u1, a1, u2, a2, u3 := text("question one ", 100), text("answer one ", 400), text("question two ", 100), text("answer two ", 400), text("third question ", 100)
	edited := text("edited by hand ", 400)
	earlier := told("a", u1, a1, u2)
	n := tokens(earlier)
	upTo := func(messages ...string) int64 { return tokens(told("a", messages...)) }
	half := u2[:200] + text("other ", 50)
	for _, c := range []struct {
		name    string
		earlier []byte
		said    int64
		now     []byte
		verdict string
		want    int64 // expected tokens
	}{
		{"it came back", earlier, 400, told("a", u1, a1, u2, a2, u3), Server, n + 400},
		{"it came back behind a change", earlier, 400, told("b", u1, a1, u2, a2, u3), Client, n + 400},
		{"it came back behind another first question", earlier, 400, told("a", text("by another one ", 100), a1, u2, a2, u3), Client, n + 400},
		{"the half of it came back", earlier, 800, told("a", u1, a1, u2, a2, u3), Server, n + 200},
		{"a tenth less came back", earlier, 440, told("a", u1, a1, u2, a2, u3), Server, n + 400},
		{"an earlier answer was edited", earlier, 400, told("a", u1, edited, u3), Server, upTo(u1)},
		{"the last question was edited", earlier, 400, told("a", u1, a1, half, a2, u3), Server, upTo(u1, a1) + 50},
		{"the last question was edited, and the system prompt", earlier, 400, told("b", u1, a1, half, a2, u3), Client, n},
		{"no answer came back", earlier, 20, append(append([]byte{}, earlier[:len(earlier)-2]...), `,{"role":"user","content":"`+u3+`"}]}`...), Server, n},
		{"a branch", earlier, 400, told("a", u3, edited, u1), Server, upTo()},
	} {
		h := newChat()
		h.ask(c.earlier, 0, said(c.said))
		v, _ := h.ask(c.now, 2)
		if d := v.Expected.V - c.want; v.Verdict != c.verdict || d < -8 || d > 8 || v.Lost.V != v.Expected.V-2 {
			t.Errorf("%s: %s, %d tokens were expected and %d lost, want %s, %d", c.name, v.Verdict, v.Expected.V, v.Lost.V, c.verdict, c.want)
		}
	}
	h := newChat()
	h.ask(earlier, 0, said(400))
	v, _ := h.ask(told("a", text("by another one ", 100), a1, u2, a2, u3), 2, func(q *Request) { q.CachePrompt = meter.Some(0) })
	if d := v.Expected.V - upTo(); v.Cause != CachePromptFalse || d < -8 || d > 8 {
		t.Errorf("without the cache: %s, %d tokens were expected, want %d", v.Cause, v.Expected.V, upTo())
	}
}

// TestReplyOfOnePrompt: the reply is that to the prompt of which the tokens were expected.
func TestReplyOfOnePrompt(t *testing.T) {
	u1, a1, u2, a2, u3 := text("question one ", 700), text("answer one ", 400), text("question two ", 100), text("answer two ", 400), text("third question ", 100)
	for cause, set := range map[string]func(*Request){
		Undetermined:     func(*Request) {}, // the tokens are those of the prompt that shares more
		CachePromptFalse: func(q *Request) { q.CachePrompt = meter.Some(0) },
	} {
		c := newChat()
		_, kept := c.ask(told("b", u1, a1, u2), 0, said(400))
		_, longest := c.ask(told("a", u1), 0, said(4000))
		want := kept.PromptTokens.V + 400
		if cause == CachePromptFalse {
			want = longest.PromptTokens.V + 200 // half of what came back
		}
		v, _ := c.ask(told("a", u1, a1, u2, a2, u3), 2, set)
		if d := v.Expected.V - want; v.Verdict != Server || v.Cause != cause || d < -8 || d > 8 {
			t.Errorf("%s %s: %d tokens were expected, want %s, %d", v.Verdict, v.Cause, v.Expected.V, cause, want)
		}
	}
}
