package otlp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wattline/meter"
	"wattline/proxy"
	"wattline/sink/otlp"
)

// testTimeout bounds every wait in these tests.
const testTimeout = 5 * time.Minute

// echoing is an upstream that answers a streamed chat with its own request head inside a comment, so
// that a test sees what went upstream, and keeps the head.
type echoing struct {
	ln     net.Listener
	forget bool       // keep no heads
	mu     sync.Mutex // guards heads
	heads  []string
}

func newEchoing(t testing.TB) *echoing {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echoing{ln: ln}
	go e.accept() // ends when the listener closes
	t.Cleanup(func() { _ = ln.Close() })
	return e
}

func (e *echoing) accept() {
	for {
		c, err := e.ln.Accept()
		if err != nil {
			return
		}
		go e.serve(c) // ends when the connection does
	}
}

const chatReply = `data: {"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}

data: {"model":"m","choices":[{"index":0,"delta":{"content":"b"}}]}

data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":2,"prompt_n":5,"prompt_ms":0.001,"predicted_n":2,"predicted_ms":0.001}}

data: [DONE]

`

func (e *echoing) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		length := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = fmt.Sscanf(line, "Content-Length: %d", &length)
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
			return
		}
		if !e.forget {
			e.mu.Lock()
			e.heads = append(e.heads, head.String())
			e.mu.Unlock()
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(chatReply), chatReply); err != nil {
			return
		}
	}
}

func (e *echoing) last() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heads[len(e.heads)-1]
}

// kept is an Uploader that keeps what it is given, or fails with err.
type kept struct {
	mu    sync.Mutex // guards what follows
	spans []*tracepb.Span
	err   error
}

func (k *kept) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	for _, rs := range batch {
		for _, ss := range rs.GetScopeSpans() {
			k.spans = append(k.spans, ss.GetSpans()...)
		}
	}
	return nil
}

// traced is a proxy with a tracer, joined as cmd joins them.
type traced struct {
	proxy *proxy.Server
	addr  string
	trace *otlp.Tracer
	route *otlp.Route
	rows  chan *meter.Record

	requests atomic.Int64 // that are over
}

func (x *traced) Observe(e proxy.Event) {
	if e.Step == proxy.RequestSent {
		x.route.Sent(e.Seq, e.At)
	}
}

func (x *traced) Done(seq uint64, at int64, rec *meter.Record) {
	x.requests.Add(1)
	x.route.Ended(seq, at, rec)
	rec.EnergyQuality = meter.EnergyUnavailable
	x.trace.Settled(rec)
	select {
	case x.rows <- rec:
	default: // not looked at
	}
}

func startTraced(t testing.TB, upstream string, cfg otlp.Config, change func(*proxy.Config)) *traced {
	t.Helper()
	tracer, err := otlp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	x := &traced{trace: tracer, route: tracer.Route("http"), rows: make(chan *meter.Record, 64)}
	up, err := proxy.ParseUpstream("http://" + upstream)
	if err != nil {
		t.Fatal(err)
	}
	pc := proxy.Config{Name: "default", Instance: "desk", Upstream: up, Observer: x, Tracer: x.route}
	if change != nil {
		change(&pc)
	}
	if x.proxy, err = proxy.New(pc); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- x.proxy.Serve(ln) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := x.proxy.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-served
	})
	return x
}

// post sends one chat request and returns its row.
func (x *traced) post(t testing.TB, headers ...string) *meter.Record {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+x.addr+"/v1/chat/completions",
		strings.NewReader(`{"model":"m","stream":true,"messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	req.Close = true // else Shutdown waits for the idle connection
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	select {
	case rec := <-x.rows:
		return rec
	case <-time.After(testTimeout):
		t.Fatal("no row came")
		return nil
	}
}

// stop ends the tracer and returns the spans that were sent, by name.
func (x *traced) stop(t testing.TB, k *kept) map[string]*tracepb.Span {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := x.trace.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	byName := map[string]*tracepb.Span{}
	for _, s := range k.spans {
		byName[s.GetName()] = s
	}
	return byName
}

const (
	clientsTrace = "0af7651916cd43dd8448eb211c80319c"
	clientsSpan  = "b7ad6b7169203331"
	sampledBy    = "00-" + clientsTrace + "-" + clientsSpan + "-01"
	unsampledBy  = "00-" + clientsTrace + "-" + clientsSpan + "-00"
)

func headerLines(head, name string) (values []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

// The client's trace goes on: our spans lie between its span and whatever the upstream records.
func TestIncomingTraceContinues(t *testing.T) {
	up, k := newEchoing(t), &kept{}
	x := startTraced(t, up.ln.Addr().String(), otlp.Config{Upload: k}, nil)
	rec := x.post(t, "traceparent", sampledBy, "tracestate", "vendor=1,w=2", "baggage", "user=7")
	spans := x.stop(t, k)

	server, client := spans["POST /v1/chat/completions"], spans["chat m"]
	if server == nil || client == nil {
		t.Fatalf("the spans are %v", spans)
	}
	if rec.TraceID != clientsTrace || fmt.Sprintf("%x", server.GetTraceId()) != clientsTrace || fmt.Sprintf("%x", server.GetParentSpanId()) != clientsSpan {
		t.Errorf("the row has trace %s, the span %x under %x", rec.TraceID, server.GetTraceId(), server.GetParentSpanId())
	}
	if server.GetTraceState() != "vendor=1,w=2" {
		t.Errorf("the span's tracestate is %q", server.GetTraceState())
	}
	head := up.last()
	want := fmt.Sprintf("00-%s-%x-01", clientsTrace, client.GetSpanId())
	if got := headerLines(head, "traceparent"); len(got) != 1 || got[0] != want {
		t.Errorf("traceparent upstream is %q, want one %q", got, want)
	}
	for name, v := range map[string]string{"tracestate": "vendor=1,w=2", "baggage": "user=7"} {
		if got := headerLines(head, name); len(got) != 1 || got[0] != v {
			t.Errorf("%s upstream is %q, want %q", name, got, v)
		}
	}
}

func TestIncomingTraceIsLinkedOrIgnored(t *testing.T) {
	for _, how := range []otlp.Incoming{otlp.Link, otlp.Ignore} {
		t.Run(string(how), func(t *testing.T) {
			up, k := newEchoing(t), &kept{}
			x := startTraced(t, up.ln.Addr().String(), otlp.Config{Upload: k, Incoming: how, Ratio: 1}, nil)
			rec := x.post(t, "traceparent", unsampledBy, "tracestate", "vendor=1")
			server := x.stop(t, k)["POST /v1/chat/completions"]
			if server == nil {
				t.Fatal("no span was sent: the client's decision not to sample is no business of a trace of our own")
			}
			if rec.TraceID == clientsTrace || len(server.GetParentSpanId()) != 0 {
				t.Errorf("the client's trace goes on: row %s, parent %x", rec.TraceID, server.GetParentSpanId())
			}
			links := server.GetLinks()
			if how == otlp.Ignore && len(links) != 0 {
				t.Errorf("an ignored trace is linked: %v", links)
			}
			if how == otlp.Link && (len(links) != 1 || fmt.Sprintf("%x/%x", links[0].GetTraceId(), links[0].GetSpanId()) != clientsTrace+"/"+clientsSpan) {
				t.Errorf("the links are %v", links)
			}
			if got := headerLines(up.last(), "tracestate"); len(got) != 1 || got[0] != "vendor=1" {
				t.Errorf("tracestate upstream is %q", got)
			}
		})
	}
}

// A parent's decision is followed whatever the share of new traces is.
func TestSamplingFollowsTheParent(t *testing.T) {
	for _, c := range []struct {
		name, traceparent string
		ratio             float64
		want              bool
	}{
		{"parent sampled, none of ours", sampledBy, 0, true}, {"parent not sampled, all of ours", unsampledBy, 1, false},
		{"no parent, none of ours", "", 0, false}, {"no parent, all of ours", "", 1, true},
		{"malformed parent, all of ours", "00-zz", 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			up, k := newEchoing(t), &kept{}
			x := startTraced(t, up.ln.Addr().String(), otlp.Config{Upload: k, Ratio: c.ratio}, nil)
			rec := x.post(t, "traceparent", c.traceparent)
			if got := len(x.stop(t, k)) > 0; got != c.want {
				t.Errorf("recorded: %v", got)
			}
			got := headerLines(up.last(), "traceparent")
			if len(got) != 1 || !strings.HasPrefix(got[0], "00-"+rec.TraceID+"-") || strings.HasPrefix(got[0], sampledBy[:52]) {
				t.Fatalf("traceparent upstream is %q", got)
			}
			if sampled := got[0][len(got[0])-1] == '1' || got[0][len(got[0])-1] == '3'; sampled != c.want {
				t.Errorf("upstream was told %q", got[0])
			}
		})
	}
}

// With tracing off not a byte of the header changes, and the row still names the client's trace.
func TestPassiveChangesNothing(t *testing.T) {
	up, k := newEchoing(t), &kept{}
	x := startTraced(t, up.ln.Addr().String(), otlp.Config{Upload: k, Ratio: 1}, func(c *proxy.Config) { c.Tracer = otlp.PassthroughTracer{} })
	rec := x.post(t, "traceparent", sampledBy)
	if got := headerLines(up.last(), "traceparent"); len(got) != 1 || got[0] != sampledBy || rec.TraceID != clientsTrace {
		t.Errorf("traceparent upstream is %q, the row's trace %q", got, rec.TraceID)
	}
	if spans := x.stop(t, k); len(spans) != 0 {
		t.Errorf("spans were sent: %v", spans)
	}
}

// A request that wattline refuses is in its client's trace too, and a head that is not a request has a
// trace of its own.
func TestRefusedRequestsHaveSpans(t *testing.T) {
	up, k := newEchoing(t), &kept{}
	x := startTraced(t, up.ln.Addr().String(), otlp.Config{Upload: k, Ratio: 1}, func(c *proxy.Config) { c.MaxBodyBytes = 3 })
	rec := x.post(t, "traceparent", sampledBy)
	if rec.Outcome != meter.Rejected || rec.TraceID != clientsTrace {
		t.Fatalf("outcome %s, trace %s", rec.Outcome, rec.TraceID)
	}
	c, err := net.Dial("tcp", x.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // the row comes when the client is gone
	select {
	case rec = <-x.rows:
	case <-time.After(testTimeout):
		t.Fatal("no row came")
	}
	if rec.Outcome != meter.Rejected || len(rec.TraceID) != 32 || rec.TraceID == clientsTrace {
		t.Errorf("outcome %s, trace %q", rec.Outcome, rec.TraceID)
	}
	x.stop(t, k)
	if len(k.spans) != 2 {
		t.Fatalf("%d spans were sent, want two SERVER spans: %v", len(k.spans), k.spans)
	}
	for _, s := range k.spans {
		if s.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
			t.Errorf("%s is no SERVER span", s.GetName())
		}
	}
}

// Requests through the proxy make trees in which children lie within their parents.
func TestTreeOfARealExchange(t *testing.T) {
	up, k := newEchoing(t), &kept{}
	x := startTraced(t, up.ln.Addr().String(), otlp.Config{Upload: k, Ratio: 1}, nil)
	before := time.Now()
	x.post(t)
	after := time.Now()
	spans := x.stop(t, k)
	server, client := spans["POST /v1/chat/completions"], spans["chat m"]
	if server == nil || client == nil || spans["queue"] == nil || spans["prefill"] == nil || spans["decode"] == nil {
		t.Fatalf("the spans are %v", spans)
	}
	for _, s := range []*tracepb.Span{spans["queue"], spans["prefill"], spans["decode"]} {
		if string(s.GetParentSpanId()) != string(client.GetSpanId()) {
			t.Errorf("%s is not under the CLIENT span", s.GetName())
		}
		inside(t, s, client)
	}
	inside(t, client, server)
	if server.GetStartTimeUnixNano() < uint64(before.UnixNano()) || server.GetEndTimeUnixNano() > uint64(after.UnixNano()) {
		t.Errorf("the span is not within the time that the request took")
	}
	if e := client.GetEvents(); len(e) != 1 || e[0].GetTimeUnixNano() < spans["prefill"].GetStartTimeUnixNano() || e[0].GetTimeUnixNano()-spans["decode"].GetStartTimeUnixNano() > 1 { // see lasting
		t.Errorf("the first token's event is %v", e)
	}
}

func inside(t testing.TB, child, parent *tracepb.Span) {
	t.Helper()
	from, to := child.GetStartTimeUnixNano(), child.GetEndTimeUnixNano()
	if from < parent.GetStartTimeUnixNano() || to > parent.GetEndTimeUnixNano() || from > to {
		t.Errorf("%s %d..%d is not within %s %d..%d", child.GetName(), from, to, parent.GetName(), parent.GetStartTimeUnixNano(), parent.GetEndTimeUnixNano())
	}
}
