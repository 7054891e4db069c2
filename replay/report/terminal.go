package report

import (
	"fmt"
	"io"

	"wattline/replay"
	"wattline/replay/table"
)

// number prints three significant digits, or all whole ones.
func number(n replay.Num) string {
	if !n.Valid {
		return table.Absent
	}
	return table.Number(n.V)
}

// withUnit is number with its unit.
func withUnit(n replay.Num, unit string) string {
	if !n.Valid {
		return table.Absent
	}
	return number(n) + " " + unit
}

// spread prints a mean over trials with its interval.
func spread(s replay.Spread) string {
	if s.Trials < 2 {
		return number(s.Mean)
	}
	return fmt.Sprintf("%s (%s..%s)", number(s.Mean), number(s.Low), number(s.High))
}

// Terminal prints one run's results, what the guide makes of them, and whether they may be believed.
func Terminal(w io.Writer, run LabelledRun) {
	r := run.Results
	fmt.Fprintf(w, "%s\n\n", Subtitle(r))
	cells(w, r)
	energyCells(w, r)
	series(w, r)
	fmt.Fprintln(w)
	waterfall(w, r)
	fmt.Fprintln(w)
	headline(w, r)
	fmt.Fprintln(w)
	overTheRun(w, r)
	printGrades(w, r, run.Devices)
	printTips(w, measuredOf(run))
	notes(w, r)
	verdict(w, r)
}

// cells is the latency and throughput of each cell.
func cells(w io.Writer, r *replay.Results) {
	t := table.NewNumeric(w, "task, prompt x output", "n", "ttft ms", "tokens/s", "decode tok/s", "prefill tok/s", "tpot ms", "itl p50", "itl p99")
	for _, c := range r.Cells {
		t.Row(
			c.String(), count(c), spread(c.TTFTTrials), spread(c.TPSTrials), spread(c.DecodeTrials), number(c.PrefillTPS.Mean),
			number(c.TPOTMs.Mean), number(c.ITLMs.P50.Value), number(c.ITLMs.P99.Value),
		)
	}
	t.Render()
	if len(r.Cells) > 0 && r.Cells[0].TTFTTrials.Trials > 1 {
		kind := "smallest and largest of the trials' means"
		if r.Cells[0].TTFTTrials.Kind == replay.T95 {
			kind = "95 % t interval of the mean over trials"
		}
		fmt.Fprintf(w, "In parentheses: %s (%d trials).\n", kind, r.Cells[0].TTFTTrials.Trials)
	}
}

// energyCells is printed where something has joules.
func energyCells(w io.Writer, r *replay.Results) {
	if !r.Energy.TokensPerJoule.Valid {
		return
	}
	fmt.Fprintln(w)
	t := table.NewNumeric(w, "task, prompt x output", "J/request", "prefill J", "decode J", "idle J", "tokens/J", "tokens/W")
	for _, c := range r.Cells {
		t.Row(
			c.String(), number(c.Joules.Mean), number(c.PrefillJ.Mean), number(c.DecodeJ.Mean), number(c.IdleJ.Mean),
			number(c.TokensPerJoule), number(c.TokensPerWatt.Mean),
		)
	}
	t.Render()
}

// series is the grid by prompt size, by output size and by task.
func series(w io.Writer, r *replay.Results) {
	if len(r.Series) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table.NewNumeric(w, "series", "n", "ttft ms", "tokens/s", "decode tok/s", "tokens/J", "tokens/W")
	for _, s := range r.Series {
		t.Row(s.Name, s.Requests, number(s.TTFTMs), number(s.TokensPerSecond), number(s.DecodeTPS), number(s.TokensPerJoule), number(s.TokensPerWatt))
	}
	t.Render()
}

// waterfall is where the time went, medians.
func waterfall(w io.Writer, r *replay.Results) {
	if r.InLine.Joined == 0 {
		fmt.Fprintln(w, "No in-line rows: the endpoint is no wattline, or its admin listener is not reachable (--admin).")
		return
	}
	fmt.Fprintf(w, "Measured twice: %d requests by the client and in line. Medians in ms, client's start to last token:\n", r.InLine.Joined)
	t := table.NewNumeric(w, "task, prompt x output", "ttft client", "ttft in line", "network", "upload", "proxy", "queue", "prefill", "server", "decode")
	row := func(name string, f replay.Waterfall) {
		t.Row(name, number(f.Client), number(f.InLine), number(f.Network), number(f.Upload), number(f.Proxy), number(f.Queue), number(f.Prefill), number(f.Server), number(f.Decode))
	}
	for _, c := range r.Cells {
		row(c.String(), c.Waterfall)
	}
	t.Render()
}

// headline is the guide's figures, each with its formula.
func headline(w io.Writer, r *replay.Results) {
	t := table.NewNumeric(w, "figure", "value", "", "", "formula")
	row := func(name string, v replay.Num, unit, key string) {
		t.Row(name, number(v), unit, "", r.Definitions[key])
	}
	row("throughput", r.Throughput.MeanTokensPerSecond, "tokens/s", "tokens_per_second")
	row("  of the whole system", r.Throughput.SystemTokensPerSecond, "tokens/s", "system_tokens_per_second")
	row("requests", r.Latency.RequestsPerSecond, "requests/s", "requests_per_second")
	if g := r.Goodput; g != nil {
		row("goodput", g.RequestsPerSecond, "requests/s", "goodput")
	}
	row("latency", r.Latency.TimeToFirstTokenMs, "ms", "time_to_first_token_ms")
	row("generation time", r.Latency.GenerationTimeMs, "ms", "generation_time_ms")
	row("efficiency", r.Energy.MeanTokensPerWatt, "tokens/W", "tokens_per_watt")
	row("", r.Energy.TokensPerJoule, "tokens/J", "tokens_per_joule")
	row("GPU energy, all", r.Energy.GPUEnergyWh, "Wh", "gpu_energy_wh")
	row("GPU energy, attributed", r.Energy.GPUAttributedWh, "Wh", "gpu_attributed_wh")
	row("  of it idle draw", r.Energy.GPUIdleWh, "Wh", "gpu_idle_wh")
	t.AlignRight(2)
	t.Render()
	if g := r.Goodput; g != nil {
		fmt.Fprintf(w, "Goodput: %s\n", goodput(g))
	}
	if !r.Energy.TokensPerJoule.Valid {
		fmt.Fprintln(w, "Energy: not measured (no power source, or no wattline in between).")
	}
}

// overTheRun is the device, the memory and the stability in a few lines.
func overTheRun(w io.Writer, r *replay.Results) {
	if d := r.Device; len(d.Devices) > 0 {
		fmt.Fprintf(w, "Device: %s at rest, %s on average, %s at most; %s to %s; core clock %s to %s; throttled %s; VRAM %s\n",
			withUnit(d.IdleBeforeW, "W"), withUnit(d.MeanPowerW, "W"), withUnit(d.MaxPowerW, "W"), withUnit(d.TempStartC, "°C"), withUnit(d.TempMaxC, "°C"),
			withUnit(d.ClockMinMHz, "MHz"), withUnit(d.ClockMaxMHz, "MHz"), withUnit(d.ThrottledS, "s"), withUnit(vramGB(r), "GB"))
	}
	fmt.Fprintf(w, "Server: RAM %s, CPU energy %s; client: CPU time %s\n",
		withUnit(r.Memory.RAMBytes.Times(1e-9), "GB"), withUnit(r.Energy.CPUEnergyWh, "Wh"), withUnit(r.ClientCPUS, "s"))
	fmt.Fprintf(w, "Stability: %d answered, %d failed; decode speed, last third against first: %s; drift %s; coefficient of variation %s\n\n",
		r.PromptsTested, r.Errors, withUnit(r.Stability.ChangePercent, "%"), withUnit(r.Stability.DriftPercent, "% a minute"), withUnit(r.Stability.VariationCoeff, "%"))
}

// notes says what did not run.
func notes(w io.Writer, r *replay.Results) {
	for _, d := range r.Workload.Dropped {
		fmt.Fprintf(w, "not run: %s: %s\n", d.Cell, d.Reason)
	}
	for _, d := range r.Workload.Skipped {
		fmt.Fprintf(w, "skipped: %s: %s\n", d.Cell, d.Reason)
	}
	if text := notIdle(r); text != "" {
		fmt.Fprintln(w, text)
	}
	if r.Workload.Interrupted {
		fmt.Fprintln(w, "interrupted: these are the requests that had been answered")
	}
	if r.Workload.Failure != "" {
		fmt.Fprintf(w, "ended early: %s\n", r.Workload.Failure)
	}
}

// verdict says whether the run may be believed.
func verdict(w io.Writer, r *replay.Results) {
	fmt.Fprintln(w)
	passed, unknown := 0, []string(nil)
	for _, c := range r.Checks {
		switch c.State {
		case replay.Passed:
			passed++
		case replay.Skipped:
			unknown = append(unknown, c.Name)
		}
	}
	if r.Valid {
		fmt.Fprintf(w, "valid: %d checks passed", passed)
	} else {
		fmt.Fprintln(w, "INVALID: do not use these numbers")
		for _, c := range r.Checks {
			if c.State == replay.Failed {
				fmt.Fprintf(w, "  %s: %s\n", c.Name, c.Detail)
			}
		}
		fmt.Fprintf(w, "  %d other checks passed", passed)
	}
	if len(unknown) > 0 {
		fmt.Fprintf(w, "; not checked: ")
		for i, u := range unknown {
			if i > 0 {
				fmt.Fprint(w, ", ")
			}
			fmt.Fprint(w, u)
		}
	}
	fmt.Fprintln(w)
}
