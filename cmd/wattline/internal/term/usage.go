package term

import (
	"fmt"
	"io"
	"time"

	"wattline/meter"
	"wattline/replay/table"
	"wattline/sink/queries"
)

// Usage prints a line per group of requests. currency is for the heading and may be empty.
func Usage(w io.Writer, u *queries.Usage, currency string) {
	cost := "cost"
	if currency != "" {
		cost += " " + currency
	}
	t := table.New(w, u.By, "requests", "in", "cached", "out", "kWh", "± kWh", "idle share", cost, "ttft p50 ms")
	line := func(name string, g queries.UsageGroup) {
		t.Row(
			name, g.Requests, table.Count(meter.Int(g.InTokens)), table.Count(meter.Int(g.CachedTokens)), table.Count(meter.Int(g.OutTokens)),
			nullFloat(g.EnergyKWh), nullFloat(g.SigmaKWh), idleShare(g), nullFloat(g.Cost), nullFloat(g.TTFTms),
		)
	}
	for _, g := range u.Groups {
		line(table.OrAbsent(g.Key.V), g)
	}
	line("all", u.Total)
	t.Row("idle", "", "", "", "", nullFloat(u.IdleKWh), nullFloat(u.IdleSigmaKWh))
	t.Row("residual", "", "", "", "", nullFloat(u.ResidualKWh))
	t.AlignRight(2, 3, 4, 5, 6, 7, 8, 9, 10)
	t.Render()
	fmt.Fprintf(w, "\nSince %s. kWh is the GPU energy of the requests, known for %d of %d; idle: nothing in flight; residual: charged to no request.\n",
		u.Since.Local().Format(time.DateTime), u.Total.Measured, u.Total.Requests)
	if n := u.Total.Simulated.V; n > 0 {
		fmt.Fprintf(w, "SIMULATED: the energy of %d of the requests is from a simulated device.\n", n)
	}
}

// idleShare returns the share of a group's energy that is idle draw.
func idleShare(g queries.UsageGroup) string {
	if !g.IdleKWh.Valid || !g.EnergyKWh.Valid || g.EnergyKWh.V == 0 {
		return table.Absent
	}
	return table.Number(100*g.IdleKWh.V/g.EnergyKWh.V) + " %"
}
