package prompt

import (
	"crypto/sha256"
	_ "embed" // the texts
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

//go:embed texts/coding.txt
var codingText string

//go:embed texts/list.txt
var listText string

// task is what is asked, and the text it is asked about.
type task struct {
	opening string
	pieces  string // separated by lines of ---
	asks    []string
}

//nolint:gochecknoglobals // constant tables
var (
	tasks = map[string]task{
		"coding": {
			opening: "Here are parts of a code base.",
			pieces:  codingText,
			asks: []string{
				"Write a program of your own that uses these parts, with tests and comments. Show all of the code.",
				"Rewrite the longest part so that it is safe to use from several threads, and explain each change in detail.",
				"Write a command line tool around these parts: reading its flags, its errors, its tests. Show all of the code.",
			},
		},
		"list": {
			opening: "Here are some notes.",
			pieces:  listText,
			asks: []string{
				"Make a numbered list of one hundred things that are named or implied here, with a sentence about each.",
				"List everything that a newcomer should know, one line each, as many lines as you can.",
				"List one hundred questions that these notes leave open, numbered, each in one sentence.",
			},
		},
	}
	names   = strings.Fields("Ada Bruno Chiara Dmitri Elif Farid Greta Hana Igor Jana Kemal Lena Marek Nadia Omar Petra Quinn Rosa Samir Tomas Ulla Vera Wim Yara Zoe")
	nouns   = strings.Fields("lantern harbour ticket engine violin ledger kettle window barrel compass orchard saddle mirror anchor basket candle hammer pencil ribbon shovel teapot wagon beacon cellar dagger easel funnel garnet hamper island")
	actions = strings.Fields("collect merge filter count rotate balance schedule verify publish compress restore measure divide arrange inspect combine describe discard explain follow")
)

// Tasks are the known tasks, in order.
func Tasks() []string { return slices.Sorted(maps.Keys(tasks)) }

// Corpus is the SHA-256 of everything that prompts are made of.
func Corpus() string {
	h := sha256.New()
	for _, name := range Tasks() {
		fmt.Fprintf(h, "%s\x00%+v\x00", name, tasks[name])
	}
	fmt.Fprintf(h, "%q %q %q", names, nouns, actions)
	return hex.EncodeToString(h.Sum(nil))
}

// draft is one prompt's text, as long as anybody asks: words are drawn when they are needed.
type draft struct {
	rng    *rand.Rand
	task   task
	head   string
	ask    string
	pieces []string
	turn   []int    // pieces still to come before all have been used once more
	words  []string // each with the space in front of it
}

func newDraft(name string, seed uint64) *draft {
	t := tasks[name]
	rng := rand.New(rand.NewPCG(seed, 0x776174746c696e65))
	return &draft{
		rng: rng, task: t, pieces: strings.Split(t.pieces, "\n---\n"),
		head: fmt.Sprintf("Reference %016x. %s\n\n", rng.Uint64(), t.opening),
		ask:  t.asks[rng.IntN(len(t.asks))],
	}
}

// text is the prompt with n words of body and some filler behind them.
func (d *draft) text(n int, filler string) string {
	for len(d.words) < n {
		d.more()
	}
	return d.head + strings.Join(d.words[:n], "") + filler + "\n\n" + d.ask
}

// more draws one piece.
func (d *draft) more() {
	if len(d.turn) == 0 {
		d.turn = d.rng.Perm(len(d.pieces))
	}
	piece := d.pieces[d.turn[0]]
	d.turn = d.turn[1:]
	action, noun := pick(d.rng, actions), pick(d.rng, nouns)
	piece = strings.NewReplacer(
		"{n}", strconv.Itoa(2+d.rng.IntN(98)), "{noun}", noun, "{name}", pick(d.rng, names),
		"{fn}", action+upper(pick(d.rng, nouns)), "{type}", upper(noun)+upper(pick(d.rng, actions)),
	).Replace(piece)
	if len(d.words) > 0 {
		piece = "\n\n" + piece
	}
	d.words = append(d.words, split(piece)...)
}

func pick(rng *rand.Rand, list []string) string { return list[rng.IntN(len(list))] }

func upper(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// split cuts before every run of white space.
func split(s string) []string {
	var out []string
	from, inSpace := 0, true
	for i, r := range s {
		space := r == ' ' || r == '\n' || r == '\t'
		if space && !inSpace {
			out = append(out, s[from:i])
			from = i
		}
		inSpace = space
	}
	return append(out, s[from:])
}
