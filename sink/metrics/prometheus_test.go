package metrics_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/valyala/fasthttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"

	"wattline/deploy/debian"
	"wattline/meter"
	"wattline/sink"
	"wattline/sink/metrics"
	"wattline/sink/semconv"
)

// scraped is a Metrics with everything recorded, behind a real /metrics.
func scraped(t *testing.T, accept string) string {
	t.Helper()
	e, err := metrics.NewPrometheusExporter(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m, err := metrics.New(metrics.Config{Readers: []sdkmetric.Reader{e.Reader}, Instance: "desk", Version: "v1.2.3", Labels: []string{"team"}})
	if err != nil {
		t.Fatal(err)
	}
	record(m)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: e.Handler(), Logger: nil}
	go srv.Serve(ln)
	defer ln.Close()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+ln.Addr().String()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s", resp.Status, b.String())
	}
	return b.String()
}

// record puts a value into every metric.
func record(m *metrics.Metrics) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab, 2}, SpanID: trace.SpanID{0xcd}, TraceFlags: trace.FlagsSampled})
	some := meter.Some
	rec := &meter.Record{
		Route: "default", Dialect: meter.DialectChat, Model: "qwen3 \"8b\"\n", Labels: map[string]string{"team": "red"}, Status: some(200), Outcome: meter.OK, Error: "not metered",
		TTFBUs: some(5_000), TTFTUs: some(45_000), DurationUs: some(1_000_000), QueueUs: some(5_000), PrefillUs: some(40_000), DecodeUs: some(900_000),
		ITLP50Us: some(9_000), ITLP99Us: some(12_000), ITLMaxUs: some(20_000), Stalls: some(1), ProxyOverheadUs: some(120),
		PromptTokens: some(1000), CachedTokens: some(10), OutputTokens: some(100), ReasoningTokens: some(20),
		GPUUj: some(200_000_000), GPUPrefillUj: some(50_000_000), GPUDecodeUj: some(50_000_000), GPUIdleUj: some(100_000_000),
		GPUDevices: []string{"GPU-0"}, GPUUjByDevice: []int64{200_000_000}, EnergyQuality: meter.EnergyMeasured, Details: &meter.Details{Disputed: "output", Unread: meter.UnreadPath},
	}
	m.RecordEnded(rec, span)
	m.RecordSettled(rec)
	m.Power(&sink.Power{
		At: time.Unix(1, 0), Device: "GPU-0", EnergyUj: some(120_000_000), MeanMw: some(120_000), TempC: some(40), UtilPermille: some(10), VRAMBytes: some(1 << 30), LimitMw: some(700_000), ThrottledUs: some(1),
	})
	m.Ledger(&sink.Ledger{Device: "GPU-0", CounterUj: some(5), RequestsActiveUj: some(1), RequestsIdleUj: some(1), PoolsUj: some(-1), IdleUj: some(3), ResidualUj: some(1)})
	m.SetSources(metrics.Sources{
		Routes: func() []metrics.Route { return []metrics.Route{{Name: "default", InFlight: 1, Connections: 2}} },
		Queue:  func() sink.Stats { return sink.Stats{Waiting: 1} },
		Lost:   func() (int64, bool) { return 1, true },
		Outbox: func() (metrics.Outbox, bool) { return metrics.Outbox{Rows: map[string]int64{"requests": 1}}, true },
		Traces: func() metrics.Export { return metrics.Export{Sent: 1} },
		Pushes: func() metrics.Export { return metrics.Export{Sent: 1} },
		Devices: func() []metrics.Device {
			return []metrics.Device{{ID: "GPU-1", Kind: semconv.HWGPU, Readable: true, AgreementPPM: meter.Some(990_000), Reopened: 1, Errors: 1, Missed: 1, Demoted: 1, CPU: time.Second, LedgerEvents: map[string]int64{"late": 1}}}
		},
		Monitor: func() []metrics.Monitored {
			return []metrics.Monitored{{Route: "default", Metric: "ttft", Ratio: 1.02, Known: true, Alarms: 1}}
		},
		Slots: func() []metrics.Slots {
			return []metrics.Slots{{Route: "default", Looks: 1, Failed: 1, Bytes: 1, Found: 1, Unknown: 1, Waited: time.Second}}
		},
	})
}

// Prometheus's own tool, fetched where there is none, finds nothing to say.
func TestPromtoolCheckMetrics(t *testing.T) {
	promtool := debian.Need(t, "promtool")
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(scraped(t, ""))
	out, err := check.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	// It must have something to say about a page that is wrong.
	check = exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader("# TYPE bad counter\nbad 1\n")
	if err := check.Run(); err == nil {
		t.Error("promtool passes a page that is wrong")
	}
}

func TestNewestLintFindsNothing(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scraped(t, ""))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Every name that METRICS.md promises to Prometheus is on the page, and nothing else is but target_info.
func TestPageNames(t *testing.T) {
	doc, err := os.ReadFile("../METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	promised := map[string]bool{"target_info": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `[^`]+` → `([^`]+)`").FindAllStringSubmatch(string(doc), -1) {
		promised[m[1]] = true
	}
	if len(promised) != len(metrics.Definitions())+1 {
		t.Fatalf("METRICS.md promises %d names, %d are defined", len(promised)-1, len(metrics.Definitions()))
	}
	page := scraped(t, "")
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(page, -1) {
		shown[m[1]] = true
		if !promised[m[1]] {
			t.Errorf("%s is on the page but not in METRICS.md", m[1])
		}
	}
	for name := range promised {
		if !shown[name] {
			t.Errorf("%s is in METRICS.md but not on the page", name)
		}
	}
}

// A scraper that asks for OpenMetrics gets the trace of a request beside its bucket.
func TestOpenMetricsHasExemplars(t *testing.T) {
	page := scraped(t, "application/openmetrics-text; version=1.0.0")
	line := ""
	for l := range strings.SplitSeq(page, "\n") {
		if strings.HasPrefix(l, "gen_ai_server_time_to_first_token_seconds_bucket") && strings.Contains(l, "trace_id") {
			line = l
		}
	}
	if !strings.Contains(line, `trace_id="ab020000000000000000000000000000"`) || !strings.Contains(line, `span_id="cd00000000000000"`) || !strings.Contains(line, `le="0.05"`) {
		t.Errorf("the exemplar is %q", line)
	}
}

// The labels that clients chose are on the page, escaped.
func TestClientsLabelsAreEscaped(t *testing.T) {
	page := scraped(t, "")
	if !strings.Contains(page, `gen_ai_response_model="qwen3 \"8b\"\n"`) || !strings.Contains(page, `wattline_label_team="red"`) {
		t.Errorf("the page lacks the labels:\n%.2000s", page)
	}
	if strings.Contains(page, "NaN") {
		t.Error("the page has NaN")
	}
}
