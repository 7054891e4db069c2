package main

import (
	"fmt"
	"io"
	"math"

	"wattline/meter/energy/recording"
	"wattline/replay/table"
	"wattline/sink/attribution"
)

// printScores prints how far each method is off, for each recording and for all.
func printScores(w io.Writer, c *attributeCmd) error {
	all, err := attribution.Score(c.Score, c.Dir, c.Answers)
	if err != nil {
		return err
	}
	t := table.New(w, "recording", "method", "shares", "rms", "worst", "coverage", "conservation")
	row := func(name string, s *recording.Score) {
		rms, worst, coverage := table.Absent, table.Absent, table.Absent
		if s.Shares > 0 {
			rms, worst = fmt.Sprintf("%.1f %%", 100*s.RMS), fmt.Sprintf("%+.1f %%", 100*s.Worst)
		}
		if !math.IsNaN(s.Coverage) {
			coverage = fmt.Sprintf("%.1f %%", 100*s.Coverage)
		}
		t.Row(name, s.Method, s.Shares, rms, worst, coverage, fmt.Sprintf("%.1f %%", 100*s.Conservation))
	}
	for i := range all {
		r := &all[i]
		for m := range r.Scores {
			row(r.Name, &r.Scores[m])
		}
		for _, kind := range r.Order {
			s := r.Kinds[kind]
			row(r.Name+" "+kind, &s)
		}
	}
	for m := range all[0].Scores {
		if len(all) == 1 {
			break
		}
		var of []recording.Score
		for i := range all {
			of = append(of, all[i].Scores[m])
		}
		s := recording.PoolScores(of)
		row("all", &s)
	}
	t.AlignRight(3, 4, 5, 6, 7)
	t.Render()
	return nil
}
