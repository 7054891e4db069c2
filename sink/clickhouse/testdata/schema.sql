CREATE DATABASE IF NOT EXISTS `wattline`;

CREATE TABLE IF NOT EXISTS `wattline`.`wattline_schema` (
	`version` UInt32 COMMENT 'schema version whose statements have run',
	`applied_at` DateTime DEFAULT now() COMMENT 'when they had'
)
ENGINE = MergeTree
ORDER BY (version);

CREATE TABLE IF NOT EXISTS `wattline`.`requests` (
	`id` String COMMENT 'UUIDv7 of the request' CODEC(ZSTD(1)),
	`started_at` DateTime64(6, 'UTC') COMMENT 'wall time at P0, when the request\'s head had been read (UTC)' CODEC(T64, ZSTD(1)),
	`instance` LowCardinality(String) COMMENT 'the wattline that measured it (default: host name)' CODEC(ZSTD(1)),
	`route` LowCardinality(Nullable(String)) COMMENT 'name of the route it came in by' CODEC(ZSTD(1)),
	`upstream` LowCardinality(Nullable(String)) COMMENT 'address of the server that answered' CODEC(ZSTD(1)),
	`method` LowCardinality(Nullable(String)) COMMENT 'HTTP method' CODEC(ZSTD(1)),
	`path` LowCardinality(Nullable(String)) COMMENT 'request path without its query' CODEC(ZSTD(1)),
	`dialect` LowCardinality(Nullable(String)) COMMENT 'which API the path speaks; null where no tokens are metered' CODEC(ZSTD(1)),
	`model` LowCardinality(Nullable(String)) COMMENT 'model that the reply names, else the one the request asked for' CODEC(ZSTD(1)),
	`stream` Nullable(Int64) COMMENT '1 streamed, 0 not' CODEC(T64, ZSTD(1)),
	`status` Nullable(Int64) COMMENT 'HTTP status the client was given' CODEC(T64, ZSTD(1)),
	`outcome` LowCardinality(Nullable(String)) COMMENT 'ok, cancelled, truncated, upstream_error or rejected' CODEC(ZSTD(1)),
	`finish_reason` LowCardinality(Nullable(String)) COMMENT 'why generation ended, in the server\'s word (stop, length, tool_calls, ...)' CODEC(ZSTD(1)),
	`error` Nullable(String) COMMENT 'what went wrong, or why the body was not metered' CODEC(ZSTD(1)),
	`config_id` LowCardinality(Nullable(String)) COMMENT 'row of table configs in force' CODEC(ZSTD(1)),
	`client_request_id` Nullable(String) COMMENT 'the client\'s own X-Request-Id' CODEC(ZSTD(1)),
	`trace_id` Nullable(String) COMMENT 'W3C trace id' CODEC(ZSTD(1)),
	`agent` LowCardinality(Nullable(String)) COMMENT 'first product of User-Agent' CODEC(ZSTD(1)),
	`session` LowCardinality(Nullable(String)) COMMENT 'session header, hashed unless --identify plain' CODEC(ZSTD(1)),
	`user` LowCardinality(Nullable(String)) COMMENT 'user header or body field, hashed unless --identify plain' CODEC(ZSTD(1)),
	`api_key_id` LowCardinality(Nullable(String)) COMMENT 'keyed hash of the API key; the key itself is never kept' CODEC(ZSTD(1)),
	`client_addr` LowCardinality(Nullable(String)) COMMENT 'client address, hashed unless --identify plain' CODEC(ZSTD(1)),
	`labels` Map(String, String) COMMENT 'X-Wattline-Labels, else the route\'s' CODEC(ZSTD(1)),
	`ttfb_us` Nullable(Int64) COMMENT 'us; H - P0: head of the upstream\'s reply' CODEC(T64, ZSTD(1)),
	`ttft_us` Nullable(Int64) COMMENT 'us; W1 - P0: first generated output flushed to the client; null when not streamed' CODEC(T64, ZSTD(1)),
	`ttfo_us` Nullable(Int64) COMMENT 'us; O1 - P0: first output that is not reasoning' CODEC(T64, ZSTD(1)),
	`upstream_ttft_us` Nullable(Int64) COMMENT 'us; T1 - P1: first generated output as the upstream gave it' CODEC(T64, ZSTD(1)),
	`duration_us` Nullable(Int64) COMMENT 'us; E - P0: to the end of the upstream\'s reply' CODEC(T64, ZSTD(1)),
	`queue_us` Nullable(Int64) COMMENT 'us; S - P1 - load_us: waiting for a slot, tokenising and templating included' CODEC(T64, ZSTD(1)),
	`prefill_us` Nullable(Int64) COMMENT 'us; the server\'s prompt_ms (residence), else T1 - S' CODEC(T64, ZSTD(1)),
	`decode_us` Nullable(Int64) COMMENT 'us; Tn - T1; not streamed: the server\'s predicted_ms' CODEC(T64, ZSTD(1)),
	`itl_p50_us` Nullable(Int64) COMMENT 'us; median gap between output events' CODEC(T64, ZSTD(1)),
	`itl_p90_us` Nullable(Int64) COMMENT 'us; 90th percentile of the gaps' CODEC(T64, ZSTD(1)),
	`itl_p99_us` Nullable(Int64) COMMENT 'us; 99th percentile of the gaps' CODEC(T64, ZSTD(1)),
	`itl_max_us` Nullable(Int64) COMMENT 'us; longest gap' CODEC(T64, ZSTD(1)),
	`stalls` Nullable(Int64) COMMENT 'gaps > 5 x the median and > 50 ms' CODEC(T64, ZSTD(1)),
	`write_blocked_us` Nullable(Int64) COMMENT 'us; time spent in writes to the client' CODEC(T64, ZSTD(1)),
	`proxy_overhead_us` Nullable(Int64) COMMENT 'us; (P1 - max(P0, R)) + (W1 - T1): what wattline added before the first token' CODEC(T64, ZSTD(1)),
	`prompt_tokens` Nullable(Int64) COMMENT 'tokens of the prompt, cached ones included' CODEC(T64, ZSTD(1)),
	`cached_tokens` Nullable(Int64) COMMENT 'prompt tokens reused from the cache' CODEC(T64, ZSTD(1)),
	`output_tokens` Nullable(Int64) COMMENT 'generated tokens by the server\'s final count; null where it gave none' CODEC(T64, ZSTD(1)),
	`reasoning_tokens` Nullable(Int64) COMMENT 'output tokens that were reasoning, where the server says so' CODEC(T64, ZSTD(1)),
	`draft_tokens` Nullable(Int64) COMMENT 'speculative tokens drafted' CODEC(T64, ZSTD(1)),
	`draft_accepted_tokens` Nullable(Int64) COMMENT 'speculative tokens accepted' CODEC(T64, ZSTD(1)),
	`max_tokens` Nullable(Int64) COMMENT 'the limit that the request set' CODEC(T64, ZSTD(1)),
	`output_events` Nullable(Int64) COMMENT 'stream events that carried generated output' CODEC(T64, ZSTD(1)),
	`token_source` LowCardinality(Nullable(String)) COMMENT 'where output_tokens came from: usage, timings, native; events: nowhere, output_events is a lower bound' CODEC(ZSTD(1)),
	`messages` Nullable(Int64) COMMENT 'messages in the request' CODEC(T64, ZSTD(1)),
	`tools` Nullable(Int64) COMMENT 'tools offered in the request' CODEC(T64, ZSTD(1)),
	`request_bytes` Nullable(Int64) COMMENT 'By; request body as received, framing excluded' CODEC(T64, ZSTD(1)),
	`response_bytes` Nullable(Int64) COMMENT 'By; reply body as sent, framing excluded' CODEC(T64, ZSTD(1)),
	`mean_concurrency` Nullable(Int64) COMMENT '1/1000; time-weighted requests in flight on the route during this one, in thousandths' CODEC(T64, ZSTD(1)),
	`gpu_uj` Nullable(Int64) COMMENT 'uJ; gpu_active_uj + gpu_idle_uj' CODEC(T64, ZSTD(1)),
	`gpu_active_uj` Nullable(Int64) COMMENT 'uJ; gpu_prefill_uj + gpu_decode_uj' CODEC(T64, ZSTD(1)),
	`gpu_idle_uj` Nullable(Int64) COMMENT 'uJ; share of the loaded-idle draw' CODEC(T64, ZSTD(1)),
	`gpu_prefill_uj` Nullable(Int64) COMMENT 'uJ; active joules of the prompt' CODEC(T64, ZSTD(1)),
	`gpu_decode_uj` Nullable(Int64) COMMENT 'uJ; active joules of the generation' CODEC(T64, ZSTD(1)),
	`gpu_estimate_uj` Nullable(Int64) COMMENT 'uJ; the estimate where gpu_uj is below resolution' CODEC(T64, ZSTD(1)),
	`gpu_sigma_uj` Nullable(Int64) COMMENT 'uJ; standard error of gpu_uj' CODEC(T64, ZSTD(1)),
	`gpu_active_sigma_uj` Nullable(Int64) COMMENT 'uJ; standard error of gpu_active_uj' CODEC(T64, ZSTD(1)),
	`gpu_time_uj` Nullable(Int64) COMMENT 'uJ; the by-time rule, for comparison' CODEC(T64, ZSTD(1)),
	`gpu_token_uj` Nullable(Int64) COMMENT 'uJ; the by-token rule, for comparison' CODEC(T64, ZSTD(1)),
	`energy_quality` LowCardinality(Nullable(String)) COMMENT 'pending, unavailable, partial, below_resolution, contended, estimated, shared or measured' CODEC(ZSTD(1)),
	`energy_method` LowCardinality(Nullable(String)) COMMENT 'rule that gave gpu_uj' CODEC(ZSTD(1)),
	`energy_source` LowCardinality(Nullable(String)) COMMENT 'power source behind it' CODEC(ZSTD(1)),
	`cpu_uj` Nullable(Int64) COMMENT 'uJ; CPU package and DRAM joules by the server\'s CPU share' CODEC(T64, ZSTD(1)),
	`gpu_mean_mw` Nullable(Int64) COMMENT 'mW; mean board power while it held a slot' CODEC(T64, ZSTD(1)),
	`gpu_devices` Array(LowCardinality(String)) COMMENT 'devices that served it' CODEC(ZSTD(1)),
	`gpu_uj_by_device` Array(Int64) COMMENT 'uJ; gpu_uj per entry of gpu_devices' CODEC(T64, ZSTD(1)),
	`gpu_power_limit_mw` Nullable(Int64) COMMENT 'mW; enforced power limit' CODEC(T64, ZSTD(1)),
	`vram_bytes` Nullable(Int64) COMMENT 'By; device memory used by the server' CODEC(T64, ZSTD(1)),
	`ram_bytes` Nullable(Int64) COMMENT 'By; resident memory of the server' CODEC(T64, ZSTD(1)),
	`gpu_temp_c` Nullable(Int64) COMMENT 'Cel; highest GPU temperature meanwhile' CODEC(T64, ZSTD(1)),
	`price_per_kwh_micro` Nullable(Int64) COMMENT '1e-6/kWh; configured price, in millionths of the currency unit' CODEC(T64, ZSTD(1)),
	`gco2_per_kwh_milli` Nullable(Int64) COMMENT 'mg/kWh; configured carbon intensity' CODEC(T64, ZSTD(1)),
	`details` Nullable(String) COMMENT 'JSON object: what the request asked and the reply told beside the columns (temperature, seed, slot, where each phase came from, ...)' CODEC(ZSTD(1)),
	`batch` LowCardinality(String) COMMENT 'token of the batch that brought the row' CODEC(ZSTD(1)),
	INDEX id_bloom `id` TYPE bloom_filter(0.01) GRANULARITY 1,
	INDEX trace_id_bloom `trace_id` TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY (instance, started_at, id)
TTL toDateTime(started_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS `wattline`.`power` (
	`at` DateTime64(6, 'UTC') COMMENT 'start of the span (UTC)' CODEC(T64, ZSTD(1)),
	`instance` LowCardinality(String) COMMENT 'the wattline that measured it' CODEC(ZSTD(1)),
	`device` LowCardinality(String) COMMENT 'device, named as in gpu_devices' CODEC(ZSTD(1)),
	`span_us` Nullable(Int64) COMMENT 'us; length of the span: 1 s as measured, 60 s once thinned' CODEC(T64, ZSTD(1)),
	`energy_uj` Nullable(Int64) COMMENT 'uJ; energy drawn in the span' CODEC(T64, ZSTD(1)),
	`mean_mw` Nullable(Int64) COMMENT 'mW; mean power in the span' CODEC(T64, ZSTD(1)),
	`max_mw` Nullable(Int64) COMMENT 'mW; highest native sample in the span' CODEC(T64, ZSTD(1)),
	`temp_c` Nullable(Int64) COMMENT 'Cel; highest temperature in the span' CODEC(T64, ZSTD(1)),
	`util_permille` Nullable(Int64) COMMENT '1/1000; device utilisation as the driver reports it' CODEC(T64, ZSTD(1)),
	`vram_bytes` Nullable(Int64) COMMENT 'By; device memory in use' CODEC(T64, ZSTD(1)),
	`sm_clock_mhz` Nullable(Int64) COMMENT 'MHz; core clock' CODEC(T64, ZSTD(1)),
	`limit_mw` Nullable(Int64) COMMENT 'mW; enforced power limit' CODEC(T64, ZSTD(1)),
	`throttled_us` Nullable(Int64) COMMENT 'us; part of the span in which the driver held the clocks down' CODEC(T64, ZSTD(1)),
	`throttle` Array(LowCardinality(String)) COMMENT 'reasons the driver gave for it' CODEC(ZSTD(1)),
	`source` LowCardinality(Nullable(String)) COMMENT 'power source behind the row' CODEC(ZSTD(1)),
	`batch` LowCardinality(String) COMMENT 'token of the batch that brought the row' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (instance, device, at)
TTL toDateTime(at) + INTERVAL 100 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS `wattline`.`ledger` (
	`at` DateTime64(6, 'UTC') COMMENT 'start of the window (UTC)' CODEC(T64, ZSTD(1)),
	`instance` LowCardinality(String) COMMENT 'the wattline that measured it' CODEC(ZSTD(1)),
	`device` LowCardinality(String) COMMENT 'device, named as in gpu_devices' CODEC(ZSTD(1)),
	`span_us` Nullable(Int64) COMMENT 'us; length of the window; 60 s once thinned' CODEC(T64, ZSTD(1)),
	`counter_uj` Nullable(Int64) COMMENT 'uJ; what the energy counter advanced by' CODEC(T64, ZSTD(1)),
	`requests_active_uj` Nullable(Int64) COMMENT 'uJ; active joules given to requests' CODEC(T64, ZSTD(1)),
	`requests_idle_uj` Nullable(Int64) COMMENT 'uJ; idle share given to requests' CODEC(T64, ZSTD(1)),
	`pools_uj` Nullable(Int64) COMMENT 'uJ; joules that entered (+) or left (-) pools of overlapping prefills' CODEC(T64, ZSTD(1)),
	`idle_uj` Nullable(Int64) COMMENT 'uJ; idle draw with nothing in flight' CODEC(T64, ZSTD(1)),
	`residual_uj` Nullable(Int64) COMMENT 'uJ; what nobody is charged for: cool-down, other processes, outside the model' CODEC(T64, ZSTD(1)),
	`idle_sigma_uj` Nullable(Int64) COMMENT 'uJ; standard error of idle_uj' CODEC(T64, ZSTD(1)),
	`source` LowCardinality(Nullable(String)) COMMENT 'energy source behind the row' CODEC(ZSTD(1)),
	`batch` LowCardinality(String) COMMENT 'token of the batch that brought the row' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (instance, device, at)
TTL toDateTime(at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS `wattline`.`configs` (
	`config_id` String COMMENT 'hash of the facts below' CODEC(ZSTD(1)),
	`at` DateTime64(6, 'UTC') COMMENT 'when these facts were first seen together (UTC)' CODEC(T64, ZSTD(1)),
	`instance` LowCardinality(String) COMMENT 'the wattline that saw them' CODEC(ZSTD(1)),
	`upstream` LowCardinality(Nullable(String)) COMMENT 'address of the server' CODEC(ZSTD(1)),
	`server_build` LowCardinality(Nullable(String)) COMMENT 'build the server reports' CODEC(ZSTD(1)),
	`server_flags` Array(LowCardinality(String)) COMMENT 'flags of its command line, secrets removed' CODEC(ZSTD(1)),
	`model` LowCardinality(Nullable(String)) COMMENT 'model it serves' CODEC(ZSTD(1)),
	`quantisation` LowCardinality(Nullable(String)) COMMENT 'quantisation of its weights' CODEC(ZSTD(1)),
	`context_tokens` Nullable(Int64) COMMENT 'context length of a slot' CODEC(T64, ZSTD(1)),
	`slots` Nullable(Int64) COMMENT 'slots it serves at once' CODEC(T64, ZSTD(1)),
	`gpus` Array(LowCardinality(String)) COMMENT 'names of its devices' CODEC(ZSTD(1)),
	`driver` LowCardinality(Nullable(String)) COMMENT 'driver version' CODEC(ZSTD(1)),
	`gpu_power_limit_mw` Nullable(Int64) COMMENT 'mW; enforced power limit' CODEC(T64, ZSTD(1)),
	`wattline_version` LowCardinality(Nullable(String)) COMMENT 'version of this program' CODEC(ZSTD(1)),
	`batch` LowCardinality(String) COMMENT 'token of the batch that brought the row' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (instance, at, config_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS `wattline`.`itl_gaps` (
	`id` String COMMENT 'the request' CODEC(ZSTD(1)),
	`started_at` DateTime64(6, 'UTC') COMMENT 'the request\'s started_at, which ages the row' CODEC(T64, ZSTD(1)),
	`instance` LowCardinality(String) COMMENT 'the wattline that measured it' CODEC(ZSTD(1)),
	`gaps_us` Array(UInt32) COMMENT 'us; time between one output event and the next, in order' CODEC(T64, ZSTD(1)),
	`batch` LowCardinality(String) COMMENT 'token of the batch that brought the row' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY (instance, started_at, id)
TTL toDateTime(started_at) + INTERVAL 7 DAY
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

INSERT INTO `wattline`.`wattline_schema` (version) SELECT 1 WHERE 1 NOT IN (SELECT version FROM `wattline`.`wattline_schema`);

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `load_us` Nullable(Int64) COMMENT 'us; time in which the upstream loaded the model for this request, as it or a gateway before it told' CODEC(T64, ZSTD(1)) AFTER `duration_us`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `gpu_idle_held_uj` Nullable(Int64) COMMENT 'uJ; the part of gpu_idle_uj from the time in which it held a slot' CODEC(T64, ZSTD(1)) AFTER `gpu_idle_uj`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `gpu_idle_waiting_uj` Nullable(Int64) COMMENT 'uJ; the part of gpu_idle_uj from the time in which it waited and nobody held a slot' CODEC(T64, ZSTD(1)) AFTER `gpu_idle_held_uj`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cpu_sigma_uj` Nullable(Int64) COMMENT 'uJ; standard error of cpu_uj' CODEC(T64, ZSTD(1)) AFTER `cpu_uj`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_verdict` LowCardinality(Nullable(String)) COMMENT 'hit, cold, client, server or unknown: whether the prompt was reused as far as it could be, and whose fault it was if not' CODEC(ZSTD(1)) AFTER `gco2_per_kwh_milli`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_cause` LowCardinality(Nullable(String)) COMMENT 'what a client changed, or what the server did' CODEC(ZSTD(1)) AFTER `cache_verdict`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_part` LowCardinality(Nullable(String)) COMMENT 'part of the prompt that a client changed first' CODEC(ZSTD(1)) AFTER `cache_cause`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_expected_tokens` Nullable(Int64) COMMENT 'prompt tokens that could have been reused' CODEC(T64, ZSTD(1)) AFTER `cache_part`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_lost_tokens` Nullable(Int64) COMMENT 'of them, those that were computed again; 0 for a hit' CODEC(T64, ZSTD(1)) AFTER `cache_expected_tokens`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_lost_us` Nullable(Int64) COMMENT 'us; prefill time of the lost tokens' CODEC(T64, ZSTD(1)) AFTER `cache_lost_tokens`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_lost_uj` Nullable(Int64) COMMENT 'uJ; active joules of the lost tokens' CODEC(T64, ZSTD(1)) AFTER `cache_lost_us`;

ALTER TABLE `wattline`.`requests` ADD COLUMN IF NOT EXISTS `cache_lost_sigma_uj` Nullable(Int64) COMMENT 'uJ; standard error of cache_lost_uj' CODEC(T64, ZSTD(1)) AFTER `cache_lost_uj`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `error_uj` Nullable(Int64) COMMENT 'uJ; bound on how far energy_uj may be off' CODEC(T64, ZSTD(1)) AFTER `energy_uj`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `min_mw` Nullable(Int64) COMMENT 'mW; lowest native sample in the span' CODEC(T64, ZSTD(1)) AFTER `mean_mw`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `mem_temp_c` Nullable(Int64) COMMENT 'Cel; highest temperature of the memory in the span' CODEC(T64, ZSTD(1)) AFTER `temp_c`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `mem_util_permille` Nullable(Int64) COMMENT '1/1000; share of time with memory being read or written, as the driver reports it' CODEC(T64, ZSTD(1)) AFTER `util_permille`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `upstream_vram_bytes` Nullable(Int64) COMMENT 'By; of that, the upstream\'s processes\'' CODEC(T64, ZSTD(1)) AFTER `vram_bytes`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `mem_clock_mhz` Nullable(Int64) COMMENT 'MHz; memory clock' CODEC(T64, ZSTD(1)) AFTER `sm_clock_mhz`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `contended` Nullable(Int64) COMMENT '1: another process computed on the device too, 0: none did' CODEC(T64, ZSTD(1)) AFTER `throttle`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `channel` LowCardinality(Nullable(String)) COMMENT 'how its energy was obtained: ring, instant, average or counter' CODEC(ZSTD(1)) AFTER `source`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `marked` LowCardinality(Nullable(String)) COMMENT 'why energy_uj is to be taken with care, or is absent' CODEC(ZSTD(1)) AFTER `channel`;

ALTER TABLE `wattline`.`power` ADD COLUMN IF NOT EXISTS `simulated` Nullable(Int64) COMMENT '1: a simulated device, 0: a real one' CODEC(T64, ZSTD(1)) AFTER `marked`;

ALTER TABLE `wattline`.`itl_gaps` ADD COLUMN IF NOT EXISTS `model` LowCardinality(Nullable(String)) COMMENT 'the request\'s model; null in rows of schema version 1' CODEC(ZSTD(1)) AFTER `gaps_us`;

CREATE OR REPLACE VIEW `wattline`.`efficiency` AS
SELECT
	`id`,
	`started_at`,
	`instance`,
	`route`,
	`upstream`,
	`path`,
	`dialect`,
	`model`,
	`stream`,
	`status`,
	`outcome`,
	`finish_reason`,
	`config_id`,
	`trace_id`,
	`agent`,
	`session`,
	`user`,
	`api_key_id`,
	`labels`,
	`prompt_tokens`,
	`cached_tokens`,
	`output_tokens`,
	`reasoning_tokens`,
	`token_source`,
	`energy_quality`,
	`energy_method`,
	`gpu_temp_c`,
	ttfb_us / 1e3 AS `ttfb_ms`,
	ttft_us / 1e3 AS `ttft_ms`,
	ttfo_us / 1e3 AS `ttfo_ms`,
	upstream_ttft_us / 1e3 AS `upstream_ttft_ms`,
	duration_us / 1e3 AS `duration_ms`,
	queue_us / 1e3 AS `queue_ms`,
	prefill_us / 1e3 AS `prefill_ms`,
	decode_us / 1e3 AS `decode_ms`,
	itl_p50_us / 1e3 AS `itl_p50_ms`,
	itl_p90_us / 1e3 AS `itl_p90_ms`,
	itl_p99_us / 1e3 AS `itl_p99_ms`,
	itl_max_us / 1e3 AS `itl_max_ms`,
	write_blocked_us / 1e3 AS `write_blocked_ms`,
	proxy_overhead_us / 1e3 AS `proxy_overhead_ms`,
	CASE WHEN output_tokens >= 2 THEN decode_us / 1e3 / (output_tokens - 1) END AS `tpot_ms`,
	output_tokens * 1e6 / nullif(coalesce(ttft_us + decode_us, duration_us), 0) AS `tokens_per_second`,
	CASE WHEN output_tokens >= 2 THEN (output_tokens - 1) * 1e6 / nullif(decode_us, 0) END AS `decode_tps`,
	CASE WHEN mean_concurrency <= 1000 THEN (prompt_tokens - coalesce(cached_tokens, 0)) * 1e6 / nullif(prefill_us, 0) END AS `prefill_tps`,
	mean_concurrency / 1e3 AS `concurrency`,
	gpu_uj / 1e6 AS `gpu_j`,
	gpu_sigma_uj / 1e6 AS `gpu_sigma_j`,
	gpu_active_uj / 1e6 AS `gpu_active_j`,
	gpu_idle_uj / 1e6 AS `gpu_idle_j`,
	gpu_idle_held_uj / 1e6 AS `gpu_idle_held_j`,
	gpu_idle_waiting_uj / 1e6 AS `gpu_idle_waiting_j`,
	gpu_prefill_uj / 1e6 AS `gpu_prefill_j`,
	gpu_decode_uj / 1e6 AS `gpu_decode_j`,
	gpu_estimate_uj / 1e6 AS `gpu_estimate_j`,
	cpu_uj / 1e6 AS `cpu_j`,
	cpu_sigma_uj / 1e6 AS `cpu_sigma_j`,
	gpu_uj / 3.6e9 AS `gpu_wh`,
	gpu_mean_mw / 1e3 AS `gpu_mean_w`,
	(CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_sigma_uj ELSE gpu_sigma_uj END) * 1e0 / nullif(CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj END, 0) AS `relative_sigma`,
	(CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj - coalesce(gpu_idle_waiting_uj, 0) END) / 1e6 AS `slot_j`,
	(CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj - coalesce(gpu_idle_waiting_uj, 0) END) / 1e6 / nullif(output_tokens, 0) AS `joules_per_token`,
	output_tokens * 1e6 / nullif(CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj - coalesce(gpu_idle_waiting_uj, 0) END, 0) AS `tokens_per_joule`,
	gpu_prefill_uj / 1e6 / nullif((prompt_tokens - coalesce(cached_tokens, 0)), 0) AS `prefill_j_per_token`,
	gpu_decode_uj / 1e6 / nullif(output_tokens, 0) AS `decode_j_per_token`,
	output_tokens * 1e0 / nullif(CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj - coalesce(gpu_idle_waiting_uj, 0) END, 0) * (CASE WHEN gpu_idle_waiting_uj IS NULL THEN duration_us ELSE CASE WHEN stream = 1 THEN duration_us - (ttft_us - upstream_ttft_us) - queue_us - coalesce(load_us, 0) ELSE prefill_us + decode_us END END) AS `tokens_per_watt`,
	((CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj END) / 3.6e12) * (price_per_kwh_micro / 1e6) AS `cost`,
	((CASE WHEN energy_source LIKE 'rapl/%' THEN cpu_uj ELSE gpu_uj END) / 3.6e12) * (gco2_per_kwh_milli / 1e3) AS `gco2e`
FROM `wattline`.`requests`;

INSERT INTO `wattline`.`wattline_schema` (version) SELECT 2 WHERE 2 NOT IN (SELECT version FROM `wattline`.`wattline_schema`);
