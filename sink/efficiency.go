package sink

// Derived is one column of view efficiency that is computed from columns of requests. Expr is SQL that
// SQLite and ClickHouse both understand and that is null wherever an input is.
type Derived struct {
	Name string
	Unit string
	Doc  string
	Expr string
}

// EfficiencyIdentity returns the columns of requests that view efficiency carries over unchanged.
func EfficiencyIdentity() []string {
	return []string{
		"id", "started_at", "instance", "route", "upstream", "path", "dialect", "model", "stream", "status", "outcome",
		"finish_reason", "config_id", "trace_id", "agent", "session", "user", "api_key_id", "labels", "prompt_tokens",
		"cached_tokens", "output_tokens", "reasoning_tokens", "token_source", "energy_quality", "energy_method", "gpu_temp_c",
	}
}

// Building blocks of the expressions below, in the notation of the design's marks.
const (
	// Wn - P0. Streamed: (W1 - P0) + (Tn - T1), which differs from it only by how much longer the last
	// flush took than the first. Not streamed: E - P0.
	sqlToLastOutputUs = `coalesce(ttft_us + decode_us, duration_us)`
	// E - S. Streamed: (E - P0) - (P1 - P0) - (S - P1, which is queue + load), with P1 - P0 = (W1 - P0) - (T1 - P1) to within the
	// first flush. Not streamed: prompt_ms + predicted_ms, since S is defined as E less these two.
	sqlHeldSlotUs = `CASE WHEN stream = 1 THEN duration_us - (ttft_us - upstream_ttft_us) - queue_us - coalesce(load_us, 0) ELSE prefill_us + decode_us END`
	// Prompt tokens that were evaluated, not reused.
	sqlNewPromptTokens = `(prompt_tokens - coalesce(cached_tokens, 0))` //nolint:gosec // SQL, no secret
	// A request's joules: the GPUs'. Where a server has none the processor's are all there is, and
	// energy_source says so.
	sqlUj      = `CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj END`
	sqlSigmaUj = `CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_sigma_uj ELSE gpu_sigma_uj END`
	// The joules and the time of its slot, for the ratios. Where what it waited cannot be told apart (the processor's
	// joules, an idle draw not learnt yet, rows older than schema version 2): those of the whole request.
	sqlSlotUj = `CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj - coalesce(gpu_idle_waiting_uj, 0) END`
	sqlSlotUs = `CASE WHEN gpu_idle_waiting_uj IS NULL THEN duration_us ELSE ` + sqlHeldSlotUs + ` END`
	sqlKWh    = `((` + sqlUj + `) / 3.6e12)`
)

// EfficiencyColumns returns the computed columns of view efficiency in their canonical order: the same
// rows as requests in ms, J, Wh, tokens/s, tokens/J, tokens/W, money and gCO2e. The formulas are the
// design's; Doc names them.
func EfficiencyColumns() []Derived {
	cols := make([]Derived, 0, 48)
	for _, c := range []struct{ name, doc string }{
		{"ttfb", "H - P0"}, {"ttft", "W1 - P0"}, {"ttfo", "O1 - P0"}, {"upstream_ttft", "T1 - P1"}, {"duration", "E - P0"},
		{"queue", "S - P1 - load_us"}, {"prefill", "the server's prompt_ms"}, {"decode", "Tn - T1"}, {"itl_p50", "median gap between output events"},
		{"itl_p90", "90th percentile of the gaps"}, {"itl_p99", "99th percentile of the gaps"}, {"itl_max", "longest gap"},
		{"write_blocked", "time in writes to the client"}, {"proxy_overhead", "(P1 - max(P0, R)) + (W1 - T1)"},
	} {
		cols = append(cols, Derived{c.name + "_ms", "ms", c.doc, c.name + "_us / 1e3"})
	}
	cols = append(cols,
		Derived{"tpot_ms", "ms", "(Tn - T1)/(n - 1), n >= 2", `CASE WHEN output_tokens >= 2 THEN decode_us / 1e3 / (output_tokens - 1) END`},
		Derived{"tokens_per_second", "1/s", "output tokens / (Wn - P0)", `output_tokens * 1e6 / nullif(` + sqlToLastOutputUs + `, 0)`},
		Derived{"decode_tps", "1/s", "1 / tpot", `CASE WHEN output_tokens >= 2 THEN (output_tokens - 1) * 1e6 / nullif(decode_us, 0) END`},
		Derived{"prefill_tps", "1/s", "prompt_n / prompt_ms, only when no other request was in flight",
			`CASE WHEN mean_concurrency <= 1000 THEN ` + sqlNewPromptTokens + ` * 1e6 / nullif(prefill_us, 0) END`},
		Derived{"concurrency", "", "time-weighted requests in flight", `mean_concurrency / 1e3`},
	)
	for _, c := range []struct{ name, doc string }{
		{"gpu", "active + idle share"}, {"gpu_sigma", "standard error of gpu_j"}, {"gpu_active", "prefill + decode"}, {"gpu_idle", "share of the loaded-idle draw"},
		{"gpu_idle_held", "the part of gpu_idle_j while it held a slot"}, {"gpu_idle_waiting", "the part of gpu_idle_j while it waited and nobody held a slot"},
		{"gpu_prefill", "active joules of the prompt"}, {"gpu_decode", "active joules of the generation"}, {"gpu_estimate", "estimate where gpu_j is below resolution"},
		{"cpu", "CPU package and DRAM by the server's CPU share"}, {"cpu_sigma", "standard error of cpu_j"},
	} {
		cols = append(cols, Derived{c.name + "_j", "J", c.doc, c.name + "_uj / 1e6"})
	}
	return append(cols,
		Derived{"gpu_wh", "Wh", "gpu_j / 3600", `gpu_uj / 3.6e9`},
		Derived{"gpu_mean_w", "W", "mean board power while it held a slot", `gpu_mean_mw / 1e3`},
		Derived{"relative_sigma", "", "standard error of the joules (gpu_j, or of a server without a GPU cpu_j) / the joules", `(` + sqlSigmaUj + `) * 1e0 / nullif(` + sqlUj + `, 0)`},
		Derived{"slot_j", "J", "joules of its slot: gpu_j - gpu_idle_waiting_j (of a server without a GPU: cpu_j)", `(` + sqlSlotUj + `) / 1e6`},
		Derived{"joules_per_token", "J", "slot_j / output tokens", `(` + sqlSlotUj + `) / 1e6 / nullif(output_tokens, 0)`},
		Derived{"tokens_per_joule", "1/J", "output tokens / slot_j = tokens/s/W", `output_tokens * 1e6 / nullif(` + sqlSlotUj + `, 0)`},
		Derived{"prefill_j_per_token", "J", "prefill joules / (prompt - cached)", `gpu_prefill_uj / 1e6 / nullif(` + sqlNewPromptTokens + `, 0)`},
		Derived{"decode_j_per_token", "J", "decode joules / output tokens", `gpu_decode_uj / 1e6 / nullif(output_tokens, 0)`},
		Derived{"tokens_per_watt", "1/W", "output tokens / (slot_j / (E - S)); grows with reply length, see tokens_per_joule",
			`output_tokens * 1e0 / nullif(` + sqlSlotUj + `, 0) * (` + sqlSlotUs + `)`},
		Derived{"cost", "currency", "kWh x price", sqlKWh + ` * (price_per_kwh_micro / 1e6)`},
		Derived{"gco2e", "g", "kWh x carbon intensity", sqlKWh + ` * (gco2_per_kwh_milli / 1e3)`},
	)
}
