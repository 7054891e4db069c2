package term

import (
	"strings"
	"testing"
	"unicode/utf8"

	"wattline/meter"
)

func TestStreamedPhases(t *testing.T) {
	s := meter.Some
	got := phases(&meter.Record{
		Stream: s(1), TTFTUs: s(352_000), UpstreamTTFTUs: s(350_000), DurationUs: s(1_360_000),
		QueueUs: s(10_000), PrefillUs: s(340_000), DecodeUs: s(1_000_000),
	})
	want := []struct{ from, to int64 }{{2_000, 12_000}, {12_000, 352_000}, {352_000, 1_352_000}}
	for i, w := range want {
		if p := got[i]; !p.placed || p.from != w.from || p.to != w.to {
			t.Errorf("%s: %d to %d, placed %t; want %d to %d", p.name, p.from, p.to, p.placed, w.from, w.to)
		}
	}
}

func TestUnstreamedPhases(t *testing.T) {
	s := meter.Some
	got := phases(&meter.Record{Stream: s(0), DurationUs: s(1_000), QueueUs: s(100), PrefillUs: s(300), DecodeUs: s(500)})
	want := []struct{ from, to int64 }{{100, 200}, {200, 500}, {500, 1_000}}
	for i, w := range want {
		if p := got[i]; !p.placed || p.from != w.from || p.to != w.to {
			t.Errorf("%s: %d to %d, placed %t; want %d to %d", p.name, p.from, p.to, p.placed, w.from, w.to)
		}
	}
	if p := phases(&meter.Record{Stream: s(0), DurationUs: s(1_000), QueueUs: s(100), PrefillUs: s(300)}); p[0].placed || p[1].placed || p[2].placed {
		t.Error("a phase is placed although the length of decode is not known")
	}
}

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
		"202 ± 3 J":         {GPUUj: s(202_000_000), GPUSigmaUj: s(3_000_000)},
		"5 ± 1 J simulated": {GPUUj: s(5_000_000), GPUSigmaUj: s(1_000_000), EnergySource: "sim/ring"},
		meter.EnergyPending: {EnergyQuality: meter.EnergyPending},
		"-":                 {},
	} {
		if got := energyOf(r); got != want {
			t.Errorf("energyOf = %q, want %q", got, want)
		}
	}
}
