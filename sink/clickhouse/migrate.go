package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ensure creates the current schema where the database has none of wattline's tables, or finishes such a
// creation that was interrupted. It does not change an existing schema; `wattline ddl --apply` does. It returns whether it
// created the schema, and Verify's findings. Findings are not an error, since rows can be shipped into neighbouring versions.
func (c *Client) Ensure(ctx context.Context) (created bool, findings []string, err error) {
	return c.ensure(ctx, current())
}

func (c *Client) ensure(ctx context.Context, s schema) (bool, []string, error) {
	found, err := c.inspect(ctx)
	if err != nil {
		return false, nil, err
	}
	l := Layout{Database: c.target.database}
	v, err := c.schemaVersion(ctx, found)
	if err != nil {
		return false, nil, err
	}
	// The version table is created first and filled last.
	unfinished := found[versionTable] != nil && v == 0
	if !unfinished && (found[versionTable] != nil || slices.ContainsFunc(s.tables, func(t table) bool { return found[t.name] != nil })) {
		findings, err := c.verify(ctx, s, l)
		return false, findings, err
	}
	return true, nil, c.migrate(ctx, s, l)
}

// Apply brings the database to the current schema. It may be repeated. It refuses a database with a newer schema.
func (c *Client) Apply(ctx context.Context, cluster string) error {
	return c.apply(ctx, current(), Layout{Database: c.target.database, Cluster: cluster})
}

func (c *Client) apply(ctx context.Context, s schema, l Layout) error {
	found, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	v, err := c.schemaVersion(ctx, found)
	if err != nil {
		return err
	}
	if v > s.version {
		return fmt.Errorf("clickhouse: database %s has schema version %d and this wattline knows none above %d: change it with the newer wattline that made it (this one can still ship into it)",
			l.Database, v, s.version)
	}
	if t := found[s.tables[0].name]; t != nil && (t.engine == "Distributed") != (l.Cluster != "") {
		if l.Cluster == "" {
			return fmt.Errorf("clickhouse: the tables of database %s are distributed: name their cluster with --cluster", l.Database)
		}
		return fmt.Errorf("clickhouse: database %s already has plain tables, which a cluster's would not replace: use another database, or RENAME them first", l.Database)
	}
	if err := c.migrate(ctx, s, l); err != nil {
		return err
	}
	if found, err = c.inspect(ctx); err != nil {
		return err
	}
	return c.run(ctx, s.repairs(l, found))
}

// migrate runs the DDL. It leaves out the creation of an existing database, for which few users have the right.
func (c *Client) migrate(ctx context.Context, s schema, l Layout) error {
	statements := s.ddl(l)
	if l.Cluster != "" { // the database may be missing on another node
		return c.run(ctx, statements)
	}
	there := false
	err := c.each(ctx, "SELECT name FROM system.databases WHERE name = "+quote(l.Database), func(func(...any) error) error {
		there = true
		return nil
	})
	if err != nil {
		return c.target.wrap("look for database "+l.Database, err)
	}
	if there {
		statements = statements[1:]
	}
	return c.run(ctx, statements)
}

// repairs returns the statements that restore lost columns of tables of this version.
func (s schema) repairs(l Layout, found map[string]*foundTable) []string {
	var out []string
	for i := range s.tables {
		t := &s.tables[i]
		for j, col := range t.columns {
			if f := found[t.name]; f != nil && f.column(col.name) == nil {
				out = append(out, t.addColumn(l, j)...)
			}
		}
	}
	return out
}

// statementTimeout bounds one DDL statement; ON CLUSTER waits for every replica.
const statementTimeout = 5 * time.Minute

func (c *Client) run(ctx context.Context, statements []string) error {
	for _, s := range statements {
		ctx, cancel := context.WithTimeout(ctx, statementTimeout)
		err := c.exec(ctx, firstLine(s), s)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// firstLine returns the first line of a statement, as its name in errors.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSuffix(line, " (")
}

// Verify compares the database with the current schema and returns one sentence for each difference that
// matters. Unknown columns and other codecs, orders or retentions are the owner's choice and not reported.
func (c *Client) Verify(ctx context.Context, cluster string) ([]string, error) {
	return c.verify(ctx, current(), Layout{Database: c.target.database, Cluster: cluster})
}

func (c *Client) verify(ctx context.Context, s schema, l Layout) ([]string, error) {
	found, err := c.inspect(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	v, err := c.schemaVersion(ctx, found)
	switch {
	case err != nil:
		return nil, err
	case v < s.version:
		out = append(out, fmt.Sprintf("schema version %d, this wattline has %d", v, s.version))
	case v > s.version:
		out = append(out, fmt.Sprintf("schema version %d is newer than this wattline's %d: columns unknown to it keep their defaults", v, s.version))
	}
	for i := range s.tables {
		t := &s.tables[i]
		out = append(out, t.compare(t.name, found[t.name])...)
		if l.Cluster != "" {
			out = append(out, t.compare(t.name+localSuffix, found[t.name+localSuffix])...)
			out = append(out, checkEngine(t.name+localSuffix, found, Layout{})...) // the rows are there
		}
		out = append(out, checkEngine(t.name, found, l)...)
	}
	return append(out, s.compareView(found[viewName])...), nil
}

// compare lists columns that are missing or have another type.
func (t *table) compare(name string, f *foundTable) []string {
	if f == nil {
		return []string{"table " + name + " is missing"}
	}
	var out []string
	for _, c := range t.columns {
		switch have := f.column(c.name); {
		case have == nil:
			out = append(out, fmt.Sprintf("table %s lacks column %s", name, c.name))
		case have.ctype != c.ctype:
			out = append(out, fmt.Sprintf("column %s of table %s is %s, not %s", c.name, name, have.ctype, c.ctype))
		}
	}
	return out
}

var dedupWindow = regexp.MustCompile(`\bnon_replicated_deduplication_window\s*=\s*(\d+)`)

// checkEngine reports an engine or setting with which a retried batch could double its rows.
func checkEngine(table string, found map[string]*foundTable, l Layout) []string {
	f := found[table]
	if f == nil {
		return nil
	}
	if l.Cluster != "" && f.engine != "Distributed" {
		return []string{fmt.Sprintf("table %s is %s, not Distributed over cluster %s", table, f.engine, l.Cluster)}
	}
	if f.replicated() || !strings.HasSuffix(f.engine, "MergeTree") {
		return nil
	}
	m := dedupWindow.FindStringSubmatch(f.create)
	if m != nil {
		if n, _ := strconv.Atoi(m[1]); n > 0 {
			return nil
		}
	}
	return []string{fmt.Sprintf("table %s keeps no deduplication log, so a batch sent twice could double its rows: ALTER TABLE %s MODIFY SETTING non_replicated_deduplication_window = 10000", table, table)}
}

// compareView lists the columns that view efficiency lacks.
func (s schema) compareView(f *foundTable) []string {
	if f == nil {
		return []string{"view " + viewName + " is missing"}
	}
	var out []string
	for _, c := range s.viewColumns() {
		if f.column(c) == nil {
			out = append(out, fmt.Sprintf("view %s lacks column %s", viewName, c))
		}
	}
	return out
}
