package grafana_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"

	"wattline/deploy/debian"
	"wattline/deploy/grafana"
	"wattline/meter"
	"wattline/sink"
	"wattline/sink/metrics"
)

// Every panel's PromQL gives the known answer on a real Prometheus. Its data are pages of wattline's own
// exporter: 41 of them, 15 s apart, put into a block as if they had been scraped, and live ones that it scrapes.
func TestPanelsPromQL(t *testing.T) {
	page := newPage(t)
	end := time.Now().Add(-30 * time.Minute).Truncate(time.Minute)
	var history bytes.Buffer
	const pages = 41
	for i := range pages {
		page.step(t)
		stamp(t, &history, page.text(t), end.Add(time.Duration(i+1-pages)*15*time.Second))
	}
	history.WriteString("# EOF\n")
	server := startPrometheus(t, history.Bytes(), page.addr)

	answers := promAnswers()
	for _, d := range grafana.Dashboards() {
		for _, p := range d.All() {
			if len(p.PromQL) == 0 {
				continue
			}
			var got []string
			for _, s := range p.PromQL {
				expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", "(desk|other)", "$route", "default", "$device", "(GPU-0)").Replace(s.Expr)
				got = append(got, server.ask(t, expr, s.Legend, end)...)
			}
			if diff := cmp.Diff(answers[p.Question], got); diff != "" {
				t.Errorf("%s: expected (-), got (+):\n%s", p.Question, diff)
			}
			delete(answers, p.Question)
		}
	}
	for key := range answers {
		t.Errorf("no panel asks %q", key)
	}
	for _, d := range grafana.Dashboards() {
		for _, v := range d.Variables {
			if v.PromQL == "" {
				continue
			}
			got, want := server.labelValues(t, v.PromQL, end), map[string]string{"instance": "desk", "route": "default", "device": "GPU-0"}[v.Name]
			if !slices.Equal(got, []string{want}) {
				t.Errorf("%s of %s is one of %q, not %s", v.Name, d.Name, got, want)
			}
		}
	}
	server.checkHealth(t)
	server.await(t, `up{job="wattline"} == 1 and on (instance) wattline_requests_in_flight`) // scraped, with what it was scraped for
	server.awaitExemplar(t, `gen_ai_server_time_to_first_token_seconds_bucket`, sampled().TraceID().String())
}

// checkHealth asks what compose.yaml's health check of Prometheus asks.
func (p *prometheus) checkHealth(t *testing.T) {
	t.Helper()
	compose, err := os.ReadFile("../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`test: \[CMD, wget, -qO-, "http://127\.0\.0\.1:9090(/[^"]+)"\]`).FindSubmatch(compose)
	if m == nil {
		t.Fatal("compose.yaml has no health check of Prometheus")
	}
	if said := get(t, p.url+string(m[1])); !strings.Contains(said, "is Ready") {
		t.Errorf("%s says %q", m[1], said)
	}
}

// promAnswers are the right answers for the pages of page.step; a step is 15 s.
func promAnswers() map[string][]string {
	return map[string][]string{
		"How long is the wait right now?":                  {"p95 desk = 0.2425"}, // all 200 ms, so 95 % of the way from 100 to 250
		"What share of the requests fails now?":            {"failing = 0"},
		"Were rows lost in the last day?":                  {"rows = 123"}, // 41 steps of 1 and 2
		"How long does the oldest row wait to be shipped?": {"oldest = 0"},
		"How hot is the hottest card?":                     {"hottest = 60"},
		"How near is a card to its limit?":                 {"nearest = 0.75"},
		"How many watts does each card draw?":              {"desk GPU-0 = 300", "limit desk GPU-0 = 400"},
		"How many requests fail?":                          {"cancelled = 0.0666667", "ok = 0.2"},
		"How many clients give up?":                        {"desk = 0.25"},
		"How many requests are in flight?":                 {"desk default = 2"},
		"How near are cards to their limits?":              {"desk GPU-0 = 0.75"},
		"How hot are the cards?":                           {"desk GPU-0 = 60"},
		"Is anything dropped?":                             {"desk store full = 8", "desk requests = 4", "desk samples = 0", "desk settled = 0"},
		"Does ClickHouse keep up?":                         {"desk configs = 0", "desk itl_gaps = 8", "desk ledger = 7", "desk power = 6", "desk requests = 5"},
		"How long have rows waited?":                       {"desk = 0"},
		"Do traces arrive?":                                {"metrics failed = 0", "metrics sent = 0.0666667", "spans refused = 0", "traces dropped = 0", "traces failed = 0", "traces sent = 0.2"},
		"What does wattline add before the first token?":   {"p50 desk = 0.000175", "p99 desk = 0.0002485"}, // all 120 us, so within 100 to 250
		"What does wattline itself need of the CPU?":       {"desk = a number"},
		"How much memory does wattline take?":              {"desk = a number"},
		"Does the ledger balance?":                         {"desk GPU-0 = 0"},
		"Are there requests that could not be read?":       {"desk = 4"},
	}
}

// page is wattline's metrics page with what step recorded.
type page struct {
	metrics *metrics.Metrics
	addr    string
	steps   int64
}

func newPage(t *testing.T) *page {
	t.Helper()
	e, err := metrics.NewPrometheusExporter(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m, err := metrics.New(metrics.Config{Readers: []sdkmetric.Reader{e.Reader}, Instance: "desk", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: e.Handler()}
	go srv.Serve(ln)
	t.Cleanup(func() { _ = srv.Shutdown() })
	return &page{metrics: m, addr: ln.Addr().String()}
}

// step records what happens in 15 s: four requests, one of them cancelled and one unreadable, and a device's second.
func (p *page) step(t *testing.T) {
	t.Helper()
	some := meter.Some
	p.steps++
	for i := range 4 {
		rec := &meter.Record{Route: "default", Dialect: meter.DialectChat, Model: "m", Outcome: meter.OK, TTFTUs: some(200_000), ProxyOverheadUs: some(120)}
		switch i {
		case 0:
			rec = &meter.Record{Route: "default", Dialect: meter.DialectChat, Model: "m", Outcome: meter.Cancelled}
		case 1:
			rec.Error = "not JSON"
		}
		p.metrics.RecordEnded(rec, sampled())
	}
	p.metrics.Power(&sink.Power{At: time.Now(), Device: "GPU-0", EnergyUj: some(300e6), MeanMw: some(300_000), TempC: some(60), LimitMw: some(400_000)})
	p.metrics.Ledger(&sink.Ledger{Device: "GPU-0", CounterUj: some(300e6), RequestsActiveUj: some(200e6), RequestsIdleUj: some(50e6), PoolsUj: some(-1e6), IdleUj: some(41e6), ResidualUj: some(10e6)})
	steps := uint64(p.steps)
	p.metrics.SetSources(metrics.Sources{
		Routes: func() []metrics.Route { return []metrics.Route{{Name: "default", InFlight: 2, Connections: 3}} },
		Queue:  func() sink.Stats { return sink.Stats{Requests: sink.Counts{Dropped: steps}} },
		Outbox: func() (metrics.Outbox, bool) {
			return metrics.Outbox{Rows: map[string]int64{"configs": 0, "requests": 5, "power": 6, "ledger": 7, "itl_gaps": 8}}, true
		},
		Lost:   func() (int64, bool) { return 2 * p.steps, true },
		Traces: func() metrics.Export { return metrics.Export{Sent: 3 * steps} },
		Pushes: func() metrics.Export { return metrics.Export{Sent: steps} },
	})
}

// sampled is the span of every request: exemplars name it.
func sampled() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab, 0xcd}, SpanID: trace.SpanID{0xef}, TraceFlags: trace.FlagsSampled})
}

// text is the page once it shows everything that was recorded: requests are counted a moment later.
func (p *page) text(t *testing.T) string {
	t.Helper()
	want := regexp.MustCompile(fmt.Sprintf(`(?m)^wattline_requests_total\{[^}]*outcome="ok"[^}]*\} %d$`, 3*p.steps))
	for range 1000 {
		text := get(t, "http://"+p.addr+"/metrics")
		if want.MatchString(text) {
			return text
		}
	}
	t.Fatal("the page does not show what was recorded")
	return ""
}

func get(t *testing.T, where string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, where, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// stamp writes a page's samples with a time and with the labels that a scrape would add.
func stamp(t *testing.T, to io.Writer, text string, at time.Time) {
	t.Helper()
	sample := regexp.MustCompile(`^(\w+)(?:\{(.*)\})? (\S+)$`)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample: %q", line)
		}
		labels := `job="wattline",instance="desk"`
		if m[2] != "" {
			labels += "," + m[2]
		}
		fmt.Fprintf(to, "%s{%s} %s %d\n", m[1], labels, m[3], at.Unix())
	}
}

// prometheus is a real one on loopback.
type prometheus struct{ url string }

// startPrometheus starts a Prometheus that stores the given samples (OpenMetrics text), loads the alerts
// and scrapes addr as deploy/prometheus/prometheus.yml does.
func startPrometheus(t *testing.T, samples []byte, addr string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	config, err := os.ReadFile("../prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := filepath.Abs("../prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config = []byte(strings.NewReplacer("wattline:11435", addr, "15s", "1s", "[alerts.yml]", "["+alerts+"]").Replace(string(config)))
	for name, text := range map[string][]byte{"samples": samples, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill := exec.CommandContext(t.Context(), debian.Need(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", filepath.Join(dir, "samples"), filepath.Join(dir, "data"))
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, debian.Need(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage") // as in compose.yaml
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // interrupted
	})
	return &prometheus{"http://" + readyAddr(t, log)}
}

// readyAddr reads the log until it has said, in whatever order, where it listens and that it is ready, and the rest away.
func readyAddr(t *testing.T, log io.Reader) (addr string) {
	t.Helper()
	var all strings.Builder
	ready := false
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if m := regexp.MustCompile(`msg="Listening on" address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			addr = m[1]
		}
		ready = ready || strings.Contains(lines.Text(), "ready to receive web requests")
		if ready && addr != "" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			return addr
		}
	}
	t.Fatalf("Prometheus did not start:\n%s", all.String())
	return ""
}

// query runs an instant query and returns its samples.
func (p *prometheus) query(t *testing.T, expr string, at time.Time) []promSample {
	t.Helper()
	form := url.Values{"query": {expr}}
	if !at.IsZero() {
		form.Set("time", strconv.FormatInt(at.Unix(), 10))
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []promSample }
	}
	text := get(t, p.url+"/api/v1/query?"+form.Encode())
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Status != "success" {
		t.Errorf("%s: %v %s", expr, err, text)
	}
	return answer.Data.Result
}

// labelValues runs label_values(series, label) as Grafana does, up to a moment.
func (p *prometheus) labelValues(t *testing.T, call string, at time.Time) []string {
	t.Helper()
	m := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(call)
	if m == nil {
		t.Fatalf("%s is no call of label_values", call)
	}
	form := url.Values{"match[]": {m[1]}, "start": {strconv.FormatInt(at.Add(-time.Hour).Unix(), 10)}, "end": {strconv.FormatInt(at.Unix(), 10)}}
	var answer struct{ Data []string }
	if err := json.Unmarshal([]byte(get(t, p.url+"/api/v1/label/"+m[2]+"/values?"+form.Encode())), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data
}

type promSample struct {
	Metric map[string]string
	Value  [2]any
}

// ask is query with each sample as Grafana would name it; what depends on this machine is "a number".
func (p *prometheus) ask(t *testing.T, expr, legend string, at time.Time) (out []string) {
	t.Helper()
	for _, s := range p.query(t, expr, at) {
		name := regexp.MustCompile(`\{\{(\w+)\}\}`).ReplaceAllStringFunc(legend, func(l string) string { return s.Metric[strings.Trim(l, "{}")] })
		v, err := strconv.ParseFloat(fmt.Sprint(s.Value[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%.6g", v)
		if strings.Contains(expr, "process_") && v >= 0 {
			text = "a number"
		}
		out = append(out, name+" = "+text)
	}
	slices.Sort(out)
	return out
}

// await asks until the expression gives something, for some minutes: Prometheus scrapes once a second.
func (p *prometheus) await(t *testing.T, expr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for len(p.query(t, expr, time.Time{})) == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s gives nothing", expr)
		}
	}
}

// awaitExemplar waits until Prometheus has an exemplar of the series that names the trace.
func (p *prometheus) awaitExemplar(t *testing.T, series, trace string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var text string
	for range 1500 {
		now := time.Now().Unix()
		form := url.Values{"query": {series}, "start": {strconv.FormatInt(now-600, 10)}, "end": {strconv.FormatInt(now+60, 10)}}
		if text = get(t, p.url+"/api/v1/query_exemplars?"+form.Encode()); strings.Contains(text, `"trace_id":"`+trace+`"`) {
			return
		}
		<-tick.C
	}
	t.Fatalf("no exemplar of %s names trace %s: %s", series, trace, text)
}
