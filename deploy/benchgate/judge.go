package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// limit is how much more an operation may cost, as a ratio.
const limit = 1.03

// fewBytes is a difference that says nothing: a pool or a map that grew at another moment.
const fewBytes = 16

// ratio is the tree's cost over the base's in pairs, with its interval: the median over the rounds, and the widest bounds of
// order statistics up to 95 % confidence that so many rounds can give.
func (l *line) ratio() benchmath.Summary {
	ratios := make([]float64, len(l.values[inTree]))
	for i, v := range l.values[inTree] {
		switch base := l.values[inBase][i]; {
		case v == base:
			ratios[i] = 1
		case base <= 0:
			ratios[i] = math.Inf(1)
		default:
			ratios[i] = v / base
		}
	}
	best := 1 - math.Pow(0.5, float64(len(ratios)-1)) // of the interval from the lowest to the highest
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(ratios, &benchmath.DefaultThresholds), min(0.95, best-1e-9))
}

func (l *line) center(side int) float64 {
	values := append([]float64(nil), l.values[side]...)
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.5).Center
}

// grown reports whether an operation costs more than the limit allows: the whole interval lies above it.
func (l *line) grown(r benchmath.Summary) bool {
	if l.quantity == "B/op" && l.center(inTree)-l.center(inBase) < fewBytes {
		return false
	}
	return r.Lo > limit
}

// report prints the table, and returns an error if something has grown without a reason.
func report(out io.Writer, lines []*line, reasons map[string]string) error {
	var bad []error
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(lines) > 0 {
		fmt.Fprintln(w, "per\tbenchmark\t\tbase\ttree\tchange\t")
	}
	for _, l := range lines {
		r := l.ratio()
		verdict := ""
		if l.grown(r) {
			what := fmt.Sprintf("%s of %s: more %s per %s (%s)", l.name, l.pkg, l.quantity, l.per, percent(r.Center))
			if why := reasons[l.per]; why != "" {
				verdict = "more than 3 %, and a commit says why: " + why
			} else {
				verdict = "MORE THAN 3 %"
				bad = append(bad, errors.New(what))
			}
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%.0f\t%.0f\t%s (%s to %s)\t%s\n", l.per, l.pkg, l.name, l.quantity, l.center(inBase), l.center(inTree), percent(r.Center), percent(r.Lo), percent(r.Hi), verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w\nmake it cheaper, or let a commit say why it is worth it, in a last line such as \"%s: %s: REASON\"", errors.Join(bad...), trailer, "UNIT")
	}
	return nil
}

func percent(ratio float64) string {
	if math.IsInf(ratio, 0) || math.IsNaN(ratio) {
		return "from nothing"
	}
	return fmt.Sprintf("%+.2f %%", (ratio-1)*100)
}
