package meter

import (
	"encoding/json"
	"strings"
	"time"
)

// Int is an integer that may be absent. The zero value is null: "not obtained".
// A measured zero is Some(0); nothing in wattline writes a zero for an unknown.
type Int struct {
	V     int64
	Valid bool
}

// Some returns a present integer.
func Some(v int64) Int { return Int{V: v, Valid: true} }

// MarshalJSON writes the integer, or null when it is absent.
func (i Int) MarshalJSON() ([]byte, error) {
	if !i.Valid {
		return []byte("null"), nil
	}
	return json.Marshal(i.V)
}

// UnmarshalJSON reads an integer or null.
func (i *Int) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*i = Int{}
		return nil
	}
	i.Valid = true
	return json.Unmarshal(b, &i.V)
}

// Outcome says how an exchange ended.
type Outcome string

// The outcomes of an exchange.
const (
	// OK: the upstream ended its reply cleanly and every output byte was written to the client,
	// even if the client left before the last chunk mark.
	OK Outcome = "ok"
	// Cancelled: the client left before the reply was complete.
	Cancelled Outcome = "cancelled"
	// Truncated: the upstream's reply ended before its own framing said so.
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
	TokensFromEvents  = "events" // no final count was told: output_tokens is null, output_events a lower bound
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
	// What was asked of whom, and how it ended.
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

	// Who asked.
	ClientRequestID string
	TraceID         string
	Agent           string
	Session         string
	User            string
	APIKeyID        string
	ClientAddr      string
	Labels          map[string]string

	// When.
	TTFBUs          Int
	TTFTUs          Int
	TTFOUs          Int
	UpstreamTTFTUs  Int
	DurationUs      Int
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

	// How much.
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
	Details             *Details // what was asked and told beside the columns; nil is null

	// GapsUs are the gaps behind the quantiles, in order, where RequestHead.KeepStamps asked for them and
	// the exchange had one completion. They are no column: table itl_gaps has them.
	GapsUs []uint32

	// Energy.
	GPUUj            Int
	GPUActiveUj      Int
	GPUIdleUj        Int
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
	GPUMeanMw        Int
	GPUDevices       []string
	GPUUjByDevice    []int64
	GPUPowerLimitMw  Int
	VRAMBytes        Int
	RAMBytes         Int
	GPUTempC         Int
	PricePerKWhMicro Int
	GCO2PerKWhMilli  Int
}

// Column describes one column: its name in every engine and every JSON object, its unit ("" where
// it has none), and what it means. Ptr returns a pointer to the field: *string, *Outcome, *time.Time,
// *Int, *map[string]string, *[]string, *[]int64 or **Details, which is also how an engine learns the type.
type Column struct {
	Name string
	Unit string
	Doc  string
	Ptr  func(*Record) any
}

// EnergyUj is the request's joules, in uJ: the GPUs', or, of a server without a GPU, the processor's.
func (r *Record) EnergyUj() Int {
	if strings.HasPrefix(r.EnergySource, "rapl/") {
		return r.CPUUj
	}
	return r.GPUUj
}
