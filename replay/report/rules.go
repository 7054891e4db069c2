package report

import (
	"fmt"
	"strconv"

	"wattline/replay"
	"wattline/replay/table"
)

// When a tip is given.
const (
	prefillDominates  = 0.5  // share of prefill in a request's time
	longPrompt        = 8000 // tokens
	decodeFalls       = 0.7  // decode speed behind a long prompt ÷ behind a short one
	unevenSteps       = 1.6  // p90 ÷ median of the gaps: decoders in more than one batch
	stalledDecoders   = 5.0  // p99 ÷ median of the gaps: neighbours' prompts in between
	spaciousContext   = 4.0  // context ÷ what the largest request of a dataset needed
	idleShare         = 0.3  // of the attributed joules
	lowPower          = 0.6  // mean power ÷ power limit: the memory is the limit, not the clock
	slowFirst         = 3.0  // first request's ttft ÷ a later one's
	queueShare        = 0.2  // of the time to the first token
	poorTokensPerWatt = 3.0  // the guide's band
)

// rules are the guide's tips, in its order.
//
//nolint:gochecknoglobals // a constant table
var rules = []rule{
	{sectionThroughput, "Increase batch sizes", "prefill takes more than half of the time of long prompts",
		fixed("--batch-size", "4096", "--ubatch-size", "1024"), prefillBound},
	{sectionThroughput, "Use flash attention", "decoding behind a long prompt is slower than 0.7 x behind a short one",
		fixed("--flash-attn", "on"), attentionBound},
	{sectionThroughput, "Enable unified KV cache", "with several in flight, p90 of the gaps between tokens exceeds 1.6 x their median",
		fixed("--kv-unified", "on"), unevenDecoders},
	{sectionThroughput, "Optimize context size", "the context is more than 4 x what the largest request of your dataset needed",
		fittingContext, tooMuchContext},
	{sectionThroughput, "Close other GPU applications", "another process computed on the GPU", nil, contended},
	{sectionEnergy, "Lower power limits", "tokens/W below 3 and mean power below 0.6 x the limit", nil, powerHeadroom},
	{sectionEnergy, "Optimize batch processing", "tokens/W below 3 with one request at a time on a server of several slots", nil, loneDecoder},
	{sectionEnergy, "Monitor thermal throttling", "the GPU throttled or reached 80 °C", nil, hot},
	{sectionEnergy, "Use power-aware settings: serve requests together, idle draw is shared by those in flight",
		"one request at a time on a server of several slots, and more than 0.3 of the attributed joules are idle draw", nil, mostlyIdle},
	{sectionLatency, "Reduce batch sizes", "with several in flight, p99 of the gaps between tokens exceeds 5 x their median",
		fixed("--batch-size", "2048", "--ubatch-size", "256"), stalls},
	{sectionLatency, "Pre-load model: warm up before testing", "the first request's first token took more than 3 x a later one's", nil, coldStart},
	{sectionLatency, "Use smaller outputs", "with several in flight, waiting for a slot took more than 0.2 of the time to the first token", nil, queues},
	{sectionLatency, "Keep no old prompts in RAM (not a tip of the guide)", "with one in flight, waiting for a slot took more than 0.2 of the time to the first token",
		fixed("--cache-ram", "0"), savesPrompts},
}

// fixed are flags with the guide's own values.
func fixed(namesAndValues ...string) func(*Measured) [][2]string {
	var out [][2]string
	for i := 0; i < len(namesAndValues); i += 2 {
		out = append(out, [2]string{namesAndValues[i], namesAndValues[i+1]})
	}
	return func(*Measured) [][2]string { return out }
}

// fittingContext holds twice the dataset's largest request in each slot.
func fittingContext(m *Measured) [][2]string {
	if m.Results.Workload.Dataset == nil {
		return nil
	}
	most := m.Results.Workload.Dataset.LargestTokens
	const block = 256
	slot := (2*most + block - 1) / block * block
	return [][2]string{{"--ctx-size", strconv.Itoa(slot * m.Results.Server.Slots)}}
}

func pct(f float64) string { return strconv.FormatFloat(100*f, 'f', 0, 64) + " %" }

func prefillBound(m *Measured) string {
	for _, c := range m.Results.Cells {
		share := replay.Ratio(c.TTFTMs.Mean, c.GenerationMs.Mean)
		if c.PromptTokens >= longPrompt && above(share, prefillDominates) && !stalling(m.Results) {
			return fmt.Sprintf("%s: %s ms of %s ms pass before the first token (%s)", c.Cell, table.Num(c.TTFTMs.Mean), table.Num(c.GenerationMs.Mean), pct(share.V))
		}
	}
	return ""
}

func attentionBound(m *Measured) string {
	var short, long *replay.CellResult
	for i := range m.Results.Cells {
		c := &m.Results.Cells[i]
		if !c.DecodeTPS.Mean.Valid {
			continue
		}
		if c.PromptTokens < longPrompt && (short == nil || c.PromptTokens < short.PromptTokens) {
			short = c
		}
		if c.PromptTokens >= longPrompt && (long == nil || c.PromptTokens > long.PromptTokens) {
			long = c
		}
	}
	if short == nil || long == nil || !below(replay.Ratio(long.DecodeTPS.Mean, short.DecodeTPS.Mean), decodeFalls) {
		return ""
	}
	return fmt.Sprintf("%s tokens/s decode behind %s tokens, %s behind %s", table.Num(long.DecodeTPS.Mean), replay.SizeName(long.PromptTokens),
		table.Num(short.DecodeTPS.Mean), replay.SizeName(short.PromptTokens))
}

func several(r *replay.Results) bool {
	return r.Workload.Spec.Concurrency > 1 || r.Workload.Spec.Rate > 0
}

func unevenDecoders(m *Measured) string {
	itl := m.Results.Latency.ITL
	if ratio := replay.Ratio(itl.P90.Value, itl.P50.Value); several(m.Results) && above(ratio, unevenSteps) {
		return fmt.Sprintf("p90 of the gaps is %s ms, their median %s ms", table.Num(itl.P90.Value), table.Num(itl.P50.Value))
	}
	return ""
}

// stalling reports whether other requests' prompts delay the requests that decode.
func stalling(r *replay.Results) bool {
	itl := r.Latency.ITL
	return several(r) && above(replay.Ratio(itl.P99.Value, itl.P50.Value), stalledDecoders)
}

func stalls(m *Measured) string {
	if !stalling(m.Results) {
		return ""
	}
	itl := m.Results.Latency.ITL
	return fmt.Sprintf("p99 of the gaps is %s ms, their median %s ms", table.Num(itl.P99.Value), table.Num(itl.P50.Value))
}

// tooMuchContext is told by a user's own dataset only: the sizes of generated prompts say nothing about those that come.
func tooMuchContext(m *Measured) string {
	r := m.Results
	d := r.Workload.Dataset
	if r.Server == nil || d == nil || d.LargestTokens == 0 || len(r.Workload.Dropped)+len(r.Workload.Skipped) > 0 ||
		float64(r.Server.ContextTokens) <= spaciousContext*float64(d.LargestTokens) {
		return ""
	}
	return fmt.Sprintf("a slot holds %d tokens, the largest request of %s needed %d", r.Server.ContextTokens, d.File, d.LargestTokens)
}

func contended(m *Measured) string {
	if n := m.Results.InLine.Contended; n > 0 {
		return fmt.Sprintf("%d requests were contended", n)
	}
	return ""
}

func powerHeadroom(m *Measured) string {
	d, tpw := m.Results.Device, gradedTokensPerWatt(m)
	if share := replay.Ratio(d.MeanPowerW, d.PowerLimitW); below(tpw, poorTokensPerWatt) && below(share, lowPower) {
		return fmt.Sprintf("%s tokens/W at a mean of %s W under a limit of %s W; nvidia-smi -pl sets the limit", table.Num(tpw), table.Num(d.MeanPowerW), table.Num(d.PowerLimitW))
	}
	return ""
}

// gradedTokensPerWatt is the figure where the guide's band applies.
func gradedTokensPerWatt(m *Measured) replay.Num {
	for _, g := range Grades(m.Results) {
		if g.Figure == Efficiency && g.Why == "" {
			return g.Value
		}
	}
	return replay.Num{}
}

func loneDecoder(m *Measured) string {
	r := m.Results
	if r.Server == nil || r.Server.Slots < 2 || several(r) || !below(gradedTokensPerWatt(m), poorTokensPerWatt) {
		return ""
	}
	return fmt.Sprintf("%s tokens/W served alone; requests that decode together share each reading of the weights, and there are %d slots", table.Num(gradedTokensPerWatt(m)), r.Server.Slots)
}

func hot(m *Measured) string {
	d := m.Results.Device
	switch {
	case above(d.ThrottledS, 0):
		return fmt.Sprintf("throttled for %s s, up to %s °C", table.Num(d.ThrottledS), table.Num(d.TempMaxC))
	case atLeast(d.TempMaxC, hotC):
		return table.Num(d.TempMaxC) + " °C were reached"
	}
	return ""
}

func mostlyIdle(m *Measured) string {
	e := m.Results.Energy
	if m.Results.Server == nil || m.Results.Server.Slots < 2 || several(m.Results) {
		return ""
	}
	if share := replay.Ratio(e.GPUIdleWh, e.GPUAttributedWh); above(share, idleShare) {
		return fmt.Sprintf("%s of %s Wh attributed are idle draw (%s)", table.Num(e.GPUIdleWh), table.Num(e.GPUAttributedWh), pct(share.V))
	}
	return ""
}

func coldStart(m *Measured) string {
	if above(replay.Ratio(m.FirstWarmupMs, m.LaterMs), slowFirst) {
		return fmt.Sprintf("%s ms for the very first request, %s ms later; the first is not in the results", table.Num(m.FirstWarmupMs), table.Num(m.LaterMs))
	}
	return ""
}

func queues(m *Measured) string {
	if !several(m.Results) {
		return ""
	}
	return waits(m, "pass before a slot is free")
}

// savesPrompts is for one request in flight, where the slot is always free: before a task the server copies the slot's
// old prompt to RAM, which takes seconds behind a long one.
func savesPrompts(m *Measured) string {
	if several(m.Results) {
		return ""
	}
	return waits(m, "pass before the slot starts, though it was free: the server saves the prompt that it held")
}

// waits describes how much of the time to the first token a request waits for its slot, if that is more than queueShare.
func waits(m *Measured, how string) string {
	f := m.Results.InLine.Waterfall
	ttft := m.Results.Latency.TTFT.Median
	if share := replay.Ratio(f.Queue, ttft); above(share, queueShare) {
		return fmt.Sprintf("%s ms of %s ms to the first token %s (medians)", table.Num(f.Queue), table.Num(ttft), how)
	}
	return ""
}
