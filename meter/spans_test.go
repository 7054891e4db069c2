package meter_test

import (
	"testing"

	"wattline/meter"
)

func TestStreamedSpans(t *testing.T) {
	s := meter.Some
	got := (&meter.Record{
		Stream: s(1), TTFTUs: s(352_000), UpstreamTTFTUs: s(350_000), DurationUs: s(1_360_000),
		QueueUs: s(10_000), PrefillUs: s(340_000), DecodeUs: s(1_000_000),
	}).Spans()
	want := []struct{ from, to int64 }{{2_000, 12_000}, {12_000, 352_000}, {352_000, 1_352_000}}
	for i, w := range want {
		if p := got[i]; p.From != s(w.from) || p.To() != s(w.to) {
			t.Errorf("%s: %v to %v; want %d to %d", p.Name, p.From, p.To(), w.from, w.to)
		}
	}
}

func TestUnstreamedSpans(t *testing.T) {
	s := meter.Some
	got := (&meter.Record{Stream: s(0), DurationUs: s(1_000), QueueUs: s(100), PrefillUs: s(300), DecodeUs: s(500)}).Spans()
	want := []struct{ from, to int64 }{{100, 200}, {200, 500}, {500, 1_000}}
	for i, w := range want {
		if p := got[i]; p.From != s(w.from) || p.To() != s(w.to) {
			t.Errorf("%s: %v to %v; want %d to %d", p.Name, p.From, p.To(), w.from, w.to)
		}
	}
	if p := (&meter.Record{Stream: s(0), DurationUs: s(1_000), QueueUs: s(100), PrefillUs: s(300)}).Spans(); p[0].From.Valid || p[1].From.Valid || p[2].From.Valid {
		t.Error("a phase is placed although the length of decode is not known")
	}
}
