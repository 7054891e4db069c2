package queries

func latencyQueries() []Query {
	return []Query{
		{"latency", "How long is the wait for the first token, and between tokens, by size of prompt?", `
SELECT CASE WHEN prompt_tokens < 256 THEN '1: under 256' WHEN prompt_tokens < 1024 THEN '2: 256 to 1k' WHEN prompt_tokens < 4096 THEN '3: 1k to 4k'
		WHEN prompt_tokens < 16384 THEN '4: 4k to 16k' WHEN prompt_tokens < 65536 THEN '5: 16k to 64k' ELSE '6: 64k and more' END AS prompt_size,
	count(*) AS n_requests, {{quantile "0.5" "ttft_ms"}} AS ttft_ms_p50, {{quantile "0.95" "ttft_ms"}} AS ttft_ms_p95, {{quantile "0.99" "ttft_ms"}} AS ttft_ms_p99,
	{{quantile "0.5" "itl_p50_ms"}} AS itl_ms_p50, {{quantile "0.95" "itl_p50_ms"}} AS itl_p50_ms_p95, {{quantile "0.99" "itl_p50_ms"}} AS itl_p50_ms_p99,
	{{quantile "0.5" "itl_p99_ms"}} AS itl_p99_ms_p50, max(itl_max_ms) AS longest_gap_ms
FROM efficiency WHERE {{.Requests}} AND prompt_tokens IS NOT NULL GROUP BY prompt_size ORDER BY prompt_size`},

		{"gaps", "How are the raw gaps between output events spread? They are there where serve kept them (--keep-gaps).", `
SELECT model_name, n_requests, n_gaps, p50_us / 1e3 AS gap_ms_p50, p90_us / 1e3 AS gap_ms_p90, p99_us / 1e3 AS gap_ms_p99,
	max_us / 1e3 AS longest_gap_ms, zeros / (n_gaps + 0e0) AS share_in_one_read
FROM {{gap_stats .Since}} AS g ORDER BY n_gaps DESC, model_name`},

		{"slowest", "Which requests took the longest, and where was the time?", `
SELECT id AS request, started_at AS began, model AS model_name, agent AS client, outcome AS ended, prompt_tokens AS n_prompt, output_tokens AS n_out,
	queue_ms AS waited_ms, prefill_ms AS prompt_ms, decode_ms AS generation_ms, ttft_ms AS first_token_ms, duration_ms AS total_ms, concurrency AS in_flight
FROM efficiency WHERE {{.Requests}} AND duration_ms IS NOT NULL ORDER BY total_ms DESC, request LIMIT 20`},

		{"queueing", "How long do requests wait for a slot, and how much of the first token's time is that?", `
SELECT floor(concurrency + 0.5) AS in_flight, count(*) AS n_requests, {{quantile "0.5" "queue_ms"}} AS queue_ms_p50, {{quantile "0.95" "queue_ms"}} AS queue_ms_p95,
	{{quantile "0.99" "queue_ms"}} AS queue_ms_p99, max(queue_ms) AS queue_ms_max,
	sum(CASE WHEN ttft_ms IS NOT NULL THEN queue_ms END) / nullif(sum(CASE WHEN queue_ms IS NOT NULL THEN ttft_ms END), 0) AS share_of_ttft
FROM efficiency WHERE {{.Requests}} AND queue_ms IS NOT NULL AND concurrency IS NOT NULL GROUP BY in_flight ORDER BY in_flight`},

		{"proxy-overhead", "What does wattline itself add before the first token?", `
SELECT CASE stream WHEN 1 THEN 'streamed' WHEN 0 THEN 'whole' ELSE '-' END AS reply, count(proxy_overhead_ms) AS n_requests,
	{{quantile "0.5" "proxy_overhead_ms"}} AS overhead_ms_p50, {{quantile "0.95" "proxy_overhead_ms"}} AS overhead_ms_p95,
	{{quantile "0.99" "proxy_overhead_ms"}} AS overhead_ms_p99, max(proxy_overhead_ms) AS overhead_ms_max,
	sum(CASE WHEN ttft_ms IS NOT NULL THEN proxy_overhead_ms END) / nullif(sum(CASE WHEN proxy_overhead_ms IS NOT NULL THEN ttft_ms END), 0) AS share_of_ttft,
	{{quantile "0.99" "write_blocked_ms"}} AS write_blocked_ms_p99
FROM efficiency WHERE {{.Requests}} AND proxy_overhead_ms IS NOT NULL GROUP BY reply ORDER BY reply`},
	}
}
