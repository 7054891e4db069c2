package meter

import (
	"fmt"
	"strings"
	"testing"
)

// counting is a reply that counts the events which it took the short way.
type counting struct {
	*reply
	short int
}

func (c *counting) repeated(p []byte) int {
	n := c.reply.repeated(p)
	if n > 0 {
		c.short++
	}
	return n
}

// TestRepeatedEvents: which events are the last one with other text, and what they come to.
func TestRepeatedEvents(t *testing.T) {
	event := func(text string) string {
		return fmt.Sprintf("data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"%s\"}}],\"model\":\"m\"}\n\n", text)
	}
	x, y := event("x"), event("y")
	other := strings.Replace(x, `"m"`, `"n"`, 1)
	ends := strings.Replace(x, "null", `"stop"`, 1)
	thinks := strings.Replace(x, "content", "reasoning_content", 1)
	both := strings.Replace(x, `"content":"x"`, `"content":"x","reasoning_content":"z"`, 1)
	counts := strings.Replace(x, `"model"`, `"usage":{"completion_tokens":1},"model"`, 1)
	named := "event: delta\n" + x
	commented := "event: delta\n: ping\n" + x
	twoLines := strings.Replace(x, ",", ",\ndata: ", 1)
	for _, c := range []struct {
		name    string
		pieces  []string
		short   int
		outputs int64
	}{
		{"one", []string{x}, 0, 1},
		{"again", []string{x, y, y}, 2, 3},
		{"in one read", []string{x + y + event("longer, of any letters: äöü€ {}[],:")}, 2, 3},
		{"another between", []string{x, other, x, y}, 1, 4},
		{"cut", []string{x, y[:30], y[30:], y}, 1, 3},
		{"cut behind the text", []string{x, y[:len(y)-1], y[len(y)-1:], y}, 1, 3},
		{"learnt from a cut one", []string{x[:9], x[9:], y, y}, 1, 3},
		{"a line feed missing", []string{x, strings.TrimSuffix(y, "\n"), "\n" + y}, 1, 3},
		{"no text", []string{x, event(""), y}, 1, 2},
		{"a quote in the text", []string{x, event(`\"`), y}, 1, 3},
		{"an escape", []string{x, event(`\n`), y, y}, 2, 4},
		{"long text", []string{x, event(strings.Repeat("z", 2*repeatText)), y}, 1, 3},
		{"text beyond what is kept", []string{event(strings.Repeat("z", 2*keepBytes)), y, y}, 1, 3},
		{"a long event", []string{strings.Replace(x, `"m"`, `"`+strings.Repeat("m", repeatBytes)+`"`, 1), x, y}, 1, 3},
		{"broken by a line end", []string{x, event("a\nb"), y}, 1, 2},
		{"broken by a quote", []string{x, event(`a"b`), y}, 1, 2},
		{"the end of a completion", []string{ends, ends}, 0, 2},
		{"reasoning", []string{thinks, thinks, x, y}, 2, 4},
		{"two kinds of output at once", []string{both, both}, 0, 2},
		{"counts", []string{counts, counts}, 0, 2},
		{"a named event", []string{named, named}, 1, 2},
		{"a comment inside", []string{commented, commented}, 0, 2},
		{"a comment between", []string{x, ": ping\n\n", y}, 1, 2},
		{"two lines of data", []string{twoLines, twoLines}, 0, 2},
		{"line ends of two bytes", []string{strings.ReplaceAll(x, "\n", "\r\n"), strings.ReplaceAll(y, "\n", "\r\n")}, 0, 2},
		{"line ends that change", []string{x, strings.ReplaceAll(y, "\n", "\r"), "\n" + y}, 1, 3},
	} {
		m := &Meter{}
		m.BeginRequest(RequestHead{Path: "/v1/chat/completions"})
		m.BeginReply(ReplyHead{Status: 200, At: 1, Header: func(name string) []byte {
			return []byte(map[string]string{"Content-Type": "text/event-stream"}[name])
		}})
		m.ReplyBody([]byte("data: {}\n\n"), 1, 1) // a byte order mark is looked for before it
		counter := &counting{reply: &m.reply}
		m.reply.sse.to = counter
		for i, p := range c.pieces {
			m.ReplyBody([]byte(p), int64(i+2), int64(i+2))
		}
		if counter.short != c.short || m.reply.time.events != c.outputs {
			t.Errorf("%s: %d events the short way, %d outputs, want %d, %d", c.name, counter.short, m.reply.time.events, c.short, c.outputs)
		}
	}
}

// TestRepeatIsForgotten: nothing of one exchange's text stays for the next.
func TestRepeatIsForgotten(t *testing.T) {
	var r repeat
	event := []byte("data: {\"content\":\"x\",\"secret\":1}\n\n")
	r.learn(event, event[18:19], output{})
	if r.match(event) != len(event) || string(r.buf[:r.before]) != `data: {"content":"` {
		t.Fatalf("learnt %q", r.buf[:r.before])
	}
	r.wipe()
	if r.match(event) != 0 || r.buf != [repeatBytes]byte{} {
		t.Error("wipe leaves something")
	}
}
