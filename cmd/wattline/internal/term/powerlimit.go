package term

import (
	"fmt"
	"io"

	"wattline/replay"
	"wattline/replay/table"
	"wattline/sink/queries"
)

// PowerLimits prints joules a token by power limit, of the models that have several limits.
func PowerLimits(w io.Writer, list []queries.PowerLimit) {
	count := map[string]int{}
	for _, p := range list {
		count[p.Model]++
	}
	var t *table.Table
	for _, p := range list {
		if count[p.Model] < 2 {
			continue
		}
		if t == nil {
			fmt.Fprintf(w, "\nYour own rows, by power limit (all traffic, whose mix may differ):\n\n")
			t = table.NewNumeric(w, "model", "limit W", "requests", "J/token", "tokens/s")
		}
		t.Row(p.Model, table.Number(p.Watts), p.Requests, table.Num(replay.Some(p.JoulesPerToken)), table.Num(replay.Some(p.TokensPerSecond)))
	}
	if t != nil {
		t.Render()
	}
}
