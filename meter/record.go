package meter

import (
	"strings"
	"time"
)

// Outcome is how an exchange ended.
type Outcome string

// The outcomes of an exchange.
const (
	// OK: the upstream ended its reply cleanly and every output byte was written to the client,
	// even if the client left before the last chunk mark.
	OK Outcome = "ok"
	// Cancelled: the client left before the reply was complete.
	Cancelled Outcome = "cancelled"
	// Truncated: the upstream's reply ended before its own framing said so, or, by its framing, before its content said so.
	Truncated Outcome = "truncated"
	// UpstreamError: no reply (refused, reset before the head), a status >= 400, or an error inside a stream.
	UpstreamError Outcome = "upstream_error"
	// Rejected: wattline itself refused the request; the upstream never saw it.
	Rejected Outcome = "rejected"
)

// Token sources, best first: where output_tokens came from.
const (
	TokensFromUsage   = "usage"
	TokensFromTimings = "timings"
	TokensFromNative  = "native" // tokens_predicted of llama-server's own /completion
	TokensFromEvents  = "events" // no final count: output_tokens is null, output_events a lower bound
)

// Energy qualities. Pending is the only one that a row leaves again.
const (
	EnergyPending         = "pending"
	EnergyUnavailable     = "unavailable"
	EnergyPartial         = "partial"
	EnergyBelowResolution = "below_resolution"
	EnergyContended       = "contended"
	EnergyEstimated       = "estimated"
	EnergyShared          = "shared"
	EnergyMeasured        = "measured"
)

// Record is one request's row. Every field but GapsUs is one column of every engine; Columns lists them
// with their names, units and formulas. Integer columns end in their unit (_us microseconds, _uj
// microjoules, _mw milliwatts); an empty string, nil map, nil slice or nil Details is null.
type Record struct {
	// Request and outcome.
	ID           string // UUIDv7
	StartedAt    time.Time
	Instance     string
	Route        string
	Upstream     string
	Method       string
	Path         string // without the query
	Dialect      string
	Model        string
	Stream       Int // 1 streamed, 0 not, null where the question has no meaning
	Status       Int
	Outcome      Outcome
	FinishReason string
	Error        string
	ConfigID     string

	// Client.
	ClientRequestID string
	TraceID         string
	Agent           string
	Session         string
	User            string
	APIKeyID        string
	ClientAddr      string
	Labels          map[string]string

	// Times.
	TTFBUs          Int
	TTFTUs          Int
	TTFOUs          Int
	UpstreamTTFTUs  Int
	DurationUs      Int
	LoadUs          Int
	QueueUs         Int
	PrefillUs       Int
	DecodeUs        Int
	ITLP50Us        Int
	ITLP90Us        Int
	ITLP99Us        Int
	ITLMaxUs        Int
	Stalls          Int
	WriteBlockedUs  Int
	ProxyOverheadUs Int

	// Counts.
	PromptTokens        Int
	CachedTokens        Int
	OutputTokens        Int
	ReasoningTokens     Int
	DraftTokens         Int
	DraftAcceptedTokens Int
	MaxTokens           Int
	OutputEvents        Int
	TokenSource         string
	Messages            Int
	Tools               Int
	RequestBytes        Int
	ResponseBytes       Int
	MeanConcurrency     Int      // thousandths: 1500 is 1.5 requests in flight on average
	Details             *Details // facts without a column of their own; nil is null

	// GapsUs are the gaps behind the quantiles, in order, where RequestHead.KeepStamps asked for them and
	// the exchange had one completion. They are stored in table itl_gaps, not in a column.
	GapsUs []uint32

	// Energy.
	GPUUj            Int
	GPUActiveUj      Int
	GPUIdleUj        Int
	GPUIdleHeldUj    Int
	GPUIdleWaitingUj Int
	GPUPrefillUj     Int
	GPUDecodeUj      Int
	GPUEstimateUj    Int
	GPUSigmaUj       Int
	GPUActiveSigmaUj Int
	GPUTimeUj        Int
	GPUTokenUj       Int
	EnergyQuality    string
	EnergyMethod     string
	EnergySource     string
	CPUUj            Int
	CPUSigmaUj       Int
	GPUMeanMw        Int
	GPUDevices       []string
	GPUUjByDevice    []int64
	GPUPowerLimitMw  Int
	VRAMBytes        Int
	RAMBytes         Int
	GPUTempC         Int
	PricePerKWhMicro Int
	GCO2PerKWhMilli  Int

	// Reuse of the prompt (package cache). Final with the energy.
	CacheVerdict        string
	CacheCause          string
	CachePart           string
	CacheExpectedTokens Int
	CacheLostTokens     Int
	CacheLostUs         Int
	CacheLostUj         Int
	CacheLostSigmaUj    Int
}

// Column describes one column: the schema version that brought it, its name in every engine and every JSON
// object, its unit ("" where it has none), and what it means. Ptr returns a pointer to the field: *string,
// *Outcome, *time.Time, *Int, *map[string]string, *[]string, *[]int64 or **Details; the engines derive their
// column type from it.
type Column struct {
	Since int
	Name  string
	Unit  string
	Doc   string
	Ptr   func(*Record) any
}

// Columns returns every column in its canonical order. The store, ClickHouse, the admin API and
// the command line all read this one table. The Since of a new column is one above the last release's
// sink.SchemaVersion: existing stores and databases get the column from that.
func Columns() []Column { return columns[:] }

//nolint:gochecknoglobals // a constant table; Go has no constant slices
var columns = [...]Column{
	{1, "id", "", "UUIDv7 of the request", func(r *Record) any { return &r.ID }},
	{1, "started_at", "", "wall time at P0, when the request's head had been read (UTC)", func(r *Record) any { return &r.StartedAt }},
	{1, "instance", "", "the wattline that measured it (default: host name)", func(r *Record) any { return &r.Instance }},
	{1, "route", "", "name of the route it came in by", func(r *Record) any { return &r.Route }},
	{1, "upstream", "", "address of the server that answered", func(r *Record) any { return &r.Upstream }},
	{1, "method", "", "HTTP method", func(r *Record) any { return &r.Method }},
	{1, "path", "", "request path without its query", func(r *Record) any { return &r.Path }},
	{1, "dialect", "", "which API the path speaks; null where no tokens are metered", func(r *Record) any { return &r.Dialect }},
	{1, "model", "", "model that the reply names, else the one the request asked for", func(r *Record) any { return &r.Model }},
	{1, "stream", "", "1 streamed, 0 not", func(r *Record) any { return &r.Stream }},
	{1, "status", "", "HTTP status the client was given", func(r *Record) any { return &r.Status }},
	{1, "outcome", "", "ok, cancelled, truncated, upstream_error or rejected", func(r *Record) any { return &r.Outcome }},
	{1, "finish_reason", "", "why generation ended, in the server's word (stop, length, tool_calls, ...)", func(r *Record) any { return &r.FinishReason }},
	{1, "error", "", "what went wrong, or why the body was not metered", func(r *Record) any { return &r.Error }},
	{1, "config_id", "", "row of table configs in force", func(r *Record) any { return &r.ConfigID }},

	{1, "client_request_id", "", "the client's own X-Request-Id", func(r *Record) any { return &r.ClientRequestID }},
	{1, "trace_id", "", "W3C trace id", func(r *Record) any { return &r.TraceID }},
	{1, "agent", "", "first product of User-Agent", func(r *Record) any { return &r.Agent }},
	{1, "session", "", "session header, hashed unless --identify plain", func(r *Record) any { return &r.Session }},
	{1, "user", "", "user header or body field, hashed unless --identify plain", func(r *Record) any { return &r.User }},
	{1, "api_key_id", "", "keyed hash of the API key; the key itself is never kept", func(r *Record) any { return &r.APIKeyID }},
	{1, "client_addr", "", "client address, hashed unless --identify plain", func(r *Record) any { return &r.ClientAddr }},
	{1, "labels", "", "X-Wattline-Labels, else the route's", func(r *Record) any { return &r.Labels }},

	{1, "ttfb_us", "us", "H - P0: head of the upstream's reply", func(r *Record) any { return &r.TTFBUs }},
	{1, "ttft_us", "us", "W1 - P0: first generated output flushed to the client; null when not streamed", func(r *Record) any { return &r.TTFTUs }},
	{1, "ttfo_us", "us", "O1 - P0: first output that is not reasoning", func(r *Record) any { return &r.TTFOUs }},
	{1, "upstream_ttft_us", "us", "T1 - P1: first generated output as the upstream gave it", func(r *Record) any { return &r.UpstreamTTFTUs }},
	{1, "duration_us", "us", "E - P0: to the end of the upstream's reply", func(r *Record) any { return &r.DurationUs }},
	{2, "load_us", "us", "time in which the upstream loaded the model for this request, as it or a gateway before it told", func(r *Record) any { return &r.LoadUs }},
	{1, "queue_us", "us", "S - P1 - load_us: waiting for a slot, tokenising and templating included", func(r *Record) any { return &r.QueueUs }},
	{1, "prefill_us", "us", "the server's prompt_ms (residence), else T1 - S", func(r *Record) any { return &r.PrefillUs }},
	{1, "decode_us", "us", "Tn - T1; not streamed: the server's predicted_ms", func(r *Record) any { return &r.DecodeUs }},
	{1, "itl_p50_us", "us", "median gap between output events", func(r *Record) any { return &r.ITLP50Us }},
	{1, "itl_p90_us", "us", "90th percentile of the gaps", func(r *Record) any { return &r.ITLP90Us }},
	{1, "itl_p99_us", "us", "99th percentile of the gaps", func(r *Record) any { return &r.ITLP99Us }},
	{1, "itl_max_us", "us", "longest gap", func(r *Record) any { return &r.ITLMaxUs }},
	{1, "stalls", "", "gaps > 5 x the median and > 50 ms", func(r *Record) any { return &r.Stalls }},
	{1, "write_blocked_us", "us", "time spent in writes to the client", func(r *Record) any { return &r.WriteBlockedUs }},
	{1, "proxy_overhead_us", "us", "(P1 - max(P0, R)) + (W1 - T1): what wattline added before the first token", func(r *Record) any { return &r.ProxyOverheadUs }},

	{1, "prompt_tokens", "", "tokens of the prompt, cached ones included", func(r *Record) any { return &r.PromptTokens }},
	{1, "cached_tokens", "", "prompt tokens reused from the cache", func(r *Record) any { return &r.CachedTokens }},
	{1, "output_tokens", "", "generated tokens by the server's final count; null where it gave none", func(r *Record) any { return &r.OutputTokens }},
	{1, "reasoning_tokens", "", "output tokens that were reasoning, where the server says so", func(r *Record) any { return &r.ReasoningTokens }},
	{1, "draft_tokens", "", "speculative tokens drafted", func(r *Record) any { return &r.DraftTokens }},
	{1, "draft_accepted_tokens", "", "speculative tokens accepted", func(r *Record) any { return &r.DraftAcceptedTokens }},
	{1, "max_tokens", "", "the limit that the request set", func(r *Record) any { return &r.MaxTokens }},
	{1, "output_events", "", "stream events that carried generated output", func(r *Record) any { return &r.OutputEvents }},
	{1, "token_source", "", "where output_tokens came from: usage, timings, native; events: nowhere, output_events is a lower bound", func(r *Record) any { return &r.TokenSource }},
	{1, "messages", "", "messages in the request", func(r *Record) any { return &r.Messages }},
	{1, "tools", "", "tools offered in the request", func(r *Record) any { return &r.Tools }},
	{1, "request_bytes", "By", "request body as received, framing excluded", func(r *Record) any { return &r.RequestBytes }},
	{1, "response_bytes", "By", "reply body as sent, framing excluded", func(r *Record) any { return &r.ResponseBytes }},
	{1, "mean_concurrency", "1/1000", "time-weighted requests in flight on the route during this one, in thousandths", func(r *Record) any { return &r.MeanConcurrency }},

	{1, "gpu_uj", "uJ", "gpu_active_uj + gpu_idle_uj", func(r *Record) any { return &r.GPUUj }},
	{1, "gpu_active_uj", "uJ", "gpu_prefill_uj + gpu_decode_uj", func(r *Record) any { return &r.GPUActiveUj }},
	{1, "gpu_idle_uj", "uJ", "share of the loaded-idle draw", func(r *Record) any { return &r.GPUIdleUj }},
	{2, "gpu_idle_held_uj", "uJ", "the part of gpu_idle_uj from the time in which it held a slot", func(r *Record) any { return &r.GPUIdleHeldUj }},
	{2, "gpu_idle_waiting_uj", "uJ", "the part of gpu_idle_uj from the time in which it waited and nobody held a slot", func(r *Record) any { return &r.GPUIdleWaitingUj }},
	{1, "gpu_prefill_uj", "uJ", "active joules of the prompt", func(r *Record) any { return &r.GPUPrefillUj }},
	{1, "gpu_decode_uj", "uJ", "active joules of the generation", func(r *Record) any { return &r.GPUDecodeUj }},
	{1, "gpu_estimate_uj", "uJ", "the estimate where gpu_uj is below resolution", func(r *Record) any { return &r.GPUEstimateUj }},
	{1, "gpu_sigma_uj", "uJ", "standard error of gpu_uj", func(r *Record) any { return &r.GPUSigmaUj }},
	{1, "gpu_active_sigma_uj", "uJ", "standard error of gpu_active_uj", func(r *Record) any { return &r.GPUActiveSigmaUj }},
	{1, "gpu_time_uj", "uJ", "the by-time rule, for comparison", func(r *Record) any { return &r.GPUTimeUj }},
	{1, "gpu_token_uj", "uJ", "the by-token rule, for comparison", func(r *Record) any { return &r.GPUTokenUj }},
	{1, "energy_quality", "", "pending, unavailable, partial, below_resolution, contended, estimated, shared or measured", func(r *Record) any { return &r.EnergyQuality }},
	{1, "energy_method", "", "rule that gave gpu_uj", func(r *Record) any { return &r.EnergyMethod }},
	{1, "energy_source", "", "power source behind it", func(r *Record) any { return &r.EnergySource }},
	{1, "cpu_uj", "uJ", "CPU package and DRAM joules by the server's CPU share", func(r *Record) any { return &r.CPUUj }},
	{2, "cpu_sigma_uj", "uJ", "standard error of cpu_uj", func(r *Record) any { return &r.CPUSigmaUj }},
	{1, "gpu_mean_mw", "mW", "mean board power while it held a slot", func(r *Record) any { return &r.GPUMeanMw }},
	{1, "gpu_devices", "", "devices that served it", func(r *Record) any { return &r.GPUDevices }},
	{1, "gpu_uj_by_device", "uJ", "gpu_uj per entry of gpu_devices", func(r *Record) any { return &r.GPUUjByDevice }},
	{1, "gpu_power_limit_mw", "mW", "enforced power limit", func(r *Record) any { return &r.GPUPowerLimitMw }},
	{1, "vram_bytes", "By", "device memory used by the server", func(r *Record) any { return &r.VRAMBytes }},
	{1, "ram_bytes", "By", "resident memory of the server", func(r *Record) any { return &r.RAMBytes }},
	{1, "gpu_temp_c", "Cel", "highest GPU temperature meanwhile", func(r *Record) any { return &r.GPUTempC }},
	{1, "price_per_kwh_micro", "1e-6/kWh", "configured price, in millionths of the currency unit", func(r *Record) any { return &r.PricePerKWhMicro }},
	{1, "gco2_per_kwh_milli", "mg/kWh", "configured carbon intensity", func(r *Record) any { return &r.GCO2PerKWhMilli }},

	{2, "cache_verdict", "", "hit, cold, client, server or unknown: whether the prompt was reused as far as it could be, and whose fault it was if not", func(r *Record) any { return &r.CacheVerdict }},
	{2, "cache_cause", "", "what a client changed, or what the server did", func(r *Record) any { return &r.CacheCause }},
	{2, "cache_part", "", "part of the prompt that a client changed first", func(r *Record) any { return &r.CachePart }},
	{2, "cache_expected_tokens", "", "prompt tokens that could have been reused", func(r *Record) any { return &r.CacheExpectedTokens }},
	{2, "cache_lost_tokens", "", "of them, those that were computed again; 0 for a hit", func(r *Record) any { return &r.CacheLostTokens }},
	{2, "cache_lost_us", "us", "prefill time of the lost tokens", func(r *Record) any { return &r.CacheLostUs }},
	{2, "cache_lost_uj", "uJ", "active joules of the lost tokens", func(r *Record) any { return &r.CacheLostUj }},
	{2, "cache_lost_sigma_uj", "uJ", "standard error of cache_lost_uj", func(r *Record) any { return &r.CacheLostSigmaUj }},

	{1, "details", "", "JSON object: what the request asked and the reply told beside the columns (temperature, seed, slot, where each phase came from, ...)", func(r *Record) any { return &r.Details }},
}

// Null reports whether the column holds nothing in r.
func (c Column) Null(r *Record) bool {
	switch p := c.Ptr(r).(type) {
	case *string:
		return *p == ""
	case *Outcome:
		return *p == ""
	case *time.Time:
		return p.IsZero()
	case *Int:
		return !p.Valid
	case *map[string]string:
		return *p == nil
	case *[]string:
		return *p == nil
	case *[]int64:
		return *p == nil
	case **Details:
		return *p == nil
	}
	panic("meter: column " + c.Name + " has a field of an unknown type")
}

// EnergyUj is the request's joules, in uJ: the GPUs', or, of a server without a GPU, the processor's.
func (r *Record) EnergyUj() Int {
	if strings.HasPrefix(r.EnergySource, "rapl/") {
		return r.CPUUj
	}
	return r.GPUUj
}

// EnergySigmaUj is the standard error of EnergyUj, in uJ.
func (r *Record) EnergySigmaUj() Int {
	if strings.HasPrefix(r.EnergySource, "rapl/") {
		return r.CPUSigmaUj
	}
	return r.GPUSigmaUj
}

// SlotUj is EnergyUj without the idle draw that the request shared while it waited, in uJ: the joules of its slot. Where
// that part is not known it is EnergyUj.
func (r *Record) SlotUj() Int {
	uj := r.EnergyUj()
	if uj.Valid && uj == r.GPUUj && r.GPUIdleWaitingUj.Valid {
		uj.V -= r.GPUIdleWaitingUj.V
	}
	return uj
}

// The grades of a request's joules, by their standard error: EnergyGrade.
const (
	GradeA = "A" // sigma is at most 3 % of the value
	GradeB = "B" // at most 10 %
	GradeC = "C" // more, or the value is below resolution
)

// EnergyGrade grades a request's joules by their relative standard error; "" where there are none.
func (r *Record) EnergyGrade() string {
	uj, sigma := r.EnergyUj(), r.EnergySigmaUj()
	switch {
	case !sigma.Valid || !uj.Valid && !r.GPUEstimateUj.Valid:
		return ""
	case !uj.Valid:
		return GradeC
	}
	return GradeOf(float64(uj.V), float64(sigma.V))
}

// GradeOf grades a value by its standard error.
func GradeOf(value, sigma float64) string {
	switch {
	case sigma <= 0.03*value:
		return GradeA
	case sigma <= 0.1*value:
		return GradeB
	}
	return GradeC
}

// BeforeSlotUs is S - P1: what the request waited for the model to load and for a slot.
func (r *Record) BeforeSlotUs() Int {
	if !r.QueueUs.Valid {
		return Int{}
	}
	return Some(r.QueueUs.V + r.LoadUs.V)
}
