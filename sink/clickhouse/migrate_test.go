package clickhouse

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wattline/sink/clickhouse/chtest"
)

// next is a schema one version on from the current one: two new columns and a new table.
func next() schema {
	s := current()
	s.version++
	requests := &s.tables[0]
	at := slices.IndexFunc(requests.columns, func(c column) bool { return c.name == "gpu_temp_c" })
	requests.columns = slices.Insert(requests.columns, at+1,
		column{"gpu_hotspot_c", "Nullable(Int64)", codecInt, "a column of tomorrow", s.version},
		column{"cooling", "LowCardinality(Nullable(String))", codecText, "another", s.version})
	s.tables = append(s.tables, table{
		name: "carbon", time: "at", order: []string{"instance", "at"}, key: "instance",
		columns: []column{{"at", timeType, codecInt, "when", s.version}, {"instance", "LowCardinality(String)", codecText, "who", s.version}, batchColumn(s.version)},
	})
	return s
}

// previous is the schema of the version before, which lacks what this version brought.
func previous() schema {
	s := current()
	s.version--
	s.tables = slices.DeleteFunc(s.tables, func(t table) bool { return t.since() > s.version })
	s.derived = slices.Clone(s.derived)
	for i := range s.tables {
		s.tables[i].columns = slices.DeleteFunc(s.tables[i].columns, func(c column) bool {
			if c.since <= s.version {
				return false
			}
			for j := range s.derived {
				s.derived[j].Expr = regexp.MustCompile(`\b`+c.name+`\b`).ReplaceAllString(s.derived[j].Expr, "NULL")
			}
			return true
		})
	}
	return s
}

// A database that version 1 made, of which its rows are the proof: the statements are the released ones.
// Rows ship into it as it is, without what it has no column for; then Apply brings the columns, and they
// are filled.
func TestUpgradeFromFirstVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	text, err := os.ReadFile("testdata/schema1.sql")
	must(t, err)
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(text), "`wattline`", name(w.db)), ";\n\n") {
		w.query(strings.TrimSuffix(strings.TrimSpace(statement), ";"))
	}
	c := w.client(false)
	s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 60, Requests: 200, Samples: 100, Gaps: true}))
	must(t, w.shipper(c, s).Flush(t.Context()))
	w.exactlyOnce(s)
	must(t, c.Apply(t.Context(), ""))
	findings, err := c.Verify(t.Context(), "")
	must(t, err)
	if len(findings) > 0 {
		t.Errorf("after Apply: %q", findings)
	}
	more := chtest.Rows(chtest.RowsConfig{Seed: 61, Requests: 200, Samples: 100, Instance: "later", From: time.Now().Add(-time.Hour)})
	must(t, s.Write(t.Context(), more))
	must(t, w.shipper(c, s).Flush(t.Context()))
	w.exactlyOnce(s)
	if got := w.query("SELECT instance = 'later', count(), count(min_mw), count(simulated) FROM $db.power GROUP BY 1 ORDER BY 1"); got != "0\t100\t0\t0\n1\t100\t100\t100" {
		t.Errorf("rows and new columns filled, before and after: %q", got)
	}
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	for _, layout := range []Layout{{}, {Cluster: "gpus"}} {
		w := newWorld(t, chtest.Options{})
		layout.Database = w.db
		if layout.Cluster != "" {
			statements := next().ddl(layout)
			alters := slices.DeleteFunc(statements, func(s string) bool { return !strings.HasPrefix(s, "ALTER") })
			alters = alters[max(0, len(alters)-4):] // this version's come before
			if !strings.Contains(alters[0], "`requests_local` ON CLUSTER 'gpus' ADD COLUMN IF NOT EXISTS `gpu_hotspot_c`") || !strings.Contains(alters[1], "`requests` ON CLUSTER") {
				t.Errorf("alterations of a cluster: %q", alters)
			}
			continue
		}
		c := w.client(false)
		s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 6, Requests: 100}))
		must(t, w.shipper(c, s).Flush(t.Context()))
		for range 2 {
			must(t, c.apply(t.Context(), next(), layout))
		}
		findings, err := c.verify(t.Context(), next(), layout)
		must(t, err)
		if len(findings) > 0 {
			t.Errorf("after the migration: %q", findings)
		}
		if got := w.query("SELECT name FROM system.columns WHERE database = '" + w.db + "' AND table = 'requests' AND position > (SELECT position FROM system.columns WHERE database = '" + w.db + "' AND table = 'requests' AND name = 'gpu_temp_c') ORDER BY position LIMIT 2"); got != "gpu_hotspot_c\ncooling" {
			t.Errorf("the new columns are %q", got)
		}
		if got := w.query("SELECT version FROM $db." + versionTable + " ORDER BY version"); got != versions(next().version) {
			t.Errorf("versions %q", got)
		}
		if err := c.Apply(t.Context(), ""); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema version %d", next().version)) {
			t.Errorf("an older wattline applied its schema to a newer one: %v", err)
		}
	}
}

// versions are the numbers up to n, one a line.
func versions(n int) string {
	var lines []string
	for v := 1; v <= n; v++ {
		lines = append(lines, strconv.Itoa(v))
	}
	return strings.Join(lines, "\n")
}

// A column goes behind an older one: one that a later version adds between the two does not exist yet.
func TestColumnsOfSeveralVersionsAreAddedInOrder(t *testing.T) {
	tab := table{name: "t", order: []string{"a"}, columns: []column{{name: "a", since: 1}, {name: "late", since: 3}, {name: "early", since: 2}, {name: "last", since: 3}}}
	l := Layout{Database: "db"}
	for v, want := range map[int][]string{2: {"`early`", "`a`"}, 3: {"`late`", "`a`", "`last`", "`early`"}} {
		got := afterColumn.FindAllStringSubmatch(strings.Join(tab.migration(l, v), "\n"), -1)
		var names []string
		for _, m := range got {
			names = append(names, m[1], m[2])
		}
		if !slices.Equal(names, want) {
			t.Errorf("version %d adds, each behind the next: %q, expected %q", v, names, want)
		}
	}
}

var afterColumn = regexp.MustCompile("IF NOT EXISTS (`[a-z]+`).* AFTER (`[a-z]+`)")

// serve creates the tables where there are none, and never touches what it finds.
func TestEnsureOnlyCreates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	c := w.client(true)
	created, _, err := c.Ensure(t.Context())
	must(t, err)
	if !created {
		t.Error("an empty database was left empty")
	}
	created, findings, err := c.Ensure(t.Context())
	must(t, err)
	if created || len(findings) > 0 {
		t.Errorf("a second time: %v, %q", created, findings)
	}

	// As after a kill in the middle of it:
	w.query("DROP TABLE $db.ledger")
	w.query("TRUNCATE TABLE $db." + versionTable)
	created, _, err = c.Ensure(t.Context())
	must(t, err)
	if !created {
		t.Error("an interrupted creation was not finished")
	}
	must(t, c.Apply(t.Context(), ""))
	if err := c.Apply(t.Context(), "gpus"); err == nil || !strings.Contains(err.Error(), "plain tables") {
		t.Errorf("a cluster over plain tables: %v", err)
	}

	w.query("ALTER TABLE $db.requests DROP COLUMN ram_bytes")
	w.query("ALTER TABLE $db.requests MODIFY COLUMN `path` Nullable(String)")
	w.query("ALTER TABLE $db.requests ADD COLUMN mine UInt8 DEFAULT 7")
	w.query("DROP TABLE $db.power")
	w.query("DROP VIEW $db.efficiency")
	w.query("ALTER TABLE $db.ledger MODIFY SETTING non_replicated_deduplication_window = 0")
	before := w.query("SELECT create_table_query FROM system.tables WHERE database = '" + w.db + "' ORDER BY name")
	_, findings, err = c.Ensure(t.Context())
	must(t, err)
	want := []string{
		"column path of table requests is Nullable(String), not LowCardinality(Nullable(String))",
		"table requests lacks column ram_bytes",
		"table power is missing",
		"table ledger keeps no deduplication log",
		"view efficiency is missing",
	}
	for i, f := range want {
		if i >= len(findings) || !strings.HasPrefix(findings[i], f) {
			t.Fatalf("findings %q, expected %q", findings, want)
		}
	}
	if len(findings) != len(want) {
		t.Errorf("findings %q, expected %q", findings, want)
	}
	if after := w.query("SELECT create_table_query FROM system.tables WHERE database = '" + w.db + "' ORDER BY name"); after != before {
		t.Errorf("Ensure changed a schema:\n%s\n%s", before, after)
	}
	must(t, c.Apply(t.Context(), ""))
	findings, err = c.Verify(t.Context(), "")
	must(t, err)
	if len(findings) != 2 { // a type and a setting are the owner's to change; Apply only adds
		t.Errorf("after Apply: %q", findings)
	}
}

// A table without a deduplication log or with missing columns still gets every row it can hold.
func TestShipIntoOtherVersions(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]schema{"older": previous(), "newer": next()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, chtest.Options{})
			c := w.client(false)
			must(t, c.run(t.Context(), s.ddl(Layout{Database: w.db})))
			box := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 7, Requests: 700, Samples: 50}))
			must(t, w.shipper(c, box).Flush(t.Context()))
			w.exactlyOnce(box)
		})
	}
}
