package prompt

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

//go:embed texts
var texts embed.FS

// task is an instruction and the text it is about: texts/NAME.txt, pieces separated by lines of ---.
type task struct {
	name    string
	doc     string // for --help
	opening string
	asks    []string
}

// tasks are all tasks. A new one needs an entry here and its text.
//
//nolint:gochecknoglobals // a constant table
var tasks = []task{
	{
		name: "coding", doc: "write a program around parts of a code base",
		opening: "Here are parts of a code base.",
		asks: []string{
			"Write a program of your own that uses these parts, with tests and comments. Show all of the code.",
			"Rewrite the longest part so that it is safe to use from several threads, and explain each change in detail.",
			"Write a command line tool around these parts: reading its flags, its errors, its tests. Show all of the code.",
		},
	},
	{
		name: "list", doc: "make a list from a collection of notes",
		opening: "Here are some notes.",
		asks: []string{
			"Make a numbered list of one hundred things that are named or implied here, with a sentence about each.",
			"List everything that a newcomer should know, one line each, as many lines as you can.",
			"List one hundred questions that these notes leave open, numbered, each in one sentence.",
		},
	},
}

// The words that are drawn for the placeholders in the texts.
//
//nolint:gochecknoglobals // constant tables
var (
	names   = strings.Fields("Ada Bruno Chiara Dmitri Elif Farid Greta Hana Igor Jana Kemal Lena Marek Nadia Omar Petra Quinn Rosa Samir Tomas Ulla Vera Wim Yara Zoe")
	nouns   = strings.Fields("lantern harbour ticket engine violin ledger kettle window barrel compass orchard saddle mirror anchor basket candle hammer pencil ribbon shovel teapot wagon beacon cellar dagger easel funnel garnet hamper island")
	actions = strings.Fields("collect merge filter count rotate balance schedule verify publish compress restore measure divide arrange inspect combine describe discard explain follow")
)

// Tasks are the names of all tasks, in the order of the table.
func Tasks() []string {
	names := make([]string, len(tasks))
	for i, t := range tasks {
		names[i] = t.name
	}
	return names
}

// TaskHelp describes every task in half a sentence.
func TaskHelp() string {
	lines := make([]string, len(tasks))
	for i, t := range tasks {
		lines[i] = fmt.Sprintf("%s (%s)", t.name, t.doc)
	}
	return strings.Join(lines, ", ")
}

// find returns a task by its name.
func find(name string) (*task, error) {
	for i := range tasks {
		if tasks[i].name == name {
			return &tasks[i], nil
		}
	}
	return nil, fmt.Errorf("prompt: there is no task %q; there are: %s", name, strings.Join(Tasks(), ", "))
}

// text is the source of the task's pieces.
func (t *task) text() string {
	text, err := texts.ReadFile("texts/" + t.name + ".txt")
	if err != nil {
		panic(err) // a task without its file; a test reads them all
	}
	return string(text)
}

// Corpus is the SHA-256 of everything that prompts are made of. It is part of every plan's hash: runs of other
// texts do not compare.
func Corpus() string {
	h := sha256.New()
	for _, t := range slices.SortedFunc(slices.Values(tasks), func(a, b task) int { return strings.Compare(a.name, b.name) }) {
		fmt.Fprintf(h, "%s\x00{opening:%s pieces:%s asks:%v}\x00", t.name, t.opening, t.text(), t.asks)
	}
	fmt.Fprintf(h, "%q %q %q", names, nouns, actions)
	return hex.EncodeToString(h.Sum(nil))
}

// draft is one prompt's text, as long as anybody asks: words are drawn when they are needed.
type draft struct {
	rng    *rand.Rand
	head   string
	ask    string
	pieces []string
	turn   []int    // pieces still to come before all have been used once more
	words  []string // each with the space in front of it
}

func newDraft(t *task, seed uint64) *draft {
	rng := rand.New(rand.NewPCG(seed, 0x776174746c696e65))
	return &draft{
		rng: rng, pieces: strings.Split(t.text(), "\n---\n"),
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
