package energy

import "time"

// stepCounter counts the decode steps of a group. With n members streaming tokens, a step of their batch
// brings n tokens, so a token is 1/n of a step. A member that has shown no token for maxSilentSteps (a parser
// withholds them) does not count as streaming.
//
// A token is evidence of work since the member's token before it, so its part of a step is spread over the
// windows since then. Otherwise the tokens of a step that ends with a neighbour's prefill, which come a
// moment after the window was cut, would count in the next window.
type stepCounter struct {
	oldest, newest int32 // list of streaming members, by their last token
	streaming      int
	total          float64
}

const (
	maxSilentSteps = 16
	// maxStepSpread is how far back a token's step is spread; windows are not settled before that.
	maxStepSpread  = 250 * int64(time.Millisecond)
	maxStepWindows = 8 // most windows that one token is spread over
)

// startStreaming notes that request i showed a token: it moves to the end of the list. Members that have been
// silent too long leave it.
func (l *Ledger) startStreaming(i int32) {
	r := l.req(i)
	g := &r.group.stepCounter
	l.stopStreaming(i)
	r.streaming = true
	if r.hushed {
		r.hushed = false
		l.queue.push(queuedEvent{at: r.segLastToken + 1, request: r.key, req: i, kind: doubtful})
	}
	r.lastStep = g.total
	r.prevStreaming, r.nextStreaming = g.newest, -1
	if g.newest >= 0 {
		l.req(g.newest).nextStreaming = i
	} else {
		g.oldest = i
	}
	g.newest = i
	g.streaming++
	for o := g.oldest; o != i && g.total-l.req(o).lastStep > maxSilentSteps; o = g.oldest {
		l.stopStreaming(o)
		l.hushed(o, l.req(i).segLastToken)
	}
}

func (l *Ledger) stopStreaming(i int32) {
	r := l.req(i)
	if !r.streaming {
		return
	}
	g := &r.group.stepCounter
	r.streaming = false
	g.streaming--
	if r.prevStreaming >= 0 {
		l.req(r.prevStreaming).nextStreaming = r.nextStreaming
	} else {
		g.oldest = r.nextStreaming
	}
	if r.nextStreaming >= 0 {
		l.req(r.nextStreaming).prevStreaming = r.prevStreaming
	} else {
		g.newest = r.prevStreaming
	}
}

// countStep counts the tokens that request i showed at the moment at.
func (l *Ledger) countStep(i int32, at, tokens int64) {
	r := l.req(i)
	g := r.group
	l.startStreaming(i)
	n := float64(tokens) / float64(g.stepCounter.streaming)
	g.stepCounter.total += n
	from := max(r.segLastToken, at-maxStepSpread)
	r.segLastToken = at
	seg := &l.segmenter
	w := &seg.open
	end := at
	for k := seg.windows.len() - 1; w.t0 > from && k >= 0 && seg.windows.len()-k <= maxStepWindows; k-- {
		w.steps[g.index] += n * float64(end-w.t0) / float64(at-from)
		end = w.t0
		w = seg.windows.at(k)
	}
	if at > from {
		n *= float64(end-from) / float64(at-from)
	}
	w.steps[g.index] += n
}
