package queries

// lostSums are the figures of a group of requests that computed again what could have been reused. Their errors add up: they
// have the same sources, so they do not cancel.
const lostSums = `count(*) AS n_requests, count(DISTINCT session) AS n_sessions, sum(cache_lost_tokens) AS lost_tokens,
	sum(cache_lost_us) / 1e6 AS lost_s, sum(cache_lost_uj) / 1e6 AS lost_j, 
	CASE WHEN count(cache_lost_sigma_uj) = count(cache_lost_uj) THEN sum(cache_lost_sigma_uj) / 1e6 END AS lost_j_sigma,
	sum(cache_lost_tokens) * 1e0 / nullif(sum(prompt_tokens - cached_tokens), 0) AS lost_share`

// lost is the condition on such requests.
const lost = `started_at >= {{.Since}} AND cache_verdict IN ('client', 'server') AND cache_lost_tokens > 0`

func cacheQueries() []Query {
	return []Query{
		{"cache-losses", "Which prompts were computed again, by client, cause and part?", `
SELECT coalesce(agent, '-') AS client, cache_verdict AS whose, coalesce(cache_cause, '-') AS cause,
	CASE WHEN cache_part LIKE 'message %' THEN 'messages' ELSE coalesce(cache_part, '-') END AS part, ` + lostSums + `
FROM requests WHERE ` + lost + ` GROUP BY client, whose, cause, part ORDER BY lost_tokens DESC, client, whose, cause, part`},

		{"cache-culprits", "What costs most of the prompts that were computed again? The most joules first, then the most seconds.", `
SELECT coalesce(cache_cause, '-') AS cause, cache_verdict AS whose, coalesce(agent, '-') AS client, ` + lostSums + `, max(id) AS last_request
FROM requests WHERE ` + lost + ` GROUP BY cause, whose, client ORDER BY coalesce(sum(cache_lost_uj), 0) DESC, coalesce(sum(cache_lost_us), 0) DESC, cause, whose, client`},
	}
}
