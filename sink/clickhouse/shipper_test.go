package clickhouse

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/clickhouse/chtest"
)

func protocols(t *testing.T, f func(t *testing.T, native bool)) {
	t.Helper()
	for _, native := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "native"}[native], func(t *testing.T) { f(t, native) })
	}
}

// Every table's rows arrive, once, over both protocols.
func TestShip(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, native bool) {
		w := newWorld(t, chtest.Options{})
		rows := chtest.Rows(chtest.RowsConfig{Seed: 1, Requests: 2300, Samples: 700, Gaps: true})
		gaps := len(rows.Gaps)
		s := outbox(t, rows)
		sh := w.shipper(w.client(native), s)
		must(t, sh.Flush(t.Context()))
		w.exactlyOnce(s)
		st := sh.Stats()
		want := Stats{Rows: map[string]uint64{"requests": 2300, "power": 700, "ledger": 700, "configs": 2, "itl_gaps": uint64(gaps)}, Batches: 10 + uint64(gaps+24)/25}
		if d := cmp.Diff(want, st); d != "" {
			t.Error(d)
		}
	})
}

// Every column comes back out of ClickHouse as it went in, nulls as nulls.
func TestEveryColumnRoundTrips(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, native bool) {
		w := newWorld(t, chtest.Options{})
		c := w.client(native)
		rows := chtest.Rows(chtest.RowsConfig{Seed: 2, Requests: 200, Samples: 40})
		full, empty := new(meter.Record), &meter.Record{ID: "00000000-0000-7000-8000-000000000000", StartedAt: rows.Requests[0].StartedAt, Outcome: meter.OK}
		fill(full)
		rows.Requests = append(rows.Requests, full, empty)
		must(t, w.shipper(c, outbox(t, rows)).Flush(t.Context()))

		want := map[string]*meter.Record{}
		for _, r := range rows.Requests {
			want[r.ID] = r
		}
		empty.Instance = "fallback" // a key column: the shipper's own name
		got := map[string]*meter.Record{}
		found := current()
		must(t, c.each(t.Context(), "SELECT "+selectList(found.table("requests"))+" FROM "+name(w.db)+".requests", func(scan func(...any) error) error {
			r := new(meter.Record)
			finish := make([]func(), 0, 100)
			var cells []any
			for _, col := range meter.Columns() {
				cell, done := scanCell(col.Ptr(r))
				cells, finish = append(cells, cell), append(finish, done)
			}
			if err := scan(append(cells, new(string))...); err != nil {
				return err
			}
			for _, f := range finish {
				f()
			}
			got[r.ID] = r
			return nil
		}))
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

func selectList(t *table) string {
	names := make([]string, 0, len(t.columns))
	for _, c := range t.columns {
		names = append(names, name(c.name))
	}
	return strings.Join(names, ", ")
}

// fill gives every field of a record a value of its own.
func fill(r *meter.Record) {
	for i, c := range meter.Columns() {
		switch p := c.Ptr(r).(type) {
		case *string:
			*p = fmt.Sprintf("%s it's \\ %d ✓", c.Name, i)
		case *meter.Outcome:
			*p = meter.Rejected
		case *time.Time:
			*p = time.Now().UTC().Truncate(time.Microsecond)
		case *meter.Int:
			*p = meter.Some(int64(i) - 1<<40)
		case *map[string]string:
			*p = map[string]string{"k": "v", "ü": "'\\"}
		case *[]string:
			*p = []string{"a", "b"}
		case *[]int64:
			*p = []int64{1, -1 << 60}
		case **meter.Details:
			*p = &meter.Details{RequestedModel: "it's \\ ✓", Slot: meter.Some(0)}
		}
	}
}

// scanCell is where the driver puts a cell, and what turns it into the field afterwards.
func scanCell(field any) (cell any, done func()) {
	switch p := field.(type) {
	case *string:
		v := new(*string)
		return v, func() {
			if *v != nil {
				*p = **v
			}
		}
	case **meter.Details:
		v := new(*string)
		return v, func() {
			if *v != nil {
				*p = new(meter.Details)
				_ = (*p).UnmarshalText([]byte(**v)) // cannot fail
			}
		}
	case *meter.Outcome:
		v := new(*string)
		return v, func() { *p = meter.Outcome(**v) }
	case *meter.Int:
		v := new(*int64)
		return v, func() {
			if *v != nil {
				*p = meter.Some(**v)
			}
		}
	case *map[string]string:
		return p, func() {
			if len(*p) == 0 {
				*p = nil
			}
		}
	case *[]string:
		return p, func() {
			if len(*p) == 0 {
				*p = nil
			}
		}
	case *[]int64:
		return p, func() {
			if len(*p) == 0 {
				*p = nil
			}
		}
	}
	return field, func() {}
}

// TLS, users and several addresses, over both protocols: the first address is dead.
func TestTLSUsersAndSeveralAddresses(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, native bool) {
		w := newWorld(t, chtest.Options{TLS: true, Users: map[string]string{"watt": "p@ss/wörd"}})
		dead, scheme, addr := chtest.FreeAddr(t), "https", w.srv.HTTPAddr()
		if native {
			scheme, addr = "clickhouse", w.srv.NativeAddr()
		}
		target := w.target(fmt.Sprintf("%s://watt@%s,%s/%s?secure=true", scheme, dead, addr, w.db)).WithPassword("p@ss/wörd")
		target.options.TLS = w.srv.ClientTLS()
		c, err := Open(target)
		must(t, err)
		defer func() { _ = c.Close() }()
		s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 3, Requests: 50}))
		must(t, w.shipper(c, s).Flush(t.Context()))
		w.exactlyOnce(s)
	})
}

// Types that ship and types of fields must not drift apart.
func TestEveryTableOfTheStoreShips(t *testing.T) {
	for _, tab := range current().tables {
		kind := strings.TrimPrefix(tab.name, "itl_")
		if _, ok := reflect.TypeFor[sink.Rows]().FieldByName(strings.ToUpper(kind[:1]) + kind[1:]); !ok {
			t.Errorf("table %s has no rows in sink.Rows", tab.name)
		}
	}
}
