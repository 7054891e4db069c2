package meter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Columns returns every column in its canonical order. The store, ClickHouse, the admin API and
// the command line all read this one table.
func Columns() []Column { return columns[:] }

//nolint:gochecknoglobals // a constant table; Go has no constant slices
var columns = [...]Column{
	{"id", "", "UUIDv7 of the request", func(r *Record) any { return &r.ID }},
	{"started_at", "", "wall time at P0, when the request's head had been read (UTC)", func(r *Record) any { return &r.StartedAt }},
	{"instance", "", "the wattline that measured it (default: host name)", func(r *Record) any { return &r.Instance }},
	{"route", "", "name of the route it came in by", func(r *Record) any { return &r.Route }},
	{"upstream", "", "address of the server that answered", func(r *Record) any { return &r.Upstream }},
	{"method", "", "HTTP method", func(r *Record) any { return &r.Method }},
	{"path", "", "request path without its query", func(r *Record) any { return &r.Path }},
	{"dialect", "", "which API the path speaks; null where no tokens are metered", func(r *Record) any { return &r.Dialect }},
	{"model", "", "model that the reply names, else the one the request asked for", func(r *Record) any { return &r.Model }},
	{"stream", "", "1 streamed, 0 not", func(r *Record) any { return &r.Stream }},
	{"status", "", "HTTP status the client was given", func(r *Record) any { return &r.Status }},
	{"outcome", "", "ok, cancelled, truncated, upstream_error or rejected", func(r *Record) any { return &r.Outcome }},
	{"finish_reason", "", "why generation ended, in the server's word (stop, length, tool_calls, ...)", func(r *Record) any { return &r.FinishReason }},
	{"error", "", "what went wrong, or why the body was not metered", func(r *Record) any { return &r.Error }},
	{"config_id", "", "row of table configs in force", func(r *Record) any { return &r.ConfigID }},

	{"client_request_id", "", "the client's own X-Request-Id", func(r *Record) any { return &r.ClientRequestID }},
	{"trace_id", "", "W3C trace id", func(r *Record) any { return &r.TraceID }},
	{"agent", "", "first product of User-Agent", func(r *Record) any { return &r.Agent }},
	{"session", "", "session header, hashed unless --identify plain", func(r *Record) any { return &r.Session }},
	{"user", "", "user header or body field, hashed unless --identify plain", func(r *Record) any { return &r.User }},
	{"api_key_id", "", "keyed hash of the API key; the key itself is never kept", func(r *Record) any { return &r.APIKeyID }},
	{"client_addr", "", "client address, hashed unless --identify plain", func(r *Record) any { return &r.ClientAddr }},
	{"labels", "", "X-Wattline-Labels, else the route's", func(r *Record) any { return &r.Labels }},

	{"ttfb_us", "us", "H - P0: head of the upstream's reply", func(r *Record) any { return &r.TTFBUs }},
	{"ttft_us", "us", "W1 - P0: first generated output flushed to the client; null when not streamed", func(r *Record) any { return &r.TTFTUs }},
	{"ttfo_us", "us", "O1 - P0: first output that is not reasoning", func(r *Record) any { return &r.TTFOUs }},
	{"upstream_ttft_us", "us", "T1 - P1: first generated output as the upstream gave it", func(r *Record) any { return &r.UpstreamTTFTUs }},
	{"duration_us", "us", "E - P0: to the end of the upstream's reply", func(r *Record) any { return &r.DurationUs }},
	{"queue_us", "us", "S - P1: waiting for a slot, tokenising and templating included", func(r *Record) any { return &r.QueueUs }},
	{"prefill_us", "us", "the server's prompt_ms (residence), else T1 - S", func(r *Record) any { return &r.PrefillUs }},
	{"decode_us", "us", "Tn - T1; not streamed: the server's predicted_ms", func(r *Record) any { return &r.DecodeUs }},
	{"itl_p50_us", "us", "median gap between output events", func(r *Record) any { return &r.ITLP50Us }},
	{"itl_p90_us", "us", "90th percentile of the gaps", func(r *Record) any { return &r.ITLP90Us }},
	{"itl_p99_us", "us", "99th percentile of the gaps", func(r *Record) any { return &r.ITLP99Us }},
	{"itl_max_us", "us", "longest gap", func(r *Record) any { return &r.ITLMaxUs }},
	{"stalls", "", "gaps > 5 x the median and > 50 ms", func(r *Record) any { return &r.Stalls }},
	{"write_blocked_us", "us", "time spent in writes to the client", func(r *Record) any { return &r.WriteBlockedUs }},
	{"proxy_overhead_us", "us", "(P1 - max(P0, R)) + (W1 - T1): what wattline added before the first token", func(r *Record) any { return &r.ProxyOverheadUs }},

	{"prompt_tokens", "", "tokens of the prompt, cached ones included", func(r *Record) any { return &r.PromptTokens }},
	{"cached_tokens", "", "prompt tokens reused from the cache", func(r *Record) any { return &r.CachedTokens }},
	{"output_tokens", "", "generated tokens by the server's final count; null where it gave none", func(r *Record) any { return &r.OutputTokens }},
	{"reasoning_tokens", "", "output tokens that were reasoning, where the server says so", func(r *Record) any { return &r.ReasoningTokens }},
	{"draft_tokens", "", "speculative tokens drafted", func(r *Record) any { return &r.DraftTokens }},
	{"draft_accepted_tokens", "", "speculative tokens accepted", func(r *Record) any { return &r.DraftAcceptedTokens }},
	{"max_tokens", "", "the limit that the request set", func(r *Record) any { return &r.MaxTokens }},
	{"output_events", "", "stream events that carried generated output", func(r *Record) any { return &r.OutputEvents }},
	{"token_source", "", "where output_tokens came from: usage, timings, native; events: nowhere, output_events is a lower bound", func(r *Record) any { return &r.TokenSource }},
	{"messages", "", "messages in the request", func(r *Record) any { return &r.Messages }},
	{"tools", "", "tools offered in the request", func(r *Record) any { return &r.Tools }},
	{"request_bytes", "By", "request body as received, framing excluded", func(r *Record) any { return &r.RequestBytes }},
	{"response_bytes", "By", "reply body as sent, framing excluded", func(r *Record) any { return &r.ResponseBytes }},
	{"mean_concurrency", "1/1000", "time-weighted requests in flight on the route during this one, in thousandths", func(r *Record) any { return &r.MeanConcurrency }},

	{"gpu_uj", "uJ", "gpu_active_uj + gpu_idle_uj", func(r *Record) any { return &r.GPUUj }},
	{"gpu_active_uj", "uJ", "gpu_prefill_uj + gpu_decode_uj", func(r *Record) any { return &r.GPUActiveUj }},
	{"gpu_idle_uj", "uJ", "share of the loaded-idle draw", func(r *Record) any { return &r.GPUIdleUj }},
	{"gpu_prefill_uj", "uJ", "active joules of the prompt", func(r *Record) any { return &r.GPUPrefillUj }},
	{"gpu_decode_uj", "uJ", "active joules of the generation", func(r *Record) any { return &r.GPUDecodeUj }},
	{"gpu_estimate_uj", "uJ", "the estimate where gpu_uj is below resolution", func(r *Record) any { return &r.GPUEstimateUj }},
	{"gpu_sigma_uj", "uJ", "standard error of gpu_uj", func(r *Record) any { return &r.GPUSigmaUj }},
	{"gpu_active_sigma_uj", "uJ", "standard error of gpu_active_uj", func(r *Record) any { return &r.GPUActiveSigmaUj }},
	{"gpu_time_uj", "uJ", "the by-time rule, for comparison", func(r *Record) any { return &r.GPUTimeUj }},
	{"gpu_token_uj", "uJ", "the by-token rule, for comparison", func(r *Record) any { return &r.GPUTokenUj }},
	{"energy_quality", "", "pending, unavailable, partial, below_resolution, contended, estimated, shared or measured", func(r *Record) any { return &r.EnergyQuality }},
	{"energy_method", "", "rule that gave gpu_uj", func(r *Record) any { return &r.EnergyMethod }},
	{"energy_source", "", "power source behind it", func(r *Record) any { return &r.EnergySource }},
	{"cpu_uj", "uJ", "CPU package and DRAM joules by the server's CPU share", func(r *Record) any { return &r.CPUUj }},
	{"gpu_mean_mw", "mW", "mean board power while it held a slot", func(r *Record) any { return &r.GPUMeanMw }},
	{"gpu_devices", "", "devices that served it", func(r *Record) any { return &r.GPUDevices }},
	{"gpu_uj_by_device", "uJ", "gpu_uj per entry of gpu_devices", func(r *Record) any { return &r.GPUUjByDevice }},
	{"gpu_power_limit_mw", "mW", "enforced power limit", func(r *Record) any { return &r.GPUPowerLimitMw }},
	{"vram_bytes", "By", "device memory used by the server", func(r *Record) any { return &r.VRAMBytes }},
	{"ram_bytes", "By", "resident memory of the server", func(r *Record) any { return &r.RAMBytes }},
	{"gpu_temp_c", "Cel", "highest GPU temperature meanwhile", func(r *Record) any { return &r.GPUTempC }},
	{"price_per_kwh_micro", "1e-6/kWh", "configured price, in millionths of the currency unit", func(r *Record) any { return &r.PricePerKWhMicro }},
	{"gco2_per_kwh_milli", "mg/kWh", "configured carbon intensity", func(r *Record) any { return &r.GCO2PerKWhMilli }},

	{"details", "", "JSON object: what the request asked and the reply told beside the columns (temperature, seed, slot, where each phase came from, ...)", func(r *Record) any { return &r.Details }},
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

// MarshalJSON writes the record as one object whose keys are the column names, in column order.
func (r *Record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range columns {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", c.Name)
		if c.Null(r) {
			b.WriteString("null")
			continue
		}
		v, err := json.Marshal(c.Ptr(r))
		if err != nil {
			return nil, fmt.Errorf("meter: column %s: %w", c.Name, err)
		}
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object as MarshalJSON writes it. Unknown keys are ignored, so that a
// reader of one version understands a writer of the next.
func (r *Record) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("meter: record: %w", err)
	}
	for _, c := range columns {
		v, ok := raw[c.Name]
		if !ok || string(v) == "null" {
			continue
		}
		if err := json.Unmarshal(v, c.Ptr(r)); err != nil {
			return fmt.Errorf("meter: column %s: %w", c.Name, err)
		}
	}
	return nil
}
