package store

import (
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
)

func TestPowerAndLedgerOfASpan(t *testing.T) {
	s := tempStore(t)
	begin := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	rows := &sink.Rows{}
	for i := range 10 {
		at := begin.Add(time.Duration(i) * time.Second)
		rows.Power = append(rows.Power, &sink.Power{At: at, Device: "GPU-0", MeanMw: meter.Some(int64(i)), Throttle: []string{"hw_thermal"}})
		rows.Ledger = append(rows.Ledger, &sink.Ledger{At: at, Device: "GPU-0", CounterUj: meter.Some(int64(i))})
	}
	must(t, s.Write(t.Context(), rows))
	r := tempReader(t, s)
	power, err := r.Power(t.Context(), begin.Add(3*time.Second), begin.Add(6*time.Second))
	must(t, err)
	ledger, err := r.Ledger(t.Context(), begin.Add(3*time.Second), begin.Add(6*time.Second))
	must(t, err)
	if len(power) != 3 || power[0].MeanMw != meter.Some(3) || power[2].MeanMw != meter.Some(5) || power[0].Throttle[0] != "hw_thermal" || power[0].EnergyUj.Valid {
		t.Errorf("power %+v", power)
	}
	if len(ledger) != 3 || ledger[0].CounterUj != meter.Some(3) || !ledger[2].At.Equal(begin.Add(5*time.Second)) {
		t.Errorf("ledger %+v", ledger)
	}
}
