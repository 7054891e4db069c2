package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/sink"
	"wattline/sink/console"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// began is when the first row of filled began: on a day, so that it can be asked for.
var began = time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)

// idOf is the id of a row of filled.
func idOf(i int) string { return fmt.Sprintf("019a0000-0000-7000-8000-%012d", i) }

// filled is a store with n requests of 2 s, one a second, in sessions of ten, with hostile names.
func filled(t testing.TB, n int) (*store.Store, *store.Reader) {
	t.Helper()
	s, err := store.Open(context.Background(), store.Config{Path: filepath.Join(t.TempDir(), "wattline.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	rows := &sink.Rows{}
	some := meter.Some
	for i := range n {
		rec := &meter.Record{
			ID: idOf(i), StartedAt: began.Add(time.Duration(i) * time.Second), Instance: "host", Route: "default", Method: "POST", Path: "/v1/chat/completions",
			Agent: []string{"curl", "codex", `<script>alert(1)</script>`}[i%3], Session: fmt.Sprint("s", i/10), Model: "m", Outcome: meter.OK, Stream: some(1), Status: some(200),
			TTFTUs: some(300_000), UpstreamTTFTUs: some(299_000), DurationUs: some(2_100_000), QueueUs: some(9_000), PrefillUs: some(290_000), DecodeUs: some(1_600_000),
			PromptTokens: some(100), OutputTokens: some(50), EnergyQuality: meter.EnergyMeasured, GPUUj: some(int64(i+1) * 1_000_000), GPUActiveUj: some(int64(i) * 1_000_000),
			GPUIdleUj: some(1_000_000), GPUSigmaUj: some(3_000), Labels: map[string]string{"team": []string{"red", "blue"}[i%2]}, PricePerKWhMicro: some(300_000),
		}
		rows.Requests = append(rows.Requests, rec)
	}
	rows.Gaps = append(rows.Gaps, &sink.Gaps{ID: idOf(5), StartedAt: began, Instance: "host", GapsUs: []uint32{1, 2, 3}})
	if err := s.Write(context.Background(), rows); err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenReader(context.Background(), s.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, r
}

func engineOf(r *store.Reader) *queries.Engine {
	return &queries.Engine{DB: r.DB(), Dialect: queries.SQLite, Where: r.Path(), Explain: r.Explain}
}

func rowsOnly(t *testing.T, n int) (url string) {
	_, r := filled(t, n)
	e := engineOf(r)
	return serve(t, console.Config{Rows: e, Engine: e, Log: slog.New(slog.DiscardHandler)})
}

// TestAnswers: what each path answers, right and wrong questions, on rows alone.
func TestAnswers(t *testing.T) {
	base := rowsOnly(t, 40)
	q := url.QueryEscape
	for _, c := range []struct {
		path   string
		status int
		want   []string // parts of the answer
	}{
		{"/api/hello", 200, []string{`"live":false`, `"engine":"sqlite"`, `"sorts":["id","started_at"`, `"routes":[]`}},
		{"/api/requests?limit=2", 200, []string{`[{"id":"` + idOf(39) + `","started_at":"`, idOf(38)}},
		{"/api/requests?limit=1&sort=gpu_uj&columns=id,gpu_j", 200, []string{`[{"id":"` + idOf(0) + `","gpu_j":1}]`}},
		{"/api/requests?dearer_than=39.5J&columns=id", 200, []string{`[{"id":"` + idOf(39) + `"}]`}},
		{"/api/requests?dearer_than=0.0109Wh&columns=id", 200, []string{`[{"id":"` + idOf(39) + `"}]`}},
		{"/api/requests?session=s1&label=team%3Dred&agent=curl&columns=id", 200, []string{`[{"id":"` + idOf(18) + `"},{"id":"` + idOf(12) + `"}]`}},
		{"/api/requests?agent=" + q("<script>alert(1)</script>") + "&limit=1&columns=agent", 200, []string{`[{"agent":"\u003cscript\u003ealert(1)\u003c/script\u003e"}]`}},
		{"/api/requests?agent=" + q("' OR 1=1 --"), 200, []string{"[]\n"}},
		{"/api/requests?slower_than=3s", 200, []string{"[]\n"}},
		{"/api/requests?slower_than=1999ms&limit=1&columns=id", 200, []string{idOf(39)}},
		{"/api/requests?nix=1", 400, []string{`there is no parameter \"nix\" here, only model,`}},
		{"/api/requests?limit=0", 400, []string{"limit must be a number from 1 to 10000"}},
		{"/api/requests?sort=nix", 400, []string{`no column \"nix\"`}},
		{"/api/requests?columns=id,nix", 400, []string{`no column \"nix\"`}},
		{"/api/requests?cursor=nix", 400, []string{"cursor is not one"}},
		{"/api/requests?from=yesterday", 400, []string{"from and to are times like"}},
		{"/api/requests?since=x", 400, []string{"neither a duration"}},
		{"/api/requests?since=1h&from=2026-01-01T00:00:00Z", 400, []string{"not both"}},
		{"/api/requests?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400, []string{"from must lie before to"}},
		{"/api/requests?slower_than=-1s", 400, []string{"must be a duration"}},
		{"/api/requests?dearer_than=-1J", 400, []string{"must be an energy"}},
		{"/api/requests?dearer_than=NaN", 400, []string{"must be an energy"}},
		{"/api/requests?label=x", 400, []string{"label must be k=v"}},
		{"/api/requests?status=x", 400, []string{"status is a number"}},
		{"/api/requests?model=%00", 400, []string{"NUL"}},
		{"/api/requests/" + idOf(3), 200, []string{`{"id":"` + idOf(3)}},
		{"/api/requests/000000000003?wait=10s", 200, []string{`{"id":"` + idOf(3)}}, // it is settled
		{"/api/requests/" + idOf(3) + "?wait=2h", 400, []string{"wait is at most"}},
		{"/api/requests/019a", 400, []string{"several requests match"}},
		{"/api/requests/%25", 404, []string{"no request has this id"}},
		{"/api/requests?limit=1&all=0", 200, []string{"[]\n"}}, // all of these rows are housekeeping: they have no dialect
		{"/api/requests?all=2", 400, []string{"all must be 1"}},
		{"/api/requests?cache_verdict=client", 200, []string{"[]\n"}},
		{"/api/sum", 200, []string{`"requests":0`}},
		{"/api/sum?all=1", 200, []string{`[{"key":"all","requests":40,"failed":0,"prompt_tokens":4000,`, `"energy_uj":820000000`, `"idle_uj":40000000`}},
		{"/api/sum?by=label:team&all=1", 200, []string{`[{"key":"blue","requests":20`, `{"key":"red","requests":20`}},
		{"/api/sum?by=nix", 400, []string{"summed by agent"}},
		{"/api/sum?agent=nobody", 200, []string{`"requests":0`, `"energy_uj":null`, `"first_at":null`}},
		{"/api/sessions", 200, []string{"[]\n"}},
		{"/api/sessions?limit=1&all=1", 200, []string{`[{"key":"s3","agent":"curl","model":"m","requests":10`}},
		{"/api/sessions?cursor=x", 400, []string{"cursor is not one"}},
		{"/api/usage?by=model&since=2d", 200, []string{`[{"kind":"all","by":"model","key":null,"requests":0,`}}, // housekeeping
		{"/api/usage?by=model&since=2d&all=1", 200, []string{`[{"kind":"group","by":"model","key":"m","requests":40,`, `{"kind":"all"`, `{"kind":"residual"`}},
		{"/api/usage?by=nix", 400, []string{"usage can be told by"}},
		{"/api/query", 200, []string{`{"name":"`, `"question":"`}},
		{"/api/query?sql=" + q("SELECT count(*) AS n, max(model) FROM requests"), 200, []string{`"columns":["n","max(model)"],"rows":[[40,"m"]],"truncated":false`}},
		{"/api/query?sql=" + q("SELECT 1 WHERE 0"), 200, []string{`"rows":[]`}},
		{"/api/query?sql=" + q("DELETE FROM requests"), 400, []string{"this connection only reads: use SELECT"}},
		{"/api/query?sql=" + q("ATTACH '/tmp/x' AS x"), 400, []string{"error"}},
		{"/api/query?sql=" + q("PRAGMA journal_mode=DELETE"), 400, []string{"error"}},
		{"/api/query?sql=" + q("SELECT length(zeroblob(33000000))"), 200, []string{"33000000"}},
		{"/api/query?sql=" + q("SELECT hex(zeroblob(33000000)) AS x"), 400, []string{"too big"}},
		{"/api/query?sql=" + q("SELEC 1"), 400, []string{"syntax error", "tables: requests"}},
		{"/api/query?sql=", 400, []string{"give either sql"}},
		{"/api/query?sql=x&name=y", 400, []string{"give either sql"}},
		{"/api/query?name=nix", 400, []string{"there is no query named"}},
		{"/api/query?name=by-model&since=1d&show=1", 200, []string{`"sql":"SELECT`, `"rows":[]`}},
		{"/api/query?sql=" + q("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n"), 200, []string{`"truncated":true`, "[10000]"}},
		{"/api/energy?bucket=day&by=agent&since=1", 400, []string{"there is no parameter"}},
		{"/api/energy?bucket=day&by=agent&tz=Europe/Berlin&from=" + began.Format(time.RFC3339), 200, []string{`"bucket":"day","by":"agent","devices":[],"measured_devices":[],"keys":["`, `"difference_uj":0`}},
		{"/api/energy?bucket=day&tz=Nowhere", 400, []string{"time zone"}},
		{"/api/energy?bucket=second", 400, []string{"bucket must be one of"}},
		{"/api/energy", 200, []string{`"curves":[]`, `"power":[]`}},
		{"/api/energy?from=2026-01-01T00:00:00Z", 400, []string{"at most 6h"}},
		{"/api/configs", 200, []string{"[]"}},
		{"/api/live", 404, []string{"there is no live traffic here"}},
		{"/api/inflight", 404, []string{"there is no live traffic here"}},
		{"/api/runs", 404, []string{"--runs DIR"}},
		{"/api/compare?a=x&b=y", 404, []string{"--runs DIR"}},
		{"/api/nix", 404, []string{"nothing at this path"}},
	} {
		status, body := get(t, base+c.path)
		if status != c.status || status >= 400 && !isSentence(body) {
			t.Errorf("%s: %d %.300s", c.path, status, body)
		}
		for _, part := range c.want {
			if !strings.Contains(body, part) {
				t.Errorf("%s: no %s in %.600s", c.path, part, body)
			}
		}
	}
}

// isSentence reports whether an answer is {"error":"..."} and no more.
func isSentence(body string) bool {
	var e map[string]string
	return json.Unmarshal([]byte(body), &e) == nil && len(e) == 1 && len(e["error"]) > 10
}

// TestCursor: the header leads from page to page until the end.
func TestCursor(t *testing.T) {
	base, path, seen := rowsOnly(t, 25), "/api/requests?columns=id&limit=10&sort=-ttft_us", 0
	for cursor := ""; ; {
		resp, err := http.Get(base + path + "&cursor=" + url.QueryEscape(cursor)) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		var rows []map[string]string
		if err := errors.Join(json.NewDecoder(resp.Body).Decode(&rows), resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if seen++; row["id"] != idOf(25-seen) {
				t.Errorf("row %d is %s", seen, row["id"])
			}
		}
		if cursor = resp.Header.Get("X-Wattline-Next"); cursor == "" {
			break
		}
	}
	if seen != 25 {
		t.Errorf("%d rows", seen)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestContext: what stands around a request.
func TestContext(t *testing.T) {
	status, body := get(t, rowsOnly(t, 40)+"/api/requests/"+idOf(5)+"/context")
	var a struct {
		Request    map[string]any
		Efficiency map[string]float64
		Marks      []struct {
			Mark  string
			At_us *int64
		}
		Phases []struct {
			Phase          string
			From_us, To_us *int64
		}
		Gaps_us     []int
		Overlapping []struct{ ID string }
		Siblings    []struct{ ID string }
		Formulas    map[string]string
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 {
		t.Fatal(status, err, body)
	}
	var overlapping, siblings []string
	for _, r := range a.Overlapping {
		overlapping = append(overlapping, r.ID)
	}
	for _, r := range a.Siblings {
		siblings = append(siblings, r.ID)
	}
	// Those of a second and two seconds before, and of one and two seconds after.
	if got, want := fmt.Sprint(overlapping), fmt.Sprint([]string{idOf(3), idOf(4), idOf(6), idOf(7)}); got != want {
		t.Errorf("overlapping %s, want %s", got, want)
	}
	if len(siblings) != 10 || siblings[0] != idOf(0) || siblings[9] != idOf(9) || fmt.Sprint(a.Gaps_us) != "[1 2 3]" {
		t.Errorf("siblings %v, gaps %v", siblings, a.Gaps_us)
	}
	if a.Request["id"] != idOf(5) || a.Efficiency["gpu_j"] != 6 || len(a.Marks) != 7 || *a.Marks[1].At_us != 1000 || len(a.Phases) != 3 || *a.Phases[1].From_us != 10_000 || *a.Phases[1].To_us != 300_000 || a.Formulas["ttft_us"] == "" {
		t.Errorf("%s", body)
	}
}

// settling has one row, whose joules settle with the third look.
type settling struct{ looks int }

func (s *settling) Find(context.Context, string) (*meter.Record, error) {
	if s.looks++; s.looks < 3 {
		return &meter.Record{ID: there, EnergyQuality: meter.EnergyPending}, nil
	}
	return &meter.Record{ID: there, EnergyQuality: meter.EnergyMeasured}, nil
}

// TestReceipt: ?wait answers once the joules are settled, or after the time with what there is.
func TestReceipt(t *testing.T) {
	for path, want := range map[string]string{"?wait=30s": meter.EnergyMeasured, "": meter.EnergyPending, "?wait=50ms": meter.EnergyPending} {
		base := serve(t, console.Config{Rows: &settling{}, Flush: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler)})
		if status, body := get(t, base+"/api/requests/"+there+path); status != 200 || !strings.Contains(body, `"energy_quality":"`+want+`"`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
