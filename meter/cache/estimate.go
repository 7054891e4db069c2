package cache

import (
	"math"

	"wattline/meter/prompt"
)

// anchor is a place in a prompt of which the number of tokens is known: the end of an earlier prompt with which it begins, or
// its own end.
type anchor struct{ weight, tokens float64 }

// ruler turns a prompt's weight (prompt.Fingerprint.Weight) into tokens.
type ruler struct {
	anchors    []anchor
	ratio, err float64 // tokens a unit of weight, and its standard error
	media      bool
}

// How far the tokens of a stretch of text are off when they are estimated from the mean of a whole prompt: program text,
// prose and JSON have different ratios. The first is an assumption.
const (
	ratioError = 0.08
	flatError  = 2 // tokens, of where a template's own tokens lie
)

// newRuler measures a prompt with its own count and that of the prompt that it is compared with.
func newRuler(q, p *Request) *ruler {
	r := &ruler{anchors: []anchor{{0, 0}}}
	wq, wp := q.Prompt.Weight(), p.Prompt.Weight()
	r.anchors = append(r.anchors, anchor{wq, float64(q.PromptTokens.V)})
	rq := float64(q.PromptTokens.V) / wq
	rp := rq
	if p.PromptTokens.Valid && wp > 0 && !p.Prompt.Several { // the counts of several are sums
		rp = float64(p.PromptTokens.V) / wp
	}
	r.ratio = (rq + rp) / 2
	r.err = math.Hypot(ratioError*r.ratio, (rq-rp)/2)
	r.media = q.Prompt.HasMedia()
	return r
}

// mark notes that the prompt's beginning of that weight has so many tokens.
func (r *ruler) mark(weight, tokens float64) { r.anchors = append(r.anchors, anchor{weight, tokens}) }

// tokens estimates the tokens of the prompt's beginning up to a weight, from the nearest anchor.
func (r *ruler) tokens(weight float64) (n, sigma float64) {
	best := r.anchors[0]
	for _, a := range r.anchors {
		if math.Abs(a.weight-weight) < math.Abs(best.weight-weight) {
			best = a
		}
	}
	away := weight - best.weight
	n = max(0, best.tokens+away*r.ratio)
	sigma = math.Hypot(flatError, math.Abs(away)*r.err)
	if r.media && math.Abs(away) > prompt.Block {
		sigma = math.Hypot(sigma, mediaTokens)
	}
	return n, sigma
}

// mediaTokens is how far the tokens of an image may be off.
const mediaTokens = 300

// How far the tokens of a reply may be off where it is recognised by its size.
const (
	replyShare = 0.25
	replyFlat  = 16
)

// reply is how many tokens a server would have reused of the reply to p, if an assistant's message of that weight came back: the
// server generated them, so they are in its cache. Where there are as many, it is all that both have; otherwise a number between
// none and that. Whether the tokens are the same no request shows.
func (r *ruler) reply(p *Request, weight float64) (n, sigma float64) {
	if !p.OutputTokens.Valid || p.Prompt.Several {
		return 0, 0
	}
	said, back := float64(p.OutputTokens.V), weight*r.ratio
	both := min(said, back)
	if math.Abs(back-said) > replyShare*said+replyFlat {
		return both / 2, both / math.Sqrt(12)
	}
	return both, both / math.Sqrt(3)
}
