package prompt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"wattline/replay"
)

// Tokenizer splits a text into tokens as the server will; special adds what the server adds in front of a prompt.
type Tokenizer interface {
	Tokenize(ctx context.Context, text string, special bool) ([]replay.Token, error)
}

// Blocks makes prompts of blocks. A block is named by a number; its text has as many tokens as asked for in the server's
// tokenizer, alone and joined to others, and a shorter one is its beginning. It is made of pieces of text that are one token
// each next to every other piece, which FindBlocks has checked. It may be used by several goroutines.
type Blocks struct {
	head   string // in front of every prompt: what a tokenizer does at the beginning of a text happens to it
	lead   int    // tokens of the prompt in front of the first block
	pieces []replay.Token
	seed   uint64
	asked  int // questions to the tokenizer
}

// Limits of the search for pieces.
const (
	mostPieces  = 64
	leastPieces = 16
	mostTries   = 64
	provenText  = 4096 // pieces of the text that is checked at last
)

// heads are texts to begin with, tried in this order. Tokenizers that split at words keep a sign apart from the words behind it.
//
//nolint:gochecknoglobals // a constant table
var heads = []string{"#", "\n", "####"}

// FindBlocks finds pieces for a tokenizer. Blocks of one seed are the same texts on servers with the same tokenizer.
func FindBlocks(ctx context.Context, of Tokenizer, seed uint64) (*Blocks, error) {
	best := 0
	for _, head := range heads {
		b := &Blocks{head: head, seed: seed}
		if err := b.find(ctx, of); err != nil {
			return nil, err
		}
		if len(b.pieces) >= leastPieces {
			return b, nil
		}
		best = max(best, len(b.pieces))
	}
	return nil, fmt.Errorf("only %d pieces of text were found that this server's tokenizer keeps apart, and %d are needed: prompts of exact lengths cannot be made for it", best, leastPieces)
}

// find looks for pieces among the tokens of the tasks' texts and leaves out those that do not stay one token each.
func (b *Blocks) find(ctx context.Context, of Tokenizer) error {
	sample := ""
	for _, t := range tasks {
		sample += t.text()
	}
	tokens, err := b.ask(ctx, of, sample)
	if err != nil {
		return err
	}
	b.pieces = candidates(tokens)
	for range mostTries {
		if len(b.pieces) < leastPieces {
			return nil
		}
		bad, err := b.failing(ctx, of, everyPair(len(b.pieces)))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(bad, func(n int) bool { return n > 0 }) {
			return b.prove(ctx, of)
		}
		b.drop(bad)
	}
	b.pieces = nil
	return nil
}

// candidates are tokens that may be pieces: words with a space in front before all others.
func candidates(tokens []replay.Token) []replay.Token {
	seen := map[string]bool{}
	var spaced, others []replay.Token
	for _, t := range tokens {
		if seen[t.Piece] || !utf8.ValidString(t.Piece) {
			continue
		}
		seen[t.Piece] = true
		word, space := strings.CutPrefix(t.Piece, " ")
		if len(word) < 2 || strings.ContainsFunc(word, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) }) {
			continue
		}
		if space {
			spaced = append(spaced, t)
		} else {
			others = append(others, t)
		}
	}
	if len(spaced) >= leastPieces {
		return spaced[:min(len(spaced), mostPieces)]
	}
	all := append(spaced, others...)
	return all[:min(len(all), mostPieces)]
}

// everyPair is a sequence in which each of n numbers stands beside each, itself included.
func everyPair(n int) []int {
	out := make([]int, 0, 2*n*n)
	for i := range n {
		for j := range n {
			out = append(out, i, j)
		}
	}
	return out
}

// failing counts for each piece how often it does not stay the token that it is in a sequence of pieces.
func (b *Blocks) failing(ctx context.Context, of Tokenizer, sequence []int) ([]int, error) {
	var text strings.Builder
	text.WriteString(b.head)
	for _, i := range sequence {
		text.WriteString(b.pieces[i].Piece)
	}
	tokens, err := b.ask(ctx, of, text.String())
	if err != nil {
		return nil, err
	}
	// Positions are counted from the end: in front a tokenizer may add something.
	at := map[int]int{}
	end := 0
	for _, t := range slices.Backward(tokens) {
		end += len(t.Piece)
		at[end] = t.ID
	}
	bad := make([]int, len(b.pieces))
	end, count := 0, 0
	for _, i := range slices.Backward(sequence) {
		from := end
		end += len(b.pieces[i].Piece)
		_, begins := at[from]
		if id, ok := at[end]; !ok || id != b.pieces[i].ID || !begins && from > 0 {
			bad[i]++
		}
		count++
	}
	if lead := len(tokens) - count; lead >= 0 {
		b.lead = lead
	}
	return bad, nil
}

// drop leaves out the pieces that failed most.
func (b *Blocks) drop(bad []int) {
	most := slices.Max(bad)
	var left []replay.Token
	for i, p := range b.pieces {
		if bad[i] < (most+1)/2 {
			left = append(left, p)
		}
	}
	b.pieces = left
}

// prove checks a long text of pieces in an order by chance, also for what three of them may do together.
func (b *Blocks) prove(ctx context.Context, of Tokenizer) error {
	r := rand.New(rand.NewPCG(1, 2))
	sequence := make([]int, provenText)
	for i := range sequence {
		sequence[i] = r.IntN(len(b.pieces))
	}
	bad, err := b.failing(ctx, of, sequence)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(bad, func(n int) bool { return n > 0 }) {
		b.pieces = nil
		return nil
	}
	return nil
}

func (b *Blocks) ask(ctx context.Context, of Tokenizer, text string) ([]replay.Token, error) {
	b.asked++
	return of.Tokenize(ctx, text, true)
}

// Lead is how many tokens a prompt has in front of its blocks: what the server adds, and a sign.
func (b *Blocks) Lead() int { return b.lead }

// Shift corrects Lead by n tokens, as a server counted a prompt otherwise than its tokenizer.
func (b *Blocks) Shift(n int) { b.lead += n }

// errShort is a prompt that has no room for what stands in front.
var errShort = errors.New("a prompt is shorter than what the server puts in front")

// Part is a part of a prompt: tokens of a block from its token From on.
type Part struct {
	Block        uint32
	From, Tokens int
}

// Text is the prompt of parts, the head included. Together with Lead it has as many tokens as the parts.
func (b *Blocks) Text(parts []Part) string {
	var out strings.Builder
	out.WriteString(b.head)
	b.walk(parts, func(t *replay.Token) { out.WriteString(t.Piece) })
	return out.String()
}

// IDs are the tokens of parts, without the head.
func (b *Blocks) IDs(parts []Part) (out []int) {
	b.walk(parts, func(t *replay.Token) { out = append(out, t.ID) })
	return out
}

// walk calls f for each piece of parts.
func (b *Blocks) walk(parts []Part, f func(*replay.Token)) {
	n := uint64(len(b.pieces))
	for _, p := range parts {
		// The first pieces are the block's number in the base of their count, so that two blocks differ among them.
		name := uint64(p.Block*0x9E3779B1 ^ uint32(b.seed)) //nolint:gosec // a number, mixed
		state := b.seed ^ uint64(p.Block)<<32 ^ uint64(p.Block)
		for i := range p.From + p.Tokens {
			var k uint64
			if i < nameLength {
				k, name = name%n, name/n
				k = (k + mix(b.seed+uint64(i))) % n //nolint:gosec // not negative
			} else {
				state += 0x9E3779B97F4A7C15
				k = mix(state) % n
			}
			if i >= p.From {
				f(&b.pieces[k])
			}
		}
	}
}

// nameLength is how many digits a 32-bit number has in base leastPieces.
const nameLength = 8

// mix is splitmix64's finalizer.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
