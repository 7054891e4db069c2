package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// Cell is one combination of the grid.
type Cell struct {
	Task         string `yaml:"task" json:"task"`
	PromptTokens int    `yaml:"prompt_tokens" json:"prompt_tokens"`
	OutputTokens int    `yaml:"output_tokens" json:"output_tokens"`
}

// String is the cell's name in tables: coding 10k x 256.
func (c Cell) String() string {
	return fmt.Sprintf("%s %s x %s", c.Task, SizeName(c.PromptTokens), SizeName(c.OutputTokens))
}

// SkippedCell is a cell that does not run, and why.
type SkippedCell struct {
	Cell   Cell   `json:"cell"`
	Reason string `json:"reason"`
}

// Plan lists what will be sent, in which order. Cells are those that fit the server; Order has, for each
// trial, the indexes of the cells in the order in which they run.
type Plan struct {
	Spec    Spec     `json:"spec"`
	Corpus  string   `json:"corpus"`            // SHA-256 of the tasks' texts, or of the dataset
	Dataset *Dataset `json:"dataset,omitempty"` // nil: prompts are generated
	// Recording is the trace that is sent, nil if none is.
	Recording *Recording    `json:"recording,omitempty"`
	Cells     []Cell        `json:"cells"`
	Order     [][]int       `json:"order"`
	Dropped   []SkippedCell `json:"dropped,omitempty"`
	// Hash names the workload: SHA-256 over Spec, Corpus, Cells and Order. For a dataset (its sizes depend on the
	// server's tokenizer) the lines that were left out stand for the sizes.
	Hash string `json:"hash"`
}

// Compile lays out a completed Spec for a server with context tokens a slot (0: unknown). corpus is
// the hash of the texts that prompts are made of. Cells that do not fit are in Plan.Dropped; if none
// fits, that is an error.
func Compile(s Spec, corpus string, context int) (*Plan, error) {
	p := &Plan{Spec: s, Corpus: corpus}
	for _, c := range s.grid() {
		if need := c.PromptTokens + c.OutputTokens; context > 0 && need > context {
			p.Dropped = append(p.Dropped, SkippedCell{c, fmt.Sprintf("needs %d tokens, the server's context is %d a slot", need, context)})
			continue
		}
		p.Cells = append(p.Cells, c)
	}
	if len(p.Cells) == 0 {
		least := p.Dropped[0].Cell
		for _, d := range p.Dropped {
			if d.Cell.PromptTokens+d.Cell.OutputTokens < least.PromptTokens+least.OutputTokens {
				least = d.Cell
			}
		}
		return nil, fmt.Errorf("no cell fits the server's context of %d tokens a slot: the smallest, %s, needs %d; ask for smaller sizes or start the server with a larger --ctx-size",
			context, least, least.PromptTokens+least.OutputTokens)
	}
	return p, p.finish(p.Corpus, p.Cells)
}

// finish draws the order of the cells and hashes the plan, with cells and corpus as given.
func (p *Plan) finish(corpus string, cells []Cell) error {
	for t := range p.Spec.Trials {
		p.Order = append(p.Order, rand.New(p.source("order", t)).Perm(len(p.Cells)))
	}
	text, err := json.Marshal(struct {
		Spec   Spec
		Corpus string
		Cells  []Cell
		Order  [][]int
	}{p.Spec, corpus, cells, p.Order})
	if err != nil {
		return fmt.Errorf("replay: plan: %w", err)
	}
	sum := sha256.Sum256(text)
	p.Hash = hex.EncodeToString(sum[:])
	return nil
}

// Trim is the plan with another number of trials; trials that both have are the same.
func (p *Plan) Trim(trials int) (*Plan, error) {
	out := *p
	out.Order, out.Spec.Trials = nil, trials
	if p.Recording != nil {
		return &out, out.finishRecording()
	}
	if p.Dataset != nil {
		return &out, out.finishDataset()
	}
	return &out, out.finish(out.Corpus, out.Cells)
}

// grid is the cells that were asked for, each once, in the order of asking.
func (s *Spec) grid() []Cell {
	cells := s.Cells
	if len(cells) == 0 {
		for _, t := range s.Tasks {
			for _, in := range s.PromptSizes {
				for _, out := range s.OutputTokens {
					cells = append(cells, Cell{t, in, out})
				}
			}
		}
	}
	seen := map[Cell]bool{}
	var out []Cell
	for _, c := range cells {
		if !seen[c] {
			out = append(out, c)
		}
		seen[c] = true
	}
	return out
}

// Key is a request's place in the plan.
type Key struct {
	Trial int `json:"trial"`
	Cell  int `json:"cell"`
	Index int `json:"index"`
}

// PromptSeed seeds a request's text. In warm runs all requests of a cell have one text.
func (p *Plan) PromptSeed(k Key) uint64 {
	if p.Spec.Cache == Warm {
		k.Trial, k.Index = 0, 0
	}
	return p.seed("prompt", k.Trial, k.Cell, k.Index)
}

// WarmupSeed seeds the text of a throw-away request.
func (p *Plan) WarmupSeed(i int) uint64 { return p.seed("warm-up", i) }

func (p *Plan) seed(purpose string, numbers ...int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // never fails
	var b [8]byte
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		_, _ = h.Write(b[:])
	}
	return h.Sum64() ^ p.Spec.Seed
}

func (p *Plan) source(purpose string, numbers ...int) rand.Source {
	return rand.NewPCG(p.Spec.Seed, p.seed(purpose, numbers...))
}
