package twin

import (
	"math"

	"wattline/meter/prompt"
)

// tree has the places of many prompts that begin alike. A node is a place in a prompt; the way to it from the root is all of
// the prompt before it. A stretch between two nodes is one step of a part's chain of hashes, or what a part has behind its last
// step. Hashes are keys here and go nowhere else.
type tree struct {
	nodes []node
	known map[step]int32
	seen  []sighting
}

// node is a place. Its parent has a lower index.
type node struct {
	parent int32
	weight float32 // of the stretch before it: bytes, and what a template writes around a part
	media  bool    // the stretch is an image or sound, whose tokens its bytes do not tell
	reply  bool    // the stretch is of an assistant's message
	tokens float64 // from the root, once fit has run
	sigma  float64 // its standard error
}

// step is a stretch by its hash. A hash of a chain depends on all bytes of the part before it.
type step struct {
	start int32 // where its part begins
	at    int32 // number of the step in the part; whole: all of the part
	hash  uint64
}

const whole = -1

// sighting is a place of which the number of tokens is known.
type sighting struct {
	node          int32
	tokens, sigma float64
}

const root = 0

func newTree() *tree {
	return &tree{nodes: []node{{parent: -1}}, known: map[step]int32{}}
}

// Weights of what a prompt has beside its bytes, in bytes: package prompt estimates with the same.
const (
	partWeight  = 16
	mediaWeight = 3000
)

// add adds a prompt that begins at a place. end is its last place, shared the last one that an earlier prompt has too. Settings
// of a template are in the request and not in the prompt: they are passed over.
func (t *tree) add(from int32, f *prompt.Fingerprint) (end, shared int32) {
	fresh := int32(len(t.nodes))
	end = from
	for i := range f.Parts {
		if f.Parts[i].Kind != prompt.Settings {
			end = t.part(end, &f.Parts[i])
		}
	}
	for shared = end; shared >= fresh; {
		shared = t.nodes[shared].parent
	}
	return end, shared
}

// part goes over a part's stretches and adds those that are new.
func (t *tree) part(start int32, p *prompt.Part) int32 {
	last := step{start, whole, p.Sum}
	if n, ok := t.known[last]; ok {
		return n
	}
	at, from := start, 0 // steps before from are known
	for i := len(p.Blocks); i > 0; i-- {
		if n, ok := t.known[step{start, int32(i), p.Blocks[i-1]}]; ok && p.Blocks[i-1] != 0 {
			at, from = n, i
			break
		}
	}
	head := float32(partWeight)
	if from > 0 {
		head = 0
	}
	media := p.Kind == prompt.Image || p.Kind == prompt.Audio
	done := from
	for i := from + 1; i <= len(p.Blocks) && !media; i++ {
		if p.Blocks[i-1] == 0 { // a stored fingerprint may lack some
			continue
		}
		at = t.grow(at, step{start, int32(i), p.Blocks[i-1]}, p, float32((i-done)*prompt.Block)+head)
		done, head = i, 0
	}
	rest := float32(p.Len-done*prompt.Block) + head
	if media {
		rest = mediaWeight
	}
	return t.grow(at, last, p, rest)
}

// branch returns a beginning with which prompts share nothing with those of other beginnings.
func (t *tree) branch() int32 {
	t.nodes = append(t.nodes, node{parent: root})
	return int32(len(t.nodes) - 1)
}

func (t *tree) grow(at int32, s step, p *prompt.Part, weight float32) int32 {
	n := int32(len(t.nodes))
	t.nodes = append(t.nodes, node{parent: at, weight: weight, media: p.Kind == prompt.Image || p.Kind == prompt.Audio, reply: p.Role == prompt.Assistant})
	t.known[s] = n
	return n
}

// see notes how many tokens a prompt has up to a place.
func (t *tree) see(n int32, tokens, sigma float64) {
	t.seen = append(t.seen, sighting{n, tokens, sigma})
}

// How far the tokens of a stretch are off that are estimated from its bytes: 8 % at 4 KB, and by the root of the length
// elsewhere, as the texts of a stretch differ in kind. Both are assumptions; the counts that are seen bound what comes of them.
const (
	stretchError = 0.08
	stretchBytes = 4096
	mediaError   = 300 // tokens
)

// belief is what a place's own count and the prompts behind it tell of its tokens.
type belief struct{ mean, precision float64 }

func (b *belief) add(mean, precision float64) {
	if p := b.precision + precision; p > 0 && precision > 0 {
		b.mean, b.precision = (b.mean*b.precision+mean*precision)/p, p
	}
}

// fit gives each place its tokens: the most probable ones where each stretch has a mean of ratio tokens a byte, an error that
// grows with the root of its length, and the counts that were seen. Two passes over the tree find them, as in a Kalman
// smoother. Tokens never fall along a prompt. It returns the ratio.
func (t *tree) fit() float64 {
	own := make([]belief, len(t.nodes))
	for _, s := range t.seen {
		own[s.node].add(s.tokens, 1/(s.sigma*s.sigma))
	}
	ratio := t.ratio()
	noise := func(n *node) float64 {
		if n.media {
			return mediaError * mediaError
		}
		return stretchError * stretchError * ratio * ratio * stretchBytes * float64(n.weight)
	}
	for i := len(t.nodes) - 1; i > 0; i-- {
		n := &t.nodes[i]
		if b := own[i]; b.precision > 0 {
			own[n.parent].add(b.mean-ratio*float64(n.weight), 1/(1/b.precision+noise(n)))
		}
	}
	t.nodes[root].tokens, t.nodes[root].sigma = 0, 0
	for i := 1; i < len(t.nodes); i++ {
		n := &t.nodes[i]
		p := &t.nodes[n.parent]
		n.tokens, n.sigma = p.tokens, p.sigma
		if n.weight == 0 {
			continue
		}
		v := noise(n)
		b := belief{p.tokens + ratio*float64(n.weight), 1 / v}
		b.add(own[i].mean, own[i].precision)
		n.tokens = max(b.mean, p.tokens)
		follows := 1 / v / b.precision // by how much the place moves with the one before it
		n.sigma = math.Sqrt(1/b.precision + follows*follows*p.sigma*p.sigma)
	}
	return ratio
}

// ratio is tokens a unit of weight over all counts.
func (t *tree) ratio() float64 {
	weight := make([]float64, len(t.nodes))
	for i := 1; i < len(t.nodes); i++ {
		weight[i] = weight[t.nodes[i].parent] + float64(t.nodes[i].weight)
	}
	tokens, of := 0.0, 0.0
	for _, s := range t.seen {
		tokens, of = tokens+s.tokens, of+weight[s.node]
	}
	if tokens == 0 || of == 0 {
		return defaultRatio
	}
	return tokens / of
}

// defaultRatio is used where no count was seen.
const defaultRatio = 0.25

// path appends the places from the root, without it, to n.
func (t *tree) path(dst []int32, n int32) []int32 {
	from := len(dst)
	for ; n > root; n = t.nodes[n].parent {
		dst = append(dst, n)
	}
	for i, j := from, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}

// before reports whether a is on the way to b.
func (t *tree) before(a, b int32) bool {
	for b > a {
		b = t.nodes[b].parent
	}
	return a == b
}
