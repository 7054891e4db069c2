package meter

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

// stage is when a count was sent.
type stage uint8

const (
	soFar stage = iota // while the completion runs
	final              // of one completion that ended
	total              // of the whole exchange, or of one completion after its end: the event without choices
)

// tally gathers one source's counts. Events without choices outrank those that end a completion: where
// both carry a source, the latter is repeated in the former.
type tally struct {
	at [total + 1]Counts
	n  [total + 1]int64 // events entered
}

func (t *tally) enter(c *Counts, s stage) {
	if *c == (Counts{}) {
		return
	}
	t.n[s]++
	if s == soFar {
		t.at[s].overlay(c)
		return
	}
	t.at[s].add(c)
}

// last is the stage that has the exchange's counts.
func (t *tally) last() stage {
	if t.n[total] > 0 {
		return total
	}
	return final
}

// completions returns how many completions sum covers.
func (t *tally) completions() int64 { return t.n[t.last()] }

// sum returns the final counts. The prompt's counts come from the start of a stream where its end has none; the number
// of output tokens never does.
func (t *tally) sum() Counts {
	early := &t.at[soFar]
	c := Counts{Prompt: early.Prompt, Cached: early.Cached, PromptUs: early.PromptUs}
	c.overlay(&t.at[t.last()])
	return c
}

// lowerBound is the source's last number of output tokens from before the completion's end.
func (t *tally) lowerBound() Int { return t.at[soFar].Output }

func (c *Counts) fields() [8]*Int {
	return [...]*Int{
		&c.Prompt, &c.Cached, &c.Output, &c.Reasoning, &c.Draft, &c.DraftAccepted,
		&c.PromptUs, &c.PredictedUs,
	}
}

// overlay replaces the counts that o has.
func (c *Counts) overlay(o *Counts) {
	from := o.fields()
	for i, p := range c.fields() {
		if from[i].Valid {
			*p = *from[i]
		}
	}
}

// add sums the counts and keeps the longer times.
func (c *Counts) add(o *Counts) {
	from := o.fields()
	for i, p := range c.fields() {
		switch {
		case !from[i].Valid:
		case p == &c.PromptUs || p == &c.PredictedUs:
			*p = Some(max(p.V, from[i].V))
		default:
			*p = Some(min(p.V+from[i].V, 1<<53)) // no server's sum; an endless hostile one must not wrap
		}
	}
}
