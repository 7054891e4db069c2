package clickhouse

import (
	"fmt"
	"slices"
	"strings"

	"wattline/sink"
)

// versionTable records which versions were applied.
const versionTable = "wattline_schema"

// schema is the source of the DDL. Tests make older and newer ones.
type schema struct {
	version int
	tables  []table
	derived []sink.Derived // columns of the view
}

// current is the schema of this wattline.
func current() schema {
	return schema{version: sink.SchemaVersion(), tables: tables(), derived: sink.EfficiencyColumns()}
}

// table returns the named table, or nil.
func (s *schema) table(name string) *table {
	if i := slices.IndexFunc(s.tables, func(t table) bool { return t.name == name }); i >= 0 {
		return &s.tables[i]
	}
	return nil
}

// Layout says where the tables go. Database is required.
type Layout struct {
	Database string
	// Cluster makes each table a replicated one on each shard, named TABLE_local, and a distributed one named TABLE, which
	// keeps a batch on one shard. Empty: plain tables on one server.
	Cluster string
}

// DDL returns the statements that bring a database from nothing, or from any earlier schema version, to
// this one. Running them again changes nothing. No statement drops, narrows or rewrites anything.
func DDL(l Layout) []string { return current().ddl(l) }

func (s schema) ddl(l Layout) []string {
	out := []string{"CREATE DATABASE IF NOT EXISTS " + name(l.Database) + l.onCluster()}
	out = append(out, l.create(versionTableDef())...)
	for v := 1; v <= s.version; v++ {
		for i := range s.tables {
			out = append(out, s.tables[i].migration(l, v)...)
		}
		if v == s.version {
			out = append(out, s.view(l))
		}
		out = append(out, l.note(v))
	}
	return out
}

// note returns the statement that records version v as applied.
func (l Layout) note(v int) string {
	now := ""
	if l.Cluster != "" {
		now = " SETTINGS distributed_foreground_insert = 1"
	}
	return fmt.Sprintf("INSERT INTO %[1]s (version)%[3]s SELECT %[2]d WHERE %[2]d NOT IN (SELECT version FROM %[1]s)", l.table(versionTable), v, now)
}

func versionTableDef() *table {
	return &table{name: versionTable, order: []string{"version"}, columns: []column{
		{"version", "UInt32", "", "schema version whose statements have run", 1},
		{"applied_at", "DateTime DEFAULT now()", "", "when they had", 1},
	}}
}

// migration returns the statements of version v for the table.
func (t *table) migration(l Layout, v int) []string {
	if t.since() == v {
		first := *t
		first.columns = nil
		for _, c := range t.columns {
			if c.since <= v {
				first.columns = append(first.columns, c)
			}
		}
		return l.create(&first)
	}
	var out []string
	for i, c := range t.columns {
		if c.since != v || t.since() > v {
			continue
		}
		out = append(out, t.addColumn(l, i)...)
	}
	return out
}

// addColumn adds the i-th column, which is never the first, where it is not there yet. It goes behind the nearest
// column before it that is at least as old, since a younger one does not exist yet.
func (t *table) addColumn(l Layout, i int) []string {
	var out []string
	after := i - 1
	for after > 0 && t.columns[after].since > t.columns[i].since {
		after--
	}
	for _, physical := range l.physical(t.name) {
		out = append(out, fmt.Sprintf("ALTER TABLE %s%s ADD COLUMN IF NOT EXISTS %s AFTER %s",
			physical, l.onCluster(), t.columns[i].definition(), name(t.columns[after].name)))
	}
	return out
}

// create returns the statement, for a cluster the two statements, that create a table.
func (l Layout) create(t *table) []string {
	if l.Cluster == "" {
		return []string{"CREATE TABLE IF NOT EXISTS " + l.table(t.name) + " (\n" + t.body() + "\n)\nENGINE = MergeTree" + t.clauses(l)}
	}
	sharding := "cityHash64(instance, batch)"
	if t.column("batch") == nil {
		sharding = "cityHash64(" + t.order[0] + ")"
	}
	return []string{
		"CREATE TABLE IF NOT EXISTS " + l.local(t.name) + l.onCluster() + " (\n" + t.body() +
			"\n)\nENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')" + t.clauses(l),
		"CREATE TABLE IF NOT EXISTS " + l.table(t.name) + l.onCluster() + " AS " + l.local(t.name) +
			"\nENGINE = Distributed(" + quote(l.Cluster) + ", " + quote(l.Database) + ", " + quote(t.name+localSuffix) + ", " + sharding + ")",
	}
}

func (t *table) body() string {
	lines := make([]string, 0, len(t.columns)+len(t.lookups))
	for _, c := range t.columns {
		lines = append(lines, "\t"+c.definition())
	}
	for _, c := range t.lookups {
		lines = append(lines, fmt.Sprintf("\tINDEX %s_bloom `%[1]s` TYPE bloom_filter(0.01) GRANULARITY 1", c))
	}
	return strings.Join(lines, ",\n")
}

func (c *column) definition() string {
	d := name(c.name) + " " + c.ctype + " COMMENT " + quote(c.doc)
	if c.codec != "" {
		d += " CODEC(" + c.codec + ")"
	}
	return d
}

func (t *table) clauses(l Layout) string {
	var b strings.Builder
	if t.time != "" {
		fmt.Fprintf(&b, "\nPARTITION BY toYYYYMM(%s)", t.time)
	}
	fmt.Fprintf(&b, "\nORDER BY (%s)", strings.Join(t.order, ", "))
	if t.days > 0 {
		fmt.Fprintf(&b, "\nTTL toDateTime(%s) + INTERVAL %d DAY", t.time, t.days)
	}
	if t.column("batch") != nil {
		fmt.Fprintf(&b, "\nSETTINGS %s", settings(l))
	}
	return b.String()
}

// settings make a retried INSERT harmless: both kinds of table remember the tokens of the last 10,000 batches, replicated
// ones for a week instead of an hour. On one server, without a replica, an INSERT is answered once the rows are on the disk
// and not only in its cache. Expired rows are dropped with their whole part, which costs nothing.
func settings(l Layout) string {
	if l.Cluster == "" {
		return "non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1"
	}
	return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, ttl_only_drop_parts = 1"
}

// view returns the statement for view efficiency: the rows of requests in common units. A view holds no data, so it is
// simply replaced.
func (s schema) view(l Layout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s%s AS\nSELECT", l.table(viewName), l.onCluster())
	for i, c := range sink.EfficiencyIdentity() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n\t`%s`", c)
	}
	for _, c := range s.derived {
		fmt.Fprintf(&b, ",\n\t%s AS `%s`", c.Expr, c.Name)
	}
	fmt.Fprintf(&b, "\nFROM %s", l.table("requests"))
	return b.String()
}

const viewName = "efficiency"

// viewColumns returns the view's columns.
func (s schema) viewColumns() []string {
	out := sink.EfficiencyIdentity()
	for _, c := range s.derived {
		out = append(out, c.Name)
	}
	return out
}

const localSuffix = "_local"

func (l Layout) table(t string) string { return name(l.Database) + "." + name(t) }
func (l Layout) local(t string) string { return l.table(t + localSuffix) }

// physical returns the tables that a change of columns applies to, the one with the data first.
func (l Layout) physical(t string) []string {
	if l.Cluster == "" {
		return []string{l.table(t)}
	}
	return []string{l.local(t), l.table(t)}
}

func (l Layout) onCluster() string {
	if l.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + quote(l.Cluster)
}

// name quotes an identifier, quote a text.
func name(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}

func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
