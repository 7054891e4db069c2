package smi

import (
	"strconv"
	"strings"

	"wattline/gpu"
	"wattline/meter"
)

// What is asked for. The first fields say which card a line is about.
var fixed = []string{"index", "uuid", "name", "pci.bus_id", "driver_version"}

// A field that this nvidia-smi does not know is left out, and asked for by its older name if it has one.
var measured = []field{
	{name: "power.draw.instant", what: "instant power", scale: 1000, value: func(l *line) *meter.Int { return &l.instant }},
	{name: "power.draw.average", older: "power.draw", what: "average power", scale: 1000, value: func(l *line) *meter.Int { return &l.average }},
	{name: "enforced.power.limit", what: "power limit", scale: 1000, value: func(l *line) *meter.Int { return &l.status.LimitMw }},
	{name: "utilization.gpu", what: "utilisation", scale: 1, value: func(l *line) *meter.Int { return &l.status.UtilPct }},
	{name: "utilization.memory", what: "memory utilisation", scale: 1, value: func(l *line) *meter.Int { return &l.status.MemUtilPct }},
	{name: "memory.used", what: "memory", scale: 1 << 20, value: func(l *line) *meter.Int { return &l.status.MemUsedB }},
	{name: "memory.total", what: "memory size", scale: 1 << 20, value: func(l *line) *meter.Int { return &l.status.MemTotalB }},
	{name: "temperature.gpu", what: "temperature", scale: 1, value: func(l *line) *meter.Int { return &l.status.TempC }},
	{name: "temperature.memory", what: "memory temperature", scale: 1, value: func(l *line) *meter.Int { return &l.status.MemTempC }},
	{name: "clocks.sm", what: "SM clock", scale: 1, value: func(l *line) *meter.Int { return &l.status.SMClockMHz }},
	{name: "clocks.mem", what: "memory clock", scale: 1, value: func(l *line) *meter.Int { return &l.status.MemClockMHz }},
	{name: "clocks_event_reasons.active", older: "clocks_throttle_reasons.active", what: "throttle reasons", scale: 1, value: func(l *line) *meter.Int { return &l.status.Throttle }},
	{name: "ecc.errors.uncorrected.volatile.total", what: "ECC errors", scale: 1, value: func(l *line) *meter.Int { return &l.status.ECCErrors }},
	{name: "fan.speed", what: "fan", scale: 1, value: func(l *line) *meter.Int { return &l.status.FanPct }},
}

// field is one column.
type field struct {
	name, older string
	what        string // as gpu.Info.Unavailable names it
	scale       float64
	value       func(*line) *meter.Int
}

// line is one card at one moment.
type line struct {
	at               int64
	info             gpu.Info
	instant, average meter.Int // mW
	status           gpu.Status
	missing          map[string]string // by field.what; only filled by the first line
}

// query is a list of fields that this nvidia-smi may know.
type query struct {
	fields []field
	unset  map[string]string // what was given up, with the reason
}

func newQuery() query {
	return query{fields: append([]field(nil), measured...), unset: map[string]string{}}
}

// arg returns the command-line argument.
func (q *query) arg() string {
	names := append([]string(nil), fixed...)
	for _, f := range q.fields {
		names = append(names, f.name)
	}
	return "--query-gpu=" + strings.Join(names, ",")
}

// reject takes what nvidia-smi has answered to a query with a field that it does not know, and says
// whether asking again is worth it.
func (q *query) reject(answer string) bool {
	const before, after = `Field "`, `" is not a valid field`
	_, rest, ok := strings.Cut(answer, before)
	if !ok {
		return false
	}
	name, _, ok := strings.Cut(rest, after)
	if !ok {
		return false
	}
	for i, f := range q.fields {
		if f.name != name {
			continue
		}
		if f.older != "" {
			q.fields[i].name, q.fields[i].older = f.older, ""
			return true
		}
		q.unset[f.what] = "this nvidia-smi does not know the field " + name
		q.fields = append(q.fields[:i:i], q.fields[i+1:]...)
		return true
	}
	return false
}

// parse reads a line of comma-separated values. A value in brackets ([N/A], [Not Supported],
// [Unknown Error], [GPU requires reset]) is null.
func (q *query) parse(text string, why bool) (line, bool) {
	cells := strings.Split(text, ",")
	if len(cells) != len(fixed)+len(q.fields) {
		return line{}, false
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	l := line{info: gpu.Info{UUID: cells[1], Name: cells[2], PCI: pci(cells[3]), Driver: cells[4], Kind: gpu.KindGPU, Source: "smi"}}
	l.info.Index, _ = strconv.Atoi(cells[0])
	if l.info.UUID == "" {
		return line{}, false
	}
	if why {
		l.missing = map[string]string{}
	}
	for i, f := range q.fields {
		cell := cells[len(fixed)+i]
		if v, ok := number(cell); ok {
			*f.value(&l) = meter.Some(int64(v*f.scale + 0.5))
		} else if why {
			l.missing[f.what] = "nvidia-smi says " + cell
		}
	}
	return l, true
}

// number reads a decimal or, after 0x, hexadecimal number.
func number(s string) (float64, bool) {
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		v, err := strconv.ParseUint(hex, 16, 63)
		return float64(v), err == nil
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && v >= 0 && v < 1e15
}

// pci turns 00000000:C3:00.0 into 0000:c3:00.0, as sysfs writes it.
func pci(s string) string {
	s = strings.ToLower(s)
	if domain, rest, ok := strings.Cut(s, ":"); ok && len(domain) == 8 {
		return domain[4:] + ":" + rest
	}
	return s
}
