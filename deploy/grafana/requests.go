package grafana

func requests() Dashboard {
	return Dashboard{Name: "requests", Title: "wattline: requests", Variables: []Variable{instances(), routes(), models(), agents()}, Panels: []Panel{
		{
			Question: "Which requests cost the most energy?", Kind: Table,
			Doc: "request links to wattline's console, trace to Jaeger.",
			SQL: []string{`
SELECT started_at AS began, model AS model_name, agent AS client, prompt_tokens AS n_prompt, cached_tokens AS n_cached, output_tokens AS n_out,
	gpu_j AS joules, gpu_sigma_j AS sigma_j, energy_quality AS quality, id AS request, trace_id AS trace
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND gpu_j IS NOT NULL ORDER BY joules DESC, request LIMIT 50`},
		},
		{
			Question: "Which requests took longest, and where was the time?", Kind: Table, Unit: "ms",
			SQL: []string{`
SELECT started_at AS began, model_name, client, total_ms, wait_ms, prompt_ms, generate_ms, joules, request, trace FROM (
	SELECT started_at, model AS model_name, agent AS client, duration_ms AS total_ms, queue_ms AS wait_ms, prefill_ms AS prompt_ms,
		decode_ms AS generate_ms, gpu_j AS joules, id AS request, trace_id AS trace
	FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND duration_ms IS NOT NULL) AS r
ORDER BY total_ms DESC, request LIMIT 50`},
		},
		{
			Question: "What went wrong or was given up?", Kind: Table,
			Doc: "joules: what was spent on replies that nobody got.",
			SQL: []string{`
SELECT outcome AS ended, status AS http_status, coalesce(error, '-') AS reason, count(*) AS requests_n, sum(gpu_uj) / 1e6 AS joules
FROM requests WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND outcome <> 'ok' GROUP BY ended, http_status, reason ORDER BY requests_n DESC, ended, reason LIMIT 50`},
		},
		{
			Question: "Which sessions are the heaviest?", Kind: Table,
			SQL: []string{`
SELECT coalesce(session, '-') AS session_id, min(agent) AS client, count(*) AS requests_n, sum(prompt_tokens) AS tokens_in, sum(output_tokens) AS tokens_out,
	sum(` + joules + `) / 3600 AS wh
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND prompt_tokens IS NOT NULL GROUP BY session_id ORDER BY wh DESC, session_id LIMIT 50`},
		},
	}}
}
