package selftest

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"wattline/replay"
)

// Print writes a table of floors.
func Print(w io.Writer, floors []Floor, told Told) error {
	fmt.Fprintf(w, "An upstream was told to give the first token after %v and the others every %v. What the client measured, less that, in ms:\n\n", told.FirstToken, told.Gap)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "load\trequests\tttft median\tp99\titl median\tp99\tsent late, median\tp99\tclient CPU\tper event\t")
	for _, f := range floors {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s %%\t%s us\t\n", f.Load, f.Requests, three(f.TTFT.Median), three(f.TTFT.P99),
			three(f.ITL.Median), three(f.ITL.P99), three(f.Schedule.Median), three(f.Schedule.P99), three(f.CPUPercent), three(f.CPUUsEvent))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\nThe upstream's own timers and both processes' scheduling are in these figures: they bound the client's error from above.")
	return err
}

// three significant digits, or - where there is nothing.
func three(n replay.Num) string {
	if !n.Valid {
		return "-"
	}
	f, err := strconv.ParseFloat(strconv.FormatFloat(n.V, 'g', 3, 64), 64)
	if err != nil {
		return "-"
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
