package prompt

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

//nolint:gochecknoglobals // of the tests
var testKey = NewKey([]byte("a secret of the tests, 32 bytes.."))

// TestSipHash: the test values of the SipHash paper and of its reference program.
func TestSipHash(t *testing.T) {
	var in [16]byte
	for i := range in {
		in[i] = byte(i)
	}
	k := Key{binary.LittleEndian.Uint64(in[:]), binary.LittleEndian.Uint64(in[8:])}
	before := binary.LittleEndian.Uint64(in[:])
	if got := k.hash(before, in[8:15]); got != 0xa129ca6149be45e5 {
		t.Errorf("15 bytes: %x", got)
	}
	if got := k.hash(before, nil); got != 0x93f5f5799a932462 {
		t.Errorf("8 bytes: %x", got)
	}
	for n := range 8 {
		if a, b := k.hash(before, in[8:8+n]), slowHash(k, in[:8+n]); a != b {
			t.Errorf("%d bytes: %x, %x", 8+n, a, b)
		}
	}
}

// bodies are requests of every dialect.
//
//nolint:gochecknoglobals // of the tests
var bodies = []string{
	`{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi\n\"there\" \u00e9 \/"}],"tools":[{"type":"function","function":{"name":"f", "parameters":{ "a" : 1 }}}]}`,
	`{"messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"assistant","reasoning_content":"hm","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\": 1}"}}]},{"role":"tool","tool_call_id":"1","content":"42"}],"reasoning_effort":"low"}`,
	`{"system":[{"type":"text","text":"you are","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":"r","cache_control":{}}]},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"x","name":"n","input":{"k":[1,2.50,true,null]}}]}]}`,
	`{"instructions":"i","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"q"}]},{"type":"reasoning","summary":[{"text":"s"}],"content":[]},{"type":"function_call","name":"f","arguments":"{}","call_id":"c"},{"type":"function_call_output","call_id":"c","output":"o"}],"previous_response_id":"r1"}`,
	`{"input":"one question"}`,
	`{"prompt":"` + strings.Repeat("a long prompt of a completion. ", 60) + `","n":2}`,
	`{"prompt":["a","b"]}`, `{"prompt":[1,2,3]}`, `{"input_prefix":"def f(","input_suffix":"return","prompt":"x"}`,
	`{"messages":[{"role":"user","content":"x"}],"messages":[{"role":"user","content":"the last one counts"}]}`,
	`{"messages":[{"ro\u006ce":"user","content":"x"}, "odd", 7, null, {"role":3,"content":{"a":"b"}}]}`,
	`{}`, `[]`, `{"messages":`, ``, `{"prompt":""}`, "\xEF\xBB\xBF{\"prompt\":\"bom\"}", `{"messages":[{"role":"tool","content":[{"type":"text","text":"x"}],"images":["aa"]}],"function_call":1}`,
}

func TestParse(t *testing.T) {
	p := Parse(testKey, []byte(bodies[1]), nil)
	var got []string
	for i := range p.Parts {
		got = append(got, p.Name(i)+": "+string(p.text(i)))
	}
	want := []string{
		"settings: reasoning_effort=low\n", "message 1 (user, text): look",
		`message 1 (user, image): {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}`,
		"message 2 (assistant, reasoning): hm", `message 2 (assistant, tool call): {"id":"1","function":{"name":"f","arguments":"{"a": 1}"}}`,
		"message 3 (tool, tool result): id=1\n42",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if p := Parse(testKey, []byte(bodies[3]), nil); !p.Previous || p.Name(0) != "system" || len(p.Parts) != 5 {
		t.Errorf("%+v", p.Fingerprint)
	}
	for i, several := range map[int]bool{5: true, 6: true, 7: false, 0: false} {
		if p := Parse(testKey, []byte(bodies[i]), nil); p.Several != several || p.Broken {
			t.Errorf("%s: several %v", bodies[i], p.Several)
		}
	}
	for _, b := range bodies[11:16] {
		if !Parse(testKey, []byte(b), nil).Broken {
			t.Errorf("%s is no prompt", b)
		}
	}
}

// TestReference: the fast reader and the slow one make the same fingerprints.
func TestReference(t *testing.T) {
	for _, b := range append(bodies, agentBody(9, 3000)) {
		checkReference(t, []byte(b))
	}
}

func checkReference(t *testing.T, b []byte) {
	t.Helper()
	p := Parse(testKey, b, nil)
	want, ok := slowParse(testKey, b)
	if !ok {
		return
	}
	if p.Bytes != want.Bytes || len(p.Parts) != len(want.Parts) {
		t.Fatalf("%.200s: %d bytes in %d parts, want %d in %d", b, p.Bytes, len(p.Parts), want.Bytes, len(want.Parts))
	}
	for i := range p.Parts {
		got := p.Parts[i]
		got.at = 0
		if !reflect.DeepEqual(got, want.Parts[i]) {
			t.Fatalf("%.200s: part %d is %+v, want %+v", b, i, got, want.Parts[i])
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkReference(t, b)
		p := Parse(testKey, b, nil)
		stored := p.Append(nil)
		if len(stored) > MaxStored {
			t.Fatalf("%d bytes at rest", len(stored))
		}
		back, err := Decode(stored)
		if err != nil && !p.Broken {
			t.Fatal(err)
		}
		if err == nil && len(p.Parts) > 0 && Common(&back.Fingerprint, &p.Fingerprint) > p.Bytes {
			t.Fatal("more in common than there is")
		}
	})
}

// agentBody is a request of an agent with some turns, and a text of so many bytes in each.
func agentBody(turns, bytes int) string {
	var b strings.Builder
	b.WriteString(`{"model":"m","messages":[{"role":"system","content":"You are an agent."}`)
	for i := range turns {
		fmt.Fprintf(&b, `,{"role":"user","content":"turn %d: look into \"file\" %d"},{"role":"assistant","content":"","tool_calls":[{"id":"c%d","type":"function","function":{"name":"read","arguments":"{\"n\":%d}"}}]},{"role":"tool","tool_call_id":"c%d","content":"`, i, i, i, i, i)
		for n := 0; n < bytes; n += 40 {
			fmt.Fprintf(&b, "line %d of file %d\\n\\tx := \\\"y\\\"; //", n, i)
		}
		b.WriteString(`"}`)
	}
	b.WriteString(`],"tools":[{"type":"function","function":{"name":"read","description":"reads a file","parameters":{"type":"object"}}}]}`)
	return b.String()
}

// TestEncode: what is stored is small, however long a prompt is, and says where two prompts part.
func TestEncode(t *testing.T) {
	for _, c := range []struct{ turns, bytes int }{{1, 10}, {8, 4000}, {60, 7000}, {400, 6000}, {3000, 40}} {
		p := Parse(testKey, []byte(agentBody(c.turns, c.bytes)), nil)
		stored := p.Append(nil)
		if len(stored) > MaxStored {
			t.Fatalf("%d turns of %d bytes: %d bytes at rest", c.turns, c.bytes, len(stored))
		}
		back, err := Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		d := Compare(p, back, false)
		if common := float64(d.Common) / float64(p.Bytes); !back.Cut && (!d.Whole || common != 1) || back.Cut && d.Whole {
			t.Errorf("%d turns of %d bytes: %.3f in common, whole %v, cut %v", c.turns, c.bytes, common, d.Whole, back.Cut)
		}
	}
	for _, bad := range [][]byte{nil, {1}, {9, 0, 0, 1, 0}, {1, 0, 0, 1, 1, 0x33}, append(Parse(testKey, []byte(bodies[0]), nil).Append(nil), 1)} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%v was read", bad)
		}
	}
}

// TestKeys: another key gives other hashes everywhere, and kinds and roles are part of them.
func TestKeys(t *testing.T) {
	b := []byte(agentBody(3, 2000))
	p, q := Parse(testKey, b, nil), Parse(NewKey([]byte("another")), b, nil)
	seen := map[uint64]bool{}
	for i := range p.Parts {
		for _, h := range append(p.Parts[i].Blocks, p.Parts[i].Sum) {
			seen[h] = true
		}
	}
	for i := range q.Parts {
		for _, h := range append(q.Parts[i].Blocks, q.Parts[i].Sum) {
			if seen[h] {
				t.Fatal("two installations have a hash in common")
			}
		}
	}
	a, _ := testKey.chain(Text, User, []byte("x"), nil)
	c, _ := testKey.chain(Text, Assistant, []byte("x"), nil)
	if a == c {
		t.Error("a role is not part of the hash")
	}
}

// BenchmarkParse is the whole cost of the fingerprint of a prompt of some 100k tokens.
func BenchmarkParse(b *testing.B) {
	body := []byte(agentBody(60, 7000))
	memory := make([]byte, 0, len(body))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		Parse(testKey, body, memory)
	}
}
