package energy

import "time"

// steps counts the decode steps of a group in the pass that cuts windows. With n members showing tokens, a
// step of their batch brings n tokens, so a token is 1/n of a step. Members that have shown nothing for
// many steps (a parser withholds their tokens) leave the list of those that do: they step with the batch,
// but do not count in finding how many steps there were.
//
// The token that ends a step tells of work done since the one before it. It is therefore spread back over
// the windows since then: a step that ends with a neighbour's prefill shows its tokens a moment after the
// window was cut, and would otherwise count in the next one.
type steps struct {
	oldest, newest int32 // list of members that show tokens, by their last token
	showing        int
	total          float64
}

const (
	silentSteps = 16
	// stepReach is how far back a token's step is spread; windows are settled no sooner.
	stepReach  = 250 * int64(time.Millisecond)
	stepWindow = 8 // windows that one token is spread over at most
)

// show notes that request i showed a token: it moves to the young end of the list.
func (l *Ledger) show(i int32) {
	r := l.req(i)
	g := &r.group.steps
	l.hide(i)
	r.shown = true
	r.lastStep = g.total
	r.prevShown, r.nextShown = g.newest, -1
	if g.newest >= 0 {
		l.req(g.newest).nextShown = i
	} else {
		g.oldest = i
	}
	g.newest = i
	g.showing++
	for o := g.oldest; o != i && g.total-l.req(o).lastStep > silentSteps; o = g.oldest {
		l.hide(o)
	}
}

func (l *Ledger) hide(i int32) {
	r := l.req(i)
	if !r.shown {
		return
	}
	g := &r.group.steps
	r.shown = false
	g.showing--
	if r.prevShown >= 0 {
		l.req(r.prevShown).nextShown = r.nextShown
	} else {
		g.oldest = r.nextShown
	}
	if r.nextShown >= 0 {
		l.req(r.nextShown).prevShown = r.prevShown
	} else {
		g.newest = r.prevShown
	}
}

// step counts the tokens that request i showed at the moment at.
func (l *Ledger) step(i int32, at, tokens int64) {
	r := l.req(i)
	g := r.group
	l.show(i)
	n := float64(tokens) / float64(g.steps.showing)
	g.steps.total += n
	from := max(r.flast, at-stepReach)
	r.flast = at
	f := &l.front
	w := &f.open
	end := at
	for k := f.windows.len() - 1; w.t0 > from && k >= 0 && f.windows.len()-k <= stepWindow; k-- {
		w.steps[g.index] += n * float64(end-w.t0) / float64(at-from)
		end = w.t0
		w = f.windows.at(k)
	}
	if at > from {
		n *= float64(end-from) / float64(at-from)
	}
	w.steps[g.index] += n
}
