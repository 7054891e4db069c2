package replay

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"wattline/meter"
)

// State of a check.
type State string

// The states of a check.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	Skipped State = "unknown" // what it needs was not measured; Detail says what
)

// Check is one reason for which a run might not be believed.
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

// Check asks of the run everything that would make its numbers lies. A run with a failed check is
// invalid; what could not be checked says why.
func (r *Run) Check() []Check {
	ok := r.answered()
	checks := []Check{
		r.checkSchedule(), r.checkCache(ok), checkPromptTokens(ok), r.checkOutputTokens(ok), r.checkErrors(),
		r.checkThrottle(), r.checkLittle(), r.checkStall(), checkContended(ok), r.checkOtherTraffic(), r.checkServer(ok),
		checkAgreement(ok),
	}
	return checks
}

func passed(name, format string, args ...any) Check {
	return Check{name, Passed, fmt.Sprintf(format, args...)}
}

func failed(name, format string, args ...any) Check {
	return Check{name, Failed, fmt.Sprintf(format, args...)}
}

func skipped(name, format string, args ...any) Check {
	return Check{name, Skipped, fmt.Sprintf(format, args...)}
}

// checkSchedule: an open loop that sends late measures itself.
func (r *Run) checkSchedule() Check {
	const name = "schedule"
	if r.Plan.Spec.Rate == 0 {
		return passed(name, "a closed loop has no schedule to fall behind")
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
		return failed(name, "the client fell behind its schedule: %s; lower --rate or use a faster machine", said)
	}
	return passed(name, "%s", said)
}

// checkCache: a cold run in which something was reused was not cold.
func (r *Run) checkCache(ok []*Exchange) Check {
	const name = "cache"
	if r.Plan.Spec.Cache == Natural {
		return passed(name, "natural: the server reuses what it likes")
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
		return skipped(name, "the server does not say how many prompt tokens it reused (cache_n)")
	case r.Plan.Spec.Cache == Cold && reused > 0:
		return failed(name, "%d of %d cold requests found part of their prompt in the cache (cache_n > 0)", reused, len(ok))
	case r.Plan.Spec.Cache == Cold:
		return passed(name, "cold: cache_n was 0 in all %d requests", len(ok)-unsaid)
	case reused < len(ok):
		return failed(name, "%d of %d warm requests found nothing in the cache (cache_n = 0)", len(ok)-reused, len(ok))
	}
	return passed(name, "warm: at least %d prompt tokens were reused in each request", least)
}

// checkPromptTokens: a prompt of N tokens is N tokens, by the server's own count.
func checkPromptTokens(ok []*Exchange) Check {
	const name = "prompt tokens"
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
		return failed(name, "%d of %d prompts were not as long as asked for (prompt_n + cache_n): %s", off, len(ok), example)
	case unsaid == len(ok):
		return skipped(name, "the server does not say how long the prompts were")
	}
	return passed(name, "prompt_n + cache_n was what was asked for in all %d requests", len(ok)-unsaid)
}

// checkOutputTokens: forced replies have exactly the length asked for.
func (r *Run) checkOutputTokens(ok []*Exchange) Check {
	const name = "output tokens"
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
		return failed(name, "%d of %d replies were not as long as asked for: %s", off, len(ok), example)
	case unsaid > 0:
		return failed(name, "the server did not say how many tokens %d of %d replies have", unsaid, len(ok))
	}
	return passed(name, "all %d replies are as long as asked for", len(ok))
}

func (r *Run) checkErrors() Check {
	const name = "errors"
	kinds := map[string]int{}
	n := 0
	for _, e := range r.Exchanges {
		if !e.OK() {
			n++
			kinds[e.Error]++
		}
	}
	if n == 0 {
		return passed(name, "none in %d requests", len(r.Exchanges))
	}
	var texts []string
	for k, times := range kinds {
		texts = append(texts, fmt.Sprintf("%d x %s", times, k))
	}
	slices.Sort(texts)
	said := fmt.Sprintf("%d of %d requests failed: %s", n, len(r.Exchanges), strings.Join(texts[:min(3, len(texts))], "; "))
	if float64(n) > errorShare*float64(len(r.Exchanges)) {
		return failed(name, "%s", said)
	}
	return passed(name, "%s", said)
}

// checkServer: the same server and model from beginning to end.
func (r *Run) checkServer(ok []*Exchange) Check {
	const name = "server"
	models := map[string]bool{}
	for _, e := range ok {
		models[e.Model] = true
	}
	switch {
	case len(models) > 1:
		return failed(name, "the replies name %d different models", len(models))
	case r.Server == nil || r.After == nil:
		return skipped(name, "the server did not say what it is after the run")
	case *r.Server != *r.After:
		return failed(name, "the server changed during the run: %+v became %+v", *r.Server, *r.After)
	}
	return passed(name, "build, model, context and slots are the same before and after")
}

// checkAgreement: two instruments in one request.
func checkAgreement(ok []*Exchange) Check {
	const name = "client and in-line"
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
		return skipped(name, "no in-line rows: the endpoint is no wattline, or its admin listener is not reachable (--admin)")
	case len(all) > 0:
		return failed(name, "they disagree in %d figures, which is a bug of wattline's, please report it: %s (row %s)", len(all), all[0].What, all[0].RowID)
	}
	return passed(name, "%d requests measured twice: same counts, and no client time shorter than the proxy's", joined)
}

func checkContended(ok []*Exchange) Check {
	const name = "other GPU users"
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
		return skipped(name, "no energy was measured")
	case contended > 0:
		return failed(name, "another process computed on the GPU during %d of %d requests", contended, known)
	}
	return passed(name, "no other process computed on the GPU")
}

// checkOtherTraffic: only a proxy in line can know.
func (r *Run) checkOtherTraffic() Check {
	const name = "other traffic"
	switch {
	case !r.Joined:
		return skipped(name, "the endpoint is no wattline, or its admin listener is not reachable")
	case len(r.OtherTraffic) > 0:
		return failed(name, "%d requests of others passed during the run: %s", len(r.OtherTraffic), strings.Join(r.OtherTraffic[:min(3, len(r.OtherTraffic))], ", "))
	}
	return passed(name, "nobody else's request passed the proxy")
}

func short(f float64) string { return strconv.FormatFloat(f, 'g', 3, 64) }

func usText(v meter.Int) string { return strconv.FormatInt(v.V, 10) + " us" }

func countText(v meter.Int) string { return strconv.FormatInt(v.V, 10) }
