package energy

import "time"

// Coefficients holds the cost of work on one device with one model, learnt while the ledger runs. Marshal it as JSON to
// save it; give it to AddUpstream to start from it. Energies are active (above idle) microjoules.
type Coefficients struct {
	PrefillUJ   float64 `json:"prefill_uj_per_token"`        // a: a prompt token at position 0
	FixedUJ     float64 `json:"prefill_uj"`                  // f: a prompt, however short
	PositionUJ  float64 `json:"prefill_uj_per_token_per_1k"` // b: more per prompt token for each 1,000 tokens before it
	StepUJ      float64 `json:"decode_uj_per_step"`          // e0: one read of the weights, shared by requests that decode together
	TokenUJ     float64 `json:"decode_uj_per_token"`         // c: a generated token
	ContextUJ   float64 `json:"decode_uj_per_token_per_1k"`  // k: more per generated token for each 1,000 tokens of context
	PeakMW      float64 `json:"prefill_peak_mw"`             // highest active power seen in a prefill
	DecodeMW    float64 `json:"decode_mw"`                   // usual active power of one decoding request
	Unified     bool    `json:"kv_unified"`                  // one read of the weights serves all decoders; else one for each run of adjacent slots
	SharedCache bool    `json:"kv_shared"`                   // and a token attends to the cells of all slots
	Rho         float64 `json:"rho"`                         // relative rms error on windows not yet learnt from
	StepTime    int64   `json:"decode_step_ns"`              // length of a decode step
	PromptSpeed float64 `json:"prompt_tokens_per_s"`         // of a prefill that runs alone
	HintTokens  float64 `json:"tokens_per_prompt_hint"`      // prompt tokens per unit of Event.PromptHint
	Decode      int     `json:"decode_windows"`              // runs from which e0, c and k were learnt
	Prefill     int     `json:"prefill_windows"`             // pools from which a, b and f were learnt
}

// defaultCoefficients are an H100's with a 30B mixture of experts. For another device only their proportions matter,
// and only until something was learnt.
func defaultCoefficients() Coefficients {
	return Coefficients{
		PrefillUJ: 34_000, PositionUJ: 5_000,
		StepUJ: 440_000, TokenUJ: 320_000, ContextUJ: 37_000,
	}
}

// Indices of the coefficients of a prompt (promptTerms) and of a decode step (group.terms).
const (
	coefToken    = 0 // a: every new token
	coefPosition = 1 // b: every 1,000 tokens before it
	coefFixed    = 2 // f: a short prompt

	coefStep    = 0 // e0: a read of the weights
	coefDecoded = 1 // c: a generated token
	coefContext = 2 // k: every 1,000 tokens of its context
)

// model is the learnt cost of one upstream's work.
type model struct {
	assumed           sharing                  // by decode
	decode            fit                      // e0, c, k
	candidates        [sharings]candidateModel // the same for every other assumption about what the slots share
	prefill           fit                      // a, b
	stepTime          float64                  // ns, of decode steps while no request prefills
	promptSpeed       float64                  // prompt tokens per ns of a lone prefill; learnt in front
	tokensPerHintUnit float64                  // tokens per unit of PromptHint; learnt in front
}

func newModel(c Coefficients, s sharing) model {
	d := defaultCoefficients()
	if c.Decode > 0 {
		d.StepUJ, d.TokenUJ, d.ContextUJ = c.StepUJ, c.TokenUJ, c.ContextUJ
	}
	if c.Prefill > 0 {
		d.PrefillUJ, d.PositionUJ, d.FixedUJ = c.PrefillUJ, c.PositionUJ, c.FixedUJ
	}
	m := model{stepTime: float64(c.StepTime), promptSpeed: c.PromptSpeed / 1e9, tokensPerHintUnit: c.HintTokens}
	m.decode.start([unknowns]float64{coefStep: d.StepUJ, coefDecoded: d.TokenUJ, coefContext: d.ContextUJ}, c.Decode, c.Rho)
	for i := range m.candidates {
		m.candidates[i].fit = m.decode
	}
	m.assumed = s
	m.prefill.optional[coefFixed] = 100 // tokens
	m.prefill.start([unknowns]float64{coefToken: d.PrefillUJ, coefPosition: d.PositionUJ, coefFixed: d.FixedUJ}, c.Prefill, c.Rho)
	return m
}

func (m *model) coefficients() Coefficients {
	d, p := m.decode.coef, m.prefill.coef
	return Coefficients{
		PrefillUJ: p[coefToken], PositionUJ: p[coefPosition], FixedUJ: p[coefFixed],
		StepUJ: d[coefStep], TokenUJ: d[coefDecoded], ContextUJ: d[coefContext],
		Rho: m.decode.relError(), StepTime: int64(m.stepTime),
		PromptSpeed: m.promptSpeed * 1e9, HintTokens: m.tokensPerHintUnit,
		Decode: m.decode.observed, Prefill: m.prefill.observed,
	}
}

// shortPrompt is how many tokens fill the device: in a smaller batch a token costs more (measured on an H100: 7.5 J
// more than a n for 300 tokens, 4.6 for 600, 1 for 1,000).
const shortPrompt = 1000

// promptTerms are the regressors of a prompt: its new tokens, the sum of their positions / 1000, and how short it is.
func promptTerms(prompt, cached int64) [unknowns]float64 {
	p, c := float64(prompt), float64(cached)
	if p <= c {
		return [unknowns]float64{}
	}
	return [unknowns]float64{coefToken: p - c, coefPosition: (p*p - c*c) / 2000, coefFixed: max(0, 1-(p-c)/shortPrompt)}
}

// prefillTime guesses how long a lone prefill of that many tokens lasts, for a prompt with an end that is not seen.
func (m *model) prefillTime(tokens int64) time.Duration {
	speed := m.promptSpeed
	if speed == 0 {
		speed = 1000 / 1e9
	}
	return time.Duration(float64(tokens) / speed)
}

func dot(x, t [unknowns]float64) float64 { return x[0]*t[0] + x[1]*t[1] + x[2]*t[2] }

// tokensPerHint is the learnt number of prompt tokens per unit of PromptHint.
func (m *model) tokensPerHint() float64 {
	if m.tokensPerHintUnit == 0 {
		return 0.25 // English text in bytes, until a count is known
	}
	return m.tokensPerHintUnit
}

// learnPrompt learns tokens per hint and tokens per second from a request's known counts.
func (m *model) learnPrompt(r *request, c Counts) {
	const gain = 0.1
	if r.hint > 0 && c.PromptTokens > 0 {
		m.tokensPerHintUnit = approach(m.tokensPerHintUnit, float64(c.PromptTokens)/float64(r.hint), gain)
	}
	if fresh := c.PromptTokens - c.CachedTokens; r.segAlone && fresh >= 64 && r.segFirst > r.segStart {
		m.promptSpeed = approach(m.promptSpeed, float64(fresh)/float64(r.segFirst-r.segStart), gain)
	}
}

// approach moves an average towards v; the first value replaces the zero.
func approach(avg, v, gain float64) float64 {
	if avg == 0 {
		return v
	}
	return avg + gain*(v-avg)
}
