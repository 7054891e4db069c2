package selftest

import (
	"fmt"
	"io"

	"wattline/replay"
	"wattline/replay/table"
)

// Print writes a table of floors.
func Print(w io.Writer, floors []Floor, told Told) error {
	fmt.Fprintf(w, "An upstream was told to give the first token after %v and the others every %v. What the client measured, less that, in ms:\n\n", told.FirstToken, told.Gap)
	t := table.NewNumeric(w, "load", "requests", "ttft median", "p99", "itl median", "p99", "sent late, median", "p99", "client CPU %", "us per event")
	for _, f := range floors {
		t.Row(f.Load, f.Requests, number(f.TTFT.Median), number(f.TTFT.P99), number(f.ITL.Median), number(f.ITL.P99),
			number(f.Schedule.Median), number(f.Schedule.P99), number(f.CPUPercent), number(f.CPUUsEvent))
	}
	t.Render()
	_, err := fmt.Fprintln(w, "\nThe upstream's own timers and both processes' scheduling are in these figures: they bound the client's error from above.")
	return err
}

// number prints n, or a dash where it was not obtained.
func number(n replay.Num) string {
	if !n.Valid {
		return table.Absent
	}
	return table.Number(n.V)
}
