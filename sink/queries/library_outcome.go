package queries

func outcomeQueries() []Query {
	return []Query{
		{"errors", "What went wrong or was given up, and what did that cost?", `
SELECT coalesce(outcome, '-') AS ended, status AS http_status, count(*) AS n_requests,
	count(*) * 1e0 / (SELECT count(*) FROM requests WHERE {{.Failed}}) AS share,
	{{quantile "0.5" "duration_ms"}} AS duration_ms_p50, sum(output_tokens) AS tokens_out, sum(` + energyJ + `) AS joules, max(started_at) AS last_at
FROM efficiency WHERE {{.Failed}} GROUP BY ended, http_status ORDER BY n_requests DESC, ended, coalesce(http_status, 0)`},

		{"finish-reasons", "Why did generation end?", `
SELECT coalesce(model, '-') AS model_name, coalesce(finish_reason, '-') AS reason, count(*) AS n_requests, avg(output_tokens) AS mean_out, sum(reasoning_tokens) AS reasoning_out
FROM efficiency WHERE {{.Requests}} AND output_tokens IS NOT NULL GROUP BY model_name, reason ORDER BY model_name, n_requests DESC, reason`},
	}
}
