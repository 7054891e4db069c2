package prompt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// tokenizer counts a text in some way, with a template around it. It counts its questions.
type tokenizer struct {
	template int
	count    func(string) int
	asked    int
}

func (t *tokenizer) Count(_ context.Context, content string) (int, error) {
	t.asked++
	return t.template + t.count(content), nil
}

// pieces splits as many tokenizers do before they look anything up: letters with a space before them,
// digits one by one, white space and signs in runs.
func pieces(s string) []string {
	kind := func(r rune) int {
		switch {
		case unicode.IsLetter(r):
			return 1
		case unicode.IsDigit(r):
			return 2
		case r == ' ':
			return 3
		case unicode.IsSpace(r):
			return 4
		}
		return 5
	}
	var out []string
	from, last := 0, 0
	for i, r := range s {
		k := kind(r)
		if i > from && (k != last || k == 2) && (last != 3 || k != 1 || i-from > 1) {
			out, from = append(out, s[from:i]), i
		}
		last = k
	}
	return append(out, s[from:])
}

// Three kinds of vocabulary: bytes in fours (no border between words), words of one token or more by
// length, and syllables with bytes as the last resort, like the small model's.
//
//nolint:gochecknoglobals // constants of tests
var vocabularies = map[string]func(string) int{
	"four bytes": func(s string) int { return (len(s) + 3) / 4 },
	"words": func(s string) int {
		n := 0
		for _, p := range pieces(s) {
			n += 1 + (len(p)-1)/6
		}
		return n
	},
	"bytes": func(s string) int { return len(s) },
	"pairs": func(s string) int { // " b"+"a" and "b"+"a" are one token
		n := 0
		for i := 0; i < len(s); n++ {
			switch {
			case i+2 < len(s) && s[i] == ' ' && strings.IndexByte("bcdfghjklmnprstvw", s[i+1]) >= 0 && strings.IndexByte("aeiou", s[i+2]) >= 0:
				i += 3
			case i+1 < len(s) && strings.IndexByte("bcdfghjklmnprstvw", s[i]) >= 0 && strings.IndexByte("aeiou", s[i+1]) >= 0:
				i += 2
			default:
				i++
			}
		}
		return n
	},
}

func TestPromptSize(t *testing.T) {
	for name, count := range vocabularies {
		tok := &tokenizer{template: 13, count: count}
		m := &Maker{Counter: tok}
		for _, task := range Tasks() {
			for _, n := range []int{64, 200, 1000, 1001, 1002, 1003, 4096, 10000} {
				for seed := range uint64(4) {
					text, err := m.Make(t.Context(), task, n, seed)
					if err != nil {
						t.Errorf("%s: %s of %d tokens, seed %d: %v", name, task, n, seed, err)
						continue
					}
					if got := 13 + count(text); got != n {
						t.Errorf("%s: %s of %d tokens, seed %d, has %d", name, task, n, seed, got)
					}
				}
			}
		}
		if each := float64(tok.asked) / 64; each > 25 {
			t.Errorf("%s: %.1f questions a prompt", name, each)
		}
	}
}

func TestSameSeedSamePrompt(t *testing.T) {
	count := vocabularies["words"]
	make := func(seed uint64, before int) string {
		m := &Maker{Counter: &tokenizer{count: count}}
		for i := range before { // what was made before must not matter
			if _, err := m.Make(t.Context(), "list", 300+i, 99); err != nil {
				t.Fatal(err)
			}
		}
		text, err := m.Make(t.Context(), "coding", 2000, seed)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	a := make(7, 0)
	if a != make(7, 0) {
		t.Error("two runs differ")
	}
	if a != make(7, 3) {
		t.Error("what was made before changes a prompt")
	}
	b := make(8, 0)
	if n := commonPrefix(a, b); n > len("Reference ")+1 {
		t.Errorf("two seeds share their first %d characters: %q", n, a[:n])
	}
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func TestPromptRepetition(t *testing.T) {
	m := &Maker{Counter: &tokenizer{count: vocabularies["words"]}}
	text, err := m.Make(t.Context(), "coding", 20000, 1)
	if err != nil {
		t.Fatal(err)
	}
	const passage = 160 // characters
	seen := map[string]bool{}
	repeated := 0
	for i := 0; i+passage < len(text); i += passage {
		for j := range 4 { // at several offsets
			s := text[i+j : i+j+passage-4]
			if seen[s] {
				repeated++
			}
			seen[s] = true
		}
	}
	if repeated > len(text)/passage/20 {
		t.Errorf("%d of %d passages stand in it twice", repeated, len(text)/passage)
	}
}

func TestOffset(t *testing.T) {
	count := vocabularies["words"]
	m := &Maker{Counter: &tokenizer{count: count}, Offset: 2}
	text, err := m.Make(t.Context(), "list", 500, 1)
	if err != nil || count(text) != 498 {
		t.Errorf("%d tokens counted, want 498 (%v)", count(text), err)
	}
}

func TestPromptErrors(t *testing.T) {
	m := &Maker{Counter: &tokenizer{template: 9, count: vocabularies["words"]}}
	if _, err := m.Make(t.Context(), "poetry", 100, 1); err == nil || !strings.Contains(err.Error(), strings.Join(Tasks(), ", ")) {
		t.Errorf("an unknown task: %v", err)
	}
	if _, err := m.Make(t.Context(), "coding", 5, 1); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("five tokens: %v", err)
	}
	gone := errors.New("gone")
	failing := &Maker{Counter: counterFunc(func(string) (int, error) { return 0, gone })}
	if _, err := failing.Make(t.Context(), "coding", 100, 1); !errors.Is(err, gone) {
		t.Errorf("a server that is gone: %v", err)
	}
	odd := &Maker{Counter: counterFunc(func(s string) (int, error) { return 2 * len(s), nil })} // nothing makes it odd
	if _, err := odd.Make(t.Context(), "coding", 1001, 1); err == nil || !strings.Contains(err.Error(), "exactly 1001") {
		t.Errorf("an impossible size: %v", err)
	}
}

type counterFunc func(string) (int, error)

func (f counterFunc) Count(_ context.Context, s string) (int, error) { return f(s) }

func TestCorpus(t *testing.T) {
	before := Corpus()
	if len(before) != 64 || before != Corpus() {
		t.Errorf("corpus %s", before)
	}
	for i := range tasks {
		task, name := &tasks[i], tasks[i].name
		n := len(strings.Split(task.text(), "\n---\n"))
		if n < 10 || len(task.asks) < 3 || task.doc == "" {
			t.Errorf("%s has %d pieces and %d questions, and is described as %q", name, n, len(task.asks), task.doc)
		}
		d := newDraft(task, 1)
		if text := d.text(3000, ""); strings.ContainsAny(strings.NewReplacer("{n}", "\x00", "{noun}", "\x00", "{name}", "\x00", "{fn}", "\x00", "{type}", "\x00").Replace(text), "\x00") {
			t.Errorf("%s: a placeholder was left: %s", name, text[:200])
		}
	}
}

func ExampleMaker() {
	words := counterFunc(func(s string) (int, error) { return len(strings.Fields(s)), nil })
	m := &Maker{Counter: words}
	text, err := m.Make(context.Background(), "list", 60, 1)
	fmt.Println(len(strings.Fields(text)), err)
	// Output: 60 <nil>
}
