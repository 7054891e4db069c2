package compare

import (
	"fmt"
	"slices"
	"strings"

	"wattline/meter"
	"wattline/replay"
)

// metric is one figure by which A and B are compared.
type metric struct {
	key, title, unit string
	lower            bool // lower is better
	exchange         func(e *replay.Exchange, concurrency int) replay.Num
	record           func(r *meter.Record) replay.Num
	peak             bool // one value a trial: the highest
}

//nolint:gochecknoglobals // a constant table
var metrics = []metric{
	{"ttft", "time to first token", "ms", true,
		func(e *replay.Exchange, _ int) replay.Num { return number(e.TTFTUs).Times(1e-3) },
		func(r *meter.Record) replay.Num { return number(r.TTFTUs).Times(1e-3) }, false},
	{"decode", "decode speed", "tokens/s", false,
		func(e *replay.Exchange, _ int) replay.Num { return e.DecodeTPS() }, decodeTPS, false},
	{"prefill", "prefill speed", "tokens/s", false,
		func(e *replay.Exchange, concurrency int) replay.Num { return e.PrefillTPS(concurrency) }, prefillTPS, false},
	{"e2e", "end-to-end time", "ms", true,
		func(e *replay.Exchange, _ int) replay.Num { return number(e.EndUs).Times(1e-3) },
		func(r *meter.Record) replay.Num { return number(r.DurationUs).Times(1e-3) }, false},
	{"j_per_token", "energy", "J/token", true, inLine(joulesPerToken), joulesPerToken, false},
	{"tokens_per_watt", "efficiency", "tokens/W", false, inLine(replay.TokensPerWatt), replay.TokensPerWatt, false},
	{"vram", "peak VRAM", "GB", true, nil, func(r *meter.Record) replay.Num { return number(r.VRAMBytes).Times(1e-9) }, true},
}

// Metrics are the keys of what is compared.
func Metrics() (keys []string) {
	for _, m := range metrics {
		keys = append(keys, m.key)
	}
	return keys
}

// CheckMetrics returns an error for a key that no metric has.
func CheckMetrics(keys []string) error {
	for _, k := range keys {
		if !slices.Contains(Metrics(), k) {
			return fmt.Errorf("there is no metric %q; there are: %s", k, strings.Join(Metrics(), ", "))
		}
	}
	return nil
}

func inLine(f func(*meter.Record) replay.Num) func(*replay.Exchange, int) replay.Num {
	return func(e *replay.Exchange, _ int) replay.Num {
		if e.InLine == nil {
			return replay.Num{}
		}
		return f(e.InLine)
	}
}

func joulesPerToken(r *meter.Record) replay.Num {
	return replay.Ratio(replay.Some(1), replay.TokensPerJoule(r))
}

// decodeTPS is (n - 1) ÷ decode time, of replies whose decode took 2 ms or more.
func decodeTPS(r *meter.Record) replay.Num {
	if r.OutputTokens.V < 2 || r.DecodeUs.V < 2000 {
		return replay.Num{}
	}
	return replay.Some(float64(r.OutputTokens.V-1) / float64(r.DecodeUs.V) * 1e6)
}

// prefillTPS is new prompt tokens ÷ prefill time, of requests that were alone.
func prefillTPS(r *meter.Record) replay.Num {
	if !r.MeanConcurrency.Valid || r.MeanConcurrency.V > 1000 || !r.PromptTokens.Valid {
		return replay.Num{}
	}
	return replay.Ratio(replay.Some(float64(r.PromptTokens.V-r.CachedTokens.V)), number(r.PrefillUs).Times(1e-6))
}

func number(v meter.Int) replay.Num {
	if !v.Valid {
		return replay.Num{}
	}
	return replay.Some(float64(v.V))
}
