// Command collectortest is a real OTLP receiver for tests: the OpenTelemetry collector's own receiver, on
// gRPC and on HTTP, behind which every batch is written to stdout as one line of JSON.
//
// The first line says where it listens, {"grpc":"127.0.0.1:PORT","http":"127.0.0.1:PORT"}. Each further
// line has one member: "traces" or "metrics", the batch in OTLP's JSON encoding, or "jaeger", the same
// traces as the collector's translator hands them to Jaeger (model.Batch). It ends when its stdin does.
//
// It is a module of its own, because the collector's dependencies have no place in wattline's.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/jaeger"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "collectortest:", err)
		os.Exit(1)
	}
}

// lines writes one JSON value a line; batches arrive on several goroutines.
type lines struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *lines) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(append(b, '\n'))
	return err
}

func run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	out := &lines{w: stdout}
	grpc, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	http, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	started, err := start(ctx, grpc, http, out)
	if err != nil {
		return err
	}
	if err := out.write(map[string]string{"grpc": grpc, "http": http}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stdin); err != nil {
		return err
	}
	for _, c := range started {
		if err := c.Shutdown(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start runs one receiver for both signals.
func start(ctx context.Context, grpc, http string, out *lines) ([]component.Component, error) {
	factory := otlpreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	settings := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"grpc": map[string]any{"endpoint": grpc}, "http": map[string]any{"endpoint": http},
	}})
	if err := settings.Unmarshal(cfg); err != nil {
		return nil, err
	}
	set := receiver.Settings{
		ID: component.NewID(factory.Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo: component.NewDefaultBuildInfo(),
	}
	traces, err := consumer.NewTraces(func(_ context.Context, td ptrace.Traces) error { return out.traces(td) })
	if err != nil {
		return nil, err
	}
	metrics, err := consumer.NewMetrics(func(_ context.Context, md pmetric.Metrics) error { return out.metrics(md) })
	if err != nil {
		return nil, err
	}
	t, err := factory.CreateTraces(ctx, set, cfg, traces)
	if err != nil {
		return nil, err
	}
	m, err := factory.CreateMetrics(ctx, set, cfg, metrics)
	if err != nil {
		return nil, err
	}
	all := []component.Component{t, m}
	for _, c := range all {
		if err := c.Start(ctx, componenttest.NewNopHost()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (l *lines) traces(td ptrace.Traces) error {
	b, err := new(ptrace.JSONMarshaler).MarshalTraces(td)
	if err != nil {
		return err
	}
	if err := l.write(map[string]json.RawMessage{"traces": b}); err != nil {
		return err
	}
	return l.write(map[string]any{"jaeger": jaeger.ProtoFromTraces(td)})
}

func (l *lines) metrics(md pmetric.Metrics) error {
	b, err := new(pmetric.JSONMarshaler).MarshalMetrics(md)
	if err != nil {
		return err
	}
	return l.write(map[string]json.RawMessage{"metrics": b})
}

// freeAddress is a loopback address without a listener: the receiver does not say which port it was
// given, so it cannot be asked for any.
func freeAddress(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}
