package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
)

// TestJaegerShowsTheWaterfall: the API of a real Jaeger v2 returns the times and attributes of the rows, for traces sent
// to it by gRPC and for traces sent by HTTP through the collector of compose.yaml. `make jaeger` builds Jaeger, which
// takes some minutes, and sets WATTLINE_JAEGER.
func TestJaegerShowsTheWaterfall(t *testing.T) {
	binary := os.Getenv("WATTLINE_JAEGER")
	if binary == "" {
		t.Skip("WATTLINE_JAEGER names no Jaeger: `make jaeger` builds one and runs this test. The collector's receiver and its translation for Jaeger are tested in sink/otlp.")
	}
	const deploy = "../../deploy/"
	page, grpc := freePort(t), freePort(t)
	runCollector(t, binary, deploy+"jaeger/jaeger.yaml", map[string]string{
		"127.0.0.1:16686": page, "127.0.0.1:16685": freePort(t), "127.0.0.1:4317": grpc, "127.0.0.1:4318": freePort(t),
	})
	viaGRPC, viaHTTP := freePort(t), freePort(t)
	runCollector(t, binary, deploy+"otel/collector.yaml", map[string]string{"0.0.0.0:4317": viaGRPC, "0.0.0.0:4318": viaHTTP, "jaeger:4317": grpc})
	for name, endpoint := range map[string]string{"straight, gRPC": grpc, "through the collector, HTTP": viaHTTP} {
		t.Run(name, func(t *testing.T) {
			protocol := strings.ToLower(name[strings.LastIndexByte(name, ' ')+1:])
			w := serve(t, llamatest.Start(t, "-np", "1", "--alias", "tiny-random-llama").URL(), "--gpu", "sim", "--instance", "desk", "--otlp-endpoint", "http://"+endpoint, "--otlp-protocol", protocol, "--otlp-signals", "traces")
			w.awaitJoules(t, 500) // enough to learn the idle draw
			realTraffic(t, w)
			w.stop(t)
			for _, rec := range w.stored(t, 10) {
				trace := askJaeger(t, page, rec.TraceID)
				t.Logf("GET /api/traces/%s\n%s", rec.TraceID, trace.waterfall())
				trace.compare(t, rec)
			}
		})
	}
}

// realTraffic sends a long request, one that waits for its slot, one with a client that leaves, and one that the server
// refuses.
func realTraffic(t *testing.T, w *wattlineProcess) {
	t.Helper()
	body := func(tokens int, words string) map[string]any {
		return map[string]any{"messages": []any{map[string]any{"role": "user", "content": words}}, "stream": true, "max_tokens": tokens, "ignore_eos": true}
	}
	answers := make(chan reply, 2)
	go func() {
		answers <- w.post(t.Context(), "/v1/chat/completions", body(2000, strings.Repeat("ba ce di ", 200)))
	}()
	w.awaitStreams(t, 1, nil)
	go func() { answers <- w.post(t.Context(), "/v1/chat/completions", body(500, "fo gu")) }()
	for range 2 {
		if r := <-answers; r.err != nil || r.status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", r.status, r.err, r.body)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan reply, 1)
	go func() { gone <- w.post(ctx, "/v1/chat/completions", body(5000, "ha je")) }()
	w.awaitStreams(t, 1, nil)
	leave()
	<-gone
	if r := w.post(t.Context(), "/v1/chat/completions", map[string]any{"messages": "none"}); r.status < 400 {
		t.Fatalf("a request that is none was answered with %d", r.status)
	}
}

// awaitJoules waits until the device's counter has reached joules.
func (w *wattlineProcess) awaitJoules(t *testing.T, joules float64) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 300 {
		if _, text := w.get(t, "/metrics"); summed(t, text, `hw_energy_joules_total\{.*\}`) >= joules {
			return
		}
		<-tick.C
	}
	t.Fatalf("the device did not draw %g J in a minute", joules)
}

// runCollector starts Jaeger's binary, a build of the OpenTelemetry collector, with a configuration file in which
// addresses are replaced, and waits until it listens.
func runCollector(t *testing.T, binary, config string, replaced map[string]string) {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for from, to := range replaced {
		if !strings.Contains(string(text), from) {
			t.Fatalf("%s does not name %s", config, from)
		}
		text = []byte(strings.ReplaceAll(string(text), from, to))
		if !strings.HasPrefix(from, "jaeger:") {
			own = append(own, to)
		}
	}
	path := filepath.Join(t.TempDir(), filepath.Base(config))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config", path, "--set", "service.telemetry.metrics.level=none", "--set", "service.telemetry.logs.level=warn")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // interrupted
	})
	for _, at := range own {
		for i := 0; ; i++ {
			if c, err := net.Dial("tcp", at); err == nil {
				_ = c.Close()
				break
			}
			if i == 600 {
				t.Fatalf("%s with %s does not listen on %s", binary, config, at)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

// freePort returns a free loopback address.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// jaegerTrace is a trace in Jaeger's API.
type jaegerTrace struct {
	Spans     []jaegerSpan
	Processes map[string]struct{ ServiceName string }
}

type jaegerSpan struct {
	SpanID, OperationName, ProcessID string
	References                       []struct{ RefType, SpanID string }
	StartTime, Duration              int64 // us
	Tags                             []jaegerTag
	Logs                             []struct {
		Timestamp int64
		Fields    []jaegerTag
	}
	Warnings []string
}

type jaegerTag struct {
	Key   string
	Value any
}

func (s *jaegerSpan) parent() string {
	if len(s.References) == 0 {
		return ""
	}
	return s.References[0].SpanID
}

func (s *jaegerSpan) tag(key string) any {
	for _, t := range s.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return nil
}

// askJaeger polls until Jaeger has a trace. Batches are sent once a second.
func askJaeger(t *testing.T, page, id string) *jaegerTrace {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 100 {
		resp, err := http.Get("http://" + page + "/api/traces/" + id)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var answer struct{ Data []*jaegerTrace }
		if err == nil && resp.StatusCode == http.StatusOK {
			err = json.Unmarshal(text, &answer)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if len(answer.Data) == 1 {
			return answer.Data[0]
		}
		<-tick.C
	}
	t.Fatalf("Jaeger does not know trace %s", id)
	return nil
}

// waterfall draws the trace like Jaeger's page.
func (j *jaegerTrace) waterfall() string {
	var b strings.Builder
	var zero, length int64
	var write func(parent string, depth int)
	write = func(parent string, depth int) {
		children := slices.DeleteFunc(slices.Clone(j.Spans), func(s jaegerSpan) bool { return s.parent() != parent })
		slices.SortFunc(children, func(x, y jaegerSpan) int { return int(x.StartTime - y.StartTime) })
		for _, s := range children {
			if parent == "" {
				zero, length = s.StartTime, max(s.Duration, 1)
			}
			const width = 50
			from := int((s.StartTime - zero) * width / length)
			bar := strings.Repeat(" ", min(from, width-1)) + strings.Repeat("#", max(1, int(s.Duration*width/length)))
			fmt.Fprintf(&b, "%-34s %10.3f ms  |%-*s|", strings.Repeat("  ", depth)+s.OperationName, float64(s.Duration)/1e3, width, bar)
			for _, l := range s.Logs {
				fmt.Fprintf(&b, " %v at %.3f ms", l.Fields[0].Value, float64(l.Timestamp-zero)/1e3)
			}
			b.WriteString("\n")
			for _, t := range s.Tags {
				if regexp.MustCompile(`^wattline\.(energy\.|outcome|concurrency|overhead)|usage|finish|time_to_first|otel\.status|^error`).MatchString(t.Key) && depth < 2 {
					fmt.Fprintf(&b, "%s    %s = %v\n", strings.Repeat("  ", depth), t.Key, t.Value)
				}
			}
			write(s.SpanID, depth+1)
		}
	}
	write("", 0)
	return b.String()
}

// compare compares the trace with the row.
func (j *jaegerTrace) compare(t *testing.T, rec *meter.Record) {
	t.Helper()
	byName, byID := map[string]jaegerSpan{}, map[string]jaegerSpan{}
	for _, s := range j.Spans {
		byName[s.OperationName], byID[s.SpanID] = s, s
		if len(s.Warnings) > 0 || j.Processes[s.ProcessID].ServiceName != "wattline" {
			t.Errorf("%s: service %q, warnings %q", s.OperationName, j.Processes[s.ProcessID].ServiceName, s.Warnings)
		}
	}
	for _, s := range j.Spans {
		if p, ok := byID[s.parent()]; ok && (s.StartTime < p.StartTime || s.StartTime+s.Duration > p.StartTime+p.Duration) {
			t.Errorf("%s leaves %s", s.OperationName, p.OperationName)
		}
	}
	server := byName["POST /v1/chat/completions"]
	if server.tag("wattline.request.id") != rec.ID || server.tag("wattline.outcome") != string(rec.Outcome) || server.tag("span.kind") != "server" {
		t.Errorf("the SERVER span is %+v, the row %s %s", server, rec.ID, rec.Outcome)
	}
	client := byName[clientSpanName(rec)]
	if client.parent() != server.SpanID || client.tag("wattline.energy.quality") != rec.EnergyQuality {
		t.Errorf("the CLIENT span is %+v, the row's quality %s", client, rec.EnergyQuality)
	}
	if v, has := client.tag("wattline.energy.gpu_j").(float64); has != rec.GPUUj.Valid || math.Abs(v-float64(rec.GPUUj.V)/1e6) > 1e-9 {
		t.Errorf("the span has %v J, the row %+v uJ", client.tag("wattline.energy.gpu_j"), rec.GPUUj)
	}
	for phase, us := range map[string]meter.Int{"queue": rec.QueueUs, "prefill": rec.PrefillUs, "decode": rec.DecodeUs} {
		s, has := byName[phase]
		if has != us.Valid || has && s.parent() != client.SpanID || s.Duration > us.V+1 || us.V-s.Duration > 5000 { // cut to its parent, if at all
			t.Errorf("%s lasts %d us in Jaeger, %+v in the row", phase, s.Duration, us)
		}
	}
	if rec.UpstreamTTFTUs.Valid && len(client.Logs) != 1 {
		t.Errorf("the first token's event is missing: %+v", client.Logs)
	}
}

func clientSpanName(rec *meter.Record) string {
	if rec.Model == "" {
		return "chat"
	}
	return "chat " + rec.Model
}
