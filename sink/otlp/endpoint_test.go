package otlp

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

func TestEndpointsAreReadAsMeant(t *testing.T) {
	for _, c := range []struct {
		raw      string
		protocol Protocol
		want     string // "": refused
	}{
		{"http://localhost:4318", Auto, "http://localhost:4318 (http)"},
		{"http://localhost:4317", Auto, "http://localhost:4317 (grpc)"},
		{"http://localhost:4317", "", "http://localhost:4317 (grpc)"},
		{"https://otel.example/otlp", HTTP, "https://otel.example/otlp (http)"},
		{"http://localhost:9999", GRPC, "http://localhost:9999 (grpc)"},
		{"http://localhost:4317/path", GRPC, ""},
		{"localhost:4317", Auto, ""},
		{"grpc://localhost:4317", Auto, ""},
		{"http://", Auto, ""},
		{"http://user:secret@localhost:4318", Auto, ""},
		{"http://localhost:4318?token=secret", Auto, ""},
		{"http://localhost:4318", "udp", ""},
		{"://", Auto, ""},
	} {
		e, err := ParseEndpoint(c.raw, c.protocol)
		if err != nil {
			if c.want != "" {
				t.Errorf("%s %s: %v", c.raw, c.protocol, err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error repeats a secret: %v", err)
			}
			continue
		}
		if e.String() != c.want {
			t.Errorf("%s %s is read as %s", c.raw, c.protocol, e)
		}
	}
	e, err := ParseEndpoint("https://otel.example/otlp/", HTTP)
	if err != nil || e.signal("traces") != "https://otel.example/otlp/v1/traces" {
		t.Errorf("the signal's address is %s, %v", e.signal("traces"), err)
	}
}

// picky is a gRPC receiver that takes a batch but refuses two of its spans.
type picky struct {
	coltracepb.UnimplementedTraceServiceServer
	calls atomic.Int64
}

func refusesTwo() *coltracepb.ExportTraceServiceResponse {
	return &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "too old"}}
}

func (p *picky) Export(context.Context, *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	p.calls.Add(1)
	return refusesTwo(), nil
}

// oneTrace sends one trace to an endpoint and returns the counters behind it.
func oneTrace(t *testing.T, raw string, protocol Protocol) Stats {
	t.Helper()
	e, err := ParseEndpoint(raw, protocol)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := within(30 * time.Second)
	defer cancel()
	client, err := e.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Stop(ctx)
	tr, r := newTracer(t, Config{Upload: client})
	endFinal(tr, r, 1)
	_ = tr.Stop(ctx) // the counters say how it went
	return tr.Stats()
}

func TestBothClientsTellOfPartialSuccess(t *testing.T) {
	t.Run("grpc", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, s := &picky{}, grpc.NewServer()
		coltracepb.RegisterTraceServiceServer(s, p)
		go s.Serve(ln)
		defer s.Stop()
		if got := oneTrace(t, "http://"+ln.Addr().String(), GRPC); got.Sent != 1 || got.SpansRejected != 2 || got.Failed != 0 || p.calls.Load() != 1 {
			t.Errorf("%+v after %d calls", got, p.calls.Load())
		}
	})
	t.Run("http", func(t *testing.T) {
		var calls atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.Header().Set("Content-Type", "application/x-protobuf")
			b, err := proto.Marshal(refusesTwo())
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(b)
		}))
		defer s.Close()
		if got := oneTrace(t, s.URL, HTTP); got.Sent != 1 || got.SpansRejected != 2 || got.Failed != 0 || calls.Load() != 1 {
			t.Errorf("%+v after %d calls", got, calls.Load())
		}
	})
}

func TestRefusedBatchesAreFailures(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	if got := oneTrace(t, s.URL, HTTP); got.Failed != 1 || got.Sent != 0 || !strings.Contains(got.LastError, "404") {
		t.Errorf("%+v", got)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	for _, p := range []Protocol{GRPC, HTTP} {
		if got := oneTrace(t, "http://"+ln.Addr().String(), p); got.Failed != 1 || got.Sent != 0 || got.LastError == "" {
			t.Errorf("nobody listens, %s: %+v", p, got)
		}
	}
}
