// Package semconv has every public name of wattline's telemetry: attributes of spans and metrics, metrics, and fixed values.
// No other package contains such a name.
//
// Names outside wattline.* follow the OpenTelemetry semantic conventions, version 1.41.0: the last in which
// the Go package still has gen_ai.* (those have since moved to a repository of their own, at version 0.1). A
// test compares them with that package. For energy per request no convention exists, so those names
// are ours.
package semconv

// SchemaURL names the version of the conventions, and goes with every batch.
const SchemaURL = "https://opentelemetry.io/schemas/1.41.0"

// Scope is the instrumentation scope of all spans and metrics.
const Scope = "wattline"

// Resource attributes.
const (
	ServiceName       = "service.name" // always Scope
	ServiceVersion    = "service.version"
	ServiceInstanceID = "service.instance.id" // column instance
)

// Attributes of the HTTP conventions.
const (
	HTTPRequestMethod         = "http.request.method"
	HTTPRequestMethodOriginal = "http.request.method_original"
	HTTPResponseStatusCode    = "http.response.status_code"
	HTTPRoute                 = "http.route"
	HTTPRequestBodySize       = "http.request.body.size"
	HTTPResponseBodySize      = "http.response.body.size"
	URLPath                   = "url.path"
	URLScheme                 = "url.scheme"
	ServerAddress             = "server.address"
	ServerPort                = "server.port"
	ErrorType                 = "error.type"
)

// OtherMethod replaces a method unknown to the conventions.
const OtherMethod = "_OTHER"

// Attributes of the GenAI conventions.
const (
	GenAIOperationName        = "gen_ai.operation.name"
	GenAIProviderName         = "gen_ai.provider.name"
	GenAIRequestModel         = "gen_ai.request.model"
	GenAIRequestTemperature   = "gen_ai.request.temperature"
	GenAIRequestSeed          = "gen_ai.request.seed"
	GenAIRequestChoices       = "gen_ai.request.choice.count"
	GenAIRequestMaxTokens     = "gen_ai.request.max_tokens" //nolint:gosec // a name, no credential
	GenAIRequestStream        = "gen_ai.request.stream"
	GenAIResponseModel        = "gen_ai.response.model"
	GenAIResponseFinish       = "gen_ai.response.finish_reasons"
	GenAITimeToFirstChunk     = "gen_ai.response.time_to_first_chunk"  // s
	GenAIUsageInputTokens     = "gen_ai.usage.input_tokens"            //nolint:gosec // a name, no credential
	GenAIUsageOutputTokens    = "gen_ai.usage.output_tokens"           //nolint:gosec // a name, no credential
	GenAIUsageCacheReadTokens = "gen_ai.usage.cache_read.input_tokens" //nolint:gosec // a name, no credential
	GenAIUsageReasoningTokens = "gen_ai.usage.reasoning.output_tokens" //nolint:gosec // a name, no credential
	GenAITokenType            = "gen_ai.token.type"                    // TokenInput or TokenOutput
)

// Values of the GenAI attributes. Provider is ours: the conventions have none for llama.cpp.
const (
	Provider    = "llama_cpp"
	TokenInput  = "input"
	TokenOutput = "output"
)

// Attributes of the hardware conventions.
const (
	HWID     = "hw.id"
	HWType   = "hw.type"
	HWGPU    = "gpu" // values of HWType
	HWCPU    = "cpu"
	CPUMode  = "cpu.mode"
	CPUUser  = "user" // values of CPUMode
	CPUOther = "system"
)

// Span attributes of our own.
const (
	RequestID       = "wattline.request.id" // column id
	ClientRequestID = "wattline.client_request_id"
	Route           = "wattline.route"
	Dialect         = "wattline.dialect"
	Slot            = "wattline.slot"       // the server's
	PhaseFrom       = "wattline.phase.from" // where a phase came from: head, server, progress or marks
	Outcome         = "wattline.outcome"
	Error           = "wattline.error"
	Agent           = "wattline.agent"
	Session         = "wattline.session"
	User            = "wattline.user"
	ConfigID        = "wattline.config_id"
	LabelPrefix     = "wattline.label." // and the label's key

	TokenSource     = "wattline.token_source"
	OutputEvents    = "wattline.output_events"
	DraftTokens     = "wattline.draft_tokens" //nolint:gosec // a name, no secret
	DraftAccepted   = "wattline.draft_accepted_tokens"
	ITLP50Ms        = "wattline.itl.p50_ms"
	ITLP90Ms        = "wattline.itl.p90_ms"
	ITLP99Ms        = "wattline.itl.p99_ms"
	ITLMaxMs        = "wattline.itl.max_ms"
	Stalls          = "wattline.stalls"
	TTFTMs          = "wattline.ttft_ms"
	OverheadMs      = "wattline.overhead_ms"
	WriteBlockedMs  = "wattline.write_blocked_ms"
	MeanConcurrency = "wattline.concurrency.mean"

	EnergyQuality      = "wattline.energy.quality"
	EnergyMethod       = "wattline.energy.method"
	EnergySource       = "wattline.energy.source"
	EnergyJ            = "wattline.energy.gpu_j"
	EnergyActiveJ      = "wattline.energy.gpu_active_j"
	EnergyIdleJ        = "wattline.energy.gpu_idle_j"
	EnergyIdleWaitingJ = "wattline.energy.gpu_idle_waiting_j"
	EnergyPrefillJ     = "wattline.energy.gpu_prefill_j"
	EnergyDecodeJ      = "wattline.energy.gpu_decode_j"
	EnergyEstimateJ    = "wattline.energy.gpu_estimate_j"
	EnergySigmaJ       = "wattline.energy.gpu_sigma_j"
	EnergyCPUJ         = "wattline.energy.cpu_j"
	EnergyCPUSigmaJ    = "wattline.energy.cpu_sigma_j"
	EnergyPerTokenJ    = "wattline.energy.joules_per_token"
	EnergyMeanPowerW   = "wattline.energy.gpu_mean_w"
	EnergyPowerLimitW  = "wattline.energy.gpu_power_limit_w"
)

// Span names that are not made of a method or an operation, and the event at the first token.
const (
	SpanLoad    = "load"
	SpanQueue   = "queue"
	SpanPrefill = "prefill"
	SpanDecode  = "decode"
	EventFirst  = "first token"
)

// Metric attributes of our own.
const (
	Statistic = "wattline.statistic" // which figure of a request's own distribution
	Phase     = "wattline.phase"
	TokenKind = "wattline.token.kind"
	Quality   = "wattline.energy.quality"
	Unread    = "wattline.unread"
	RowKind   = "wattline.row.kind"
	Result    = "wattline.result"
	Watched   = "wattline.monitor.metric"
	Signal    = "wattline.signal"
	Account   = "wattline.account"
)

// Other replaces the values above the limit, of attributes that clients can choose.
const Other = "other"

// Metrics of the conventions.
const (
	MetricRequestDuration = "gen_ai.server.request.duration"
	MetricTTFT            = "gen_ai.server.time_to_first_token"
	MetricTPOT            = "gen_ai.server.time_per_output_token"
	MetricTokenUsage      = "gen_ai.client.token.usage" //nolint:gosec // a name, no secret
	MetricHWEnergy        = "hw.energy"
	MetricHWPower         = "hw.power"
	MetricHWTemperature   = "hw.temperature"
	MetricHWMemory        = "hw.gpu.memory.usage"
	MetricHWUtilization   = "hw.gpu.utilization"
	MetricCPUTime         = "process.cpu.time"
	MetricMemory          = "process.memory.usage"
)

// Metrics of our own.
const (
	MetricRequests       = "wattline.requests"
	MetricPhase          = "wattline.request.phase.duration"
	MetricITL            = "wattline.request.inter_token"
	MetricStalls         = "wattline.request.stalls"
	MetricTokens         = "wattline.tokens"
	MetricAgentRequests  = "wattline.agent.requests"
	MetricAgentTTFT      = "wattline.agent.time_to_first_token"
	MetricAgentTokens    = "wattline.agent.tokens" //nolint:gosec // a name, no secret
	MetricAgentEnergy    = "wattline.agent.energy"
	MetricOverhead       = "wattline.proxy.overhead"
	MetricMeterFailures  = "wattline.meter.failures"
	MetricDisputed       = "wattline.meter.disputed"
	MetricUnread         = "wattline.meter.unread"
	MetricEnergy         = "wattline.request.energy"
	MetricDeviceShare    = "wattline.request.device.energy"
	MetricEnergyPerToken = "wattline.request.energy_per_token"
	MetricSettled        = "wattline.requests.settled"
	MetricLedger         = "wattline.ledger.energy"
	MetricLedgerEvents   = "wattline.ledger.events"
	MetricPowerLimit     = "wattline.device.power.limit"
	MetricThrottled      = "wattline.device.throttled"

	MetricReadable      = "wattline.device.readable"
	MetricAgreement     = "wattline.sampler.agreement"
	MetricSamplerEvents = "wattline.sampler.events"
	MetricSamplerCPU    = "wattline.sampler.cpu.time"
	MetricSlotLooks     = "wattline.slots.looks"
	MetricSlotTime      = "wattline.slots.time"
	MetricSlotBytes     = "wattline.slots.read"
	MetricSlotRequests  = "wattline.slots.requests"

	MetricInFlight      = "wattline.requests.in_flight"
	MetricConnections   = "wattline.connections"
	MetricQueueRows     = "wattline.queue.rows"
	MetricQueueOffered  = "wattline.queue.offered"
	MetricQueueDropped  = "wattline.queue.dropped"
	MetricQueueLost     = "wattline.queue.lost"
	MetricStoreErrors   = "wattline.store.errors"
	MetricStoreLost     = "wattline.store.lost"
	MetricOutboxRows    = "wattline.outbox.rows"
	MetricOutboxAge     = "wattline.outbox.age"
	MetricOTLP          = "wattline.otlp.items"
	MetricOTLPWaiting   = "wattline.otlp.waiting" //nolint:gosec // a name, no secret
	MetricMonitorRatio  = "wattline.monitor.ratio"
	MetricMonitorAlarms = "wattline.monitor.alarms"
	MetricCapped        = "wattline.attributes.capped"
	MetricGoroutines    = "wattline.goroutines" // go.goroutine.count would end in a suffix that Prometheus keeps for histograms
)
