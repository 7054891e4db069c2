package term

import (
	"strings"
	"testing"
	"unicode/utf8"

	"wattline/meter"
)

func TestBar(t *testing.T) {
	for _, c := range []struct {
		from, to, total int64
		blank, drawn    int
		short           bool
	}{
		{0, 600, 600, 0, waterfallWidth, false}, {300, 600, 600, 30, 30, false}, {300, 900, 600, 30, 30, false},
		{-50, 60, 600, 0, 6, false}, {600, 600, 600, waterfallWidth - 1, 1, true}, {10, 11, 600, 1, 1, true},
	} {
		got := bar(c.from, c.to, c.total)
		blank := len(got) - len(strings.TrimLeft(got, " "))
		if drawn := utf8.RuneCountInString(got) - blank; blank != c.blank || drawn != c.drawn || strings.HasSuffix(got, "|") != c.short {
			t.Errorf("bar(%d, %d, %d) = %q", c.from, c.to, c.total, got)
		}
	}
	if got := bar(0, 1, 0); got != "" {
		t.Errorf("a bar of a whole of nothing: %q", got)
	}
}

func TestEnergyText(t *testing.T) {
	s := meter.Some
	for want, r := range map[string]*meter.Record{
		"202 J":             {GPUUj: s(202_000_000)},
		"202 ± 3 J A":       {GPUUj: s(202_000_000), GPUSigmaUj: s(3_000_000)},
		"20 ± 0.5 J A CPU":  {CPUUj: s(20_000_000), CPUSigmaUj: s(500_000), EnergySource: "rapl/counter"},
		"5 ± 1 J simulated": {GPUUj: s(5_000_000), GPUSigmaUj: s(1_000_000), EnergySource: "sim/ring"},
		meter.EnergyPending: {EnergyQuality: meter.EnergyPending},
		"-":                 {},
	} {
		if got := energyOf(r); got != want {
			t.Errorf("energyOf = %q, want %q", got, want)
		}
	}
}
