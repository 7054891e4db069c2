package energy

// sharing is what the slots of a server have in common. It is learnt: every assumption is fitted to the
// same windows, and the one that predicts best is used (learn.go).
type sharing uint8

const (
	// splitCaches: each slot has its own KV cache. Only runs of adjacent slots decode in one batch, so a
	// step reads the weights once a run. llama-server -np N without --kv-unified.
	splitCaches sharing = iota
	// sharedRead: one read of the weights serves all decoders, and a token attends to its own context.
	sharedRead
	// sharedCache: one cache holds the cells of every slot, and a token's attention passes over all of
	// them: those of its neighbours, and those that requests left behind (llama-server --kv-unified).
	sharedCache
	sharings
)

// In a shared cache a step of n decoders costs e0 + n c + k x cells: the cells are read once, for all of
// them, and those that a request left behind when it ended are read as well. For these the exact Shapley
// share is n/(n+1) to the one who left them (without any decoder they would not be read) and 1/(n(n+1))
// to each decoder. A request that has ended therefore stays open while those beside it go on, until the
// server clears its cells (it does so when it starts the next task), at most settle_max.

// cells are the cached tokens that a step attends to, in the middle of the window.
func (g *group) cells() float64 { return g.contexts() + g.leftCells }

// contexts are those of the members.
func (g *group) contexts() float64 {
	return max(g.context+float64(g.n)*(g.stepped-g.inWindow/2), 0)
}

// leave notes that request i has ended and that its cells stay.
func (l *Ledger) leave(i int32) {
	r := l.req(i)
	g := r.group
	if g.holding == 0 {
		l.clearCells(g)
		return
	}
	cells := float64(r.tokens)
	if r.counts.Known {
		cells = float64(r.counts.PromptTokens + r.counts.OutputTokens)
	}
	g.leftCells += cells
	if g.sharing == sharedCache && len(g.left) < maxSlots {
		r.left, r.ctx, r.dec = true, cells, g.sums
		g.left = append(g.left, i)
	}
}

// clearCells ends what those who left owe for their cells: they are final.
func (l *Ledger) clearCells(g *group) {
	g.leftCells = 0
	left := g.left
	g.left = g.left[:0]
	for _, i := range left {
		l.settleCells(i)
	}
	if g.n == 0 {
		l.emptyPot(g)
	}
}

// expireCells settles those whose cells have been there for longer than a result may wait.
func (l *Ledger) expireCells(now int64) {
	for _, g := range l.busy {
		for len(g.left) > 0 && now-l.req(g.left[0]).end > int64(l.cfg.SettleMax) {
			l.settleCells(g.left[0])
			copy(g.left, g.left[1:])
			g.left = g.left[:len(g.left)-1]
		}
	}
}

// settleCells draws what request i owes for its cells.
func (l *Ledger) settleCells(i int32) {
	r := l.req(i)
	g := r.group
	uj := g.pot.take(r.ctx * (g.sums.left - r.dec.left))
	r.decodeUJ += uj
	l.back.given.active += uj
	r.left = false
	l.finish(i)
}
