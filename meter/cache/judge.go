package cache

import (
	"fmt"
	"math"
	"slices"

	"wattline/meter"
	"wattline/meter/prompt"
)

// maxCompared bounds with how many earlier prompts one is compared part by part.
const maxCompared = 6

// candidate is an earlier prompt and how a new one relates to it.
type candidate struct {
	*Request
	common int64
	diff   *prompt.Difference
}

// Judge compares a finished request with the prompts that its server knew when it began. Add it afterwards.
func (h *History) Judge(q *Request) Verdict {
	if why := unjudged(q); why != "" {
		return Verdict{Verdict: Unknown, Why: why}
	}
	found := h.candidates(q)
	if len(found) == 0 {
		return nothingKnown(q)
	}
	longest, kept := best(found)
	r := newRuler(q, kept.Request)
	for _, c := range found {
		if c.diff.Whole && c.PromptTokens.Valid && !c.Prompt.Several {
			r.mark(c.Prompt.Weight(), float64(c.PromptTokens.V))
		}
	}
	if w := kept.Prompt.Weight(); !kept.diff.Whole && kept.diff.Change.Cause != "" && kept.PromptTokens.Valid && !kept.Prompt.Several {
		r.mark(w, float64(kept.PromptTokens.V))
	}
	j := judgement{h: h, q: q, longest: longest, kept: kept, ruler: r}
	return j.verdict()
}

// unjudged says why nothing can be said of a request, "" if something can.
func unjudged(q *Request) string {
	switch {
	case q.Unread != "":
		return "the request's body was not read: " + q.Unread
	case q.Prompt != nil && q.Prompt.Unread != "":
		return "the request's body was not read: " + q.Prompt.Unread
	case q.Prompt == nil || q.Prompt.Broken:
		return "the request's body has no prompt that wattline knows"
	case q.Prompt.Previous:
		return "previous_response_id: the server has the earlier messages, the request does not"
	case q.Prompt.Several:
		return "several prompts or completions in one request"
	case !q.PromptTokens.Valid || !q.CachedTokens.Valid:
		return "the reply does not tell how many prompt tokens were reused"
	}
	return ""
}

// few is how many tokens any two prompts share: what a template begins with.
const few = 64

func nothingKnown(q *Request) Verdict {
	if q.CachedTokens.V > few {
		return Verdict{Verdict: Unknown, Why: fmt.Sprintf("%d tokens were reused of a prompt that wattline does not know", q.CachedTokens.V)}
	}
	return Verdict{Verdict: Cold, Why: "no earlier prompt begins like this one", Expected: meter.Some(0), Lost: meter.Some(0)}
}

// candidates compares q with the prompts that were finished before it began, the most alike first, at most maxCompared.
func (h *History) candidates(q *Request) []candidate {
	list := h.servers[q.Server]
	out := make([]candidate, 0, maxCompared)
	sessions := 0
	for i := len(list) - 1; i >= 0; i-- {
		p := list[i]
		if p.Ended > q.Started || p.Prompt == nil || p.Prompt.Broken || p.Prompt.Previous || !p.PromptTokens.Valid || len(p.Prompt.Parts) == 0 {
			continue
		}
		c := candidate{Request: p, common: prompt.Common(&q.Prompt.Fingerprint, &p.Prompt.Fingerprint)}
		switch { // the last turns, and the last prompt of all
		case q.Session != "" && p.Session == q.Session && sessions < 2:
			sessions++
			c.common += 1 << 40
		case len(out) == 0:
			c.common += 1 << 40
		}
		at := len(out)
		for at > 0 && out[at-1].common < c.common {
			at--
		}
		if at < maxCompared {
			out = slices.Insert(out[:min(len(out), maxCompared-1)], at, c)
		}
	}
	kept := out[:0]
	for _, c := range out {
		c.diff = prompt.Compare(q.Prompt, c.Prompt, q.Session != "" && q.Session == c.Session)
		if c.diff.Common == 0 && c.diff.Change.Cause == "" {
			continue
		}
		h.use(c.Request)
		kept = append(kept, c)
	}
	return kept
}

// best returns the candidate with which most matches at the beginning, and the one with which most is shared: the earlier turn
// of a prompt that changed. Of equals the latest comes first.
func best(found []candidate) (longest, kept candidate) {
	longest, kept = found[0], found[0]
	for _, c := range found[1:] {
		if c.diff.Matched > longest.diff.Matched || c.diff.Matched == longest.diff.Matched && c.Ended > longest.Ended {
			longest = c
		}
		if c.diff.Shared > kept.diff.Shared || c.diff.Shared == kept.diff.Shared && c.Ended > kept.Ended {
			kept = c
		}
	}
	return longest, kept
}

// judgement is one request on its way to a verdict.
type judgement struct {
	h             *History
	q             *Request
	longest, kept candidate
	ruler         *ruler
}

// estimate is how many tokens of q could have been reused of one earlier prompt: those of q's beginning up to a weight.
type estimate struct {
	from          candidate
	weight        float64
	tokens, sigma float64
}

// estimate counts no more than can be reused: the last token is always computed.
func (j *judgement) estimate(from candidate, weight float64) estimate {
	n, sigma := j.ruler.tokens(weight)
	return estimate{from, weight, min(n, float64(j.q.PromptTokens.V-1)), sigma}
}

// The share of a count within which two counts are the same.
const alike = 0.02

func (j *judgement) verdict() Verdict {
	q := j.q
	reused := float64(q.CachedTokens.V)
	matched := j.estimate(j.longest, j.longest.diff.Matched)
	expected := matched
	if w := j.kept.diff.Kept; w > matched.weight {
		if e := j.estimate(j.kept, w); e.tokens >= matched.tokens {
			expected = e
		}
	}
	slack := func(e estimate) float64 {
		s := 16 + alike*e.tokens + 2*e.sigma
		if !j.longest.diff.Exact || !j.kept.diff.Exact {
			s += prompt.Block * j.ruler.ratio
		}
		return s
	}
	v := Verdict{
		Expected: meter.Some(int64(expected.tokens + 0.5)), Sigma: expected.sigma, Lost: meter.Some(0),
		Predecessor: j.kept.ID, MatchedBytes: meter.Some(j.longest.diff.Common), MatchedTokens: meter.Some(int64(matched.tokens + 0.5)),
	}
	if q.CachePrompt == meter.Some(0) && matched.tokens > slack(estimate{sigma: matched.sigma}) {
		return j.server(v, matched, reused)
	}
	if reused+slack(expected) >= expected.tokens {
		if expected.tokens <= few && reused <= few {
			v.Verdict, v.Why, v.Predecessor = Cold, "no earlier prompt begins like this one", ""
			return v
		}
		v.Verdict = Hit
		return v
	}
	byServer, byClient := matched.tokens-reused, expected.tokens-matched.tokens
	// A changed prompt that came in between took the place of the one that matches.
	instead := j.kept.diff.Change.Cause != "" && j.kept.Ended > j.longest.Ended
	if byServer > slack(matched) && byServer >= byClient && !instead {
		return j.server(v, expected, reused)
	}
	if j.kept.diff.Change.Cause == "" { // no change explains it: the difference is in how tools and system prompt are put together
		if byServer > byClient {
			return j.server(v, expected, reused)
		}
		v.Verdict, v.Lost = Hit, meter.Some(0)
		v.Expected, v.Sigma = meter.Some(int64(matched.tokens+0.5)), matched.sigma
		return v
	}
	d := j.kept.diff
	v.Verdict, v.Cause, v.Change = Client, d.Change.Cause, d.Change
	v.Part = d.Name
	j.lose(&v, expected, reused)
	if d.Exact {
		v.Offset = meter.Some(int64(d.Offset))
	}
	v.Why = fmt.Sprintf("%s differs at byte %d from the earlier prompt; %d bytes behind it are the same", v.Part, d.Offset, d.After)
	if !d.Exact {
		v.Why = fmt.Sprintf("%s differs behind byte %d or so from the earlier prompt, whose text was forgotten; %d bytes behind it are the same", v.Part, d.Offset, d.After)
	}
	if d.Change.What != "" {
		v.Why += "; what changed is a " + d.Change.What
	}
	return v
}

// server completes the verdict that the server reused less than matched.
func (j *judgement) server(v Verdict, expected estimate, reused float64) Verdict {
	v.Verdict, v.Predecessor = Server, j.longest.ID
	j.lose(&v, expected, reused)
	v.Cause, v.Why, v.TakenBy = j.h.serverCause(j.q, j.longest.Request, j.longest.diff)
	v.Ask = v.Cause == Undetermined && !j.longest.Earlier
	return v
}

// lose fills in what a loss has cost: of the prompt, and of the reply to the earlier prompt where the estimate reaches its end.
func (j *judgement) lose(v *Verdict, e estimate, reused float64) {
	expected, sigma := e.tokens, e.sigma
	if e.weight >= e.from.diff.Kept {
		n, of := j.ruler.reply(e.from.Request, e.from.diff.Reply)
		expected, sigma = min(expected+n, float64(j.q.PromptTokens.V-1)), math.Hypot(sigma, of)
	}
	v.Expected, v.Sigma, v.Lost = meter.Some(int64(expected+0.5)), sigma, meter.Some(max(0, int64(expected-reused+0.5)))
}
