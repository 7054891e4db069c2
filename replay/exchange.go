package replay

import (
	"time"

	"wattline/meter"
)

// Exchange is one request as the client saw it: one line of requests.jsonl. Times are microseconds after
// StartedAt, when the first byte was about to be written; null is "did not happen".
type Exchange struct {
	Key
	Warmup bool `json:"warmup,omitempty"`
	Cell   Cell `json:"asked"`

	ScheduledAt time.Time `json:"scheduled_at,omitzero"` // open loop: when it was to be sent
	StartedAt   time.Time `json:"started_at"`
	StartedMono time.Time `json:"-"`      // the same by the monotonic clock, for comparisons within this process
	LagUs       meter.Int `json:"lag_us"` // StartedAt - ScheduledAt
	// ShiftUs is ScheduledAt minus the trace's own moment: earlier turns ended sooner or later than recorded, or
	// --concurrency held it back. Null: no trace.
	ShiftUs meter.Int `json:"shift_us,omitzero"`
	// Cancelled: the client left where the trace's did. That is neither an answer nor an error.
	Cancelled bool `json:"cancelled,omitempty"`

	ConnectedUs meter.Int `json:"connected_us"` // a connection was there
	SentUs      meter.Int `json:"sent_us"`      // the request was written
	HeadUs      meter.Int `json:"head_us"`      // first byte of the reply
	TTFTUs      meter.Int `json:"ttft_us"`      // first event with generated output
	TTFOUs      meter.Int `json:"ttfo_us"`      // first output that is not reasoning
	LastUs      meter.Int `json:"last_us"`      // last event with generated output
	EndUs       meter.Int `json:"end_us"`       // end of the reply

	ITLP50Us meter.Int `json:"itl_p50_us"`
	ITLP90Us meter.Int `json:"itl_p90_us"`
	ITLP99Us meter.Int `json:"itl_p99_us"`
	ITLMaxUs meter.Int `json:"itl_max_us"`
	// GapsUs are the gaps between events with output, in memory only.
	GapsUs []int64 `json:"-"`

	Status       int    `json:"status"`
	Error        string `json:"error,omitempty"`
	Retries      int    `json:"retries,omitempty"` // 503 while the model was loading
	FinishReason string `json:"finish_reason,omitempty"`
	Model        string `json:"model,omitempty"`
	Events       int    `json:"events"` // with generated output; not tokens

	// What the server said at the end.
	OutputTokens meter.Int `json:"output_tokens"`
	TokenSource  string    `json:"token_source,omitempty"` // usage or timings
	PromptN      meter.Int `json:"prompt_n"`               // prompt tokens evaluated
	CacheN       meter.Int `json:"cache_n"`                // prompt tokens reused
	PromptMs     Num       `json:"prompt_ms"`
	PredictedMs  Num       `json:"predicted_ms"`

	// Reply is the tokens of the reply, in memory and only if they were asked for.
	Reply []int `json:"-"`

	// Where wattline stood in between: its id of the request, its admin listener, its row.
	RowID  string        `json:"row_id,omitempty"`
	Admin  string        `json:"admin,omitempty"`
	InLine *meter.Record `json:"in_line,omitempty"`
}

// OK reports whether the request was answered to its end.
func (e *Exchange) OK() bool { return e.Error == "" && e.Status == 200 && !e.Cancelled }

// Failed reports whether the request was neither answered nor cancelled as the trace's was.
func (e *Exchange) Failed() bool { return !e.OK() && !e.Cancelled }

// PromptTokens is the server's count of the prompt: evaluated and reused.
func (e *Exchange) PromptTokens() meter.Int {
	if !e.PromptN.Valid || !e.CacheN.Valid {
		return meter.Int{}
	}
	return meter.Some(e.PromptN.V + e.CacheN.V)
}

// TokensPerSecond is output tokens ÷ (last output - start).
func (e *Exchange) TokensPerSecond() Num {
	return Ratio(num(e.OutputTokens), num(e.LastUs).Times(1e-6))
}

// measurableUs is the shortest decode that the client can time: each of its two stamps may be a
// millisecond late. A reply that came in one or two reads has no speed of its own.
const measurableUs = 2000

// TPOTUs is (Tn - T1)/(n - 1), microseconds, for two tokens or more and a decode of 2 ms or more.
func (e *Exchange) TPOTUs() Num {
	if !e.OutputTokens.Valid || e.OutputTokens.V < 2 || !e.LastUs.Valid || !e.TTFTUs.Valid || e.LastUs.V-e.TTFTUs.V < measurableUs {
		return Num{}
	}
	return Some(float64(e.LastUs.V-e.TTFTUs.V) / float64(e.OutputTokens.V-1))
}

// DecodeTPS is 1/tpot, tokens a second.
func (e *Exchange) DecodeTPS() Num { return Ratio(Some(1e6), e.TPOTUs()) }

func num(i meter.Int) Num {
	if !i.Valid {
		return Num{}
	}
	return Some(float64(i.V))
}
