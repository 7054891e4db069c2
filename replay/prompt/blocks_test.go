package prompt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"wattline/replay"
)

// vocabulary tokenises by the longest token that fits, in front of which it may put tokens of its own.
type vocabulary struct {
	tokens map[string]int
	longer int
	begin  string // a space, as SentencePiece adds one
	lead   []replay.Token
	cross  bool // looks for tokens across words, too
}

func newVocabulary(words ...string) *vocabulary {
	v := &vocabulary{tokens: map[string]int{}}
	for b := range 256 {
		v.add(string([]byte{byte(b)}))
	}
	for _, w := range words {
		v.add(w)
	}
	return v
}

func (v *vocabulary) add(text string) {
	if _, ok := v.tokens[text]; !ok {
		v.tokens[text] = len(v.tokens)
		v.longer = max(v.longer, len(text))
	}
}

func (v *vocabulary) Tokenize(_ context.Context, text string, special bool) (out []replay.Token, _ error) {
	if special {
		out = append(out, v.lead...)
	}
	parts := []string{v.begin + text}
	if !v.cross {
		parts = pieces(parts[0])
	}
	for _, part := range parts {
		for len(part) > 0 {
			n := min(v.longer, len(part))
			for v.tokens[part[:n]] == 0 && n > 1 {
				n--
			}
			out = append(out, replay.Token{ID: v.tokens[part[:n]], Piece: part[:n]})
			part = part[n:]
		}
	}
	return out, nil
}

// commonWords are in most of the tasks' texts.
func commonWords(t *testing.T, prefix string) (out []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, task := range tasks {
		for _, w := range strings.Fields(task.text()) {
			w = strings.Trim(w, ".,;:(){}[]\"'`*")
			if len(w) > 1 && !seen[w] {
				seen[w] = true
				out = append(out, prefix+w)
			}
		}
	}
	if len(out) < 100 {
		t.Fatalf("the tasks' texts have %d words", len(out))
	}
	return out
}

// TestBlocks: in vocabularies of several kinds prompts of random blocks have exactly the tokens they should have, equal
// blocks are equal tokens, and others differ at once.
func TestBlocks(t *testing.T) {
	spaced := commonWords(t, " ")
	crossing := newVocabulary(spaced...)
	crossing.cross = true
	for i := range 40 { // tokens that span two words: neither of these words can be used beside the other
		crossing.add(spaced[i] + spaced[99-i])
	}
	llama := newVocabulary(spaced...)
	llama.begin, llama.lead = " ", []replay.Token{{ID: 9999, Piece: "<s>"}}
	for name, v := range map[string]*vocabulary{"words": newVocabulary(spaced...), "across words": crossing, "a begin of its own": llama, "no spaces": newVocabulary(syllables()...)} {
		if name == "no spaces" {
			v.cross = true
		}
		b, err := FindBlocks(t.Context(), v, 7)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := rand.New(rand.NewPCG(3, 4))
		for range 300 {
			var parts []Part
			want := b.Lead()
			for range 1 + r.IntN(6) {
				p := Part{Block: r.Uint32N(50), Tokens: 1 + r.IntN(70)}
				parts, want = append(parts, p), want+p.Tokens
			}
			tokens, _ := v.Tokenize(t.Context(), b.Text(parts), true)
			if len(tokens) != want {
				t.Fatalf("%s: %v has %d tokens, want %d: %q", name, parts, len(tokens), want, b.Text(parts))
			}
			for i, id := range b.IDs(parts) {
				if tokens[b.Lead()+i].ID != id {
					t.Fatalf("%s: token %d is %d, want %d", name, i, tokens[b.Lead()+i].ID, id)
				}
			}
		}
		whole, first, rest := b.IDs([]Part{{9, 0, 64}}), b.IDs([]Part{{9, 0, 20}}), b.IDs([]Part{{9, 20, 44}})
		if !slices.Equal(whole, append(first, rest...)) {
			t.Errorf("%s: a block's parts are not the block", name)
		}
		seen := map[string]uint32{}
		for block := range uint32(5000) {
			text := b.Text([]Part{{block, 0, nameLength}})
			if other, ok := seen[text]; ok {
				t.Fatalf("%s: blocks %d and %d are the same", name, other, block)
			}
			seen[text] = block
		}
		other, err := FindBlocks(t.Context(), v, 8)
		if err != nil || other.Text([]Part{{1, 0, 64}})[:40] == b.Text([]Part{{1, 0, 64}})[:40] {
			t.Errorf("%s: another run's texts begin alike (%v)", name, err)
		}
		if b.asked > 10 {
			t.Errorf("%s: %d questions", name, b.asked)
		}
	}
}

// syllables are tokens of two letters.
func syllables() (out []string) {
	for _, a := range "bcdfghjklmnprstvw" {
		for _, b := range "aeiou" {
			out = append(out, string(a)+string(b))
		}
	}
	return out
}

type brokenTokenizer struct{}

func (brokenTokenizer) Tokenize(context.Context, string, bool) ([]replay.Token, error) {
	return nil, errors.New("no answer")
}

// TestNoBlocks: a tokenizer without pieces, or without an answer, is told with a sentence.
func TestNoBlocks(t *testing.T) {
	if _, err := FindBlocks(t.Context(), newVocabulary(), 1); err == nil || !strings.Contains(err.Error(), "pieces of text were found") {
		t.Errorf("bytes only: %v", err)
	}
	if _, err := FindBlocks(t.Context(), brokenTokenizer{}, 1); err == nil || fmt.Sprint(err) != "no answer" {
		t.Errorf("no answer: %v", err)
	}
}
