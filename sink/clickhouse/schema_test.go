package clickhouse

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wattline/sink/clickhouse/chtest"
)

var update = flag.Bool("update", false, "rewrite the golden files") //nolint:gochecknoglobals // a test's flag

func script(statements []string) string { return strings.Join(statements, ";\n\n") + ";\n" }

// The DDL's text is part of what users review and keep: it changes only on purpose. A column that a
// released version has must not change at all.
func TestDDLText(t *testing.T) {
	for file, layout := range map[string]Layout{
		"schema.sql":  {Database: "wattline"},
		"cluster.sql": {Database: "wattline", Cluster: "gpus"},
	} {
		path, got := filepath.Join("testdata", file), script(DDL(layout))
		if *update {
			must(t, os.WriteFile(path, []byte(got), 0o600))
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (go test ./sink/clickhouse -run TestDDLText -update rewrites it):\n%s", path, d)
		}
	}
}

// The real parser reads the cluster's statements as they are, and every statement runs twice.
func TestDDLRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	for range 2 {
		for _, s := range DDL(Layout{Database: w.db}) {
			w.query(s)
		}
	}
	if got := w.query("SELECT version FROM $db." + versionTable + " ORDER BY version"); got != versions(current().version) {
		t.Errorf("versions %q", got)
	}
	parsed := 0
	for _, s := range DDL(Layout{Database: w.db, Cluster: "gpus"}) {
		if got := w.query("SELECT length(formatQuery(" + quote(s) + ")) > 0"); got != "1" {
			t.Errorf("the parser does not take %s", s)
		}
		parsed++
	}
	if parsed < 15 {
		t.Errorf("only %d statements", parsed)
	}
}

var replicatedEngine = regexp.MustCompile(`ReplicatedMergeTree\('[^']*', '[^']*'\)`)

// unreplicated is a cluster's DDL as one engine without a keeper can run it: nothing else changes. The
// settings of replicated tables are those of plain ones too, which ignore them, so a window is added.
func unreplicated(statements []string, cluster string) []string {
	out := slices.Clone(statements)
	for i, s := range out {
		s = replicatedEngine.ReplaceAllString(s, "MergeTree")
		s = strings.ReplaceAll(s, " ON CLUSTER '"+cluster+"'", "")
		out[i] = strings.ReplaceAll(s, "replicated_deduplication_window = 10000, ", "non_replicated_deduplication_window = 10000, ")
	}
	return out
}

// cluster makes the tables of a cluster of one shard, ReplicatedMergeTree replaced, on an engine that knows it.
func cluster(t *testing.T, name string) *world {
	t.Helper()
	known := &chtest.Cluster{Name: name, Addr: chtest.FreeAddr(t)}
	w := &world{t: t, srv: chtest.NewServer(t, chtest.StartEngine(t, known), chtest.Options{NativeAddr: known.Addr}), db: "fleet"}
	for range 2 {
		for _, s := range unreplicated(DDL(Layout{Database: w.db, Cluster: name}), name) {
			w.query(s)
		}
	}
	return w
}

// Rows shipped into the distributed tables reach the shard by the native protocol, a batch sent twice is
// recognised there, and the view reads them back.
func TestClusterTables(t *testing.T) {
	t.Parallel()
	w := cluster(t, "gpus")
	c := w.client(false)
	s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 4, Requests: 900, Samples: 100, Gaps: true}))
	w.insertTwice(c, s)
	must(t, w.shipper(c, s).Flush(t.Context()))
	w.exactlyOnce(s)
	if local, all := w.query("SELECT count(), count(DISTINCT batch) FROM $db.requests_local"), "900\t2"; local != all {
		t.Errorf("the shard has %q, expected %q", local, all)
	}
	if got := w.query("SELECT count(), countIf(gpu_j > 0) > 0 FROM $db.efficiency"); got != "900\t1" {
		t.Errorf("the view has %q", got)
	}
	findings, err := c.Verify(t.Context(), "gpus")
	must(t, err)
	if len(findings) > 0 {
		t.Errorf("verify: %q", findings)
	}
	w.query("ALTER TABLE $db.requests_local MODIFY SETTING non_replicated_deduplication_window = 0")
	findings, err = c.Verify(t.Context(), "gpus")
	must(t, err)
	if len(findings) != 1 || !strings.HasPrefix(findings[0], "table requests_local keeps no deduplication log") {
		t.Errorf("verify: %q", findings)
	}
}

// On a cluster a remembered token is enough: rows that are not seen are on another replica, and sending them under another
// token would double them.
func TestReplicatedRowsAreNotRefilled(t *testing.T) {
	t.Parallel()
	w := cluster(t, "gpus")
	c := w.client(true)
	s := outbox(t, chtest.Rows(chtest.RowsConfig{Seed: 40, Requests: 300}))
	w.insertTwice(c, s)
	w.query("ALTER TABLE $db.requests_local MODIFY SETTING remove_empty_parts = 0")         // which would take the token with it
	w.query("ALTER TABLE $db.requests_local DELETE WHERE true SETTINGS mutations_sync = 2") // as a replica that lags
	sh := w.shipper(c, s)
	sh.deliverTo(c, current()).settle = 0
	must(t, sh.Flush(t.Context()))
	if st := sh.Stats(); st.Refilled != 0 || st.Resent != 1 || st.Rows["requests"] != 300 {
		t.Errorf("%+v", st)
	}
	if n := w.query("SELECT count() FROM $db.requests"); n != "0" {
		t.Errorf("%s rows were sent under another token", n)
	}
}

// The statements of a TTL and an index do what they say: expired parts go, a trace is found by its bloom filter.
func TestRetentionAndIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, chtest.Options{})
	c := w.client(false)
	rows := chtest.Rows(chtest.RowsConfig{Seed: 5, Requests: 3000})
	for _, r := range rows.Requests[:1000] {
		r.StartedAt = r.StartedAt.AddDate(0, 0, -daysRequests-60)
	}
	rows.Requests[1500].TraceID = "0af7651916cd43dd8448eb211c80319c"
	s := outbox(t, rows)
	must(t, w.shipper(c, s).Flush(t.Context()))
	w.query("OPTIMIZE TABLE $db.requests FINAL")
	if got := w.query("SELECT count() FROM $db.requests"); got != "2000" {
		t.Errorf("%s requests after the merge, expected 2000 that have not expired", got)
	}
	w.query("OPTIMIZE TABLE $db.requests FINAL")
	plan := w.query("EXPLAIN indexes = 1 SELECT id FROM $db.requests WHERE trace_id = '0af7651916cd43dd8448eb211c80319c'")
	if !strings.Contains(plan, "trace_id_bloom") {
		t.Errorf("the bloom filter is not used:\n%s", plan)
	}
	if got := w.query("SELECT count() FROM $db.requests WHERE trace_id = '0af7651916cd43dd8448eb211c80319c'"); got != "1" {
		t.Errorf("found %s", got)
	}
}
