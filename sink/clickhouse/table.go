package clickhouse

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/store"
)

// Codecs that made wattline's rows smallest (BenchmarkColumns prints the comparison). Delta and DoubleDelta were larger, even
// for ordered times.
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
	since int // the schema version that added it
}

// table is one table in ClickHouse: the columns common to all engines, then batch.
type table struct {
	name    string
	columns []column
	time    string   // the column for partitions and retention
	order   []string // ORDER BY
	key     string   // expression of a row's entry in store.Batch.IDs
	repeats bool     // a store that was replaced makes the same rows again, with another time
	lookups []string // columns with a bloom filter
	days    int      // retention; 0: unlimited
}

// since is the schema version that added the table: the lowest of its columns'.
func (t *table) since() int {
	return slices.MinFunc(t.columns, func(a, b column) int { return cmp.Compare(a.since, b.since) }).since
}

// column returns the named column, or nil.
func (t *table) column(name string) *column {
	if i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name }); i >= 0 {
		return &t.columns[i]
	}
	return nil
}

// Retention in days. Power and ledger rows are kept by the second here.
const (
	daysRequests = 400
	daysLedger   = 400
	daysPower    = 100
	daysGaps     = 7
)

// tables lists the tables of the current schema.
func tables() []table {
	return []table{
		{
			name: store.TableRequests, time: "started_at", order: []string{"instance", "started_at", "id"}, key: "id",
			lookups: []string{"id", "trace_id"}, days: daysRequests,
			columns: columns(sink.RequestColumns(), []string{"id", "instance"}, "id", "error", "client_request_id", "trace_id", "details"),
		},
		{
			name: store.TablePower, time: "at", order: []string{"instance", "device", "at"}, key: sampleKey, days: daysPower,
			columns: columns(sink.PowerColumns(), []string{"instance", "device"}),
		},
		{
			name: store.TableLedger, time: "at", order: []string{"instance", "device", "at"}, key: sampleKey, days: daysLedger,
			columns: columns(sink.LedgerColumns(), []string{"instance", "device"}),
		},
		{
			name: store.TableConfigs, time: "at", order: []string{"instance", "at", "config_id"}, key: "config_id", repeats: true,
			columns: columns(sink.ConfigColumns(), []string{"config_id", "instance"}, "config_id"),
		},
		{
			name: store.TableGaps, time: "started_at", order: []string{"instance", "started_at", "id"}, key: "id", days: daysGaps,
			columns: columns(sink.GapsColumns(), []string{"id", "instance"}, "id"),
		},
	}
}

// sampleKey is the expression of a power or ledger row's entry in store.Batch.IDs.
const sampleKey = "concat(instance, '|', device, '|', toString(at))"

const timeType = "DateTime64(6, 'UTC')"

// batchColumn holds store.Batch.Token of the row's batch. Batch.Seq would not do: it restarts when a damaged store is
// replaced.
func batchColumn(since int) column {
	return column{"batch", "LowCardinality(String)", codecText, "token of the batch that brought the row", since}
}

// columns converts the columns common to all engines to ClickHouse's. keys identify and order the rows and are never null.
// unique columns have too many different texts for a dictionary.
func columns[T any](shared []sink.Column[T], keys []string, unique ...string) []column {
	var out []column
	for _, s := range shared {
		c := column{name: s.Name, doc: s.Doc, since: s.Since}
		if s.Unit != "" {
			c.doc = s.Unit + "; " + s.Doc
		}
		c.ctype, c.codec = typeOf(s.Ptr(new(T)), slices.Contains(keys, s.Name), slices.Contains(unique, s.Name))
		out = append(out, c)
	}
	return append(out, batchColumn(out[0].since))
}

// typeOf returns the ClickHouse type and codec of a field, given by pointer. A null map or list becomes an empty one:
// ClickHouse has no nullable maps or lists.
func typeOf(field any, key, unique bool) (ctype, codec string) {
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
		if !unique {
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
