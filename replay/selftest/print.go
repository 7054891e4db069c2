package selftest

import (
	"fmt"
	"io"

	"wattline/replay"
	"wattline/replay/table"
)

// Print writes one line a load.
func Print(w io.Writer, loads []replay.Accuracy, want replay.Expected) error {
	fmt.Fprintf(w, "The upstream sends the first token after %v and the others every %v. Measured minus expected, in ms:\n\n", want.FirstToken, want.Gap)
	t := table.NewNumeric(w, "load", "requests", "ttft median", "p99", "itl median", "p99", "sent late, median", "p99", "client CPU %", "us per event")
	for _, f := range loads {
		t.Row(f.Load, f.Requests, number(f.TTFT.Median), number(f.TTFT.P99), number(f.ITL.Median), number(f.ITL.P99),
			number(f.Schedule.Median), number(f.Schedule.P99), number(f.CPUPercent), number(f.CPUUsEvent))
	}
	t.Render()
	_, err := fmt.Fprintln(w, "\nThe upstream's timers and the scheduling of both processes are included: this is an upper bound of the client's error.")
	return err
}

// number prints n, or a dash where it was not obtained.
func number(n replay.Num) string {
	if !n.Valid {
		return table.Absent
	}
	return table.Number(n.V)
}
