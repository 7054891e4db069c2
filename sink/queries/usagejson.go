package queries

import (
	"database/sql"
	"encoding/json"
	"io"
	"strings"
)

// UsageLine is one line of `wattline usage --json` and one object of /api/usage. Kind is group, all, idle or residual.
type UsageLine struct {
	Kind         string   `json:"kind"`
	By           string   `json:"by"`
	Key          *string  `json:"key"`
	Requests     *int64   `json:"requests"`
	PromptTokens *int64   `json:"prompt_tokens"`
	CachedTokens *int64   `json:"cached_tokens"`
	OutputTokens *int64   `json:"output_tokens"`
	Measured     *int64   `json:"requests_with_energy"`
	EnergyKWh    *float64 `json:"energy_kwh"`
	SigmaKWh     *float64 `json:"sigma_kwh"`
	IdleKWh      *float64 `json:"idle_share_kwh"`
	Cost         *float64 `json:"cost"`
	TTFTms       *float64 `json:"ttft_p50_ms"`
	Simulated    *int64   `json:"requests_simulated"`
}

// Lines are the groups, all of them together, idle and residual.
func (u *Usage) Lines() []UsageLine {
	by := strings.Join(u.By, ",")
	line := func(kind string, g UsageGroup) UsageLine {
		return UsageLine{
			kind, by, pointer(g.Key), &g.Requests, pointer(g.InTokens), pointer(g.CachedTokens), pointer(g.OutTokens), &g.Measured,
			pointer(g.EnergyKWh), pointer(g.SigmaKWh), pointer(g.IdleKWh), pointer(g.Cost), pointer(g.TTFTms), pointer(g.Simulated),
		}
	}
	lines := make([]UsageLine, 0, len(u.Groups)+3)
	for _, g := range u.Groups {
		lines = append(lines, line("group", g))
	}
	lines = append(lines, line("all", u.Total),
		UsageLine{Kind: "idle", By: by, EnergyKWh: pointer(u.IdleKWh), SigmaKWh: pointer(u.IdleSigmaKWh)},
		UsageLine{Kind: "residual", By: by, EnergyKWh: pointer(u.ResidualKWh)})
	return lines
}

// WriteJSON writes one JSON object a line.
func (u *Usage) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, l := range u.Lines() {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

// pointer returns nil for null, so that encoding/json writes null.
func pointer[T any](v sql.Null[T]) *T {
	if !v.Valid {
		return nil
	}
	return &v.V
}
