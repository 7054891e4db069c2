package report

import (
	"fmt"
	"io"
	"strings"

	"wattline/replay"
	"wattline/replay/table"
)

// withUnit is a number with its unit.
func withUnit(n replay.Num, unit string) string {
	if !n.Valid {
		return table.Absent
	}
	return table.Num(n) + " " + unit
}

// spread prints a mean over trials with its interval.
func spread(s replay.Spread) string {
	if s.Trials < 2 {
		return table.Num(s.Mean)
	}
	return fmt.Sprintf("%s (%s..%s)", table.Num(s.Mean), table.Num(s.Low), table.Num(s.High))
}

// Terminal prints one run's results, the guide's judgement of them, and whether they are valid.
func Terminal(w io.Writer, run LabelledRun) {
	w = table.Plain(w)
	r := run.Results
	fmt.Fprintf(w, "%s\n\n", Subtitle(r))
	cells := cellTable(r, false)
	cells.terminal(w)
	trialsNote(w, r)
	if r.Energy.TokensPerJoule.Valid {
		fmt.Fprintln(w)
		energyTable(r).terminal(w)
	}
	if len(r.Series) > 0 {
		fmt.Fprintln(w)
		seriesTable(r).terminal(w)
	}
	fmt.Fprintln(w)
	if r.InLine.Joined > 0 {
		fmt.Fprintf(w, "Measured twice: %d requests by the client and in line. Medians in ms, client's start to last token:\n", r.InLine.Joined)
		waterfallTable(r).terminal(w)
	} else {
		fmt.Fprintln(w, "No in-line rows: the endpoint is no wattline, or its admin listener is not reachable (--admin).")
	}
	fmt.Fprintln(w)
	headline(w, r)
	fmt.Fprintln(w)
	overTheRun(w, r)
	printGrades(w, r, run.Devices)
	printTips(w, measuredOf(run))
	for _, line := range notRun(r) {
		fmt.Fprintln(w, line)
	}
	verdict(w, r)
}

// terminal prints a table without its title and note.
func (t Table) terminal(w io.Writer) {
	out := table.NewNumeric(w, anys(t.Head)...)
	for _, row := range t.Rows {
		out.Row(anys(row)...)
	}
	out.Render()
}

func anys(cells []string) []any {
	out := make([]any, len(cells))
	for i, c := range cells {
		out[i] = c
	}
	return out
}

// trialsNote explains the parentheses in the table of cells.
func trialsNote(w io.Writer, r *replay.Results) {
	if len(r.Cells) == 0 || r.Cells[0].TTFTTrials.Trials < 2 {
		return
	}
	kind := "smallest and largest of the trials' means"
	if r.Cells[0].TTFTTrials.Kind == replay.T95 {
		kind = "95 % t interval of the mean over trials"
	}
	fmt.Fprintf(w, "In parentheses: %s (%d trials).\n", kind, r.Cells[0].TTFTTrials.Trials)
}

// headline is the guide's figures, each with its formula.
func headline(w io.Writer, r *replay.Results) {
	t := table.NewNumeric(w, "figure", "value", "", "", "formula")
	row := func(name string, v replay.Num, unit, key string) {
		t.Row(name, table.Num(v), unit, "", r.Definitions[key])
	}
	simulated := ""
	if r.Energy.Simulated {
		simulated = " SIMULATED"
	}
	row("throughput", r.Throughput.MeanTokensPerSecond, "tokens/s", "tokens_per_second")
	row("  of the whole system", r.Throughput.SystemTokensPerSecond, "tokens/s", "system_tokens_per_second")
	row("requests", r.Latency.RequestsPerSecond, "requests/s", "requests_per_second")
	if g := r.Goodput; g != nil {
		row("goodput", g.RequestsPerSecond, "requests/s", "goodput")
	}
	row("latency", r.Latency.TimeToFirstTokenMs, "ms", "time_to_first_token_ms")
	row("generation time", r.Latency.GenerationTimeMs, "ms", "generation_time_ms")
	row("efficiency", r.Energy.MeanTokensPerWatt, "tokens/W"+simulated, "tokens_per_watt")
	row("", r.Energy.TokensPerJoule, "tokens/J"+simulated, "tokens_per_joule")
	row("GPU energy, all", r.Energy.GPUEnergyWh, "Wh"+simulated, "gpu_energy_wh")
	t.Row("GPU energy, attributed", withSigma(r.Energy.GPUAttributedWh, r.Energy.GPUAttributedSigmaWh), "Wh"+simulated, "", r.Definitions["gpu_attributed_wh"])
	row("  of it idle draw", r.Energy.GPUIdleWh, "Wh"+simulated, "gpu_idle_wh")
	row("    of it waiting", r.Energy.GPUWaitingWh, "Wh"+simulated, "gpu_idle_waiting_wh")
	t.AlignRight(2)
	t.Render()
	if g := r.Goodput; g != nil {
		fmt.Fprintf(w, "Goodput: %s\n", goodput(g))
	}
	if !r.Energy.TokensPerJoule.Valid {
		fmt.Fprintln(w, "Energy: not measured (no power source, or no wattline in between).")
	}
}

// overTheRun prints device, memory and stability in three lines.
func overTheRun(w io.Writer, r *replay.Results) {
	if d := r.Device; len(d.Devices) > 0 {
		simulated := ""
		if r.Energy.Simulated {
			simulated = " (SIMULATED)"
		}
		fmt.Fprintf(w, "Device%s: %s at rest, %s on average, %s at most; %s to %s; core clock %s to %s; throttled %s; VRAM %s\n",
			simulated, withUnit(d.IdleBeforeW, "W"), withUnit(d.MeanPowerW, "W"), withUnit(d.MaxPowerW, "W"), withUnit(d.TempStartC, "°C"), withUnit(d.TempMaxC, "°C"),
			withUnit(d.ClockMinMHz, "MHz"), withUnit(d.ClockMaxMHz, "MHz"), withUnit(d.ThrottledS, "s"), withUnit(vramGB(r), "GB"))
	}
	fmt.Fprintf(w, "Server: RAM %s, CPU energy %s; client: CPU time %s\n",
		withUnit(r.Memory.RAMBytes.Times(1e-9), "GB"), withUnit(r.Energy.CPUEnergyWh, "Wh"), withUnit(r.ClientCPUS, "s"))
	fmt.Fprintf(w, "Stability: %d answered, %d failed; decode speed, last third against first: %s; drift %s; coefficient of variation %s\n\n",
		r.PromptsTested, r.Errors, withUnit(r.Stability.ChangePercent, "%"), drift(r.Stability), withUnit(r.Stability.VariationCoeff, "%"))
}

// drift prints the drift, or that the run was too short for one.
func drift(s replay.Stability) string {
	if !s.DriftPercent.Valid && s.Seconds.Valid {
		return fmt.Sprintf("not told, the run is too short (%s s, it takes %d)", table.Num(s.Seconds), replay.DriftSeconds)
	}
	return withUnit(s.DriftPercent, "% a minute")
}

// verdict prints whether the run is valid.
func verdict(w io.Writer, r *replay.Results) {
	failed, skipped := Verdict(r)
	passed := len(r.Checks) - len(failed) - len(skipped)
	fmt.Fprintln(w)
	if r.Valid {
		fmt.Fprintf(w, "valid: %d checks passed", passed)
	} else {
		fmt.Fprintf(w, "INVALID: do not use these numbers\n  %s\n  %d other checks passed", strings.Join(failed, "\n  "), passed)
	}
	if len(skipped) > 0 {
		fmt.Fprintf(w, "; not checked: %s", strings.Join(skipped, ", "))
	}
	fmt.Fprintln(w)
}
