package attribution

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"

	"wattline/meter"
)

// Total is the energy of a device. The requests', the idle and the residual part sum to the counter's delta.
type Total struct {
	Device         string `json:"device"`
	CounterDeltaUJ int64  `json:"counter_delta_uj"`
	RequestsUJ     int64  `json:"requests_uj"`
	IdleUJ         int64  `json:"idle_uj"`
	ResidualUJ     int64  `json:"residual_uj"`
}

// Total is the ledger's balance under the rule of the rows.
func (r *Recording) Total(got *Attributed, rule string) Total {
	b := got.Balance
	n := Total{Device: cmp.Or(r.Opening.Device, "0"), CounterDeltaUJ: b.Counter, RequestsUJ: b.Phase, IdleUJ: b.Idle}
	switch rule {
	case "time":
		n.RequestsUJ = b.Time
	case "token":
		n.RequestsUJ = b.Token
	}
	n.ResidualUJ = n.CounterDeltaUJ - n.RequestsUJ - n.IdleUJ
	return n
}

// energyColumns are the columns that WriteJSON prints, in the order of meter.Columns.
func energyColumns() []meter.Column {
	all := meter.Columns()
	var out []meter.Column
	for _, c := range all {
		switch c.Name {
		case "gpu_uj", "gpu_active_uj", "gpu_idle_uj", "gpu_idle_held_uj", "gpu_idle_waiting_uj", "gpu_prefill_uj", "gpu_decode_uj", "gpu_estimate_uj",
			"gpu_sigma_uj", "gpu_active_sigma_uj", "gpu_time_uj", "gpu_token_uj",
			"energy_quality", "energy_method", "energy_source", "gpu_mean_mw":
			out = append(out, c)
		}
	}
	return out
}

// WriteJSON writes one JSON object per request, in the order of the requests, and one for the ledger.
func (r *Recording) WriteJSON(w io.Writer, got *Attributed, rule string) error {
	for i := range got.Rows {
		row := &got.Rows[i]
		tag, err := json.Marshal(r.Traffic.Requests[i].Tag)
		if err != nil {
			return err
		}
		line := fmt.Appendf(nil, `{"i":%d,"tag":%s`, i, tag)
		for _, c := range energyColumns() {
			v := []byte("null")
			if !c.Null(row) {
				if v, err = json.Marshal(c.Ptr(row)); err != nil {
					return err
				}
			}
			line = fmt.Appendf(line, `,%q:%s`, c.Name, v)
		}
		if _, err := w.Write(append(line, '}', '\n')); err != nil {
			return err
		}
	}
	return json.NewEncoder(w).Encode(map[string]Total{"ledger": r.Total(got, rule)})
}
