package queries

func energyQueries() []Query {
	return []Query{
		{"energy-by-phase", "Where do the joules go: prompt, generation, or the idle draw that a request holds or waits through?", `
SELECT coalesce(model, '-') AS model_name, count(gpu_prefill_j) AS n_measured, sum(gpu_prefill_j) AS prefill_j, sum(gpu_decode_j) AS decode_j, sum(gpu_idle_j) AS idle_j, sum(gpu_idle_waiting_j) AS waiting_j,
	sum(gpu_prefill_j) / nullif(sum(gpu_prefill_j + gpu_decode_j + gpu_idle_j), 0) AS prefill_share,
	sum(gpu_decode_j) / nullif(sum(gpu_prefill_j + gpu_decode_j + gpu_idle_j), 0) AS decode_share,
	sum(gpu_idle_j) / nullif(sum(gpu_prefill_j + gpu_decode_j + gpu_idle_j), 0) AS idle_share,
	sum(gpu_prefill_j) / nullif(sum(CASE WHEN gpu_prefill_j IS NOT NULL THEN prompt_tokens - coalesce(cached_tokens, 0) END), 0) AS j_per_new_prompt_token,
	sum(gpu_decode_j) / nullif(sum(CASE WHEN gpu_decode_j IS NOT NULL THEN output_tokens END), 0) AS j_per_output_token
FROM efficiency WHERE {{.Requests}} AND gpu_prefill_j IS NOT NULL AND gpu_decode_j IS NOT NULL AND gpu_idle_j IS NOT NULL
GROUP BY model_name ORDER BY model_name`},

		{"idle", "How much does each device draw for nobody?", `
SELECT device AS device_name, sum(span_us) / 3.6e9 AS hours_seen, sum(counter_uj) / 3.6e12 AS drawn_kwh, sum(requests_active_uj) / 3.6e12 AS active_kwh,
	sum(requests_idle_uj) / 3.6e12 AS held_idle_kwh, sum(idle_uj) / 3.6e12 AS idle_kwh, sum(residual_uj) / 3.6e12 AS residual_kwh,
	sum(idle_uj) * 1e0 / nullif(sum(counter_uj), 0) AS idle_share, sum(residual_uj) * 1e0 / nullif(sum(counter_uj), 0) AS residual_share
FROM ledger WHERE at >= {{.Since}} GROUP BY device_name ORDER BY device_name`},

		{"conservation", "Does every joule of the counter have an owner? windows_off and difference_uj must be 0.", `
SELECT device AS device_name, count(*) AS windows, sum(counter_uj) AS drawn_uj,
	sum(requests_active_uj) + sum(requests_idle_uj) AS given_uj, sum(pools_uj) AS in_pools_uj, sum(idle_uj) AS idle_total_uj, sum(residual_uj) AS residual_total_uj,
	sum(counter_uj) - sum(requests_active_uj) - sum(requests_idle_uj) - sum(pools_uj) - sum(idle_uj) - sum(residual_uj) AS difference_uj,
	sum(CASE WHEN counter_uj = requests_active_uj + requests_idle_uj + pools_uj + idle_uj + residual_uj THEN 0 ELSE 1 END) AS windows_off
FROM ledger WHERE at >= {{.Since}} GROUP BY device_name ORDER BY device_name`},

		{"energy-quality", "How far can the joules be trusted?", `
SELECT coalesce(energy_quality, '-') AS quality, CASE WHEN gpu_sigma_j <= 0.03 * gpu_j THEN 'A' WHEN gpu_sigma_j <= 0.1 * gpu_j THEN 'B' WHEN gpu_sigma_j IS NOT NULL THEN 'C' ELSE '-' END AS grade, count(*) AS n_requests, sum(output_tokens) AS tokens_out, sum(` + energyJ + `) AS joules,
	sqrt(sum(gpu_sigma_j * gpu_sigma_j)) AS sigma_j, {{quantile "0.5" "gpu_sigma_j / nullif(gpu_j, 0)"}} AS relative_sigma_p50
FROM efficiency WHERE {{.Requests}} GROUP BY quality, grade ORDER BY n_requests DESC, quality, grade`},

		{"most-expensive", "Which requests cost the most energy?", `
SELECT id AS request, started_at AS began, model AS model_name, agent AS client, prompt_tokens AS n_prompt, cached_tokens AS n_cached, output_tokens AS n_out,
	gpu_j AS joules, gpu_sigma_j AS sigma_j, gpu_prefill_j AS prefill_j, gpu_decode_j AS decode_j, gpu_idle_j AS idle_j, gpu_idle_waiting_j AS waiting_j, cost AS money, energy_quality AS quality
FROM efficiency WHERE {{.Requests}} AND gpu_j IS NOT NULL ORDER BY joules DESC, request LIMIT 20`},

		{"throttled", "When did a device hold its clocks down, and why (hours, UTC)?", `
SELECT device AS device_name, {{hour "at"}} AS hour_utc, sum(throttled_us) / 1e6 AS throttled_s, sum(throttled_us) * 1e0 / nullif(sum(span_us), 0) AS throttled_share,
	max(temp_c) AS max_temp_c, sum(energy_uj) * 1e0 / nullif(sum(CASE WHEN energy_uj IS NOT NULL THEN span_us END), 0) AS mean_w, {{union "throttle"}} AS reasons
FROM power WHERE at >= {{.Since}} GROUP BY device_name, hour_utc HAVING sum(throttled_us) > 0 ORDER BY device_name, hour_utc`},
	}
}
