package clickhouse

import (
	"fmt"
	"slices"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

// Codecs, by what was smallest on wattline's rows (BenchmarkColumns prints the comparison): T64 drops the
// high bits that no value of a block uses, ZSTD takes the rest. Delta and DoubleDelta were larger, also on
// times in order.
const (
	codecInt  = "T64, ZSTD(1)"
	codecText = "ZSTD(1)"
)

// column is one column of a ClickHouse table.
type column struct {
	name  string
	ctype string
	codec string
	doc   string
	since int // the schema version that brought it
}

// table is one table as ClickHouse has it: the columns that every engine has, then batch.
type table struct {
	name    string
	columns []column
	time    string   // the column that partitions and ages the rows
	order   []string // ORDER BY
	key     string   // expression that gives a row's entry in store.Batch.IDs
	lookups []string // columns with a bloom filter
	days    int      // retention; 0 keeps for ever
	since   int
}

// column returns the named column, or nil.
func (t *table) column(name string) *column {
	if i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name }); i >= 0 {
		return &t.columns[i]
	}
	return nil
}

// Retention in days. A store thins its power and ledger rows to minutes after 14 days; here they keep
// their seconds, and power goes first.
const (
	daysRequests = 400
	daysLedger   = 400
	daysPower    = 100
	daysGaps     = 7
)

// tables lists the tables of the current schema. since says when a column came that was not in version 1.
func tables(since map[string]int) []table {
	at := func(table, column string) int { return max(1, since[table+"."+column]) }
	return []table{
		{
			name: store.TableRequests, time: "started_at", order: []string{"instance", "started_at", "id"}, key: "id",
			lookups: []string{"id", "trace_id"}, days: daysRequests, since: 1,
			columns: columns(at, store.TableRequests, meter.Columns(), []string{"id", "instance"},
				"id", "error", "client_request_id", "trace_id", "details"),
		},
		{
			name: store.TablePower, time: "at", order: []string{"instance", "device", "at"}, key: sampleKey, days: daysPower, since: 1,
			columns: columns(at, store.TablePower, sink.PowerColumns(), []string{"instance", "device"}),
		},
		{
			name: store.TableLedger, time: "at", order: []string{"instance", "device", "at"}, key: sampleKey, days: daysLedger, since: 1,
			columns: columns(at, store.TableLedger, sink.LedgerColumns(), []string{"instance", "device"}),
		},
		{
			name: store.TableConfigs, time: "at", order: []string{"instance", "at", "config_id"}, key: "config_id", since: 1,
			columns: columns(at, store.TableConfigs, sink.ConfigColumns(), []string{"config_id", "instance"}, "config_id"),
		},
		{
			name: store.TableGaps, time: "started_at", order: []string{"instance", "started_at", "id"}, key: "id", days: daysGaps, since: 1,
			columns: columns(at, store.TableGaps, sink.GapsColumns(), []string{"id", "instance"}, "id"),
		},
	}
}

// sampleKey writes what store.Batch.IDs holds for a row of power or ledger.
const sampleKey = "concat(instance, '|', device, '|', toString(at))"

const timeType = "DateTime64(6, 'UTC')"

// batchColumn names the shipped batch that a row belongs to: store.Batch.Token, a hash of its rows' ids.
// The number of the batch would not do: it starts again when a damaged store is replaced.
func batchColumn() column {
	return column{"batch", "LowCardinality(String)", codecText, "token of the batch that brought the row", 1}
}

// columns turns the columns that all engines share into ClickHouse's. Those in keys are never null: they
// identify and order the rows. Those in free have many different texts, so a dictionary would only cost.
func columns[C anyColumn](at func(table, column string) int, table string, shared []C, keys []string, free ...string) []column {
	var out []column
	for _, s := range shared {
		name, unit, doc, field := describe(s)
		c := column{name: name, doc: doc, since: at(table, name)}
		if unit != "" {
			c.doc = unit + "; " + doc
		}
		c.ctype, c.codec = typeOf(field, slices.Contains(keys, name), slices.Contains(free, name))
		out = append(out, c)
	}
	return append(out, batchColumn())
}

// anyColumn is a column as package meter or package sink describes it.
type anyColumn interface {
	meter.Column | sink.Column[sink.Power] | sink.Column[sink.Ledger] | sink.Column[sink.ServerConfig] | sink.Column[sink.Gaps]
}

// describe returns what a shared column says, and a pointer to its field in a zero row.
func describe[C anyColumn](c C) (name, unit, doc string, field any) {
	switch c := any(c).(type) {
	case meter.Column:
		return c.Name, c.Unit, c.Doc, c.Ptr(new(meter.Record))
	case sink.Column[sink.Power]:
		return c.Name, c.Unit, c.Doc, c.Ptr(new(sink.Power))
	case sink.Column[sink.Ledger]:
		return c.Name, c.Unit, c.Doc, c.Ptr(new(sink.Ledger))
	case sink.Column[sink.ServerConfig]:
		return c.Name, c.Unit, c.Doc, c.Ptr(new(sink.ServerConfig))
	case sink.Column[sink.Gaps]:
		return c.Name, c.Unit, c.Doc, c.Ptr(new(sink.Gaps))
	}
	panic("clickhouse: a column of an unknown kind")
}

// typeOf is the ClickHouse type and codec of a field, given by pointer. A null integer or text stays null;
// a map or list that is null is empty here, since ClickHouse has no nullable ones.
func typeOf(field any, key, free bool) (ctype, codec string) {
	switch field.(type) {
	case *meter.Int:
		return "Nullable(Int64)", codecInt
	case *time.Time:
		return timeType, codecInt
	case *string, *meter.Outcome, **meter.Details:
		ctype = "String"
		if !key {
			ctype = "Nullable(String)"
		}
		if !free {
			ctype = "LowCardinality(" + ctype + ")"
		}
		return ctype, codecText
	case *map[string]string:
		return "Map(String, String)", codecText
	case *[]string:
		return "Array(LowCardinality(String))", codecText
	case *[]int64:
		return "Array(Int64)", codecInt
	case *[]uint32:
		return "Array(UInt32)", codecInt
	}
	panic(fmt.Sprintf("clickhouse: a column has a field of unknown type %T", field))
}
