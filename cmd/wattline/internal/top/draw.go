package top

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"wattline/meter"
	"wattline/replay/table"
)

// simulated marks joules and watts that no device measured.
const simulated = " SIMULATED"

// line is a view in one line.
func (v *View) line() string {
	parts := []string{v.At.Local().Format(time.TimeOnly), v.power(), table.Number(v.TokensPerSecond) + " tokens/s", v.perToken(), v.held()}
	if n := len(v.Queue); n > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting (longest %s)", n, duration(v.longest())))
	}
	for _, r := range v.Running {
		one := or(r.Agent) + " " + r.phase()
		if r.ActiveMw.Valid {
			one += " " + watts(r.ActiveMw)
		}
		parts = append(parts, one)
	}
	return strings.Join(parts, "  ")
}

// power is the devices' draw.
func (v *View) power() string {
	if !v.PowerMw.Valid {
		return "power not read"
	}
	out := watts(v.PowerMw) + " (idle " + watts(v.IdleMw)
	if v.EndedMw.V != 0 {
		out += ", just ended " + watts(v.EndedMw)
	}
	if v.ResidualMw.V != 0 {
		out += ", residual " + watts(v.ResidualMw)
	}
	out += ")"
	if v.Simulated {
		out += simulated
	}
	return out
}

func (v *View) perToken() string {
	if v.JPerToken == nil {
		return table.Absent + " J/token"
	}
	out := fmt.Sprintf("%s ± %s J/token", table.Number(*v.JPerToken), table.Number(*v.JPerTokenSigma))
	if v.Simulated {
		out += simulated
	}
	return out
}

// held is how many slots are held.
func (v *View) held() string {
	if v.Slots.Valid {
		return fmt.Sprintf("%d of %d slots", len(v.Running), v.Slots.V)
	}
	return fmt.Sprintf("%d running", len(v.Running))
}

func (v *View) longest() (us int64) {
	for _, w := range v.Queue {
		us = max(us, w.WaitedUs)
	}
	return us
}

// screen is a view as the lines of a terminal, none wider than width.
func (v *View) screen(admin, lost string, width int) []string {
	lines := []string{"wattline top of " + table.Printable(admin) + "  " + v.At.Local().Format(time.TimeOnly) + "  q quits"}
	if lost != "" {
		lines = append(lines, table.Printable(lost)+": trying again; what follows is old")
	}
	lines = append(lines,
		strings.Join([]string{table.Number(v.TokensPerSecond) + " tokens/s", v.perToken() + " (2 min)", v.held(), fmt.Sprintf("%d waiting", len(v.Queue))}, "  "), v.power())
	if len(v.Devices) == 0 {
		lines = append(lines, "No power source: wattline gpu says why.")
	}
	for _, d := range v.Devices {
		lines = append(lines, d.line())
	}
	lines = append(lines, "")
	routes := v.routes()
	lines = append(lines, v.runningTable(routes)...)
	if len(v.Queue) > 0 {
		lines = append(append(lines, ""), v.queueTable(routes)...)
	}
	if len(v.Running)+len(v.Queue) == 0 {
		lines = append(lines, "No requests now: point a client at "+table.Printable(v.url))
	}
	for i, l := range lines {
		lines[i] = text.Trim(l, width)
	}
	return lines
}

// line is a device's power.
func (d *Device) line() string {
	out := table.Printable(d.Name) + ": "
	switch {
	case d.Reason != "":
		return out + "cannot be read: " + table.Printable(d.Reason)
	case !d.PowerMw.Valid:
		return out + "no reading in the last " + stale.String()
	}
	out += watts(d.PowerMw)
	if d.LimitMw.Valid {
		out += " of " + watts(d.LimitMw)
	}
	if d.Simulated {
		out += simulated
	}
	return out
}

// routes reports whether there are several.
func (v *View) routes() bool {
	seen := map[string]bool{}
	for _, r := range v.Running {
		seen[r.Route] = true
	}
	for _, w := range v.Queue {
		seen[w.Route] = true
	}
	return len(seen) > 1
}

func (v *View) runningTable(routes bool) []string {
	if len(v.Running) == 0 {
		return nil
	}
	var b strings.Builder
	w := "W"
	if v.Simulated {
		w += simulated
	}
	t := table.New(&b, lead(routes, "route", "slot", "agent", "session", "phase", "for", "tokens/s", "out", "context", w)...)
	for _, r := range v.Running {
		slot, rate, share := table.Absent, table.Absent, table.Absent
		if r.Slot.Valid {
			slot = strconv.FormatInt(r.Slot.V, 10)
		}
		if r.TokensPerSecond != nil {
			rate = table.Number(*r.TokensPerSecond)
		}
		if r.ActiveMw.Valid {
			share = table.Number(float64(r.ActiveMw.V) / 1e3)
		}
		t.Row(lead(routes, r.Route, slot, or(r.Agent), short(r.Session), r.phase(), duration(r.PhaseUs), rate, r.OutputEvents, r.context(), share)...)
	}
	n := 0
	if routes {
		n = 1
	}
	t.AlignRight(n+1, n+5, n+6, n+7, n+8, n+9)
	t.Render()
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func (v *View) queueTable(routes bool) []string {
	var b strings.Builder
	t := table.New(&b, lead(routes, "route", "queue", "agent", "session", "waits", "behind")...)
	for i, w := range v.Queue {
		var behind []string
		for _, o := range w.Behind {
			behind = append(behind, or(o.Agent)+" ("+phaseWord(o.Phase)+")")
		}
		if w.Phase == "sending" {
			behind = []string{"still being sent"}
		}
		t.Row(lead(routes, w.Route, i+1, or(w.Agent), short(w.Session), duration(w.WaitedUs), table.OrAbsent(strings.Join(behind, ", ")))...)
	}
	t.Render()
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// lead leaves the first cell out unless there are several routes.
func lead(routes bool, cells ...any) []any {
	if routes {
		return cells
	}
	return cells[1:]
}

// phase is what a request is at. An answer in one piece does not show it.
func (r *Running) phase() string {
	if !r.Stream {
		return "unstreamed"
	}
	return phaseWord(r.Phase)
}

func phaseWord(phase string) string {
	if phase == "queue" {
		return "waits"
	}
	return phase
}

// context is how many tokens a request has in its slot's context.
func (r *Running) context() string {
	out := thousands(r.ContextTokens)
	if r.ContextTokens.Valid && r.ContextLimit.Valid {
		out += "/" + thousands(r.ContextLimit)
	}
	return out
}

func thousands(n meter.Int) string {
	switch {
	case !n.Valid:
		return table.Absent
	case n.V < 1000:
		return strconv.FormatInt(n.V, 10)
	}
	return table.Number(float64(n.V)/1e3) + "k"
}

func watts(mw meter.Int) string { return table.InUnit(mw, 1e3, "W") }

func or(s *string) string {
	if s == nil {
		return table.Absent
	}
	return table.OrAbsent(*s)
}

// short is the beginning of a session's name: hashes and UUIDs are long.
func short(s *string) string {
	const most = 12
	if r := []rune(or(s)); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return or(s)
}

// duration is a time as it passes.
func duration(us int64) string {
	if us < 60_000_000 {
		return strconv.FormatFloat(float64(us)/1e6, 'f', 1, 64) + " s"
	}
	return (time.Duration(us) * time.Microsecond).Round(time.Second).String()
}
