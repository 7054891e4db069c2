package replay

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"wattline/meter"
)

// Results computes the figures of the run.
func (r *Run) Results() *Results {
	ok := r.answered()
	out := &Results{
		Timestamp: r.StartedAt.UTC().Truncate(time.Second), PromptsTested: len(ok),
		Errors: failures(r.Exchanges), Cancelled: cancelled(r.Exchanges), Server: r.Server, Definitions: Definitions(),
		Workload: Workload{
			Name: r.Plan.Spec.Name, PlanHash: r.Plan.Hash, Corpus: r.Plan.Corpus, Spec: r.Plan.Spec, Dataset: r.Plan.Dataset, Recording: r.Plan.Recording,
			Dropped: r.Plan.Dropped, Skipped: r.Skipped, NotIdle: r.NotIdle, Interrupted: r.Interrupted, Failure: r.Failure,
		},
		Throughput: r.throughput(ok), Energy: r.energy(ok), Latency: r.latency(ok), Memory: memory(ok),
		Device: r.device(), Stability: r.stability(ok), InLine: r.inLine(ok), Cells: r.outcomes(), Series: r.series(ok), Goodput: r.goodput(),
	}
	out.ClientCPUS = r.clientCPU()
	if r.Server != nil {
		out.Model = r.Server.Model
	}
	out.Checks = r.Check()
	out.Valid = true
	for _, c := range out.Checks {
		out.Valid = out.Valid && c.State != Failed
	}
	return out
}

// answered are the measured requests that were answered to their end.
func (r *Run) answered() []*Exchange {
	var ok []*Exchange
	for _, e := range r.Exchanges {
		if e.OK() {
			ok = append(ok, e)
		}
	}
	return ok
}

// failures counts the requests that failed.
func failures(list []*Exchange) (n int) {
	for _, e := range list {
		if e.Failed() {
			n++
		}
	}
	return n
}

// cancelled counts the requests that ended as the trace's clients left.
func cancelled(list []*Exchange) (n int) {
	for _, e := range list {
		if e.Cancelled {
			n++
		}
	}
	return n
}

// each applies f to every exchange.
func each(list []*Exchange, f func(*Exchange) Num) []Num {
	out := make([]Num, len(list))
	for i, e := range list {
		out[i] = f(e)
	}
	return out
}

// The figures of one request, in the units of Results.
func ttftMs(e *Exchange) Num       { return num(e.TTFTUs).Times(1e-3) }
func ttfoMs(e *Exchange) Num       { return num(e.TTFOUs).Times(1e-3) }
func generationMs(e *Exchange) Num { return num(e.LastUs).Times(1e-3) }
func tpotMs(e *Exchange) Num       { return e.TPOTUs().Times(1e-3) }

// gapsMs are a request's gaps between events with output.
func gapsMs(e *Exchange) []float64 {
	out := make([]float64, len(e.GapsUs))
	for i, g := range e.GapsUs {
		out[i] = float64(g) / 1e3
	}
	return out
}

// itl are the gaps of all requests; those of one request are not independent.
func itl(list []*Exchange) Stat {
	clusters := make([][]float64, len(list))
	for i, e := range list {
		clusters[i] = gapsMs(e)
	}
	return ClusteredStatOf(clusters)
}

// measuredSeconds is the time during which cells ran.
func (r *Run) measuredSeconds() Num {
	var d time.Duration
	for _, s := range r.Spans {
		d += s.To.Sub(s.From)
	}
	if d <= 0 {
		return Num{}
	}
	return Some(d.Seconds())
}

func (r *Run) clientCPU() Num {
	var v []Num
	for _, s := range r.Spans {
		v = append(v, s.CPUSeconds)
	}
	return sum(v)
}

func sum(values []Num) Num {
	v := Present(values)
	if len(v) == 0 {
		return Num{}
	}
	total := 0.0
	for _, x := range v {
		total += x
	}
	return Some(total)
}

func outputTokens(e *Exchange) Num { return num(e.OutputTokens) }

func (r *Run) prefillTPS(e *Exchange) Num { return e.PrefillTPS(r.Plan.Spec.Concurrency) }

func (r *Run) throughput(ok []*Exchange) Throughput {
	tps := StatOf(each(ok, (*Exchange).TokensPerSecond))
	return Throughput{
		TokensPerSecond: tps.Mean, MeanTokensPerSecond: tps.Mean, MinTokensPerSecond: tps.Min, MaxTokensPerSecond: tps.Max,
		DecodeTokensPerSecond:  StatOf(each(ok, (*Exchange).DecodeTPS)).Mean,
		PrefillTokensPerSecond: StatOf(each(ok, r.prefillTPS)).Mean,
		SystemTokensPerSecond:  Ratio(sum(each(ok, outputTokens)), r.measuredSeconds()),
	}
}

func (r *Run) latency(ok []*Exchange) Latency {
	fromSchedule := func(e *Exchange) Num {
		if !e.LagUs.Valid || !e.TTFTUs.Valid {
			return Num{}
		}
		return Some(float64(e.LagUs.V+e.TTFTUs.V) / 1e3)
	}
	busy := sum(each(ok, func(e *Exchange) Num { return num(e.EndUs).Times(1e-6) }))
	l := Latency{
		TTFT: StatOf(each(ok, ttftMs)), TTFO: StatOf(each(ok, ttfoMs)), TPOT: StatOf(each(ok, tpotMs)), ITL: itl(ok),
		GenerationTimeMs:   StatOf(each(ok, generationMs)).Mean,
		ScheduledTTFT:      StatOf(each(ok, fromSchedule)),
		Lag:                StatOf(each(ok, func(e *Exchange) Num { return num(e.LagUs).Times(1e-3) })),
		Shift:              StatOf(each(r.Exchanges, func(e *Exchange) Num { return num(e.ShiftUs).Times(1e-3) })),
		ServerPromptMs:     StatOf(each(ok, func(e *Exchange) Num { return e.PromptMs })).Mean,
		ServerPredictedMs:  StatOf(each(ok, func(e *Exchange) Num { return e.PredictedMs })).Mean,
		RequestsPerSecond:  Ratio(Some(float64(len(ok))), r.measuredSeconds()),
		MeanRequestsActive: Ratio(busy, r.measuredSeconds()),
	}
	l.TimeToFirstTokenMs = l.TTFT.Mean
	return l
}

// energy sums wattline's joules over the requests that have them.
func (r *Run) energy(ok []*Exchange) Energy {
	var counted []*Exchange // those with joules
	quality := map[string]int{}
	simulated := false
	for _, e := range ok {
		if e.InLine == nil {
			continue
		}
		simulated = simulated || strings.HasPrefix(e.InLine.EnergySource, "sim")
		quality[e.InLine.EnergyQuality]++
		if e.InLine.GPUUj.Valid {
			counted = append(counted, e)
		}
	}
	wh := func(f func(*meter.Record) Num) Num {
		return sum(each(ok, func(e *Exchange) Num { return e.inLine(f) })).Times(1.0 / 3600)
	}
	of := func(f func(*meter.Record) Num) func(*Exchange) Num {
		return func(e *Exchange) Num { return e.inLine(f) }
	}
	tpw := StatOf(each(ok, func(e *Exchange) Num { return e.inLine(TokensPerWatt) })).Mean
	out := Energy{
		TokensPerWatt: tpw, MeanTokensPerWatt: tpw, CPUEnergyWh: wh(cpuJoules),
		TokensPerJoule: ratioOf(counted, outputTokens, of(SlotJoules)), JoulesPerToken: ratioOf(counted, of(SlotJoules), outputTokens),
		PrefillJoulesPerToken: ratioOf(counted, of(prefillJoules), of(newPromptTokens)), DecodeJoulesPerToken: ratioOf(counted, of(decodeJoules), outputTokens),
		GPUAttributedWh: wh(GPUJoules), GPUActiveWh: wh(activeJoules), GPUIdleWh: wh(idleJoules), GPUWaitingWh: wh(waitingJoules),
		GPUAttributedSigmaWh: sigmaOf(counted).Times(1.0 / 3600), Quality: quality, Simulated: simulated,
	}
	out.GPUEnergyWh, out.Source = r.gross()
	return out
}

// ratioOf is the quotient of two sums over the exchanges that have both: one without a split of its joules counts in neither.
func ratioOf(list []*Exchange, of, by func(*Exchange) Num) Num {
	both := slices.DeleteFunc(slices.Clone(list), func(e *Exchange) bool { return !of(e).Valid || !by(e).Valid })
	return Ratio(sum(each(both, of)), sum(each(both, by)))
}

func prefillJoules(r *meter.Record) Num { return num(r.GPUPrefillUj).Times(1e-6) }
func decodeJoules(r *meter.Record) Num  { return num(r.GPUDecodeUj).Times(1e-6) }
func activeJoules(r *meter.Record) Num  { return num(r.GPUActiveUj).Times(1e-6) }
func idleJoules(r *meter.Record) Num    { return num(r.GPUIdleUj).Times(1e-6) }
func waitingJoules(r *meter.Record) Num { return num(r.GPUIdleWaitingUj).Times(1e-6) }

// sigmaOf is the standard error of the joules of all requests together, taken as independent.
func sigmaOf(list []*Exchange) Num {
	v := sum(each(list, func(e *Exchange) Num {
		return e.inLine(func(r *meter.Record) Num {
			if !r.GPUUj.Valid || !r.GPUSigmaUj.Valid {
				return Num{}
			}
			return Some(float64(r.GPUSigmaUj.V) * float64(r.GPUSigmaUj.V) * 1e-12)
		})
	}))
	if !v.Valid {
		return Num{}
	}
	return Some(math.Sqrt(v.V))
}

func cpuJoules(r *meter.Record) Num { return num(r.CPUUj).Times(1e-6) }
func newPromptTokens(r *meter.Record) Num {
	if !r.PromptTokens.Valid {
		return Num{}
	}
	return Some(float64(r.PromptTokens.V - r.CachedTokens.V))
}

func memory(ok []*Exchange) Memory {
	return Memory{
		VRAMBytes: StatOf(each(ok, func(e *Exchange) Num { return e.inLine(func(r *meter.Record) Num { return num(r.VRAMBytes) }) })).Max,
		RAMBytes:  StatOf(each(ok, func(e *Exchange) Num { return e.inLine(func(r *meter.Record) Num { return num(r.RAMBytes) }) })).Max,
	}
}

// outcomes are the cells that ran, in the order of asking.
func (r *Run) outcomes() []CellResult {
	byCell := map[int][]*Exchange{}
	for _, e := range r.Exchanges {
		byCell[e.Key.Cell] = append(byCell[e.Key.Cell], e)
	}
	var out []CellResult
	for _, i := range slices.Sorted(maps.Keys(byCell)) {
		out = append(out, r.outcome(r.Plan.Cells[i], byCell[i]))
	}
	return out
}

func (r *Run) outcome(c Cell, all []*Exchange) CellResult {
	var ok []*Exchange
	byTrial := map[int][]*Exchange{}
	for _, e := range all {
		if e.OK() {
			ok = append(ok, e)
			byTrial[e.Trial] = append(byTrial[e.Trial], e)
		}
	}
	trials := func(f func([]*Exchange) Num) Spread {
		var v []Num
		for _, t := range slices.Sorted(maps.Keys(byTrial)) {
			v = append(v, f(byTrial[t]))
		}
		return SpreadOf(v)
	}
	mean := func(f func(*Exchange) Num) func([]*Exchange) Num {
		return func(l []*Exchange) Num { return StatOf(each(l, f)).Mean }
	}
	row := func(f func(*meter.Record) Num) Stat {
		return StatOf(each(ok, func(e *Exchange) Num { return e.inLine(f) }))
	}
	joules := row(GPUJoules)
	return CellResult{
		JoulesSigma: Ratio(sigmaOf(ok), Some(float64(joules.N))), WaitingJ: row(waitingJoules),
		Cell: c, Requests: len(all), Errors: failures(all),
		TTFTMs: StatOf(each(ok, ttftMs)), GenerationMs: StatOf(each(ok, generationMs)),
		TokensPerSecond: StatOf(each(ok, (*Exchange).TokensPerSecond)), DecodeTPS: StatOf(each(ok, (*Exchange).DecodeTPS)),
		PrefillTPS: StatOf(each(ok, r.prefillTPS)), TPOTMs: StatOf(each(ok, tpotMs)), ITLMs: itl(ok),
		TokensPerWatt: row(TokensPerWatt), TokensPerJoule: tokensPerJoule(ok), Joules: joules,
		PrefillJ: row(prefillJoules), DecodeJ: row(decodeJoules), IdleJ: row(idleJoules), Waterfall: WaterfallOf(ok),
		TTFTTrials: trials(mean(ttftMs)), TPSTrials: trials(mean((*Exchange).TokensPerSecond)),
		DecodeTrials: trials(mean((*Exchange).DecodeTPS)), TPJTrials: trials(tokensPerJoule),
	}
}

// tokensPerJoule is Σ tokens ÷ Σ joules of their slots, of the requests that have joules.
func tokensPerJoule(list []*Exchange) Num {
	var tokens, joules []Num
	for _, e := range list {
		if j := e.inLine(SlotJoules); j.Valid {
			tokens, joules = append(tokens, outputTokens(e)), append(joules, j)
		}
	}
	return Ratio(sum(tokens), sum(joules))
}
