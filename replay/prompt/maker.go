package prompt

import (
	"context"
	"fmt"
	"strings"
)

// Counter counts the tokens of a conversation with one user message, content; the chat template's tokens are
// included, as the server will evaluate it.
type Counter interface {
	Count(ctx context.Context, content string) (int, error)
}

// Maker makes prompts for one server. It remembers how many tokens a word takes, so that later prompts
// need fewer questions. It is not safe for use by several goroutines.
type Maker struct {
	Counter Counter
	// Offset is the number of tokens that the server evaluates beyond Counter's count, learnt from a request's own count.
	Offset int

	perWord map[string]float64 // tokens per word of a task
}

// fillers are words that most vocabularies have as one token, tried in this order.
//
//nolint:gochecknoglobals // a constant table
var fillers = []string{" a", " ba", " the", " x", " 1", "!", " .", "\n", "a"}

const firstGuess = 1.6 // tokens per word

// Make returns a user message that makes a prompt of exactly n tokens.
func (m *Maker) Make(ctx context.Context, task string, n int, seed uint64) (string, error) {
	of, err := find(task)
	if err != nil {
		return "", err
	}
	d := newDraft(of, seed)
	want := n - m.Offset
	least, err := m.Counter.Count(ctx, d.text(0, ""))
	if err != nil {
		return "", err
	}
	if least > want { // too small for the question: do without
		d.head, d.ask = fmt.Sprintf("%x ", seed&0xffff), ""
		if least, err = m.Counter.Count(ctx, d.text(0, "")); err != nil {
			return "", err
		}
	}
	if least > want {
		return "", fmt.Errorf("a prompt of %d tokens is too small: the server's chat template and a reference take %d", n, least+m.Offset)
	}
	words, got, err := m.fit(ctx, d, task, want, least)
	if err != nil {
		return "", err
	}
	return m.fill(ctx, d, words, want, got, n)
}

// fit finds the most words with at most want tokens. least is the count without any.
func (m *Maker) fit(ctx context.Context, d *draft, task string, want, least int) (words, tokens int, err error) {
	rate, ok := m.perWord[task]
	if !ok {
		rate = firstGuess
	}
	low, lowTokens, high, highTokens := 0, least, -1, 0
	for asked := 0; low+1 != high && lowTokens != want; asked++ {
		next := low + max(1, int(float64(want-lowTokens)/rate))
		if high > 0 { // between two known counts, mostly by their proportion, now and then by half
			next = low + int(float64(want-lowTokens)*float64(high-low)/float64(highTokens-lowTokens))
			if asked%4 == 3 {
				next = (low + high) / 2
			}
			next = min(max(next, low+1), high-1)
		}
		got, err := m.Counter.Count(ctx, d.text(next, ""))
		if err != nil {
			return 0, 0, err
		}
		if got <= want {
			low, lowTokens = next, got
		} else {
			high, highTokens = next, got
		}
		rate = max(float64(got-least)/float64(next), 0.01)
	}
	if m.perWord == nil {
		m.perWord = map[string]float64{}
	}
	m.perWord[task] = rate
	return low, lowTokens, nil
}

// fill adds filler words until the count is exact. A word that does not add one token each is passed
// over, and where none does, the body gives up words: another border may go better.
func (m *Maker) fill(ctx context.Context, d *draft, words, want, got, n int) (string, error) {
	if got == want {
		return d.text(words, ""), nil
	}
	const retreats = 12
	for back := 0; back <= min(retreats, words); back++ {
		base := got
		if back > 0 {
			var err error
			if base, err = m.Counter.Count(ctx, d.text(words-back, "")); err != nil {
				return "", err
			}
		}
		for _, f := range fillers {
			missing := want - base
			for range 3 { // the border may cost or save a token
				if missing < 0 {
					break
				}
				text := d.text(words-back, strings.Repeat(f, missing))
				now, err := m.Counter.Count(ctx, text)
				if err != nil {
					return "", err
				}
				if now == want {
					return text, nil
				}
				missing += want - now
			}
		}
	}
	return "", fmt.Errorf("prompt: no text of exactly %d tokens was found for this server's vocabulary", n)
}
