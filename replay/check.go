package replay

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"wattline/meter"
)

// State is the result of a check.
type State string

// The states of a check.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	Skipped State = "unknown" // what it needs was not measured; Detail says what
)

// Check is the result of one validity check.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"` // what was seen
}

// Tolerances of the checks.
const (
	lateMs          = 10.0 // open loop: a request sent later than this, and than lateShare of the median ttft, is late
	lateShare       = 0.05
	lateRequests    = 0.01 // share of requests that may be late
	errorShare      = 0.01
	littleTolerance = 0.05
	littleNeeds     = 30
	littleSamples   = 50
	stallSeconds    = 0.3
	idleBand        = 1.15 // up to this much above idle is idle
)

// check is one line of the table of validity checks.
type check struct {
	name   string
	advice string // what a failure means and what to do; GUIDE.md has the same text, and a test compares them
	// run gets the run and its answered requests. The text says what was seen.
	run func(r *Run, ok []*Exchange) (State, string)
}

// checks are all validity checks, in the order in which they are reported. A new one needs a line here, its
// function, and a line in GUIDE.md.
//
//nolint:gochecknoglobals // a constant table
var checks = []check{
	{"schedule", "the client fell behind: lower `--rate` (of a trace `--speed`, or give `--sample`), or send from a faster machine", (*Run).checkSchedule},
	{"cache", "a cold run found a warm cache: another client uses the same server, or it ignores `cache_prompt`", (*Run).checkCache},
	{"prompt tokens", "the server counts otherwise than its tokenizer", (*Run).checkPromptTokens},
	{"output tokens", "the server ended replies early, or does not count them", (*Run).checkOutputTokens},
	{"errors", "more than 1 % of the requests failed; the most frequent errors stand beside it", (*Run).checkErrors},
	{"throttling", "the card slowed down by itself; cool it, or lower its power limit and say so", (*Run).checkThrottle},
	{"Little's law", "requests that the proxy saw and the client did not, or the other way round", (*Run).checkLittle},
	{"stalls", "the server did something else first: compiled kernels (run it again), saved or loaded a prompt (`--cache-ram 0` on the server stops that) or a model, or it hung", (*Run).checkStall},
	{"energy", "the requests were charged more than the card drew: a bug, please report it with the folder", (*Run).checkEnergy},
	{"other GPU users", "another process computed on the card; end it and run again", (*Run).checkContended},
	{"other traffic", "another client used the server meanwhile; only wattline in line can know", (*Run).checkOtherTraffic},
	{"server", "it was restarted, or another model was loaded", (*Run).checkServer},
	{"client and in-line", "two clocks disagree where they cannot: a bug, please report it with the folder", (*Run).checkAgreement},
}

// Check makes every validity check. A run with a failed check is invalid; a check whose data was not measured is
// skipped and says why.
func (r *Run) Check() []Check {
	ok := r.answered()
	var out []Check
	for _, c := range checks {
		state, detail := c.run(r, ok)
		out = append(out, Check{c.name, state, detail})
	}
	return out
}

func passed(format string, args ...any) (State, string) { return Passed, fmt.Sprintf(format, args...) }
func failed(format string, args ...any) (State, string) { return Failed, fmt.Sprintf(format, args...) }
func skipped(format string, args ...any) (State, string) {
	return Skipped, fmt.Sprintf(format, args...)
}

// checkSchedule fails if an open loop sent requests later than scheduled: their latency would be the client's.
func (r *Run) checkSchedule([]*Exchange) (State, string) {
	if r.Plan.Spec.Rate == 0 && r.Plan.Recording == nil {
		return passed("a closed loop has no schedule to fall behind")
	}
	limit := lateMs
	if m := Median(Present(each(r.Exchanges, ttftMs))); m.Valid {
		limit = max(limit, lateShare*m.V)
	}
	late, worst := 0, 0.0
	for _, e := range r.Exchanges {
		lag := float64(e.LagUs.V) / 1e3
		worst = max(worst, lag)
		if lag > limit {
			late++
		}
	}
	said := fmt.Sprintf("%d of %d requests were sent more than %s ms after their time, the latest %s ms", late, len(r.Exchanges), short(limit), short(worst))
	if float64(late) > lateRequests*float64(len(r.Exchanges)) {
		advice := "lower --rate"
		if r.Plan.Recording != nil {
			advice = "lower --speed, give --sample,"
		}
		return failed("the client fell behind its schedule: %s; %s or use a faster machine", said, advice)
	}
	return passed("%s", said)
}

// checkCache compares cache_n, the prompt tokens that the server reused, with the cache mode.
func (r *Run) checkCache(ok []*Exchange) (State, string) {
	if r.Plan.Spec.Cache == Natural {
		return passed("natural: the server reuses what it likes")
	}
	reused, unsaid := 0, 0
	var least int64 = math.MaxInt64
	for _, e := range ok {
		if !e.CacheN.Valid {
			unsaid++
			continue
		}
		if e.CacheN.V > 0 {
			reused++
		}
		least = min(least, e.CacheN.V)
	}
	switch {
	case unsaid == len(ok):
		return skipped("the server does not say how many prompt tokens it reused (cache_n)")
	case r.Plan.Spec.Cache == Cold && reused > 0:
		return failed("%d of %d cold requests found part of their prompt in the cache (cache_n > 0)", reused, len(ok))
	case r.Plan.Spec.Cache == Cold:
		return passed("cold: cache_n was 0 in all %d requests", len(ok)-unsaid)
	case reused < len(ok):
		return failed("%d of %d warm requests found nothing in the cache (cache_n = 0)", len(ok)-reused, len(ok))
	}
	return passed("warm: at least %d prompt tokens were reused in each request", least)
}

// checkPromptTokens compares the server's count of each prompt with the size asked for.
func (*Run) checkPromptTokens(ok []*Exchange) (State, string) {
	off, unsaid := 0, 0
	example := ""
	for _, e := range ok {
		n := e.PromptTokens()
		switch {
		case !n.Valid:
			unsaid++
		case int(n.V) != e.Cell.PromptTokens:
			off++
			example = fmt.Sprintf("%d instead of %d", n.V, e.Cell.PromptTokens)
		}
	}
	switch {
	case off > 0:
		return failed("%d of %d prompts were not as long as asked for (prompt_n + cache_n): %s", off, len(ok), example)
	case unsaid == len(ok):
		return skipped("the server does not say how long the prompts were")
	}
	return passed("prompt_n + cache_n was what was asked for in all %d requests", len(ok)-unsaid)
}

// checkOutputTokens compares the server's count of each reply with the size asked for.
func (r *Run) checkOutputTokens(ok []*Exchange) (State, string) {
	off, unsaid := 0, 0
	example := ""
	for _, e := range ok {
		n := e.OutputTokens
		switch {
		case !n.Valid:
			unsaid++
		case r.Plan.Spec.Length == Forced && int(n.V) != e.Cell.OutputTokens, int(n.V) > e.Cell.OutputTokens:
			off++
			example = fmt.Sprintf("%d instead of %d", n.V, e.Cell.OutputTokens)
		}
	}
	switch {
	case off > 0:
		return failed("%d of %d replies were not as long as asked for: %s", off, len(ok), example)
	case unsaid > 0:
		return failed("the server did not say how many tokens %d of %d replies have", unsaid, len(ok))
	}
	return passed("all %d replies are as long as asked for", len(ok))
}

func (r *Run) checkErrors([]*Exchange) (State, string) {
	kinds := map[string]int{}
	n := 0
	for _, e := range r.Exchanges {
		if e.Failed() {
			n++
			kinds[e.Error]++
		}
	}
	if n == 0 {
		return passed("none in %d requests", len(r.Exchanges))
	}
	var texts []string
	for k, times := range kinds {
		texts = append(texts, fmt.Sprintf("%d x %s", times, k))
	}
	slices.Sort(texts)
	said := fmt.Sprintf("%d of %d requests failed: %s", n, len(r.Exchanges), strings.Join(texts[:min(3, len(texts))], "; "))
	if float64(n) > errorShare*float64(len(r.Exchanges)) {
		return failed("%s", said)
	}
	return passed("%s", said)
}

// checkServer fails if the server or its model changed during the run.
func (r *Run) checkServer(ok []*Exchange) (State, string) {
	models := map[string]bool{}
	for _, e := range ok {
		models[e.Model] = true
	}
	switch {
	case len(models) > 1:
		return failed("the replies name %d different models", len(models))
	case r.Server == nil || r.After == nil:
		return skipped("the server did not say what it is after the run")
	case *r.Server != *r.After:
		return failed("the server changed during the run: %+v became %+v", *r.Server, *r.After)
	}
	return passed("build, model, context and slots are the same before and after")
}

// checkAgreement compares the client's figures of each request with wattline's.
func (*Run) checkAgreement(ok []*Exchange) (State, string) {
	joined := 0
	var all []Disagreement
	for _, e := range ok {
		if e.InLine != nil {
			joined++
			all = append(all, disagreements(e)...)
		}
	}
	switch {
	case joined == 0:
		return skipped("no in-line rows: the endpoint is no wattline, or its admin listener is not reachable (--admin)")
	case len(all) > 0:
		return failed("they disagree in %d figures, which is a bug of wattline's, please report it: %s (row %s)", len(all), all[0].What, all[0].RowID)
	}
	return passed("%d requests measured twice: same counts, and no client time shorter than the proxy's", joined)
}

func (*Run) checkContended(ok []*Exchange) (State, string) {
	known, contended := 0, 0
	for _, e := range ok {
		if e.InLine == nil || e.InLine.EnergyQuality == "" || e.InLine.EnergyQuality == meter.EnergyUnavailable {
			continue
		}
		known++
		if e.InLine.EnergyQuality == meter.EnergyContended {
			contended++
		}
	}
	switch {
	case known == 0:
		return skipped("no energy was measured")
	case contended > 0:
		return failed("another process computed on the GPU during %d of %d requests", contended, known)
	}
	return passed("no other process computed on the GPU")
}

// checkOtherTraffic fails if the proxy saw requests of other clients.
func (r *Run) checkOtherTraffic([]*Exchange) (State, string) {
	switch {
	case !r.Joined:
		return skipped("the endpoint is no wattline, or its admin listener is not reachable")
	case len(r.OtherTraffic) > 0:
		return failed("%d requests of others passed during the run: %s", len(r.OtherTraffic), strings.Join(r.OtherTraffic[:min(3, len(r.OtherTraffic))], ", "))
	}
	return passed("nobody else's request passed the proxy")
}

func short(f float64) string { return strconv.FormatFloat(f, 'g', 3, 64) }

func usText(v meter.Int) string { return strconv.FormatInt(v.V, 10) + " us" }

func countText(v meter.Int) string { return strconv.FormatInt(v.V, 10) }
