package queries

// energyJ is a request's energy in sums: a request below resolution enters with its estimate. Single ones
// say nothing, their sum does.
const energyJ = `coalesce(gpu_j, gpu_estimate_j)`

// slotJ is the same without the idle draw while the request waited, for ratios to tokens.
const slotJ = `coalesce(gpu_j - coalesce(gpu_idle_waiting_j, 0e0), gpu_estimate_j)`

// figures are the efficiency of a group of requests. Joules and tokens are those of requests with an energy that
// is known: a run's value is their sum's quotient, except tokens per watt, which is a mean.
const figures = `count(*) AS n_requests, sum(output_tokens) AS tokens_out, sum(` + energyJ + `) AS joules,
	sqrt(sum(gpu_sigma_j * gpu_sigma_j)) AS joules_sigma,
	sum(` + slotJ + `) / nullif(sum(CASE WHEN ` + slotJ + ` IS NOT NULL THEN output_tokens END), 0) AS j_per_token,
	sum(CASE WHEN ` + slotJ + ` IS NOT NULL THEN output_tokens END) / nullif(sum(` + slotJ + `), 0) AS tokens_per_j,
	avg(tokens_per_watt) AS mean_tokens_per_watt, {{quantile "0.5" "tokens_per_second"}} AS tokens_per_s_p50,
	{{quantile "0.5" "ttft_ms"}} AS ttft_ms_p50, sum(cost) AS cost_sum, sum(gco2e) AS gco2e_sum`

func efficiencyQueries() []Query {
	return []Query{
		{"by-model", "Which model gives how many tokens for its joules?", `
SELECT coalesce(model, '-') AS model_name, ` + figures + `
FROM efficiency WHERE {{.Requests}} GROUP BY model_name ORDER BY n_requests DESC, model_name`},

		{"by-label", "Which label does? A request counts once for each of its labels.", `
SELECT coalesce(usage_label, '-') AS label_name, ` + figures + `
FROM {{by_label "efficiency"}} WHERE {{.Requests}} GROUP BY label_name ORDER BY n_requests DESC, label_name`},

		{"by-client", "Which client does, by the first product of its User-Agent?", `
SELECT coalesce(agent, '-') AS client, ` + figures + `
FROM efficiency WHERE {{.Requests}} GROUP BY client ORDER BY n_requests DESC, client`},

		{"by-hour", "How did efficiency go, hour by hour (UTC)?", `
SELECT {{hour "started_at"}} AS hour_utc, ` + figures + `
FROM efficiency WHERE {{.Requests}} GROUP BY hour_utc ORDER BY hour_utc`},

		{"by-config", "What did a change of the server, its flags or its power limit do?", `
SELECT coalesce(config_id, '-') AS config, ` + figures + `
FROM efficiency WHERE {{.Requests}} GROUP BY config ORDER BY n_requests DESC, config`},

		{"concurrency", "How does concurrency affect energy per token and speed?", `
SELECT floor(concurrency + 0.5) AS in_flight, ` + figures + `, {{quantile "0.5" "decode_tps"}} AS decode_tps_p50
FROM efficiency WHERE {{.Requests}} AND concurrency IS NOT NULL GROUP BY in_flight ORDER BY in_flight`},

		{"cache", "What do reused prompt tokens save?", `
SELECT CASE WHEN cached_tokens = 0 THEN '1: nothing cached' WHEN cached_tokens * 2 < prompt_tokens THEN '2: under half'
		WHEN cached_tokens * 10 < prompt_tokens * 9 THEN '3: half to 90 %' ELSE '4: 90 % and more' END AS prompt_cached,
	count(*) AS n_requests, avg(prompt_tokens) AS mean_prompt, avg(cached_tokens) AS mean_cached, {{quantile "0.5" "ttft_ms"}} AS ttft_ms_p50,
	{{quantile "0.5" "prefill_ms"}} AS prefill_ms_p50, avg(gpu_prefill_j) AS mean_prefill_j,
	sum(gpu_prefill_j) / nullif(sum(CASE WHEN gpu_prefill_j IS NOT NULL THEN prompt_tokens END), 0) AS j_per_prompt_token
FROM efficiency WHERE {{.Requests}} AND prompt_tokens IS NOT NULL AND cached_tokens IS NOT NULL GROUP BY prompt_cached ORDER BY prompt_cached`},

		{"stability", "Is the last hour as fast and as cool as the first?", `
WITH bounds AS (SELECT (SELECT min(started_at) FROM requests WHERE {{.Requests}}) AS first_at, (SELECT max(started_at) FROM requests WHERE {{.Requests}}) AS last_at)
SELECT * FROM (
SELECT '1: first hour' AS part, ` + stability + `
FROM efficiency WHERE {{.Requests}} AND started_at < (SELECT {{an_hour "+" "first_at"}} FROM bounds)
UNION ALL
SELECT '2: last hour' AS part, ` + stability + `
FROM efficiency WHERE {{.Requests}} AND started_at > (SELECT {{an_hour "-" "last_at"}} FROM bounds)
) ORDER BY part`},

		{"ab", "Which variant is better? Compares the values of one label (--label, else variant).", `
SELECT {{label .Label}} AS variant, ` + figures + `, avg(` + energyJ + `) AS mean_j,
	{{stddev "` + energyJ + `"}} / sqrt(nullif(count(` + energyJ + `), 0)) AS mean_j_stderr, {{quantile "0.95" "ttft_ms"}} AS ttft_ms_p95,
	sum(CASE WHEN outcome = 'ok' THEN 1e0 ELSE 0e0 END) / count(*) AS ok_share
FROM efficiency WHERE {{.Requests}} AND {{label .Label}} IS NOT NULL GROUP BY variant ORDER BY variant`},
	}
}

// stability holds the columns that query stability compares.
const stability = `count(*) AS n_requests, {{quantile "0.5" "tokens_per_second"}} AS tokens_per_s_p50, {{quantile "0.5" "decode_tps"}} AS decode_tps_p50,
	{{quantile "0.5" "ttft_ms"}} AS ttft_ms_p50, {{quantile "0.95" "ttft_ms"}} AS ttft_ms_p95, avg(gpu_temp_c) AS mean_temp_c, max(gpu_temp_c) AS max_temp_c,
	sum(` + slotJ + `) / nullif(sum(CASE WHEN ` + slotJ + ` IS NOT NULL THEN output_tokens END), 0) AS j_per_token`
