package clickhouse

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

// batchRows gives access to a batch's rows by column name, for every row type.
type batchRows struct {
	n      int
	field  map[string]func(row int) any // pointers to fields, by column name
	batch  *store.Batch
	absent string // instance of rows without one
}

// rowsOf wraps a batch. instance is used for rows without one.
func rowsOf(b *store.Batch, instance string) (*batchRows, error) {
	r := &batchRows{n: len(b.IDs), batch: b, absent: instance}
	switch b.Table {
	case store.TableRequests:
		r.field = fields(b.Requests, sink.RequestColumns())
	case store.TablePower:
		r.field = fields(b.Power, sink.PowerColumns())
	case store.TableLedger:
		r.field = fields(b.Ledger, sink.LedgerColumns())
	case store.TableConfigs:
		r.field = fields(b.Configs, sink.ConfigColumns())
	case store.TableGaps:
		r.field = fields(b.Gaps, sink.GapsColumns())
	default:
		return nil, fmt.Errorf("clickhouse: batch %d is of table %q, which this wattline does not ship", b.Seq, b.Table)
	}
	return r, nil
}

func fields[T any](rows []*T, cols []sink.Column[T]) map[string]func(int) any {
	out := make(map[string]func(int) any, len(cols))
	for _, c := range cols {
		out[c.Name] = func(i int) any { return c.Ptr(rows[i]) }
	}
	return out
}

// value returns one cell for the driver.
func (r *batchRows) value(row int, column string, nullable bool) any {
	switch column {
	case "batch":
		return r.batch.Token
	case "instance":
		return r.instance(row)
	}
	switch p := r.field[column](row).(type) {
	case *meter.Int:
		if !p.Valid {
			return (*int64)(nil)
		}
		return &p.V
	case *string:
		return text(*p, nullable)
	case *meter.Outcome:
		return text(string(*p), nullable)
	case **meter.Details:
		return text(detailsText(*p), nullable)
	case *time.Time:
		return p.UTC()
	case *map[string]string:
		if *p == nil {
			return map[string]string{}
		}
		return *p
	case *[]string:
		return slices.Clip(append([]string{}, *p...))
	case *[]int64:
		return slices.Clip(append([]int64{}, *p...))
	case *[]uint32:
		return slices.Clip(append([]uint32{}, *p...))
	default:
		panic(fmt.Sprintf("clickhouse: column %s has a field of unknown type %T", column, p))
	}
}

func detailsText(d *meter.Details) string {
	if d == nil {
		return ""
	}
	b, _ := d.MarshalText() // cannot fail
	return string(b)
}

func text(s string, nullable bool) any {
	if !nullable {
		return s
	}
	if s == "" {
		return (*string)(nil)
	}
	return &s
}

func (r *batchRows) instance(row int) string {
	if s, ok := r.field["instance"](row).(*string); ok && *s != "" {
		return *s
	}
	return r.absent
}

// instances returns the different instances of the rows, in order of appearance.
func (r *batchRows) instances() []string {
	var out []string
	for i := range r.n {
		if s := r.instance(i); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// token returns the deduplication token of the batch's INSERT. The batch's own token is not enough: the ids of table configs
// contain no instance, and two hosts may run the same server.
func (r *batchRows) token() string { return strings.Join(r.instances(), ",") + "/" + r.batch.Token }

// span returns the earliest and the latest time of the rows.
func (r *batchRows) span(column string) (from, to time.Time) {
	for i := range r.n {
		t, ok := r.field[column](i).(*time.Time)
		if !ok {
			continue
		}
		if from.IsZero() || t.Before(from) {
			from = *t
		}
		if t.After(to) {
			to = *t
		}
	}
	return from, to
}

// insertable returns the columns to insert: those of t that the database has with the same type, except for a dictionary.
// Other columns of the database get their default. Columns of t that it lacks or has with another type are left out; Verify
// reports them.
func (t *table) insertable(f *foundTable) ([]foundColumn, error) {
	var out []foundColumn
	for _, c := range t.columns {
		have := f.column(c.name)
		if have != nil && plain(have.ctype) == plain(c.ctype) {
			out = append(out, *have)
			continue
		}
		if slices.Contains(t.order, c.name) || c.name == "batch" {
			return nil, fmt.Errorf("clickhouse: table %s has no column %s of type %s: it is not one of wattline's tables", t.name, c.name, c.ctype)
		}
	}
	return out, nil
}

// plain returns a type without its dictionaries (LowCardinality), which do not change the values.
func plain(ctype string) string {
	for {
		i := strings.Index(ctype, "LowCardinality(")
		if i < 0 {
			return ctype
		}
		inner := ctype[i+len("LowCardinality("):]
		depth := 1
		for j := range inner {
			switch inner[j] {
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth == 0 {
				ctype = ctype[:i] + inner[:j] + inner[j+1:]
				break
			}
		}
	}
}
