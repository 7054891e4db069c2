package grafana

func latency() Dashboard {
	return Dashboard{Name: "latency", Title: "wattline: latency", Variables: []Variable{instances(), routes(), models(), agents()}, Key: []Panel{
		{
			Question: "How long do 95 % wait for the first token at most?", Kind: Stat, Unit: "ms", Warn: 2000, Bad: 10000,
			SQL: []string{`
SELECT {{quantile "0.95" "ttft_ms"}} AS p95 FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND ttft_ms IS NOT NULL`},
		},
		{
			Question: "How fast does a reply come?", Kind: Stat, Unit: "short",
			Doc: "Tokens a second, the mean over requests.",
			SQL: []string{`
SELECT avg(decode_tps) AS tokens_per_s FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}}`},
		},
		{
			Question: "What share of the prompts came from the cache?", Kind: Stat, Unit: "percentunit",
			SQL: []string{`
SELECT sum(cached_tokens) * 1e0 / nullif(sum(prompt_tokens), 0) AS cached_share
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND cached_tokens IS NOT NULL`},
		},
		{
			Question: "What share of the requests was not ok?", Kind: Stat, Unit: "percentunit", Warn: 0.02, Bad: 0.1,
			SQL: []string{`
SELECT sum(CASE WHEN outcome <> 'ok' THEN 1 ELSE 0 END) * 1e0 / nullif(count(*), 0) AS not_ok_share
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}}`},
		},
	}, Panels: []Panel{
		{
			Question: "How long is the wait for the first token?", Kind: Lines, Unit: "ms",
			Doc: "W1 - P0 of streams: what the client waits, network aside. Exact percentiles over the requests of each interval.",
			SQL: []string{`
SELECT {{bucket "started_at"}} AS time, {{quantile "0.5" "ttft_ms"}} AS p50, {{quantile "0.95" "ttft_ms"}} AS p95
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND ttft_ms IS NOT NULL GROUP BY time ORDER BY time`},
		},
		{
			Question: "Where does the time of a request go?", Kind: Lines, Unit: "ms", Stacked: true,
			Doc: "Means of queue (S - P1), prefill (the server's prompt_ms) and decode (Tn - T1).",
			SQL: []string{`
SELECT {{bucket "started_at"}} AS time, avg(queue_ms) AS queue, avg(prefill_ms) AS prefill, avg(decode_ms) AS decode
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND decode_ms IS NOT NULL GROUP BY time ORDER BY time`},
		},
		{
			Question: "Do tokens come evenly?", Kind: Lines, Unit: "ms",
			Doc: "Gaps between output events: the median request's median gap, and the 95th percentile over requests of their 99th percentile.",
			SQL: []string{`
SELECT {{bucket "started_at"}} AS time, {{quantile "0.5" "itl_p50_ms"}} AS median_gap, {{quantile "0.95" "itl_p99_ms"}} AS long_gaps
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND itl_p50_ms IS NOT NULL GROUP BY time ORDER BY time`},
		},
		{
			Question: "What does a long prompt cost the first token?", Kind: Table, Unit: "ms",
			Doc: "By prompt tokens, cached ones included; what was cached costs nearly nothing.",
			SQL: []string{`
SELECT CASE WHEN prompt_tokens < 1024 THEN '1: under 1k' WHEN prompt_tokens < 8192 THEN '2: 1k to 8k'
		WHEN prompt_tokens < 32768 THEN '3: 8k to 32k' ELSE '4: 32k and more' END AS prompt,
	count(*) AS requests_n, avg(cached_tokens * 1e0 / prompt_tokens) AS cached_share, avg(ttft_ms) AS mean_ttft_ms, max(ttft_ms) AS longest_ttft_ms
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND ttft_ms IS NOT NULL AND prompt_tokens > 0 GROUP BY prompt ORDER BY prompt`},
		},
		{
			Question: "Which model answers fastest?", Kind: Table,
			Doc: "Medians over requests.",
			SQL: []string{`
SELECT coalesce(model, '-') AS model_name, count(*) AS requests_n, {{quantile "0.5" "ttft_ms"}} AS ttft_ms_p50, {{quantile "0.5" "decode_tps"}} AS tokens_per_s_p50
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND output_tokens IS NOT NULL GROUP BY model_name ORDER BY ttft_ms_p50, model_name`},
		},
		{
			Question: "How long is the wait right now?", Kind: Lines, Unit: "s",
			Doc:    "From the metrics, so without the rows' exactness: interpolated within buckets.",
			PromQL: []Series{{`histogram_quantile(0.95, sum by (instance, le) (rate(gen_ai_server_time_to_first_token_seconds_bucket[$__rate_interval])))`, "p95 {{instance}}"}},
		},
	}}
}
