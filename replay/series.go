package replay

import (
	"fmt"
	"slices"
)

// Series is the requests of one prompt size, one output size or one task, whatever else they were: the
// guide's small, medium and large prompts, short, medium and long outputs, coding and list.
type Series struct {
	Name            string `json:"name"`
	Requests        int    `json:"requests"`
	TTFTMs          Num    `json:"ttft_ms"` // means
	TokensPerSecond Num    `json:"series_tokens_per_second"`
	DecodeTPS       Num    `json:"decode_tps"`
	TokensPerJoule  Num    `json:"series_tokens_per_joule"` // sum of tokens ÷ sum of joules
	TokensPerWatt   Num    `json:"series_tokens_per_watt"`
}

// series cuts a whole grid along each of its sides; anything less has none, as its cells differ in more
// than one thing.
func (r *Run) series(ok []*Exchange) []Series {
	var prompts, outputs []int
	var tasks []string
	ran := map[Cell]bool{}
	for _, e := range ok {
		c := r.Plan.Cells[e.Key.Cell]
		ran[c] = true
		prompts, outputs, tasks = append(prompts, c.PromptTokens), append(outputs, c.OutputTokens), append(tasks, c.Task)
	}
	prompts, outputs, tasks = distinct(prompts), distinct(outputs), distinct(tasks)
	if len(ran) < 2 || len(ran) != len(prompts)*len(outputs)*len(tasks) {
		return nil
	}
	var out []Series
	cut := func(name string, of func(Cell) bool) {
		list := slices.DeleteFunc(slices.Clone(ok), func(e *Exchange) bool { return !of(r.Plan.Cells[e.Key.Cell]) })
		out = append(out, Series{
			Name: name, Requests: len(list), TTFTMs: StatOf(each(list, ttftMs)).Mean, TokensPerSecond: StatOf(each(list, (*Exchange).TokensPerSecond)).Mean,
			DecodeTPS: StatOf(each(list, (*Exchange).DecodeTPS)).Mean, TokensPerJoule: tokensPerJoule(list),
			TokensPerWatt: StatOf(each(list, func(e *Exchange) Num { return e.inLine(TokensPerWatt) })).Mean,
		})
	}
	for i, n := range prompts {
		cut(sized(i, len(prompts), n, "small", "medium", "large")+" prompts", func(c Cell) bool { return c.PromptTokens == n })
	}
	for i, n := range outputs {
		cut(sized(i, len(outputs), n, "short", "medium", "long")+" outputs", func(c Cell) bool { return c.OutputTokens == n })
	}
	for _, t := range tasks {
		cut(t, func(c Cell) bool { return c.Task == t })
	}
	return out
}

func distinct[T int | string](v []T) []T {
	slices.Sort(v)
	return slices.Compact(v)
}

// sized is the guide's word for the i-th of n sizes, where it has one.
func sized(i, n, size int, small, medium, large string) string {
	word := ""
	switch {
	case n == 3 && i == 1:
		word = medium
	case n > 3 || n < 2:
		return SizeName(size)
	case i == 0:
		word = small
	default:
		word = large
	}
	return fmt.Sprintf("%s (%s)", word, SizeName(size))
}
