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
		t.Row(f.Load, f.Requests, table.Num(f.TTFT.Median), table.Num(f.TTFT.P99), table.Num(f.ITL.Median), table.Num(f.ITL.P99),
			table.Num(f.Schedule.Median), table.Num(f.Schedule.P99), table.Num(f.CPUPercent), table.Num(f.CPUUsEvent))
	}
	t.Render()
	_, err := fmt.Fprintln(w, "\nThe upstream's timers and the scheduling of both processes are included: this is an upper bound of the client's error.")
	return err
}
