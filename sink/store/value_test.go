package store

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
)

// Every kind of field becomes the value that the store documents.
func TestFieldValues(t *testing.T) {
	asJSON := func(v any) string {
		b, err := json.Marshal(v)
		must(t, err)
		return string(b)
	}
	text, outcome, at, unset := "a", meter.OK, time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600)), time.Time{}
	number, null, empty := meter.Some(math.MinInt64), meter.Int{V: 3}, ""
	devices, odd, none := []string{"GPU-0", "GPU 1"}, []string{"a", "\"\\<>&\x00\u2028é", "\xff"}, []string(nil)
	joules, gaps := []int64{math.MinInt64, 0, math.MaxInt64}, []uint32{0, math.MaxUint32}
	labels := map[string]string{"b": "<1>", "a": ""}
	noDevices, noLabels, noJoules := []string{}, map[string]string(nil), []int64(nil)
	fields := []any{&text, &outcome, &at, &unset, &number, &null, &empty, &devices, &odd, &none, &noDevices, &joules, &noJoules, &gaps, &labels, &noLabels}
	want := []any{
		"a", "ok", "2026-01-02 02:04:05.000006", nil, int64(math.MinInt64), nil, nil, asJSON(devices), asJSON(odd), nil, "[]",
		asJSON(joules), nil, asJSON(gaps), asJSON(labels), nil,
	}
	for i, f := range fields {
		got, err := fieldValue(f)
		must(t, err)
		if d := cmp.Diff(want[i], got); d != "" {
			t.Error(d)
		}
	}
	if _, err := fieldValue(new(float64)); err == nil {
		t.Error("a float64 was taken")
	}
}

// A literal is UTC whatever the local time zone is: text order must be time order.
func TestLiteralIsUTC(t *testing.T) {
	local := time.Local
	time.Local = time.FixedZone("TEST", 5*3600) //nolint:gosmopolitan // the test is about it
	t.Cleanup(func() { time.Local = local })
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for _, same := range []time.Time{at, at.Local(), at.In(time.FixedZone("", -3600))} {
		if got := literal(same); got != "2026-01-02 03:04:05.000006" {
			t.Errorf("%v is written as %s", same, got)
		}
	}
}

// Texts of any length and with any bytes are read back unchanged.
func TestTextSizes(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	for i, n := range []int{0, 1, 4095, 4096, 4097, 100_000, 3} {
		rec := request(i)
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(j)%127 + 1
		}
		rec.FinishReason, rec.Error = string(b), "é\x00\xff and on"
		must(t, settle(t, s, rec))
		got, err := r.Find(t.Context(), rec.ID)
		must(t, err)
		if d := cmp.Diff(rec, got); d != "" {
			t.Errorf("%d bytes: %.300s", n, d)
		}
	}
}

// TestDetailsRoundTrip: the column holds JSON; a reader finds the same values.
func TestDetailsRoundTrip(t *testing.T) {
	s := tempStore(t)
	r := tempReader(t, s)
	rec := request(1)
	rec.Details = &meter.Details{RequestedModel: "é\"<", Slot: meter.Some(0), Temperature: meter.Float{V: 0.1, Valid: true}}
	must(t, settle(t, s, rec))
	got, err := r.Find(t.Context(), rec.ID)
	must(t, err)
	text, err := FieldText(&got.Details)
	must(t, err)
	if text != `{"requested_model":"é\"\u003c","temperature":0.1,"slot":0}` {
		t.Errorf("the column holds %s", text)
	}
	if d := got.Details; d.RequestedModel != rec.Details.RequestedModel || d.Slot != meter.Some(0) || d.Temperature != rec.Details.Temperature {
		t.Errorf("read back %+v", d)
	}
}
