package twin

import (
	"math"

	"wattline/replay/trace"
)

// cutter cuts prompts into blocks: the stretches between places where prompts part or end, or a reply begins or ends.
type cutter struct {
	tree     *tree
	boundary []bool
	ids      []uint32 // by place where a block ends; 0: none yet
	last     uint32
	path     []int32
}

func (x *Exporter) cutter() *cutter {
	c := &cutter{tree: x.tree, boundary: make([]bool, len(x.tree.nodes)), ids: make([]uint32, len(x.tree.nodes))}
	before := make([]bool, len(x.tree.nodes)) // another place follows
	for i := 1; i < len(x.tree.nodes); i++ {
		p := x.tree.nodes[i].parent
		if before[p] || x.tree.nodes[p].reply != x.tree.nodes[i].reply {
			c.boundary[p] = true
		}
		before[p] = true
	}
	for n := range x.ends {
		c.boundary[n] = true
	}
	return c
}

// blocks are those of a prompt that ends at a place; together they have input tokens.
func (c *cutter) blocks(end int32, input int) (out []trace.Block) {
	c.path = c.tree.path(c.path[:0], end)
	done := 0
	for _, n := range c.path {
		if !c.boundary[n] {
			continue
		}
		to := min(int(math.Round(c.tree.nodes[n].tokens)), input)
		if to <= done { // the place has no tokens of its own
			continue
		}
		if c.ids[n] == 0 {
			c.ids[n] = c.next()
		}
		out = append(out, trace.Block{ID: c.ids[n], Tokens: uint32(to - done)})
		done = to
	}
	if done < input {
		out = append(out, trace.Block{ID: c.next(), Tokens: uint32(input - done)})
	}
	return out
}

func (c *cutter) next() uint32 { c.last++; return c.last }

// fixed cuts prompts into blocks of one size, as Mooncake's format has them: the last one has what remains.
type fixed struct {
	size int
	ids  map[place]int
	last int
}

// place is a number of tokens from a prompt's beginning. Prompts with the same block there are equal up to it.
type place struct {
	block  uint32
	tokens int
}

// blocks are numbers from 1. A prompt without blocks shares none.
func (f *fixed) blocks(r *trace.Record) (out []int) {
	next := func() int { f.last++; return f.last }
	of, to := 0, 0 // blocks of the record that were passed, and their tokens
	for at := 0; at < r.Input; {
		at = min(at+f.size, r.Input)
		if r.Blocks == nil {
			out = append(out, next())
			continue
		}
		for to < at {
			to += int(r.Blocks[of].Tokens)
			of++
		}
		p := place{r.Blocks[of-1].ID, at}
		if f.ids[p] == 0 {
			f.ids[p] = next()
		}
		out = append(out, f.ids[p])
	}
	return out
}
