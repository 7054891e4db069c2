package grafana

func operations() Dashboard {
	return Dashboard{Name: "operations", Title: "wattline: operations", Variables: []Variable{scrapedInstances(), scrapedRoutes(), scrapedDevices()}, Key: []Panel{
		{
			Question: "What share of the requests fails now?", Kind: Stat, Unit: "percentunit", Warn: 0.01, Bad: 0.05,
			Doc:    "Errors of the upstream and replies that were cut.",
			PromQL: []Series{{`(sum(rate(wattline_requests_total{wattline_outcome=~"upstream_error|truncated", instance=~"$instance", wattline_route=~"$route"}[$__rate_interval])) or vector(0)) / sum(rate(wattline_requests_total{instance=~"$instance", wattline_route=~"$route"}[$__rate_interval]))`, "failing"}},
		},
		{
			Question: "Were rows lost in the last day?", Kind: Stat, Warn: 1, Bad: 100,
			PromQL: []Series{{`sum(increase(wattline_queue_dropped_total{instance=~"$instance"}[1d])) + sum(increase(wattline_queue_lost_total{instance=~"$instance"}[1d])) + sum(increase(wattline_store_lost_total{instance=~"$instance"}[1d]))`, "rows"}},
		},
		{
			Question: "How long does the oldest row wait to be shipped?", Kind: Stat, Unit: "s", Warn: 300, Bad: 3600,
			PromQL: []Series{{`max(wattline_outbox_age_seconds{instance=~"$instance"})`, "oldest"}},
		},
		{
			Question: "How hot is the hottest card?", Kind: Stat, Unit: "celsius", Warn: 80, Bad: 90,
			PromQL: []Series{{`max(hw_temperature_celsius{instance=~"$instance", hw_id=~"$device"})`, "hottest"}},
		},
		{
			Question: "How near is a card to its limit?", Kind: Stat, Unit: "percentunit", Warn: 0.95, Bad: 1.02,
			PromQL: []Series{{`max(hw_power_watts{instance=~"$instance", hw_id=~"$device"} / wattline_device_power_limit_watts)`, "nearest"}},
		},
	}, Panels: []Panel{
		{
			Question: "How many requests fail?", Kind: Lines, Unit: "reqps", Stacked: true,
			PromQL: []Series{{`sum by (wattline_outcome) (rate(wattline_requests_total{instance=~"$instance", wattline_route=~"$route"}[$__rate_interval]))`, "{{wattline_outcome}}"}},
		},
		{
			Question: "How many clients give up?", Kind: Lines, Unit: "percentunit",
			PromQL: []Series{{`sum by (instance) (rate(wattline_requests_total{wattline_outcome="cancelled", instance=~"$instance", wattline_route=~"$route"}[$__rate_interval])) / sum by (instance) (rate(wattline_requests_total{instance=~"$instance", wattline_route=~"$route"}[$__rate_interval]))`, "{{instance}}"}},
		},
		{
			Question: "How many requests are in flight?", Kind: Lines,
			PromQL: []Series{{`wattline_requests_in_flight{instance=~"$instance", wattline_route=~"$route"}`, "{{instance}} {{wattline_route}}"}},
		},
		{
			Question: "Is the card throttling?", Kind: Lines, Unit: "percentunit",
			Doc: "Share of the time in which the driver held the clocks down, from the rows.",
			SQL: []string{`
SELECT {{bucket "at"}} AS time, device AS card, sum(throttled_us) * 1e0 / nullif(sum(CASE WHEN throttled_us IS NOT NULL THEN span_us END), 0) AS throttled
FROM power WHERE {{within "at"}} AND {{chosen "device"}} AND throttled_us IS NOT NULL GROUP BY time, card ORDER BY time, card`},
		},
		{
			Question: "How near are cards to their limits?", Kind: Lines, Unit: "percentunit",
			PromQL: []Series{{`hw_power_watts{instance=~"$instance", hw_id=~"$device"} / wattline_device_power_limit_watts`, "{{instance}} {{hw_id}}"}},
		},
		{
			Question: "How hot are the cards?", Kind: Lines, Unit: "celsius",
			PromQL: []Series{{`hw_temperature_celsius{instance=~"$instance", hw_id=~"$device"}`, "{{instance}} {{hw_id}}"}},
		},
		{
			Question: "Is anything dropped?", Kind: Lines,
			Doc:    "Rows lost to a full queue, refused by the store, or dropped from a full store before they were shipped. Must be 0; traffic never waits for rows.",
			PromQL: []Series{{`increase(wattline_store_lost_total{instance=~"$instance"}[$__rate_interval])`, "{{instance}} store full"}, {`sum by (instance, wattline_row_kind) (increase(wattline_queue_dropped_total{instance=~"$instance"}[$__rate_interval]) + increase(wattline_queue_lost_total{instance=~"$instance"}[$__rate_interval]))`, "{{instance}} {{wattline_row_kind}}"}},
		},
		{
			Question: "Does ClickHouse keep up?", Kind: Lines,
			Doc:    "Final rows that wait in the store to be shipped.",
			PromQL: []Series{{`wattline_outbox_rows{instance=~"$instance"}`, "{{instance}} {{wattline_row_kind}}"}},
		},
		{
			Question: "How long have rows waited?", Kind: Lines, Unit: "s",
			PromQL: []Series{{`wattline_outbox_age_seconds{instance=~"$instance"}`, "{{instance}}"}},
		},
		{
			Question: "Do traces arrive?", Kind: Lines,
			PromQL: []Series{{`sum by (wattline_signal, wattline_result) (rate(wattline_otlp_items_total{instance=~"$instance"}[$__rate_interval]))`, "{{wattline_signal}} {{wattline_result}}"}},
		},
		{
			Question: "What does wattline add before the first token?", Kind: Lines, Unit: "s",
			PromQL: []Series{
				{`histogram_quantile(0.5, sum by (instance, le) (rate(wattline_proxy_overhead_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, "p50 {{instance}}"},
				{`histogram_quantile(0.99, sum by (instance, le) (rate(wattline_proxy_overhead_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, "p99 {{instance}}"},
			},
		},
		{
			Question: "What does wattline itself need of the CPU?", Kind: Lines, Unit: "percentunit",
			Doc:    "1 is one core.",
			PromQL: []Series{{`sum by (instance) (rate(process_cpu_time_seconds_total{instance=~"$instance"}[$__rate_interval]))`, "{{instance}}"}},
		},
		{
			Question: "How much memory does wattline take?", Kind: Lines, Unit: "bytes",
			PromQL: []Series{{`process_memory_usage_bytes{instance=~"$instance"}`, "{{instance}}"}},
		},
		{
			Question: "Does the ledger balance?", Kind: Stat, Unit: "joule",
			Doc: "The energy counter less every part it was divided into. Must be 0.",
			PromQL: []Series{{`sum by (instance, hw_id) (wattline_ledger_energy_joules{instance=~"$instance", hw_id=~"$device", wattline_account="counter"}) - sum by (instance, hw_id) (wattline_ledger_energy_joules{instance=~"$instance", hw_id=~"$device", wattline_account!="counter"})`,
				"{{instance}} {{hw_id}}"}},
		},
		{
			Question: "Are there requests that could not be read?", Kind: Lines,
			PromQL: []Series{{`sum by (instance) (increase(wattline_meter_failures_total{instance=~"$instance"}[$__rate_interval]))`, "{{instance}}"}},
		},
	}}
}
