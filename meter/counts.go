package meter

import "math/bits"

// Counts are one source's numbers about an exchange. For several completions they are sums, except
// the times, which are the longest.
type Counts struct {
	Prompt        Int // prompt tokens, cached ones included
	Cached        Int // of them, reused from the cache
	Output        Int
	Reasoning     Int // of the output
	Draft         Int // speculative tokens drafted
	DraftAccepted Int
	PromptUs      Int // the server's prompt_ms
	PredictedUs   Int // the server's predicted_ms
}

// tokens are the counts of which there is one a column.
func (c *Counts) tokens() TokenCounts { return TokenCounts{c.Prompt, c.Cached, c.Output} }

// overlay replaces the counts that o has.
func (c *Counts) overlay(o *Counts) {
	from := o.fields()
	for i, p := range c.fields() {
		if from[i].Valid {
			*p = *from[i]
		}
	}
}

func (c *Counts) fields() [8]*Int {
	return [...]*Int{
		&c.Prompt, &c.Cached, &c.Output, &c.Reasoning, &c.Draft, &c.DraftAccepted,
		&c.PromptUs, &c.PredictedUs,
	}
}

// source is who told a number.
type source uint8

const (
	usage source = iota
	timings
	native
	sources
)

// number is one number as a source names it. A prompt is told whole or in parts, and a later event may repeat only some
// of the parts: so they are added at the end.
type number uint8

const (
	promptWhole   number = iota // prompt_tokens, tokens_evaluated: cached tokens included
	promptNew                   // input_tokens, prompt_n: without the two that follow
	promptRead                  // cache_read_input_tokens, cache_n
	promptWritten               // cache_creation_input_tokens
	cachedWhole                 // cached_tokens
	outputTokens
	reasoningTokens
	draftTokens
	draftAccepted
	promptTime // in us, as the next
	predictedTime
	numbers
)

// told are the numbers of one source.
type told struct {
	v   [numbers]int64
	has uint16 // bits by number
}

func (t *told) set(n number, v int64) { t.v[n], t.has = v, t.has|1<<n }

func (t *told) get(n number) Int { return Int{V: t.v[n], Valid: t.has>>n&1 == 1} }

func (t *told) forget(n number) { t.v[n], t.has = 0, t.has&^(1<<n) }

// overlay replaces the numbers that o has.
func (t *told) overlay(o *told) {
	for left := o.has; left != 0; left &= left - 1 {
		n := number(bits.TrailingZeros16(left))
		t.set(n, o.v[n])
	}
}

// add sums the numbers and keeps the longer times.
func (t *told) add(o *told) {
	for left := o.has; left != 0; left &= left - 1 {
		n := number(bits.TrailingZeros16(left))
		if n == promptTime || n == predictedTime {
			t.set(n, max(t.v[n], o.v[n]))
			continue
		}
		t.set(n, min(t.v[n]+o.v[n], 1<<53)) // no server's sum; an endless hostile one must not wrap
	}
}

func (t *told) counts() Counts {
	c := Counts{
		Prompt: t.get(promptWhole), Cached: t.get(cachedWhole), Output: t.get(outputTokens), Reasoning: t.get(reasoningTokens),
		Draft: t.get(draftTokens), DraftAccepted: t.get(draftAccepted), PromptUs: t.get(promptTime), PredictedUs: t.get(predictedTime),
	}
	if part := t.get(promptNew); part.Valid && !c.Prompt.Valid {
		c.Prompt = Some(part.V + t.v[promptRead] + t.v[promptWritten])
	}
	if !c.Cached.Valid {
		c.Cached = t.get(promptRead)
	}
	return c
}

// tally gathers one source's numbers. DEFINITIONS.md, "Who may overwrite whom", has the rule; rule_test.go holds this
// to a slow reading of it.
type tally struct {
	early     told   // told while a completion ran
	finals    []told // of each completion since its end, by its index, up to the last that told some
	rest      told   // sum for those beyond trackedCounts
	nFinals   int64  // completions that told final numbers
	finalThen int64  // completions that had ended when the newest of these came
	closed    told   // totals of completions that had ended when others had not
	total     told   // the newest total
	endedThen int64  // completions that had ended when it came
	nTotals   int64  // totals that count: closed ones and the newest
}

// trackedCounts bounds the completions of one exchange whose final numbers may be told again.
const trackedCounts = 16

func (t *tally) reset() {
	clear(t.finals)
	*t = tally{finals: t.finals[:0]}
}

// soFar enters numbers of a completion that runs.
func (t *tally) soFar(o *told) { t.early.overlay(o) }

// final enters numbers of a completion that has ended, when so many had.
func (t *tally) final(completion int64, o *told, ended int64) {
	t.finalThen = ended
	if completion < 0 || completion >= trackedCounts {
		t.rest.add(o)
		t.nFinals++
		return
	}
	for int(completion) >= len(t.finals) {
		t.finals = append(t.finals, told{})
	}
	f := &t.finals[completion]
	if f.has == 0 {
		t.nFinals++
	}
	f.overlay(o)
}

// whole enters numbers that stand beside no completion, when so many had ended: those of all, or of the ones that ended
// since the last such numbers.
func (t *tally) whole(o *told, ended int64) {
	if t.nTotals == 0 || t.endedThen > 0 && ended > t.endedThen {
		t.closed.add(&t.total)
		t.total = told{}
		t.nTotals++
	}
	t.total.overlay(o)
	t.endedThen = ended
}

// covers returns how many of the completions the numbers cover: all, if they were told once, after the last had ended.
func (t *tally) covers(completions int64) int64 {
	if t.nTotals == 1 && t.endedThen >= completions || t.nFinals == 1 && t.finalThen >= completions {
		return completions
	}
	return max(t.nTotals, t.nFinals)
}

// sum returns the final numbers. The prompt's come from the start of a stream where its end has none; the number of
// output tokens never does.
func (t *tally) sum() Counts {
	var all told
	if t.nTotals > 0 {
		all = t.closed
		all.add(&t.total)
	} else {
		all = t.rest
		for i := range t.finals {
			all.add(&t.finals[i])
		}
	}
	early := t.early
	early.has &= 1<<promptWhole | 1<<promptNew | 1<<promptRead | 1<<promptWritten | 1<<cachedWhole | 1<<promptTime
	early.overlay(&all)
	return early.counts()
}

// lowerBound is the source's last number of output tokens from before the completion's end.
func (t *tally) lowerBound() Int { return t.early.get(outputTokens) }
