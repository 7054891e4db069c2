package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/table"
)

// Tile is one figure for the head of a page.
type Tile struct {
	Name, Value, Unit, Verdict, Formula string
}

// Table is a table of text; all columns but the first are numbers.
type Table struct {
	Title string
	Note  string
	Head  []string
	Rows  [][]string
	Prose bool // its columns are text
}

// Subtitle describes the run in one line: model, workload, load and plan.
func Subtitle(r *replay.Results) string {
	s := r.Workload.Spec
	load := fmt.Sprintf("%d in flight", s.Concurrency)
	if s.Rate > 0 {
		load = fmt.Sprintf("%s arrivals, %s a second", s.Arrival, table.Num(replay.Some(s.Rate)))
	}
	if t := r.Workload.Recording; t != nil {
		load = recorded(t, s.Concurrency)
	}
	build := ""
	if r.Server != nil {
		build = ", llama-server " + r.Server.Build
	}
	dataset := ""
	if d := r.Workload.Dataset; d != nil {
		dataset = fmt.Sprintf(", %d records of %s (SHA-256 %.12s)", d.Records, d.File, d.SHA256)
	}
	simulated := ""
	if r.Energy.Simulated {
		simulated = "; the energy is SIMULATED"
	}
	return fmt.Sprintf("%s%s: %s%s, %s, %s cache, %s length, %d trials, seed %d, plan %.12s, %s%s", r.Model, build, r.Workload.Name, dataset, load, s.Cache,
		s.Length, s.Trials, s.Seed, r.Workload.PlanHash, r.Timestamp.Format("2006-01-02 15:04 MST"), simulated)
}

// recorded describes the part of a trace that was sent.
func recorded(t *replay.Recording, most int) string {
	text := fmt.Sprintf("%d of %d records of %s (%s, %s; SHA-256 %.12s) in %s s at %gx", t.Sent, t.Records, t.File, t.Format, t.Clock, t.SHA256, table.Num(t.Lasts), t.Speed)
	if most > 0 {
		text += fmt.Sprintf(", at most %d in flight", most)
	}
	return text + ", " + t.Replies + " replies"
}

// Tiles are the guide's headline figures with their verdicts.
func Tiles(run LabelledRun) []Tile {
	r := run.Results
	verdicts := map[Figure]string{}
	for _, g := range Grades(r) {
		verdicts[g.Figure] = g.Why
		if g.Why == "" {
			verdicts[g.Figure] = fmt.Sprintf("%s at %s", g.Band, table.Num(g.Value))
			if g.Of != "" {
				verdicts[g.Figure] += " (" + g.Of + ")"
			}
		}
	}
	return []Tile{
		{"Throughput", table.Num(r.Throughput.MeanTokensPerSecond), "tokens/s", verdicts[Throughput], r.Definitions["tokens_per_second"]},
		{"Time to first token", table.Num(r.Latency.TimeToFirstTokenMs), "ms", verdicts[Latency], r.Definitions["time_to_first_token_ms"]},
		{"Energy efficiency", table.Num(r.Energy.MeanTokensPerWatt), "tokens/W", verdicts[Efficiency], r.Definitions["tokens_per_watt"]},
		{"Energy efficiency", table.Num(r.Energy.TokensPerJoule), "tokens/J", "", r.Definitions["tokens_per_joule"]},
		{"GPU energy", table.Num(r.Energy.GPUEnergyWh), "Wh", "attributed " + withSigma(r.Energy.GPUAttributedWh, r.Energy.GPUAttributedSigmaWh) + " Wh", r.Definitions["gpu_energy_wh"]},
		{"VRAM", table.Num(vramGB(r)), "GB", verdicts[VRAM], figures[VRAM].formula},
	}
}

// Tables are a run's tables: cells, energy where there is some, the waterfall, stability and the checks.
func Tables(run LabelledRun) []Table {
	r := run.Results
	out := []Table{cellTable(r, true)}
	if r.Energy.TokensPerJoule.Valid {
		out = append(out, energyTable(r))
	}
	if len(r.Series) > 0 {
		out = append(out, seriesTable(r))
	}
	if r.InLine.Joined > 0 {
		out = append(out, waterfallTable(r))
	}
	return append(out, runTable(r), checkTable(r))
}

// cellTable is the latency and throughput of each cell, with the first token's percentiles where there is room.
func cellTable(r *replay.Results, percentiles bool) Table {
	t := Table{
		Title: "Latency and throughput", Note: "Means; in parentheses over trials. Percentiles only where enough requests allow a 95 % interval.",
		Head: []string{"task, prompt x output", "n", "ttft ms", "tokens/s", "decode tok/s", "prefill tok/s", "tpot ms", "itl p50 ms", "itl p99 ms"},
	}
	if percentiles {
		t.Head = slices.Insert(t.Head, 3, "ttft p50", "ttft p90")
	}
	for _, c := range r.Cells {
		row := []string{
			c.String(), count(c), spread(c.TTFTTrials), spread(c.TPSTrials), spread(c.DecodeTrials),
			table.Num(c.PrefillTPS.Mean), table.Num(c.TPOTMs.Mean), table.Num(c.ITLMs.P50.Value), table.Num(c.ITLMs.P99.Value),
		}
		if percentiles {
			row = slices.Insert(row, 3, quantile(c.TTFTMs.P50), quantile(c.TTFTMs.P90))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// quantile prints a quantile with its interval.
func quantile(q replay.Quantile) string {
	if !q.Value.Valid {
		return table.Absent
	}
	return fmt.Sprintf("%s (%s..%s)", table.Num(q.Value), table.Num(q.Low), table.Num(q.High))
}

// saySimulated marks each row of a table that has joules where no device measured them.
func (t Table) saySimulated(r *replay.Results) Table {
	if r.Energy.Simulated {
		t.Head = append(t.Head, "energy")
		for i := range t.Rows {
			t.Rows[i] = append(t.Rows[i], "SIMULATED")
		}
	}
	return t
}

func energyTable(r *replay.Results) Table {
	t := Table{Title: "Energy", Note: "GPU joules that wattline attributed to the requests, means with the standard error of the whole. Waited: the idle draw before a request had a slot; the ratios leave it out.",
		Head: []string{"task, prompt x output", "J/request", "grade", "prefill J", "decode J", "idle J", "waited J", "tokens/J", "tokens/W"}}
	for _, c := range r.Cells {
		grade := sigmaGrade(c.Joules.Mean, c.JoulesSigma)
		if r.Energy.Simulated {
			grade = table.Absent
		}
		t.Rows = append(t.Rows, []string{
			c.String(), withSigma(c.Joules.Mean, c.JoulesSigma), grade, table.Num(c.PrefillJ.Mean), table.Num(c.DecodeJ.Mean),
			table.Num(c.HeldJ()), table.Num(c.WaitingJ.Mean), spread(c.TPJTrials), table.Num(c.TokensPerWatt.Mean),
		})
	}
	return t.saySimulated(r)
}

// withSigma prints a value with its standard error.
func withSigma(v, sigma replay.Num) string {
	if !v.Valid || !sigma.Valid {
		return table.Num(v)
	}
	return table.Num(v) + " ± " + table.Num(sigma)
}

// sigmaGrade grades joules by their standard error.
func sigmaGrade(v, sigma replay.Num) string {
	if !v.Valid || !sigma.Valid {
		return table.Absent
	}
	return meter.GradeOf(v.V, sigma.V)
}

func seriesTable(r *replay.Results) Table {
	t := Table{Title: "By size and task", Note: "Means over all requests of the series.", Head: []string{"series", "n", "ttft ms", "tokens/s", "decode tok/s", "tokens/J", "tokens/W"}}
	for _, s := range r.Series {
		t.Rows = append(t.Rows, []string{
			s.Name, strconv.Itoa(s.Requests), table.Num(s.TTFTMs), table.Num(s.TokensPerSecond), table.Num(s.DecodeTPS), table.Num(s.TokensPerJoule), table.Num(s.TokensPerWatt),
		})
	}
	return t.saySimulated(r)
}

func waterfallTable(r *replay.Results) Table {
	t := Table{
		Title: "Where the time went",
		Note: "Medians in ms of requests measured twice, by the client and in line: network is client ttft - in-line ttft, proxy what wattline added before the first token, " +
			"queue the wait for a slot, prefill the server's prompt_ms.",
		Head: []string{"task, prompt x output", "ttft client", "ttft in line", "network", "upload", "proxy", "queue", "prefill", "server", "decode"},
	}
	for _, c := range r.Cells {
		f := c.Waterfall
		t.Rows = append(t.Rows, []string{
			c.String(), table.Num(f.Client), table.Num(f.InLine), table.Num(f.Network), table.Num(f.Upload), table.Num(f.Proxy), table.Num(f.Queue), table.Num(f.Prefill), table.Num(f.Server), table.Num(f.Decode),
		})
	}
	return t
}

// runTable lists the facts of the whole run.
func runTable(r *replay.Results) Table {
	t := Table{Title: "Over the run", Head: []string{"figure", "value"}}
	row := func(name, value string) { t.Rows = append(t.Rows, []string{name, value}) }
	row("requests answered, failed", fmt.Sprintf("%d, %d", r.PromptsTested, r.Errors))
	row("whole system", withUnit(r.Throughput.SystemTokensPerSecond, "tokens/s"))
	row("requests", withUnit(r.Latency.RequestsPerSecond, "a second"))
	if r.Goodput != nil {
		row("goodput", goodput(r.Goodput))
	}
	row("client ttft, in-line ttft (medians)", withUnit(r.Latency.TTFT.Median, "ms")+", "+withUnit(r.InLine.TTFTMs.Median, "ms"))
	row("last third against first (decode speed)", withUnit(r.Stability.ChangePercent, "%"))
	row("drift", drift(r.Stability))
	row("coefficient of variation", withUnit(r.Stability.VariationCoeff, "%"))
	row("power, mean and highest", withUnit(r.Device.MeanPowerW, "W")+", "+withUnit(r.Device.MaxPowerW, "W"))
	row("power at rest before", withUnit(r.Device.IdleBeforeW, "W"))
	row("temperature, at the start and highest", withUnit(r.Device.TempStartC, "°C")+", "+withUnit(r.Device.TempMaxC, "°C"))
	row("core clock, lowest and highest", withUnit(r.Device.ClockMinMHz, "MHz")+", "+withUnit(r.Device.ClockMaxMHz, "MHz"))
	row("throttled", withUnit(r.Device.ThrottledS, "s"))
	row("VRAM, RAM", withUnit(vramGB(r), "GB")+", "+withUnit(r.Memory.RAMBytes.Times(1e-9), "GB"))
	row("CPU energy", withUnit(r.Energy.CPUEnergyWh, "Wh"))
	row("the client's own CPU time", withUnit(r.ClientCPUS, "s"))
	return t
}

func checkTable(r *replay.Results) Table {
	t := Table{Title: "Checks", Prose: true, Head: []string{"check", "state", "what was seen"}}
	for _, c := range r.Checks {
		t.Rows = append(t.Rows, []string{c.Name, string(c.State), c.Detail})
	}
	return t
}

// Verdict is the failed checks with what was seen, and the names of those that were skipped.
func Verdict(r *replay.Results) (failed, skipped []string) {
	for _, c := range r.Checks {
		switch c.State {
		case replay.Failed:
			failed = append(failed, c.Name+": "+c.Detail)
		case replay.Skipped:
			skipped = append(skipped, c.Name)
		}
	}
	return failed, skipped
}

// notRun is a line for everything that was asked for and did not run as planned.
func notRun(r *replay.Results) []string {
	var out []string
	for _, d := range r.Workload.Dropped {
		out = append(out, fmt.Sprintf("not run: %s: %s", d.Cell, d.Reason))
	}
	out = append(out, traceNotes(r)...)
	for _, d := range r.Workload.Skipped {
		out = append(out, fmt.Sprintf("skipped: %s: %s", d.Cell, d.Reason))
	}
	if len(r.Workload.NotIdle) > 0 {
		out = append(out, "what followed began warm: in the time that --rest gives, the device's power did not come back to within 2 W of rest after "+
			strings.Join(r.Workload.NotIdle, ", "))
	}
	if r.Workload.Interrupted {
		out = append(out, "interrupted: these are the requests that had been answered")
	}
	if r.Workload.Failure != "" {
		out = append(out, "ended early: "+r.Workload.Failure)
	}
	return out
}

// movedMs is from which shift on it is told that requests were due at other moments than the trace's.
const movedMs = 1000

// traceNotes is a line for everything that differs from the trace that was sent.
func traceNotes(r *replay.Results) (out []string) {
	t := r.Workload.Recording
	if t == nil {
		return nil
	}
	for _, list := range [][]string{t.LeftOut, t.Notes} {
		for _, note := range list {
			out = append(out, t.File+": "+note)
		}
	}
	if r.Cancelled > 0 {
		out = append(out, fmt.Sprintf("%s: %d requests were cancelled, as in the trace", t.File, r.Cancelled))
	}
	if s := r.Latency.Shift; s.Max.Valid && max(s.Max.V, -s.Min.V) >= movedMs {
		out = append(out, fmt.Sprintf("%s: requests were due between %s s earlier and %s s later than in the trace, as earlier replies ended sooner or later, or --concurrency held them back", t.File,
			table.Num(s.Min.Times(-1e-3)), table.Num(s.Max.Times(1e-3))))
	}
	return out
}

// Notes lists what did not run, the scenarios and references of the guide, and its tips.
func Notes(run LabelledRun) []string {
	r := run.Results
	out := notRun(r)
	for _, s := range Scenarios(r) {
		out = append(out, fmt.Sprintf("%s: %s (%s): %s", s.Name, s.Status, s.Expected, strings.Join(s.Advice, "; ")))
	}
	out = append(out, Ranges(r)...)
	out = append(out, References(r, run.Devices)...)
	for _, t := range Tips(measuredOf(run)) {
		line := fmt.Sprintf("%s: %s, because %s", t.Section, t.Advice, t.Because)
		if len(t.Flags) > 0 {
			line += ": llama-server " + strings.Join(t.Flags, " ")
		}
		out = append(out, line)
	}
	return out
}

// goodput describes how many requests met the objectives.
func goodput(g *replay.Goodput) string {
	var wanted []string
	for _, o := range g.Objectives {
		wanted = append(wanted, fmt.Sprintf("%s <= %s ms", o.Metric, table.Num(replay.Some(o.MaxMs))))
	}
	return fmt.Sprintf("%d of %d requests (%s) kept %s; %s a second", g.Met, g.Of, withUnit(g.Share.Times(100), "%"), strings.Join(wanted, ", "), table.Num(g.RequestsPerSecond))
}

func count(c replay.CellResult) string {
	if c.Errors > 0 {
		return fmt.Sprintf("%d (%d failed)", c.Requests, c.Errors)
	}
	return strconv.Itoa(c.Requests)
}
