package grafana_test

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // a driver without wattline's functions, as the plugin has it

	"wattline/deploy/grafana"
	"wattline/sink/clickhouse"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/queries"
	"wattline/sink/store"
)

//nolint:gochecknoglobals // one engine for the package's tests, and the usual flag
var (
	shared chtest.Shared
	update = flag.Bool("update", false, "write the dashboards anew")
)

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// The committed JSON is what the code writes.
func TestDashboardFiles(t *testing.T) {
	for _, d := range grafana.Dashboards() {
		for dir, engine := range map[string]grafana.Engine{"dashboards": grafana.ClickHouse, "dashboards-sqlite": grafana.SQLite} {
			want, err := d.Write(engine)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, d.Name+".json")
			if *update {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the code says (%v): go test ./deploy/grafana -run DashboardFiles -update", path, err)
			}
		}
	}
}

// Each title is one question, asked once.
func TestTitles(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range grafana.Dashboards() {
		for _, p := range d.All() {
			if strings.Count(p.Question, "?") != 1 || !strings.HasSuffix(p.Question, "?") || seen[p.Question] {
				t.Errorf("%s: %q is not one question, asked once", d.Name, p.Question)
			}
			if seen[p.Question] = true; (len(p.SQL) == 0) == (len(p.PromQL) == 0) {
				t.Errorf("%s asks rows and metrics, or neither", p.Question)
			}
		}
	}
}

// Every panel's SQL gives the known answer on ClickHouse and on SQLite; what the plugin's SQLite shall
// answer is asked of one that has no functions of ours.
func TestPanelsSQL(t *testing.T) {
	s, reader := storeOf(t)
	plain, err := sql.Open("sqlite", "file:"+s.Path()+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	house := shipped(t, s)
	answers := sqlAnswers()
	for _, d := range grafana.Dashboards() {
		for _, p := range d.All() {
			for i, text := range p.SQL {
				key := p.Question
				if i > 0 {
					key += fmt.Sprintf(" (%d)", i+1)
				}
				want, ok := answers[key]
				delete(answers, key)
				if !ok || len(want) == 0 {
					t.Errorf("%s: the answer is not known", key)
				}
				lite := reader.DB()
				if p.Portable() {
					lite = plain
				}
				for engine, db := range map[grafana.Engine]*sql.DB{grafana.ClickHouse: house, grafana.SQLite: lite} {
					if diff := cmp.Diff(want, ask(t, db, text, engine)); diff != "" {
						t.Errorf("%s, engine %d: expected (-), got (+):\n%s", key, engine, diff)
					}
				}
			}
		}
	}
	for key := range answers {
		t.Errorf("no panel asks %q", key)
	}
	checkVariables(t, map[grafana.Engine]*sql.DB{grafana.ClickHouse: house, grafana.SQLite: plain})
}

// checkVariables asks for the values of each variable, and asks panels about some of them.
func checkVariables(t *testing.T, engines map[grafana.Engine]*sql.DB) {
	t.Helper()
	wattHours := grafana.Dashboards()[1].Panels[0].SQL[0]
	joules := grafana.Dashboards()[1].Panels[6].SQL[0]
	for engine, db := range engines {
		for _, d := range grafana.Dashboards() {
			for _, v := range d.Variables {
				if v.SQL == "" {
					continue
				}
				if diff := cmp.Diff(allChosen()[v.Name], ask(t, db, v.SQL, engine)); diff != "" {
					t.Errorf("%s of %s, engine %d: expected (-), got (+):\n%s", v.Name, d.Name, engine, diff)
				}
			}
		}
		for _, c := range []struct {
			name, value, sql string
			want             []string
		}{
			{"agent", "chat", wattHours, []string{"chat | 0.0638889"}},
			{"model", "large", wattHours, []string{"coder | 0.222222"}},
			{"model", "o'brien", wattHours, nil}, // a quote is no end of the text
			{"instance", "other", wattHours, nil},
			{"route", "other", wattHours, nil},
			{"device", "GPU-1", joules, nil},
		} {
			chosen := allChosen()
			chosen[c.name] = []string{c.value}
			if diff := cmp.Diff(c.want, askAbout(t, db, c.sql, engine, chosen)); diff != "" {
				t.Errorf("%s=%s, engine %d: expected (-), got (+):\n%s", c.name, c.value, engine, diff)
			}
		}
	}
}

// ask runs a panel's SQL as Grafana would and returns its rows as text.
func ask(t *testing.T, db *sql.DB, text string, engine grafana.Engine) []string {
	t.Helper()
	return askAbout(t, db, text, engine, allChosen())
}

// askAbout is ask with these values chosen of the variables.
func askAbout(t *testing.T, db *sql.DB, text string, engine grafana.Engine, chosen map[string][]string) []string {
	t.Helper()
	query, err := grafana.Render(text, engine)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(t.Context(), expand(query, chosen))
	if err != nil {
		t.Errorf("%v\n%s", err, expand(query, chosen))
		return nil
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		values, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = cell(columns[i], v)
		}
		out = append(out, strings.Join(cells, " | "))
	}
	if err := rows.Err(); err != nil {
		t.Errorf("%v\n%s", err, expand(query, chosen))
	}
	return out
}

// cell brings a value of either engine to the same text.
func cell(column string, v any) string {
	v = queries.NormalizeValue(v)
	switch x := v.(type) {
	case nil:
		return "null"
	case time.Time:
		return x.UTC().Format(time.TimeOnly)
	case int64:
		if column == "time" { // the plugin makes times of them
			return time.Unix(x, 0).UTC().Format(time.TimeOnly)
		}
		return fmt.Sprint(x)
	case float64:
		return fmt.Sprintf("%.6g", x)
	}
	if at, err := time.Parse(store.TimeLayout, fmt.Sprint(v)); err == nil {
		return at.Format(time.TimeOnly)
	}
	return fmt.Sprint(v)
}

// storeOf is a store with the known rows.
func storeOf(t *testing.T) (*store.Store, *store.Reader) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "wattline.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), knownRows()); err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenReader(t.Context(), s.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, r
}

// shipped copies the store's rows to a real ClickHouse engine, the way serve does.
func shipped(t *testing.T, s *store.Store) *sql.DB {
	t.Helper()
	srv := chtest.NewServer(t, shared.Engine(t), chtest.Options{})
	target, err := clickhouse.ParseDSN(srv.DSN("panels"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := clickhouse.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cfg := clickhouse.Config{Client: client, Outbox: outbox{s, cancel}, Interval: 10 * time.Millisecond}
	if err := clickhouse.NewShipper(cfg).Run(ctx); err != nil {
		t.Fatal(err)
	}
	db := target.DB()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// outbox calls empty once everything has been confirmed.
type outbox struct {
	*store.Store
	empty func()
}

func (o outbox) NextBatch(ctx context.Context, maxRows int) (*store.Batch, error) {
	b, err := o.Store.NextBatch(ctx, maxRows)
	if b == nil && err == nil {
		o.empty()
	}
	return b, err
}
