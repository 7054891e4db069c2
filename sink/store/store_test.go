package store

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func tempStore(t *testing.T) *Store {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "state", "wattline.db"))
}

// settle makes one row's energy columns final.
func settle(t *testing.T, s *Store, rec *meter.Record) error {
	t.Helper()
	return s.Write(t.Context(), &sink.Rows{Settled: []*meter.Record{rec}})
}

func reopen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: path, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a second Close, where the test closed it itself, is harmless
	return s
}

func tempReader(t *testing.T, s *Store) *Reader {
	t.Helper()
	r, err := OpenReader(context.Background(), s.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)

// request is the i-th of a series of plain rows.
func request(i int) *meter.Record {
	return &meter.Record{
		ID:            fmt.Sprintf("0199%08x-0000-7000-8000-%012x", i, i),
		StartedAt:     epoch.Add(time.Duration(i) * time.Millisecond),
		Instance:      "test",
		Path:          "/v1/chat/completions",
		Outcome:       meter.OK,
		OutputTokens:  meter.Some(int64(i)),
		EnergyQuality: meter.EnergyUnavailable,
	}
}

// full is a row in which every column holds something, and every other integer holds a zero.
func full(t *testing.T) *meter.Record {
	t.Helper()
	rec := new(meter.Record)
	columns := slices.Clone(meter.Columns()) // in the order of their versions, so that a new column does not change the others' values
	slices.SortStableFunc(columns, func(a, b meter.Column) int { return a.Since - b.Since })
	for i, c := range columns {
		switch p := c.Ptr(rec).(type) {
		case *string:
			*p = "text of " + c.Name
		case *meter.Outcome:
			*p = meter.Truncated
		case *time.Time:
			*p = epoch
		case *meter.Int:
			*p = meter.Some(int64(i%2) * int64(i) << 40)
		case *map[string]string:
			*p = map[string]string{"team": "a b", "": "é\"\x00"}
		case *[]string:
			*p = []string{"GPU-0", ""}
		case *[]int64:
			*p = []int64{0, -1, 1 << 60}
		case **meter.Details:
			*p = new(meter.Details)
			must(t, (*p).UnmarshalText([]byte("text of "+c.Name))) // no object: a store keeps what it was given
		default:
			t.Fatalf("column %s has an unknown type", c.Name)
		}
	}
	return rec
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryColumnRoundTrips(t *testing.T) {
	s := tempStore(t)
	want := []*meter.Record{full(t), {ID: "nothing", StartedAt: epoch.Add(-time.Second)}}
	want[0].EnergyQuality = meter.EnergyMeasured
	must(t, s.Write(t.Context(), &sink.Rows{Requests: want}))
	got, err := tempReader(t, s).Latest(t.Context(), 10)
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestNullIsNotZero(t *testing.T) {
	s := tempStore(t)
	must(t, s.Write(t.Context(), &sink.Rows{Requests: []*meter.Record{
		{ID: "null", StartedAt: epoch}, {ID: "zero", StartedAt: epoch, CachedTokens: meter.Some(0)},
	}}))
	r := tempReader(t, s)
	for id, want := range map[string]string{"null": "null", "zero": "0"} {
		var kind string
		must(t, r.DB().QueryRowContext(t.Context(), "SELECT coalesce(cached_tokens, 'null') FROM requests WHERE id = ?", id).Scan(&kind))
		if kind != want {
			t.Errorf("%s: cached_tokens is stored as %s", id, kind)
		}
		rec, err := r.Find(t.Context(), id)
		must(t, err)
		b, err := json.Marshal(rec)
		must(t, err)
		var m map[string]json.RawMessage
		must(t, json.Unmarshal(b, &m))
		if string(m["cached_tokens"]) != want {
			t.Errorf("%s: cached_tokens is written as %s", id, m["cached_tokens"])
		}
	}
}
