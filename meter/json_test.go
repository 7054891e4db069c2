package meter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// trace writes down what a scanner reports.
type trace struct{ lines []string }

func (r *trace) open(f field) { r.lines = append(r.lines, fmt.Sprintf("open %d", f)) }
func (r *trace) close(f field, n int64) {
	r.lines = append(r.lines, fmt.Sprintf("close %d after %d", f, n))
}
func (r *trace) scalar(f field, v value) {
	text := string(v.raw)
	switch v.kind {
	case kindString:
		text = unescape(v.raw)
	case kindNumber:
		x, ok := v.float()
		text = fmt.Sprint(x, ok)
	}
	r.lines = append(r.lines, fmt.Sprintf("%d kind %d %q size %d", f, v.kind, text, v.size))
}

// walk reports the same from encoding/json's tokens, for the values that n wants.
func walk(t testing.TB, d *json.Decoder, n *node, out *trace) {
	tok, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	want := n != nil && n.field != none
	switch tok := tok.(type) {
	case json.Delim:
		if want {
			out.open(n.field)
		}
		count := int64(0)
		for ; d.More(); count++ {
			var child *node
			if tok == '{' {
				name, err := d.Token()
				if err != nil {
					t.Fatal(err)
				}
				if n != nil {
					if i := slices.Index(n.names, name.(string)); i >= 0 {
						child = n.nodes[i]
					}
				}
			} else if n != nil {
				child = n.elem
			}
			walk(t, d, child, out)
		}
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		if want {
			out.close(n.field, count)
		}
	case string:
		if want {
			raw, _ := json.Marshal(tok)
			out.scalar(n.field, value{kindString, raw[1 : len(raw)-1], 0})
		}
	case json.Number:
		if want {
			out.scalar(n.field, value{kindNumber, []byte(tok), int64(len(tok))})
		}
	case bool:
		if want {
			out.scalar(n.field, value{kind: map[bool]valueKind{true: kindTrue, false: kindFalse}[tok]})
		}
	case nil:
		if want {
			out.scalar(n.field, value{kind: kindNull})
		}
	}
}

// scanned runs a scanner over doc in pieces: cuts holds the lengths of the pieces, used in a cycle.
func scanned(root *node, doc, cuts []byte) (*scanner, *trace) {
	out := &trace{}
	s := &scanner{root: root, to: out}
	for i := 0; len(doc) > 0; i++ {
		n := len(doc)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])%17+1)
		}
		s.feed(doc[:n])
		doc = doc[n:]
	}
	s.finish()
	return s, out
}

// sizeless drops the sizes, which an escaped string has in its own writing only.
func sizeless(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i], _, _ = strings.Cut(l, " size ")
	}
	return out
}

// sound says whether the two readings of doc must agree: strings longer than what is kept, and bytes
// that are not UTF-8, are cut and replaced differently.
func sound(doc []byte) bool { return json.Valid(doc) && utf8.Valid(doc) && len(doc) < keepBytes }

// FuzzScanner compares the scanner with encoding/json on whole documents, cut anywhere.
func FuzzScanner(f *testing.F) {
	for _, doc := range []string{
		`{"model":"m","choices":[{"index":1,"delta":{"content":"a\"b\\"}},{"index":2,"delta":{}}],"usage":{"prompt_tokens":1e2}}`,
		`[{"index":0,"content":"x","stop_type":"limit"},{"index":1}]`,
		`{"a":{"b":[[{"c":"}]"}]]},"model":"é€😀😀\ud800","error":null,"index":-0.5}`,
		`{"mod\u0065l":"escaped name","mod\\u0065l":"not it","choices":{"index":3},"delta":"text"}`,
		`null`, `17`, ` { } `, `[]`, `""`, `{"messages":[1,"a",null,[],{}],"prompt":[[1],[2]],"tools":[]}`,
	} {
		f.Add([]byte(doc), []byte{})
		f.Add([]byte(doc), []byte{0})
		f.Add([]byte(doc), []byte{2, 5, 1})
	}
	f.Fuzz(func(t *testing.T, doc, cuts []byte) {
		for _, root := range []*node{replySchema, requestSchema} {
			s, got := scanned(root, doc, cuts)
			_, whole := scanned(root, doc, nil)
			if !slices.Equal(got.lines, whole.lines) {
				t.Fatalf("%q cut by %v:\n%s\nwhole:\n%s", doc, cuts, strings.Join(got.lines, "\n"), strings.Join(whole.lines, "\n"))
			}
			if !sound(doc) {
				continue
			}
			want := &trace{}
			d := json.NewDecoder(bytes.NewReader(doc))
			d.UseNumber()
			walk(t, d, root, want)
			if !s.idle() || !slices.Equal(sizeless(got.lines), sizeless(want.lines)) {
				t.Fatalf("%q: idle %v\n%s\nencoding/json:\n%s", doc, s.idle(), strings.Join(got.lines, "\n"), strings.Join(want.lines, "\n"))
			}
		}
	})
}

func TestScannerStopsAtBrokenStructure(t *testing.T) {
	for _, doc := range []string{`{]`, `{"model"}`, `{"model":}`, `{"model":"a" "b"}`, `{,}`, `{1:2}`, `[1 2]`, `[1,,2]`, `{"model":tru3}`, `x`, `{"choices":[}`} {
		if s, _ := scanned(replySchema, []byte(doc), nil); s.state != broken {
			t.Errorf("%s: state %d, want broken", doc, s.state)
		}
	}
	s, out := scanned(replySchema, []byte(`{"model":"a"]{"model":"b"}`), nil)
	if s.state != broken || len(out.lines) != 2 {
		t.Errorf("after a broken document the scanner went on: %v", out.lines)
	}
}

// TestScannerAfterHugeMembers: what comes after 100 MB of base64 is found, and nothing of it is held.
func TestScannerAfterHugeMembers(t *testing.T) {
	var r request
	r.scan.root, r.scan.to = requestSchema, &r
	piece := bytes.Repeat([]byte("iVBORw0KGgo"), 3<<10)
	r.body([]byte(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,`))
	total := 0
	allocated := testing.AllocsPerRun(1, func() {
		for total = 0; total < 100<<20; total += len(piece) {
			r.body(piece)
		}
	})
	r.body([]byte(`"}},{"type":"text","text":"what is this?"}]},{"role":"assistant","content":"\"tools\":[1,2,3]"}],"tools":[{},{}],"model":"seen","max_tokens":7}`))
	if !r.done || r.model.String() != "seen" || r.limit != Some(7) || r.msgs != Some(2) || r.tools != Some(2) || r.images != 1 {
		t.Errorf("after %d bytes: done %v model %q max_tokens %v messages %v tools %v images %d", total, r.done, r.model.String(), r.limit, r.msgs, r.tools, r.images)
	}
	if allocated != 0 {
		t.Errorf("%v allocations while an image passed", allocated)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`plain`:            "plain",
		`a\"b\\c\/d\n\t`:   "a\"b\\c/d\n\t",
		`\u00e9\u20ac`:     "é€",
		`\ud83d\ude00`:     "😀",
		`\ud83dx`:          "\uFFFDx",
		`\ude00`:           "\uFFFD",
		`cut \u00`:         "cut ",
		`cut \`:            "cut ",
		`odd \q`:           "odd \uFFFD",
		"half \xe2\x82":    "half ",
		"bad \xff byte":    "bad \uFFFD byte",
		"\xe2\x82":         "",
		"whole \u20ac end": "whole € end",
	} {
		if got := unescape([]byte(in)); got != want || !utf8.ValidString(got) {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]Int{
		"0": Some(0), "17": Some(17), "-3": Some(-3), "1e3": Some(1000), "2.9": Some(2), "9007199254740993": Some(9007199254740993), "9007199254740993.5": {}, "1234567890123456789": {}, "1e400": {},
		"99999999999999999999999999999999999": {}, "-": {}, "1e": {},
	} {
		v := value{kindNumber, []byte(in), int64(len(in))}
		if got := v.integer(); got != want {
			t.Errorf("integer(%s) = %v, want %v", in, got, want)
		}
	}
	for in, want := range map[string]Int{"0.479": Some(479), "2.6635": Some(2664), "1e-05": Some(0), "-1": {}, "1e13": {}} {
		v := value{kindNumber, []byte(in), int64(len(in))}
		if got := v.micros(1e3); got != want {
			t.Errorf("micros(%s) = %v, want %v", in, got, want)
		}
	}
	if got := (value{kind: kindString, raw: []byte("5"), size: 1}).integer(); got.Valid {
		t.Errorf("a string counted as %v", got)
	}
}
