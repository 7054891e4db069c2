package metrics

import (
	"wattline/sink/semconv"
)

// Kind is how a metric moves.
type Kind string

// The kinds. The observed ones are asked for at each collection.
const (
	Counter         Kind = "counter"
	Histogram       Kind = "histogram"
	ObservedCounter Kind = "observed counter"
	ObservedUpDown  Kind = "observed up-down counter"
	ObservedGauge   Kind = "observed gauge"
)

// Definition is one metric: its name in OTLP, its unit (UCUM), what it means, the attributes that its
// series can have and, of a histogram, the upper bounds of its buckets in its unit.
type Definition struct {
	Name       string
	Kind       Kind
	Unit       string
	Doc        string
	Attributes []string
	Bounds     []float64
}

// Bounds of histograms. The conventions' own begin at 10 ms a token and are blind above 100 tokens/s;
// these see 10,000.
func durationBounds() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000}
}

func firstTokenBounds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50, 100, 250}
}

func perTokenBounds() []float64 {
	return []float64{.0001, .00025, .0005, .00075, .001, .0015, .002, .003, .005, .0075, .01, .015, .025, .05, .075, .1, .15, .2, .3, .5, 1, 2.5}
}

func overheadBounds() []float64 {
	return []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .1, 1}
}

func tokenBounds() []float64 {
	return []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}
}

func jouleBounds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50, 100}
}

// Definitions returns every metric in the order in which the documentation lists them.
func Definitions() []Definition {
	request := []string{semconv.Route, semconv.GenAIOperationName, semconv.GenAIResponseModel}
	genAI := append([]string{semconv.GenAIProviderName}, request...)
	with := func(base []string, more ...string) []string { return append(append([]string(nil), base...), more...) }
	device := []string{semconv.HWID, semconv.HWType}
	all := []Definition{
		{semconv.MetricRequests, Counter, "{request}", "Requests that are over, by outcome.", with(request, semconv.Outcome), nil},
		{semconv.MetricRequestDuration, Histogram, "s", "E - P0: from the request's head to the end of the upstream's reply. Column duration_us, of paths that are metered.", with(genAI, semconv.ErrorType), durationBounds()},
		{semconv.MetricTTFT, Histogram, "s", "W1 - P0: first generated output flushed to the client. Column ttft_us, of streams.", genAI, firstTokenBounds()},
		{semconv.MetricTPOT, Histogram, "s", "(Tn - T1)/(n - 1), n >= 2 output tokens. Column decode_us and output_tokens.", genAI, perTokenBounds()},
		{semconv.MetricITL, Histogram, "s", "Gaps between a stream's output events: each request's own median, 99th percentile and longest, one value a request and statistic. Columns itl_p50_us, itl_p99_us, itl_max_us.", with(request, semconv.Statistic), perTokenBounds()},
		{semconv.MetricPhase, Histogram, "s", "Time in load (the server loaded the model), queue (S - P1 - load), prefill (the server's prompt_ms) and decode (Tn - T1). Columns load_us, queue_us, prefill_us, decode_us.", with(request, semconv.Phase), firstTokenBounds()},
		{semconv.MetricStalls, Counter, "{stall}", "Gaps > 5 x the median and > 50 ms. Column stalls.", request, nil},
		{semconv.MetricTokenUsage, Histogram, "{token}", "Tokens a request used. input: column prompt_tokens, cached ones included; output: column output_tokens.", with(genAI, semconv.GenAITokenType), tokenBounds()},
		{semconv.MetricTokens, Counter, "{token}", "Tokens in all: prompt (cached ones included), cached, output (reasoning included), reasoning.", with(request, semconv.TokenKind), nil},
		{semconv.MetricAgentRequests, Counter, "{request}", "Requests on metered paths that are over, by client and outcome. Column agent.", []string{semconv.Agent, semconv.Outcome}, nil},
		{semconv.MetricAgentTTFT, Histogram, "s", "Their time to first token, by client. Columns ttft_us, agent.", []string{semconv.Agent}, firstTokenBounds()},
		{semconv.MetricAgentTokens, Counter, "{token}", "Their tokens, by client: prompt (cached ones included), cached, output (reasoning included).", []string{semconv.Agent, semconv.TokenKind}, nil},
		{semconv.MetricAgentEnergy, Counter, "J", "Their joules, by client: the GPUs', or of a server without a GPU the processor's. Columns gpu_uj, cpu_uj, agent.", []string{semconv.Agent}, nil},
		{semconv.MetricOverhead, Histogram, "s", "(P1 - max(P0, R)) + (W1 - T1): what wattline added before the first token. Column proxy_overhead_us.", []string{semconv.Route}, overheadBounds()},
		{semconv.MetricMeterFailures, Counter, "{request}", "Answered requests on metered paths whose bytes could not be read: column error says why.", []string{semconv.Route, semconv.GenAIOperationName}, nil},
		{semconv.MetricDisputed, Counter, "{request}", "Requests whose reply told a count (prompt, cached, output) twice and differently: once for each such count. Column details, key disputed; the columns have the best source's number.", []string{semconv.Route, semconv.TokenKind}, nil},
		{semconv.MetricUnread, Counter, "{request}", "Requests of which something could not be read, once for each entry of column details, key unread: request_ or reply_ and why, or path or websocket. meter/DEFINITIONS.md explains them.", []string{semconv.Route, semconv.Unread}, nil},

		{semconv.MetricSettled, Counter, "{request}", "Rows that have become final, by the quality of their energy.", []string{semconv.Route, semconv.Quality}, nil},
		{semconv.MetricEnergy, Counter, "J", "GPU joules given to requests: prefill and decode (active), idle (their share of the loaded-idle draw), and undivided where only the total is known. Columns gpu_prefill_uj, gpu_decode_uj, gpu_idle_uj, gpu_uj.", with(request, semconv.Phase), nil},
		{semconv.MetricDeviceShare, Counter, "J", "The same joules by device. Column gpu_uj_by_device.", device, nil},
		{semconv.MetricEnergyPerToken, Histogram, "J", "gpu_uj - gpu_idle_waiting_uj (of a server without a GPU: cpu_uj) / output_tokens of a request.", request, jouleBounds()},
		{semconv.MetricHWEnergy, ObservedCounter, "J", "What the device drew since wattline started, whoever used it. Table power.", device, nil},
		{semconv.MetricHWPower, ObservedGauge, "W", "Mean power in the last second.", device, nil},
		{semconv.MetricPowerLimit, ObservedGauge, "W", "Enforced power limit.", device, nil},
		{semconv.MetricThrottled, ObservedCounter, "s", "Time in which the driver held the clocks down, for whatever reason. Table power, column throttled_us.", device, nil},
		{semconv.MetricHWTemperature, ObservedGauge, "Cel", "Highest temperature in the last second.", device, nil},
		{semconv.MetricHWMemory, ObservedUpDown, "By", "Device memory in use.", device, nil},
		{semconv.MetricHWUtilization, ObservedGauge, "1", "Utilisation as the driver reports it.", device, nil},
		{semconv.MetricLedger, ObservedUpDown, "J", "The energy ledger since wattline started: counter = requests_active + requests_idle + pools + idle + residual. Table ledger.", with(device, semconv.Account), nil},
		{semconv.MetricLedgerEvents, ObservedCounter, "{event}", "What the energy ledger could not attribute exactly: dropped, unknown, late and unqueued events, forgotten prefills, average cells released early, upstreams over its limit.", with(device, semconv.Result), nil},

		{semconv.MetricReadable, ObservedGauge, "{device}", "1 while the device is read, 0 while it is lost or asleep.", device, nil},
		{semconv.MetricAgreement, ObservedGauge, "1", "Joules that the energy counter counts per joule of the integrated power samples; not there until it is known.", device, nil},
		{semconv.MetricSamplerEvents, ObservedCounter, "{event}", "What went wrong in reading the device: reopened, error, missed (a power sample), demoted (a source that disagrees).", with(device, semconv.Result), nil},
		{semconv.MetricSamplerCPU, ObservedCounter, "s", "CPU time of the thread that reads the device, the driver's included.", device, nil},
		{semconv.MetricSlotLooks, ObservedCounter, "{look}", "Times that GET /slots was asked of the upstream: answered or failed.", []string{semconv.Route, semconv.Result}, nil},
		{semconv.MetricSlotTime, ObservedCounter, "s", "Time from asking for the slots to the answer, over all looks.", []string{semconv.Route}, nil},
		{semconv.MetricSlotBytes, ObservedCounter, "By", "Bytes of the answers.", []string{semconv.Route}, nil},
		{semconv.MetricSlotRequests, ObservedCounter, "{request}", "Requests whose slot was found out, and streams that ended without.", []string{semconv.Route, semconv.Result}, nil},

		{semconv.MetricInFlight, ObservedUpDown, "{request}", "Requests in flight.", []string{semconv.Route}, nil},
		{semconv.MetricConnections, ObservedUpDown, "{connection}", "Client connections.", []string{semconv.Route}, nil},
		{semconv.MetricQueueRows, ObservedUpDown, "{row}", "Rows that wait to be written to the store.", nil, nil},
		{semconv.MetricQueueOffered, ObservedCounter, "{row}", "Rows offered to the store's queue.", []string{semconv.RowKind}, nil},
		{semconv.MetricQueueDropped, ObservedCounter, "{row}", "Rows dropped because that queue was full.", []string{semconv.RowKind}, nil},
		{semconv.MetricQueueLost, ObservedCounter, "{row}", "Rows that the store refused for good.", []string{semconv.RowKind}, nil},
		{semconv.MetricStoreErrors, ObservedCounter, "{error}", "Failed attempts to write to the store.", nil, nil},
		{semconv.MetricStoreLost, ObservedCounter, "{row}", "Rows that the store's size limit dropped before they were shipped, since the store was made.", nil, nil},
		{semconv.MetricOutboxRows, ObservedUpDown, "{row}", "Final rows that wait to be shipped to ClickHouse.", []string{semconv.RowKind}, nil},
		{semconv.MetricOutboxAge, ObservedGauge, "s", "Age of the oldest request that waits to be shipped; 0 when none does.", nil, nil},
		{semconv.MetricOTLP, ObservedCounter, "{item}", "What became of traces (one a request), of spans that the collector refused, and of exports of all metrics.", []string{semconv.Signal, semconv.Result}, nil},
		{semconv.MetricOTLPWaiting, ObservedUpDown, "{trace}", "Traces that wait for their energy or for the collector.", nil, nil},
		{semconv.MetricMonitorRatio, ObservedGauge, "1", "The newest canary of --monitor to the median since the server last changed, by metric (ttft, decode, j_per_token).", []string{semconv.Route, semconv.Watched}, nil},
		{semconv.MetricMonitorAlarms, ObservedCounter, "{change}", "Changes that --monitor has found.", []string{semconv.Route, semconv.Watched}, nil},
		{semconv.MetricCapped, ObservedCounter, "{request}", "Requests counted under \"other\" because a model, an agent or a label had more values than the cap.", nil, nil},
		{semconv.MetricCPUTime, ObservedCounter, "s", "CPU time of wattline itself.", []string{semconv.CPUMode}, nil},
		{semconv.MetricMemory, ObservedUpDown, "By", "Resident memory of wattline itself.", nil, nil},
		{semconv.MetricGoroutines, ObservedUpDown, "{goroutine}", "Goroutines of wattline itself.", nil, nil},
	}
	return all
}
