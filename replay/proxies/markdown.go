package proxies

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Markdown writes the report for people.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s. %d rounds, alternating; each cell a fresh process. Medians over the rounds; ratios are taken within a round.\n", r.Date.Format("2006-01-02 15:04 MST"), r.Machine, r.Rounds)
	if r.Command != "" {
		fmt.Fprintf(&b, "Printed by `%s`.\n", r.Command)
	}
	names := []string{}
	for n, v := range r.Versions {
		names = append(names, n+": "+v)
	}
	slices.Sort(names)
	for _, n := range append(names, r.Missing...) {
		fmt.Fprintf(&b, "%s.\n", n)
	}
	for _, s := range r.Sections {
		s.markdown(&b)
	}
	b.WriteString("\n### Targets\n\n| | target | limit | measured | |\n|---|---|---:|---:|---|\n")
	for _, t := range r.Targets {
		verdict := "met"
		if !t.Met {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", t.Kind, t.What, figure(t.Limit, 2), figure(t.Got, 2), verdict)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Section) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n", s.Title)
	switch {
	case s.Idle:
		b.WriteString("| hop | memory a stream (KiB) | goroutines a stream | memory (MiB) | failed |\n|---|---:|---:|---:|---:|\n")
	case s.Short:
		b.WriteString("| hop | added p50 (us) | p90 | p99 | requests/s | CPU a request (us) | memory (MiB) | failed | p50 / nginx | CPU / nginx | CPU / relay |\n|---|" + strings.Repeat("---:|", 10) + "\n")
	default:
		b.WriteString("| hop | added p50 (us) | p90 | p99 | added TTFT (us) | CPU an event (us) | memory (MiB) | failed | p50 / nginx | CPU / nginx | p50 / relay | CPU / relay |\n|---|" + strings.Repeat("---:|", 11) + "\n")
	}
	for _, row := range s.Rows {
		if len(row.Rounds) == 0 {
			continue
		}
		m := &row.Median
		p50, p90, p99, tt := figure(row.AddedP50, 0), figure(row.AddedP90, 0), figure(row.AddedP99, 0), figure(row.AddedTT, 0)
		if row.Name == Direct {
			p50, p90, p99, tt = "("+figure(m.P50, 0)+")", "("+figure(m.P90, 0)+")", "("+figure(m.P99, 0)+")", "("+figure(m.TTFT, 0)+")"
		}
		cells := []string{row.Name, p50, p90, p99}
		switch {
		case s.Idle:
			cells = []string{row.Name, figure(m.PerStream, 1), figure(m.Goroutines, 2), figure(m.RSS, 0), fmt.Sprint(m.Failures)}
		case s.Short:
			cells = append(cells, figure(m.PerSecond, 0), figure(m.CPU, 1), figure(m.RSS, 0), fmt.Sprint(m.Failures),
				figure(row.NginxP50, 2), figure(row.NginxCPU, 2), figure(row.RelayCPU, 2))
		default:
			cells = append(cells, tt, figure(m.CPU, 1), figure(m.RSS, 0), fmt.Sprint(m.Failures),
				figure(row.NginxP50, 2), figure(row.NginxCPU, 2), figure(row.RelayP50, 2), figure(row.RelayCPU, 2))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	s.notes(b)
}

// notes are the floor, the band and the reasons of failures.
func (s *Section) notes(b *strings.Builder) {
	var notes []string
	if d := s.row(Direct); d != nil && len(d.Rounds) > 0 {
		what := "an event"
		if s.Short {
			what = "a request"
		}
		notes = append(notes, fmt.Sprintf("In parentheses: direct's own, the floor; there the upstream used %s us of CPU %s and the load generator %s", figure(d.Median.UpstreamCPU, 1), what, figure(d.Median.LoadCPU, 1)))
	}
	if lo, hi := s.band(); !math.IsNaN(hi) && !s.Idle {
		notes = append(notes, fmt.Sprintf("nginx's p99 without subtraction ranged from %.0f to %.0f us over its own runs", lo, hi))
		if w := s.row(Wattline); w != nil && len(w.Rounds) > 0 {
			notes = append(notes, fmt.Sprintf("wattline's median p99 without subtraction: %.0f us", w.Median.P99))
		}
	}
	for _, row := range s.Rows {
		for why, n := range row.Median.Why {
			notes = append(notes, fmt.Sprintf("%s failed %d times: %s", row.Name, n, why))
		}
	}
	if len(notes) > 0 {
		b.WriteString("\n" + strings.Join(notes, ". ") + ".\n")
	}
}

func figure(n Num, digits int) string {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, float64(n))
}
