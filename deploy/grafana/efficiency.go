package grafana

// Sums over requests with known energy; a request below resolution counts with its estimate.
const (
	joules      = `coalesce(gpu_j, gpu_estimate_j)`
	knownTokens = `sum(CASE WHEN ` + joules + ` IS NOT NULL THEN output_tokens END)`
	slotJoules  = `coalesce(gpu_j - coalesce(gpu_idle_waiting_j, 0), gpu_estimate_j)` // without what was drawn while it waited
	jPerToken   = `sum(CASE WHEN output_tokens IS NOT NULL THEN ` + slotJoules + ` END) / nullif(` + knownTokens + `, 0)`
)

func efficiency() Dashboard {
	return Dashboard{Name: "efficiency", Title: "wattline: efficiency", Variables: []Variable{instances(), routes(), models(), agents(), devices()}, Key: []Panel{
		{
			Question: "How many joules does a token take?", Kind: Stat, Unit: "joule",
			Doc: "Of all requests with known energy.",
			SQL: []string{`
SELECT ` + jPerToken + ` AS j_per_token FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}}`},
		},
		{
			Question: "How much energy went into requests?", Kind: Stat, Unit: "watth",
			SQL: []string{`
SELECT sum(` + joules + `) / 3600 AS wh FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}}`},
		},
		{
			Question: "What share was drawn for nobody?", Kind: Stat, Unit: "percentunit", Warn: 0.5, Bad: 0.8,
			Doc: "Of the energy counter: idle with nothing in flight.",
			SQL: []string{`
SELECT sum(idle_uj) * 1e0 / nullif(sum(counter_uj), 0) AS idle_share FROM ledger WHERE {{within "at"}} AND {{chosen "instance" "device"}}`},
		},
		{
			Question: "What share went into requests given up?", Kind: Stat, Unit: "percentunit", Warn: 0.1, Bad: 0.3,
			Doc: "Of the requests' energy: that of replies which ended in another way than ok.",
			SQL: []string{`
SELECT sum(CASE WHEN outcome <> 'ok' THEN ` + joules + ` ELSE 0 END) / nullif(sum(` + joules + `), 0) AS lost_share
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}}`},
		},
	}, Panels: []Panel{
		{
			Question: "Which agent burns the power?", Kind: Bars, Unit: "watth",
			Doc: "GPU energy of each client (first product of its User-Agent): active joules and the idle draw it held.",
			SQL: []string{`
SELECT coalesce(agent, '-') AS client, sum(` + joules + `) / 3600 AS wh
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND ` + joules + ` IS NOT NULL GROUP BY client ORDER BY wh DESC, client LIMIT 20`},
		},
		{
			Question: "Does batching pay?", Kind: Table,
			Doc: "By the mean number of requests in flight: a token's joules should fall as company grows, each reply's speed too.",
			SQL: []string{`
SELECT floor(concurrency + 0.5) AS in_flight, count(*) AS requests_n, ` + jPerToken + ` AS j_per_token, avg(decode_tps) AS mean_tokens_per_s
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND concurrency IS NOT NULL AND output_tokens IS NOT NULL GROUP BY in_flight ORDER BY in_flight`},
		},
		{
			Question: "What does a token cost?", Kind: Lines, Unit: "joule",
			Doc: "Joules of all requests of an interval, while they held a slot, over their output tokens.",
			SQL: []string{`
SELECT {{bucket "started_at"}} AS time, ` + jPerToken + ` AS j_per_token
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND output_tokens > 0 GROUP BY time ORDER BY time`},
		},
		{
			Question: "Which model gives the most tokens for a joule?", Kind: Table,
			Doc: "Tokens per joule is tokens/s/W.",
			SQL: []string{`
SELECT coalesce(model, '-') AS model_name, count(*) AS requests_n, ` + knownTokens + ` AS tokens_out,
	1 / nullif(` + jPerToken + `, 0) AS tokens_per_j
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND output_tokens > 0 AND ` + joules + ` IS NOT NULL GROUP BY model_name ORDER BY tokens_per_j DESC, model_name`},
		},
		{
			Question: "Does more power give more tokens?", Kind: Lines,
			Axes: []Axis{{Field: "watts", Unit: "watt", Label: "power"}, {Field: "tokens_per_s", Unit: "short", Label: "tokens/s", Right: true}},
			Doc:  "Mean watts of all devices, and output tokens a second, counted where their requests started.",
			SQL: []string{`
SELECT {{bucket "at"}} AS time, sum(energy_uj) / 1e6 / {{seconds}} AS watts
FROM power WHERE {{within "at"}} AND {{chosen "instance" "device"}} GROUP BY time ORDER BY time`, `
SELECT {{bucket "started_at"}} AS time, sum(output_tokens) * 1e0 / {{seconds}} AS tokens_per_s
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} AND output_tokens IS NOT NULL GROUP BY time ORDER BY time`},
		},
		{
			Question: "How much is drawn for nobody?", Kind: Lines, Unit: "percentunit",
			Doc: "Share of the energy counter that went into idling with nothing in flight. A loaded model costs this by waiting.",
			SQL: []string{`
SELECT {{bucket "at"}} AS time, sum(idle_uj) * 1e0 / nullif(sum(counter_uj), 0) AS idle_share
FROM ledger WHERE {{within "at"}} AND {{chosen "instance" "device"}} GROUP BY time ORDER BY time`},
		},
		{
			Question: "Where does every joule go?", Kind: Lines, Unit: "joule", Stacked: true,
			Doc: "The ledger: active joules and held idle draw of requests, idle with nothing in flight, and what nobody is charged for.",
			SQL: []string{`
SELECT {{bucket "at"}} AS time, sum(requests_active_uj) / 1e6 AS active, sum(requests_idle_uj) / 1e6 AS held_idle,
	sum(pools_uj) / 1e6 AS pools, sum(idle_uj) / 1e6 AS idle, sum(residual_uj) / 1e6 AS residual
FROM ledger WHERE {{within "at"}} AND {{chosen "instance" "device"}} GROUP BY time ORDER BY time`},
		},
		{
			Question: "What did it cost?", Kind: Stat,
			Doc: "kWh of requests; money and CO2e where wattline was told a price (--price-per-kwh, --gco2-per-kwh).",
			SQL: []string{`
SELECT sum(gpu_wh) / 1e3 AS kwh, sum(cost) AS money, sum(gco2e) AS co2e_g FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}}`},
		},
		{
			Question: "How far can the joules be trusted?", Kind: Table,
			Doc: "measured: alone on the card; shared: divided; estimated, contended, below_resolution: see meter/energy/LEDGER.md.",
			SQL: []string{`
SELECT coalesce(energy_quality, '-') AS quality, count(*) AS requests_n, sum(` + joules + `) AS joules_sum, sqrt(sum(gpu_sigma_j * gpu_sigma_j)) AS sigma_j
FROM efficiency WHERE {{within "started_at"}} AND {{chosen "instance" "route" "model" "agent"}} GROUP BY quality ORDER BY requests_n DESC, quality`},
		},
		{
			Question: "How many watts does each card draw?", Kind: Lines, Unit: "watt",
			PromQL: []Series{{`hw_power_watts{hw_id=~"$device"}`, "{{instance}} {{hw_id}}"}, {`wattline_device_power_limit_watts{hw_id=~"$device"}`, "limit {{instance}} {{hw_id}}"}},
		},
	}}
}
