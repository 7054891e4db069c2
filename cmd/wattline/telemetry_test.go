package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
	"wattline/sink/clickhouse/chtest"
	"wattline/sink/otlp/otlptest"
	"wattline/sink/telemetry"
)

// stubbed starts an upstream with short, known latencies.
func stubbed(t *testing.T) string {
	t.Helper()
	url, _ := stubUpstream(t, stub.Config{FirstToken: 30 * time.Millisecond, HeaderDelay: 5 * time.Millisecond, TokenGap: time.Millisecond, Tokens: 8})
	return url
}

// get requests a page of the admin listener.
func (w *wattlineProcess) get(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(w.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// stop sends SIGTERM and waits until the process has ended without an error.
func (w *wattlineProcess) stop(t testing.TB) {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-w.waited:
		if err != nil {
			t.Fatalf("wattline ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("wattline did not end")
	}
}

func (w *wattlineProcess) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stderr.String()
}

// summed returns the sum of the series on a Prometheus page that match a pattern.
func summed(t *testing.T, page, series string) (sum float64) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^`+series+` (\S+)$`).FindAllStringSubmatch(page, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// awaitPage scrapes until the sum of a metric's series is want, because a row comes after its reply. It returns the next
// page, because that one may have been written while other metrics of the row were not counted yet.
func (w *wattlineProcess) awaitPage(t *testing.T, name string, want float64) string {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status, page := w.get(t, "/metrics")
		if status != http.StatusOK {
			t.Fatalf("status %d: %s", status, page)
		}
		if summed(t, page, name+`(?:\{.*\})?`) == want {
			_, page = w.get(t, "/metrics")
			return page
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is not %g on the page:\n%s", name, want, page)
		}
	}
}

var chatBody = map[string]any{"messages": []any{map[string]any{"role": "user", "content": "hello"}}, "stream": true}

// TestTelemetryMatchesRows: with a real collector, rows, traces, /metrics and pushed metrics have the same requests.
func TestTelemetryMatchesRows(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			c := otlptest.Start(t)
			at := map[string]string{"grpc": c.GRPC, "http": c.HTTP}[protocol]
			w := serve(t, stubbed(t), "--otlp-endpoint", "http://"+at, "--otlp-protocol", protocol, "--gpu", "none", "--instance", "desk")
			const n = 5
			for range n {
				if r := w.post(t.Context(), "/v1/chat/completions", chatBody); r.err != nil || r.status != http.StatusOK {
					t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
				}
			}
			page := w.awaitPage(t, "wattline_requests_total", n)
			w.stop(t)

			var tokens int64
			traces := map[string]bool{}
			for _, rec := range w.stored(t, 100) {
				tokens += rec.OutputTokens.V
				traces[rec.TraceID] = true
			}
			if len(traces) != n || tokens == 0 {
				t.Fatalf("the store has %d traces and %d tokens", len(traces), tokens)
			}
			if v := summed(t, page, `wattline_tokens_total\{[^}]*kind="output"[^}]*\}`); v != float64(tokens) {
				t.Errorf("/metrics has %g output tokens, the rows have %d:\n%s", v, tokens, page)
			}
			if v := summed(t, page, `gen_ai_client_token_usage_count\{.*\}`); v != 2*n {
				t.Errorf("%g values of token usage, not %d", v, 2*n)
			}
			names := map[string]int{}
			for _, s := range c.Spans(t, 5*n) {
				names[s.Name]++
				if !traces[s.TraceID] {
					t.Errorf("span %s is of trace %s, which no row has", s.Name, s.TraceID)
				}
				if s.Resource["service.instance.id"] != "desk" {
					t.Errorf("the resource is %v", s.Resource)
				}
			}
			for _, name := range []string{"POST /v1/chat/completions", "chat " + stub.Model, "queue", "prefill", "decode"} {
				if names[name] != n {
					t.Errorf("%d spans %q of %d requests: %v", names[name], name, n, names)
				}
			}
			m := c.Metric(t, "wattline.tokens")
			var pushed float64
			for _, p := range m.Points {
				if p.Attributes["wattline.token.kind"] == "output" {
					pushed += p.Value
				}
			}
			if pushed != float64(tokens) || !m.Monotonic || m.Unit != "{token}" {
				t.Errorf("the collector got %g output tokens, the rows have %d: %+v", pushed, tokens, m)
			}
			exemplars := 0
			for _, p := range c.Metric(t, "gen_ai.server.time_to_first_token").Points {
				for _, e := range p.Exemplars {
					exemplars++
					if !traces[e.TraceID] {
						t.Errorf("an exemplar names trace %s, which no row has", e.TraceID)
					}
				}
			}
			if exemplars == 0 {
				t.Error("no exemplar arrived")
			}
		})
	}
}

// TestCollectorMissing: without a collector the losses are logged and counted, and the process stops in time with exit
// code 0. wattline is ready without the collector and without ClickHouse.
func TestCollectorMissing(t *testing.T) {
	t.Parallel()
	nowhere := chtest.FreeAddr(t)
	w := serve(t, stubbed(t), "--otlp-endpoint", "http://"+nowhere, "--otlp-protocol", "http", "--gpu", "none", "--clickhouse", "http://nobody@"+nowhere+"/wattline")
	if r := w.post(t.Context(), "/v1/chat/completions", chatBody); r.err != nil || r.status != http.StatusOK {
		t.Fatalf("status %d, %v", r.status, r.err)
	}
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for said := false; !said; {
		_, text := w.get(t, "/api/status")
		var status struct{ OTLP telemetry.Status }
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		said = status.OTLP.Traces != nil && status.OTLP.Traces.Waiting == 1 && strings.Contains(status.OTLP.Traces.LastError, "refused")
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("/api/status does not tell of the collector that is missing: %s", text)
		}
	}
	w.awaitPage(t, "wattline_otlp_waiting", 1)
	w.awaitLog(t, "cannot be shipped")
	if status, text := w.get(t, "/readyz"); status != http.StatusOK {
		t.Errorf("without a collector and a ClickHouse /readyz says %d %s; stderr:\n%s", status, text, w.said())
	}
	w.stop(t)
	if text := w.said(); !strings.Contains(text, "traces do not arrive") || !strings.Contains(text, "not everything was exported") {
		t.Errorf("stderr does not say what was lost:\n%s", text)
	}
}

func TestTelemetryFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--otlp-endpoint", "localhost:4317"}, {"--otlp-endpoint", "http://u:sk-secret@localhost:4318"},
		{"--otlp-endpoint", "http://localhost:4318", "--trace-ratio", "2"}, {"--metric-labels", "a,b,c,d,e"}, {"--trace-context", "maybe"},
	} {
		cmd := command(t, append([]string{"serve", "--gpu", "none", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != exitUsage || strings.Contains(string(out), "sk-secret") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestLogSecrets: at level debug, malformed requests do not put secrets into the log.
func TestLogSecrets(t *testing.T) {
	t.Parallel()
	w := serve(t, stubbed(t), "--gpu", "none", "--log-level", "debug", "--log-format", "json")
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-secret\r\nX-Api-Key: sk-secret\r\nCookie: sk-secret\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nAuthorization: Bearer sk-secret\r\n\r\n",
		"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-secret\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n",
		"sk-secret nonsense\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("no answer: %v", err)
		}
		_ = c.Close()
	}
	w.stop(t)
	if text := w.said(); strings.Contains(text, "sk-secret") {
		t.Errorf("a secret was logged:\n%s", text)
	}
}

// TestMalformedCredentials: malformed OTEL_ variables with credentials are logged, without their values.
func TestMalformedCredentials(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer sk-secret")
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=%zzsk-secret")
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:sk-secret@h:x/")
		w := serve(t, stubbed(t), "--gpu", "none", "--otlp-endpoint", "http://127.0.0.1:1", "--otlp-protocol", protocol)
		w.stop(t)
		text := w.said()
		if strings.Contains(text, "sk-secret") {
			t.Errorf("a secret was logged:\n%s", text)
		}
		for _, want := range []string{"OTEL_", "problem=\"parse headers\"", "problem=\"escape header value\"", "problem=\"parse url\""} {
			if !strings.Contains(text, want) {
				t.Errorf("the log does not say %q:\n%s", want, text)
			}
		}
	}
}

// TestSpanEnergy: the span waits for the energy, which is final seconds after the reply, and has the row's values.
func TestSpanEnergy(t *testing.T) {
	t.Parallel()
	c := otlptest.Start(t)
	w := serve(t, stubbed(t), "--otlp-endpoint", "http://"+c.HTTP, "--gpu", "sim")
	const n = 3
	for range n {
		body := map[string]any{"messages": chatBody["messages"], "stream": true, "max_tokens": 600}
		if r := w.post(t.Context(), "/v1/chat/completions", body); r.err != nil || r.status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
		}
	}
	w.stop(t)
	rows := w.stored(t, 10)
	byTrace := map[string]*meter.Record{}
	for _, rec := range rows {
		byTrace[rec.TraceID] = rec
	}
	seen := 0
	for _, s := range c.Spans(t, 5*n) {
		rec := byTrace[s.TraceID]
		if s.Kind != 3 || rec == nil {
			continue
		}
		seen++
		if s.Attributes["wattline.energy.quality"] != rec.EnergyQuality || rec.EnergyQuality == meter.EnergyPending {
			t.Errorf("the span's energy is %v, the row's %s", s.Attributes["wattline.energy.quality"], rec.EnergyQuality)
		}
		for name, v := range map[string]meter.Int{
			"wattline.energy.gpu_j": rec.GPUUj, "wattline.energy.gpu_sigma_j": rec.GPUSigmaUj,
			"wattline.energy.gpu_idle_j": rec.GPUIdleUj, "wattline.energy.gpu_estimate_j": rec.GPUEstimateUj,
		} {
			got, has := s.Attributes[name].(float64)
			if has != v.Valid || got != float64(v.V)/1e6 {
				t.Errorf("%s is %v in the span, %+v uJ in the row", name, s.Attributes[name], v)
			}
		}
		t.Logf("%s: %v J", rec.EnergyQuality, s.Attributes["wattline.energy.gpu_j"])
	}
	if seen != n {
		t.Errorf("%d CLIENT spans of %d requests", seen, n)
	}
}
