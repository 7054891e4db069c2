PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE batches (
	seq INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, of_table TEXT NOT NULL, rows INTEGER NOT NULL,
	first_ship_seq INTEGER NOT NULL, last_ship_seq INTEGER NOT NULL, made_at TEXT NOT NULL,
	sends INTEGER NOT NULL DEFAULT 0, confirmed_at TEXT
) STRICT;
CREATE TABLE configs (
	"config_id" TEXT NOT NULL UNIQUE, "at" TEXT NOT NULL, "instance" TEXT, "upstream" TEXT,
	"server_build" TEXT, "server_flags" TEXT, "model" TEXT, "quantisation" TEXT, "context_tokens" INTEGER,
	"slots" INTEGER, "gpus" TEXT, "driver" TEXT, "gpu_power_limit_mw" INTEGER, "wattline_version" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE
) STRICT;
INSERT INTO "configs" VALUES('c','2026-11-23 12:00:00.123456','test',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'["GPU-0"]',NULL,NULL,NULL,12);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "counters" VALUES('lost_ledger',0);
INSERT INTO "counters" VALUES('lost_power',0);
INSERT INTO "counters" VALUES('lost_requests',0);
INSERT INTO "counters" VALUES('ship_seq',12);
INSERT INTO "counters" VALUES('shipped_configs',0);
INSERT INTO "counters" VALUES('shipped_ledger',0);
INSERT INTO "counters" VALUES('shipped_power',0);
INSERT INTO "counters" VALUES('shipped_requests',0);
INSERT INTO "counters" VALUES('thinned_ledger',0);
INSERT INTO "counters" VALUES('thinned_power',0);
CREATE TABLE ledger (
	"at" TEXT NOT NULL, "instance" TEXT, "device" TEXT NOT NULL, "span_us" INTEGER, "counter_uj" INTEGER,
	"requests_active_uj" INTEGER, "requests_idle_uj" INTEGER, "pools_uj" INTEGER, "idle_uj" INTEGER,
	"residual_uj" INTEGER, "idle_sigma_uj" INTEGER, "source" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE,
	UNIQUE (at, device)
) STRICT;
INSERT INTO "ledger" VALUES('2026-11-23 12:00:00.123456','test','GPU-0',1000000,7,NULL,NULL,NULL,7,NULL,NULL,NULL,11);
CREATE TABLE power (
	"at" TEXT NOT NULL, "instance" TEXT, "device" TEXT NOT NULL, "span_us" INTEGER, "energy_uj" INTEGER,
	"mean_mw" INTEGER, "max_mw" INTEGER, "temp_c" INTEGER, "util_permille" INTEGER, "vram_bytes" INTEGER,
	"sm_clock_mhz" INTEGER, "limit_mw" INTEGER, "throttled_us" INTEGER, "throttle" TEXT, "source" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE, "error_uj" INTEGER, "min_mw" INTEGER, "mem_temp_c" INTEGER, "mem_util_permille" INTEGER, "upstream_vram_bytes" INTEGER, "mem_clock_mhz" INTEGER, "contended" INTEGER, "channel" TEXT, "marked" TEXT, "simulated" INTEGER,
	UNIQUE (at, device)
) STRICT;
INSERT INTO "power" VALUES('2026-11-23 12:00:01.123456','test','GPU-0',1000000,100000000,100000,100001,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,10,NULL,99000,NULL,NULL,NULL,NULL,NULL,NULL,'why',1);
CREATE TABLE requests (
	"id" TEXT NOT NULL UNIQUE, "started_at" TEXT NOT NULL, "instance" TEXT, "route" TEXT, "upstream" TEXT,
	"method" TEXT, "path" TEXT, "dialect" TEXT, "model" TEXT, "stream" INTEGER, "status" INTEGER,
	"outcome" TEXT, "finish_reason" TEXT, "error" TEXT, "config_id" TEXT, "client_request_id" TEXT,
	"trace_id" TEXT, "agent" TEXT, "session" TEXT, "user" TEXT, "api_key_id" TEXT, "client_addr" TEXT,
	"labels" TEXT, "ttfb_us" INTEGER, "ttft_us" INTEGER, "ttfo_us" INTEGER, "upstream_ttft_us" INTEGER,
	"duration_us" INTEGER, "queue_us" INTEGER, "prefill_us" INTEGER, "decode_us" INTEGER,
	"itl_p50_us" INTEGER, "itl_p90_us" INTEGER, "itl_p99_us" INTEGER, "itl_max_us" INTEGER, "stalls" INTEGER,
	"write_blocked_us" INTEGER, "proxy_overhead_us" INTEGER, "prompt_tokens" INTEGER, "cached_tokens" INTEGER,
	"output_tokens" INTEGER, "reasoning_tokens" INTEGER, "draft_tokens" INTEGER,
	"draft_accepted_tokens" INTEGER, "max_tokens" INTEGER, "output_events" INTEGER, "token_source" TEXT,
	"messages" INTEGER, "tools" INTEGER, "request_bytes" INTEGER, "response_bytes" INTEGER,
	"mean_concurrency" INTEGER, "gpu_uj" INTEGER, "gpu_active_uj" INTEGER, "gpu_idle_uj" INTEGER,
	"gpu_prefill_uj" INTEGER, "gpu_decode_uj" INTEGER, "gpu_estimate_uj" INTEGER, "gpu_sigma_uj" INTEGER,
	"gpu_active_sigma_uj" INTEGER, "gpu_time_uj" INTEGER, "gpu_token_uj" INTEGER, "energy_quality" TEXT,
	"energy_method" TEXT, "energy_source" TEXT, "cpu_uj" INTEGER, "gpu_mean_mw" INTEGER, "gpu_devices" TEXT,
	"gpu_uj_by_device" TEXT, "gpu_power_limit_mw" INTEGER, "vram_bytes" INTEGER, "ram_bytes" INTEGER,
	"gpu_temp_c" INTEGER, "price_per_kwh_micro" INTEGER, "gco2_per_kwh_milli" INTEGER,
	"details" TEXT,
	ship_seq INTEGER UNIQUE
) STRICT;
INSERT INTO "requests" VALUES('019900000000-0000-7000-8000-000000000000','2026-11-23 12:00:00.123456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1);
INSERT INTO "requests" VALUES('019900000001-0000-7000-8000-000000000001','2026-11-23 12:00:00.124456','text of instance','text of route','text of upstream','text of method','text of path','text of dialect','text of model',9895604649984,0,'truncated','text of finish_reason','text of error','text of config_id','text of client_request_id','text of trace_id','text of agent','text of session','text of user','text of api_key_id','text of client_addr','{"":"é\"\u0000","team":"a b"}',25288767438848,0,27487790694400,0,29686813949952,0,31885837205504,0,34084860461056,0,36283883716608,0,38482906972160,0,40681930227712,0,42880953483264,0,45079976738816,0,47278999994368,0,49478023249920,'text of token_source',51677046505472,0,53876069761024,0,56075093016576,0,58274116272128,0,60473139527680,0,62672162783232,0,64871186038784,0,67070209294336,'measured','text of energy_method','text of energy_source',71468255805440,0,'["GPU-0",""]','[0,-1,1152921504606846976]',75866302316544,0,78065325572096,0,80264348827648,0,'text of details',2);
INSERT INTO "requests" VALUES('019900000002-0000-7000-8000-000000000002','2026-11-23 12:00:00.125456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'pending',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "requests" VALUES('019900000003-0000-7000-8000-000000000003','2026-11-23 12:00:00.126456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,3);
INSERT INTO "requests" VALUES('019900000004-0000-7000-8000-000000000004','2026-11-23 12:00:00.127456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,4,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,4);
INSERT INTO "requests" VALUES('019900000005-0000-7000-8000-000000000005','2026-11-23 12:00:00.128456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,5);
INSERT INTO "requests" VALUES('019900000006-0000-7000-8000-000000000006','2026-11-23 12:00:00.129456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,6,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,6);
INSERT INTO "requests" VALUES('019900000007-0000-7000-8000-000000000007','2026-11-23 12:00:00.130456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,7,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,7);
INSERT INTO "requests" VALUES('019900000008-0000-7000-8000-000000000008','2026-11-23 12:00:00.131456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,8,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,8);
INSERT INTO "requests" VALUES('019900000009-0000-7000-8000-000000000009','2026-11-23 12:00:00.132456','test',NULL,NULL,NULL,'/v1/chat/completions',NULL,NULL,NULL,NULL,'ok',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,9,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unavailable',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,9);
CREATE INDEX requests_started_at ON requests (started_at);
CREATE UNIQUE INDEX batches_one_open ON batches (confirmed_at IS NULL) WHERE confirmed_at IS NULL;
CREATE VIEW efficiency AS SELECT
	"id",
	"started_at",
	"instance",
	"route",
	"upstream",
	"path",
	"dialect",
	"model",
	"stream",
	"status",
	"outcome",
	"finish_reason",
	"config_id",
	"trace_id",
	"agent",
	"session",
	"user",
	"api_key_id",
	"labels",
	"prompt_tokens",
	"cached_tokens",
	"output_tokens",
	"reasoning_tokens",
	"token_source",
	"energy_quality",
	"energy_method",
	"gpu_temp_c",
	ttfb_us / 1e3 AS "ttfb_ms",
	ttft_us / 1e3 AS "ttft_ms",
	ttfo_us / 1e3 AS "ttfo_ms",
	upstream_ttft_us / 1e3 AS "upstream_ttft_ms",
	duration_us / 1e3 AS "duration_ms",
	queue_us / 1e3 AS "queue_ms",
	prefill_us / 1e3 AS "prefill_ms",
	decode_us / 1e3 AS "decode_ms",
	itl_p50_us / 1e3 AS "itl_p50_ms",
	itl_p90_us / 1e3 AS "itl_p90_ms",
	itl_p99_us / 1e3 AS "itl_p99_ms",
	itl_max_us / 1e3 AS "itl_max_ms",
	write_blocked_us / 1e3 AS "write_blocked_ms",
	proxy_overhead_us / 1e3 AS "proxy_overhead_ms",
	CASE WHEN output_tokens >= 2 THEN decode_us / 1e3 / (output_tokens - 1) END AS "tpot_ms",
	output_tokens * 1e6 / nullif(coalesce(ttft_us + decode_us, duration_us), 0) AS "tokens_per_second",
	CASE WHEN output_tokens >= 2 THEN (output_tokens - 1) * 1e6 / nullif(decode_us, 0) END AS "decode_tps",
	CASE WHEN mean_concurrency <= 1000 THEN (prompt_tokens - coalesce(cached_tokens, 0)) * 1e6 / nullif(prefill_us, 0) END AS "prefill_tps",
	mean_concurrency / 1e3 AS "concurrency",
	gpu_uj / 1e6 AS "gpu_j",
	gpu_sigma_uj / 1e6 AS "gpu_sigma_j",
	gpu_active_uj / 1e6 AS "gpu_active_j",
	gpu_idle_uj / 1e6 AS "gpu_idle_j",
	gpu_prefill_uj / 1e6 AS "gpu_prefill_j",
	gpu_decode_uj / 1e6 AS "gpu_decode_j",
	gpu_estimate_uj / 1e6 AS "gpu_estimate_j",
	cpu_uj / 1e6 AS "cpu_j",
	gpu_uj / 3.6e9 AS "gpu_wh",
	gpu_mean_mw / 1e3 AS "gpu_mean_w",
	gpu_uj / 1e6 / nullif(output_tokens, 0) AS "joules_per_token",
	output_tokens * 1e6 / nullif(gpu_uj, 0) AS "tokens_per_joule",
	gpu_prefill_uj / 1e6 / nullif((prompt_tokens - coalesce(cached_tokens, 0)), 0) AS "prefill_j_per_token",
	gpu_decode_uj / 1e6 / nullif(output_tokens, 0) AS "decode_j_per_token",
	output_tokens * 1e0 / nullif(gpu_uj, 0) * (CASE WHEN stream = 1 THEN duration_us - (ttft_us - upstream_ttft_us) - queue_us ELSE prefill_us + decode_us END) AS "tokens_per_watt",
	(gpu_uj / 3.6e12) * (price_per_kwh_micro / 1e6) AS "cost",
	(gpu_uj / 3.6e12) * (gco2_per_kwh_milli / 1e3) AS "gco2e"
FROM requests;
CREATE TABLE itl_gaps (
	"id" TEXT NOT NULL UNIQUE, "started_at" TEXT NOT NULL, "instance" TEXT, "gaps_us" TEXT,
	ship_seq INTEGER NOT NULL UNIQUE
) STRICT;
CREATE INDEX itl_gaps_started_at ON itl_gaps (started_at);
INSERT INTO counters VALUES ('shipped_itl_gaps', 0), ('lost_itl_gaps', 0);
COMMIT;
