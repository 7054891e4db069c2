package energy

// sharing says what the slots of a server have in common. It is learnt: every assumption is fitted to the same
// windows, and the one that predicts best is used (candidate.go).
type sharing uint8

const (
	// splitCaches: each slot has its own KV cache. Only adjacent slots decode in one batch, so a step reads the
	// weights once for each run of adjacent slots. llama-server -np N without --kv-unified.
	splitCaches sharing = iota
	// sharedRead: one read of the weights serves all decoders, and a token attends to its own context.
	sharedRead
	// sharedCache: one cache holds the cells of every slot, and a token attends to all of them, those of other
	// requests and of ended requests too. llama-server --kv-unified.
	sharedCache
	sharings
)

// In a shared cache a step of n decoders costs e0 + n c + k x cells: the cells are read once for all decoders,
// and the leftover cells of ended requests are read too. The exact Shapley share of a leftover cell is
// n/(n+1) for its owner and 1/(n(n+1)) for each decoder. So a request that has ended stays open while others
// go on, until the server clears its cells (when it starts the next task), at most SettleMax.

// cells are the tokens that a step attends to in a shared cache, in the middle of the window.
func (g *decodeGroup) cells() float64 { return g.contexts() + g.leftoverCells }

// contexts is the sum of the members' contexts, in the middle of the window.
func (g *decodeGroup) contexts() float64 {
	return max(g.context+float64(g.members)*(g.stepped-g.windowSteps/2), 0)
}

// leaveCells notes that request i has ended and that its cells stay in the cache.
func (l *Ledger) leaveCells(i int32) {
	r := l.req(i)
	g := r.group
	if g.slotHolders == 0 {
		l.clearLeftover(g)
		return
	}
	cells := float64(r.tokens)
	if r.counts.Known {
		cells = float64(r.counts.PromptTokens + r.counts.OutputTokens)
	}
	g.leftoverCells += cells
	if g.sharing == sharedCache && len(g.leftoverOwners) < maxSlots {
		r.ownsLeftover, r.contextOffset, r.decodeSnapshot = true, cells, g.sums
		g.leftoverOwners = append(g.leftoverOwners, i)
	}
}

// clearLeftover charges the owners of leftover cells a last time; the server has cleared the cells.
func (l *Ledger) clearLeftover(g *decodeGroup) {
	g.leftoverCells = 0
	left := g.leftoverOwners
	g.leftoverOwners = g.leftoverOwners[:0]
	for _, i := range left {
		l.settleLeftover(i)
	}
	if g.members == 0 {
		l.closeAccount(g)
	}
}

// expireLeftover charges owners a last time once their cells have lain there for SettleMax.
func (l *Ledger) expireLeftover(now int64) {
	for _, g := range l.busyGroups {
		for len(g.leftoverOwners) > 0 && now-l.req(g.leftoverOwners[0]).end > int64(l.cfg.SettleMax) {
			l.settleLeftover(g.leftoverOwners[0])
			copy(g.leftoverOwners, g.leftoverOwners[1:])
			g.leftoverOwners = g.leftoverOwners[:len(g.leftoverOwners)-1]
		}
	}
}

// settleLeftover charges request i with its share of its leftover cells.
func (l *Ledger) settleLeftover(i int32) {
	r := l.req(i)
	g := r.group
	uj := g.account.take(r.contextOffset * (g.sums.leftover - r.decodeSnapshot.leftover))
	r.decodeUJ += uj
	l.allocator.charged.active += uj
	r.ownsLeftover = false
	l.emitResult(i)
}
