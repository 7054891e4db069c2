package term

import (
	"database/sql"
	"fmt"
	"io"
	"time"

	"wattline/meter"
	"wattline/replay/table"
	"wattline/sink/queries"
)

// energyUnits suit a number of kWh.
func energyUnit(kwh float64) (factor float64, name string) {
	switch {
	case kwh >= 1:
		return 1, "kWh"
	case kwh >= 1e-3:
		return 1e3, "Wh"
	}
	return 1e6, "mWh"
}

// Usage prints a line per group of requests. currency is for the heading and may be empty.
func Usage(w io.Writer, u *queries.Usage, currency string) {
	cost := "cost"
	if currency != "" {
		cost += " " + currency
	}
	factor, unit := energyUnit(u.Total.EnergyKWh.V)
	energy := func(kwh sql.Null[float64]) string {
		kwh.V *= factor
		return nullFloat(kwh)
	}
	var head []any
	for _, by := range u.By {
		head = append(head, by)
	}
	t := table.New(w, append(head, "requests", "in", "cached", "out", unit, "± "+unit, "share", "idle share", cost, "ttft p50 ms")...)
	line := func(keys []any, g queries.UsageGroup) {
		t.Row(append(keys,
			g.Requests, table.Count(meter.Int(g.InTokens)), table.Count(meter.Int(g.CachedTokens)), table.Count(meter.Int(g.OutTokens)),
			energy(g.EnergyKWh), energy(g.SigmaKWh), percent(g.EnergyKWh, u.Total.EnergyKWh), percent(g.IdleKWh, g.EnergyKWh), nullFloat(g.Cost), nullFloat(g.TTFTms),
		)...)
	}
	named := func(name string) []any {
		keys := make([]any, len(u.By))
		for i := range keys {
			keys[i] = ""
		}
		keys[0] = name
		return keys
	}
	for _, g := range u.Groups {
		var keys []any
		for _, k := range g.Keys {
			keys = append(keys, table.OrAbsent(k.V))
		}
		line(keys, g)
	}
	line(named("all"), u.Total)
	t.Row(append(named("idle"), "", "", "", "", energy(u.IdleKWh), energy(u.IdleSigmaKWh))...)
	t.Row(append(named("residual"), "", "", "", "", energy(u.ResidualKWh))...)
	var right []int
	for i := range 10 {
		right = append(right, len(u.By)+1+i)
	}
	t.AlignRight(right...)
	t.Render()
	period := "Since " + u.Since.Format(time.DateTime)
	if !u.Until.IsZero() {
		period = fmt.Sprintf("From %s to %s", u.Since.Format(time.DateTime), u.Until.Format(time.DateTime))
	}
	fmt.Fprintf(w, "\n%s. The GPU energy is known for %d of %d requests; idle: nothing in flight; residual: charged to no request.\n", period, u.Total.Measured, u.Total.Requests)
	if u.Others > 0 {
		fmt.Fprintf(w, "%d other calls (housekeeping, replay's own) are left out: --all.\n", u.Others)
	}
	if u.Total.EnergyKWh.Valid && !u.Total.Cost.Valid {
		fmt.Fprintln(w, "No cost: give serve a --price-per-kwh and --currency.")
	}
	if n := u.Total.Simulated.V; n > 0 {
		fmt.Fprintf(w, "SIMULATED: the energy of %d of the requests is from a simulated device.\n", n)
	}
}

// percent is a part of a whole.
func percent(part, whole sql.Null[float64]) string {
	if !part.Valid || !whole.Valid || whole.V == 0 {
		return table.Absent
	}
	return table.Number(100*part.V/whole.V) + " %"
}
