package report

import (
	"fmt"
	"io"
	"strings"

	"wattline/replay"
)

// Tip is one line of the guide's "Optimization Tips" that the measurements call for.
type Tip struct {
	Section string   `json:"section"` // of the guide
	Advice  string   `json:"advice"`  // the guide's words
	Rule    string   `json:"rule"`    // its condition
	Because string   `json:"because"` // the figures that meet it
	Flags   []string `json:"flags"`   // of the server, as it accepts them; empty: none, or not known
}

// Measured is the input of the rules.
type Measured struct {
	Results *replay.Results
	// FirstWarmupMs is the very first request's time to first token, beside a later one of the same size.
	FirstWarmupMs, LaterMs replay.Num
	// Flags that the server's --help names, and whether they take a value; nil: not known.
	Flags map[string]bool
	// Settings that it was started with; nil: not known.
	Settings map[string]string
}

// rule is one tip and when it is given.
type rule struct {
	section, advice, name string
	flags                 func(m *Measured) [][2]string // name and value; nil: none
	fires                 func(m *Measured) (because string)
}

const (
	sectionThroughput = "Improve Throughput"
	sectionEnergy     = "Improve Energy Efficiency"
	sectionLatency    = "Improve Latency"
)

// Tips returns the tips with a rule that fires. The guide raises batch sizes for throughput and lowers them for latency: the first is
// given if prompts take most of the time, the second if other requests' prompts delay decoding, and never both. A tip
// that the server's settings follow already is not given.
func Tips(m Measured) []Tip {
	var out []Tip
	for _, r := range rules {
		if r.section == sectionEnergy && m.Results.Energy.Simulated { // no advice from joules that nothing drew
			continue
		}
		because := r.fires(&m)
		if because == "" {
			continue
		}
		t := Tip{Section: r.section, Advice: r.advice, Rule: r.name, Because: because}
		followed := r.flags != nil
		for _, f := range r.list(&m) {
			followed = followed && m.followed(f[0], f[1])
			if text := m.flag(f[0], f[1]); text != "" {
				t.Flags = append(t.Flags, text)
			}
		}
		if !followed {
			out = append(out, t)
		}
	}
	return out
}

func (r *rule) list(m *Measured) [][2]string {
	if r.flags == nil {
		return nil
	}
	return r.flags(m)
}

// followed is whether the server was started so.
func (m *Measured) followed(name, value string) bool {
	takes, ok := m.Flags[name]
	now, set := m.Settings[name]
	return ok && set && (!takes || now == value)
}

// flag writes a flag as this server accepts it: bare where it takes no value; "" where it is not known,
// or set like that already.
func (m *Measured) flag(name, value string) string {
	takes, ok := m.Flags[name]
	switch {
	case !ok, m.followed(name, value):
		return ""
	case !takes:
		return name
	}
	return name + " " + value
}

// printTips writes tips, which rule fired and on what numbers.
func printTips(w io.Writer, m Measured) {
	tips := Tips(m)
	if len(tips) == 0 {
		return
	}
	fmt.Fprintln(w, "Tips of the guide that these measurements call for:")
	for _, t := range tips {
		fmt.Fprintf(w, "  %s: %s\n    because %s (rule: %s)\n", t.Section, t.Advice, t.Because, t.Rule)
		if len(t.Flags) > 0 {
			fmt.Fprintf(w, "    llama-server %s\n", strings.Join(t.Flags, " "))
		}
	}
}

// measuredOf returns the input of the rules for a run.
func measuredOf(run LabelledRun) Measured {
	m := Measured{Results: run.Results, Flags: run.Flags, Settings: run.Settings}
	if run.Run == nil || len(run.Run.Warmups) == 0 {
		return m
	}
	first := run.Run.Warmups[0]
	if !first.OK() || !first.TTFTUs.Valid {
		return m
	}
	m.FirstWarmupMs = replay.Some(float64(first.TTFTUs.V) / 1e3)
	for _, c := range run.Results.Cells {
		if c.PromptTokens == first.Cell.PromptTokens && !several(run.Results) {
			m.LaterMs = c.TTFTMs.Median
		}
	}
	return m
}
