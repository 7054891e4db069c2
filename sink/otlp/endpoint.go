package otlp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Protocol is how batches travel.
type Protocol string

// The protocols. Auto is GRPC for port 4317, else HTTP: the ports that OTLP reserves for them.
const (
	Auto Protocol = "auto"
	GRPC Protocol = "grpc"
	HTTP Protocol = "http" // protobuf bodies
)

// Endpoint is a collector. Headers with credentials, a CA and compression come from the environment
// variables that OpenTelemetry defines for every exporter (OTEL_EXPORTER_OTLP_HEADERS,
// OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_EXPORTER_OTLP_COMPRESSION); they are not taken from the URL.
type Endpoint struct {
	base     *url.URL
	protocol Protocol
}

// ParseEndpoint reads http://HOST:PORT[/PATH] or https://…; https is TLS on both protocols. On HTTP the
// signals' own paths, /v1/traces and /v1/metrics, go behind PATH.
func ParseEndpoint(raw string, protocol Protocol) (Endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return Endpoint{}, errors.New("the address of an OTLP collector is written as http://HOST:PORT or https://HOST:PORT")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Endpoint{}, errors.New("the address of an OTLP collector holds no password and no query: put credentials into OTEL_EXPORTER_OTLP_HEADERS")
	}
	e := Endpoint{base: u, protocol: protocol}
	switch protocol {
	case GRPC, HTTP:
	case Auto, "":
		e.protocol = HTTP
		if u.Port() == "4317" {
			e.protocol = GRPC
		}
	default:
		return Endpoint{}, fmt.Errorf("OTLP travels over grpc or http, not %q", protocol)
	}
	if e.protocol == GRPC && strings.Trim(u.Path, "/") != "" {
		return Endpoint{}, fmt.Errorf("OTLP over gRPC has no path, but the collector's address has %s", u.Path)
	}
	return e, nil
}

// String is the address with its protocol.
func (e Endpoint) String() string { return e.base.String() + " (" + string(e.protocol) + ")" }

// signal is the address for one signal on HTTP.
func (e Endpoint) signal(name string) string { return e.base.JoinPath("v1", name).String() }

// Client makes the Uploader for traces. Stop it after the Tracer that uses it. It makes one attempt per
// call: the Tracer decides about further ones, since only it knows what waits.
func (e Endpoint) Client(ctx context.Context) (otlptrace.Client, error) {
	var c otlptrace.Client
	if e.protocol == GRPC {
		c = otlptracegrpc.NewClient(otlptracegrpc.WithEndpointURL(e.base.String()), otlptracegrpc.WithTimeout(uploadTimeout),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}))
	} else {
		c = otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(e.signal("traces")), otlptracehttp.WithTimeout(uploadTimeout),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}))
	}
	if err := c.Start(ctx); err != nil {
		return nil, fmt.Errorf("otlp: traces to %s: %w", e, err)
	}
	return c, nil
}

// metricExporter makes the exporter behind MetricReader. Totals are sent whole each time, so an attempt
// that fails loses nothing that the next one does not bring.
func (e Endpoint) metricExporter(ctx context.Context) (sdkmetric.Exporter, error) {
	if e.protocol == GRPC {
		return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(e.base.String()), otlpmetricgrpc.WithTimeout(uploadTimeout),
			otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: false}))
	}
	return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(e.signal("metrics")), otlpmetrichttp.WithTimeout(uploadTimeout),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: false}))
}
