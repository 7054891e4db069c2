package replay

import (
	"encoding/json"
	"fmt"
	"time"
)

// Results are the figures of a run. Its first keys and their nesting are the benchmarking guide's;
// everything else stands beside them. It is written compact, in this order, so that the guide's
//
//	grep -o '"tokens_per_second":[0-9.]*' results.json | head -1
//
// (and the same for tokens_per_watt and time_to_first_token_ms) prints the headline figures.
type Results struct {
	Timestamp     time.Time  `json:"timestamp"`
	Model         string     `json:"model"`
	PromptsTested int        `json:"prompts_tested"` // measured requests that were answered
	Throughput    Throughput `json:"throughput"`
	Energy        Energy     `json:"energy"`
	Latency       Latency    `json:"latency"`

	Valid     bool         `json:"valid"`
	Checks    []Check      `json:"checks"`
	Memory    Memory       `json:"memory"`
	Device    Device       `json:"device"`
	Stability Stability    `json:"stability"`
	InLine    InLine       `json:"in_line"`
	Cells     []CellResult `json:"cells"`
	Series    []Series     `json:"series"`
	Goodput   *Goodput     `json:"goodput"` // null without objectives

	Errors      int               `json:"errors"`
	Cancelled   int               `json:"cancelled,omitempty"` // as the trace's clients left
	ClientCPUS  Num               `json:"client_cpu_s"`        // the client's own CPU time while cells ran
	Workload    Workload          `json:"workload"`
	Server      *Server           `json:"server"`
	Definitions map[string]string `json:"definitions"`
}

// Throughput is tokens a second, over all measured requests.
type Throughput struct {
	TokensPerSecond     Num `json:"tokens_per_second"` // the headline: the mean
	MeanTokensPerSecond Num `json:"mean_tokens_per_second"`
	MinTokensPerSecond  Num `json:"min_tokens_per_second"`
	MaxTokensPerSecond  Num `json:"max_tokens_per_second"`

	DecodeTokensPerSecond  Num `json:"decode_tokens_per_second"`
	PrefillTokensPerSecond Num `json:"prefill_tokens_per_second"`
	SystemTokensPerSecond  Num `json:"system_tokens_per_second"`
}

// Energy of a run. GPUEnergyWh is everything that the cards drew while the cells ran and in the half second behind them,
// idle included; the others hold what wattline attributed to the requests, which is part of it.
type Energy struct {
	TokensPerWatt     Num `json:"tokens_per_watt"` // the headline: the mean
	MeanTokensPerWatt Num `json:"mean_tokens_per_watt"`
	GPUEnergyWh       Num `json:"gpu_energy_wh"`
	CPUEnergyWh       Num `json:"cpu_energy_wh"`

	TokensPerJoule        Num            `json:"tokens_per_joule"`
	JoulesPerToken        Num            `json:"joules_per_token"`
	PrefillJoulesPerToken Num            `json:"prefill_j_per_token"`
	DecodeJoulesPerToken  Num            `json:"decode_j_per_token"`
	GPUAttributedWh       Num            `json:"gpu_attributed_wh"`
	GPUActiveWh           Num            `json:"gpu_active_wh"`
	GPUIdleWh             Num            `json:"gpu_idle_wh"`
	GPUWaitingWh          Num            `json:"gpu_idle_waiting_wh"`
	GPUAttributedSigmaWh  Num            `json:"gpu_attributed_sigma_wh"`
	Source                string         `json:"source"`  // of gpu_energy_wh; empty: not measured
	Quality               map[string]int `json:"quality"` // rows by energy_quality
	// Simulated: the joules are a simulated card's; nothing was measured.
	Simulated bool `json:"simulated"`
}

// Latency of the measured requests, milliseconds.
type Latency struct {
	TimeToFirstTokenMs Num  `json:"time_to_first_token_ms"` // mean
	GenerationTimeMs   Num  `json:"generation_time_ms"`     // mean, start to last token
	TTFT               Stat `json:"ttft"`
	TTFO               Stat `json:"ttfo"`
	TPOT               Stat `json:"tpot"`
	ITL                Stat `json:"itl"`                  // all gaps of all requests
	ScheduledTTFT      Stat `json:"ttft_from_schedule"`   // open loop only
	Lag                Stat `json:"behind_schedule"`      // open loop only
	Shift              Stat `json:"behind_trace"`         // of a trace: due later than recorded
	ServerPromptMs     Num  `json:"server_prompt_ms"`     // mean of the server's own prompt_ms
	ServerPredictedMs  Num  `json:"server_predicted_ms"`  // and predicted_ms
	RequestsPerSecond  Num  `json:"requests_per_second"`  // answered, over the time in which cells ran
	MeanRequestsActive Num  `json:"mean_requests_active"` // as the client saw it
}

// Memory is the highest seen in a row.
type Memory struct {
	VRAMBytes Num `json:"vram_bytes"`
	RAMBytes  Num `json:"ram_bytes"`
}

// CellResult is one cell's results over all trials. Milliseconds, tokens a second.
type CellResult struct {
	Cell
	Requests        int       `json:"requests"`
	Errors          int       `json:"errors"`
	TTFTMs          Stat      `json:"ttft_ms"`
	GenerationMs    Stat      `json:"generation_ms"`
	TokensPerSecond Stat      `json:"cell_tokens_per_second"`
	DecodeTPS       Stat      `json:"decode_tps"`
	PrefillTPS      Stat      `json:"prefill_tps"`
	TPOTMs          Stat      `json:"tpot_ms"`
	ITLMs           Stat      `json:"itl_ms"`
	TokensPerWatt   Stat      `json:"cell_tokens_per_watt"`
	TokensPerJoule  Num       `json:"cell_tokens_per_joule"`
	Joules          Stat      `json:"gpu_j"`
	PrefillJ        Stat      `json:"gpu_prefill_j"`
	DecodeJ         Stat      `json:"gpu_decode_j"`
	IdleJ           Stat      `json:"gpu_idle_j"`
	WaitingJ        Stat      `json:"gpu_idle_waiting_j"`
	JoulesSigma     Num       `json:"gpu_sigma_j"` // of the mean of Joules
	Waterfall       Waterfall `json:"waterfall"`
	TTFTTrials      Spread    `json:"ttft_ms_trials"`
	TPSTrials       Spread    `json:"tokens_per_second_trials"`
	DecodeTrials    Spread    `json:"decode_tps_trials"`
	TPJTrials       Spread    `json:"tokens_per_joule_trials"`
}

// HeldJ is the mean idle draw while a request held its slot; all of the idle share where the rest is not known apart.
func (c *CellResult) HeldJ() Num {
	if !c.IdleJ.Mean.Valid || !c.WaitingJ.Mean.Valid {
		return c.IdleJ.Mean
	}
	return Some(c.IdleJ.Mean.V - c.WaitingJ.Mean.V)
}

// Workload describes what was run.
type Workload struct {
	Name        string        `json:"name"`
	PlanHash    string        `json:"plan_sha256"`
	Corpus      string        `json:"corpus_sha256"`
	Spec        Spec          `json:"spec"`
	Dataset     *Dataset      `json:"dataset,omitempty"`   // null: prompts were generated
	Recording   *Recording    `json:"recording,omitempty"` // null: no trace was sent
	Dropped     []SkippedCell `json:"dropped"`             // did not fit the context
	Skipped     []SkippedCell `json:"skipped"`             // did not fit the budget
	NotIdle     []string      `json:"restless,omitempty"`  // cells after which the device was not idle again in time
	Interrupted bool          `json:"interrupted"`
	Failure     string        `json:"failure,omitempty"`
}

// JSON is the one line that is written to a file.
func (r *Results) JSON() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("replay: results: %w", err)
	}
	return append(b, '\n'), nil
}

// Definitions are the formulas of the figures, printed wherever they are.
func Definitions() map[string]string {
	return map[string]string{ //nolint:gosec // tokens of text, no credentials
		"tokens_per_second":         "output tokens / (last output - start of the request), client; a run's value is the mean over its requests",
		"decode_tokens_per_second":  "1 / tpot, tpot = (last output - first output) / (output tokens - 1), of replies whose decode took 2 ms or more",
		"prefill_tokens_per_second": "the server's prompt_n / prompt_ms, only of requests that were alone",
		"system_tokens_per_second":  "all output tokens / the time in which cells ran",
		"requests_per_second":       "requests answered / the time in which cells ran",
		"time_to_first_token_ms":    "first event with generated output - start of the request, client, mean",
		"generation_time_ms":        "last output - start of the request, client, mean",
		"tokens_per_watt":           "output tokens / (slot joules / (end - slot start)), mean over requests; slot joules: attributed GPU joules without the idle draw while the request waited",
		"tokens_per_joule":          "sum of output tokens / sum of slot joules (= tokens/s/W)",
		"gpu_energy_wh":             "the energy counter's advance while cells ran and 0.5 s behind each, idle draw included",
		"gpu_attributed_wh":         "what the ledger charged to the measured requests, active and idle share",
		"gpu_idle_wh":               "of the attributed energy, the share of the draw at rest",
		"gpu_idle_waiting_wh":       "of the idle share, what was drawn while a request waited and nobody held a slot",
		"output_tokens":             "the server's own count",
		"goodput":                   "requests that kept every objective / the time in which cells ran; one that failed kept none",
		"intervals":                 "quantiles: order statistics, 95 %, null where n allows none; means over trials: 95 % t from five trials on, else min-max",
	}
}
