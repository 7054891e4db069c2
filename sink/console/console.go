// Package console is the admin listener. It serves a JSON API (API.md) and the web console (folder web), which uses nothing
// else. It only reads. None of it is served on the data listener, where every path belongs to the upstream.
package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/meter"
	"wattline/sink/queries"
)

// Rows finds single rows, of which a part of the id may be given. Without one it returns nil and no error.
type Rows interface {
	Find(ctx context.Context, id string) (*meter.Record, error)
}

// Config holds the sources of the API's answers. A nil function means that there is no live traffic here, only rows.
type Config struct {
	Rows   Rows
	Engine *queries.Engine // the rows, for everything but single ones
	// Flush makes rows that have ended visible; bounded by its context.
	Flush func(context.Context) error
	// Inflight lists the live requests as JSON-encodable objects.
	Inflight func() []any
	// Ready says whether listener and upstream work; nothing else makes a proxy unready.
	Ready func(context.Context) error
	// Status returns the losses and totals that /api/status shows.
	Status func() any
	// Energy returns the devices' energy between two moments.
	Energy func(ctx context.Context, from, to time.Time) (*Energy, error)
	// Hello says who we are.
	Hello Hello
	// Live follows the traffic; nil: there is none.
	Live *Live
	// Runs lists what replay wrote; nil: there is none.
	Runs Runs
	// Metrics answers /metrics; nil: there is none.
	Metrics fasthttp.RequestHandler
	// Pprof answers /debug/pprof/; nil: there is none.
	Pprof fasthttp.RequestHandler
	// Guard says who may ask, until SetGuard; its zero value lets everybody who reaches the listener.
	Guard Guard
	Log   *slog.Logger
}

// Hello is the answer of /api/hello, but for what only the server knows.
type Hello struct {
	Version          string           `json:"version"`
	Instance         string           `json:"instance"`
	Rows             string           `json:"rows"`         // the store's file, or ClickHouse's address without its password
	DefaultRows      bool             `json:"default_rows"` // commands find them without a flag
	Currency         string           `json:"currency"`
	PricePerKWhMicro func() meter.Int `json:"-"`
	GCO2PerKWhMilli  func() meter.Int `json:"-"`
	Routes           []HelloRoute     `json:"routes"`
}

// HelloRoute is a listener for clients.
type HelloRoute struct {
	Route    string `json:"route"`
	URL      string `json:"url"`
	Upstream string `json:"upstream"`
}

// Runs are folders that replay --out wrote. Values are JSON-encodable.
type Runs interface {
	List(ctx context.Context) (any, error)
	Read(ctx context.Context, name string) (any, error)    // nil without an error: there is none
	Compare(ctx context.Context, a, b string) (any, error) // an error whose Incomparable() is true: the pair is refused
}

// Server is the admin listener.
type Server struct {
	cfg   Config
	guard atomic.Pointer[Guard]
	http  *fasthttp.Server

	comparing chan struct{} // holds one: the comparison that runs
}

// New makes a Server that is not listening yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, comparing: make(chan struct{}, 1)}
	s.SetGuard(cfg.Guard)
	if cfg.Live != nil {
		cfg.Live.hello = s.hello
	}
	s.http = &fasthttp.Server{
		Handler: s.handle, Name: "wattline", Concurrency: 256, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxRequestBodySize: 64 << 10, ReadBufferSize: 64 << 10, // a statement comes in the URL
		SecureErrorLogMessage: true, Logger: lines{cfg.Log},
	}
	return s
}

type lines struct{ log *slog.Logger }

func (l lines) Printf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }

// Serve answers on ln until Shutdown; then it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

// Shutdown stops the listener, ends the live pages and waits for open requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.cfg.Live != nil {
		s.cfg.Live.Stop("wattline stops or a new process takes over")
	}
	return s.http.ShutdownWithContext(ctx)
}

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	if !s.admit(ctx) {
		return
	}
	path := string(ctx.Path())
	switch path {
	case "/healthz":
		ctx.SetBodyString("ok\n")
	case "/readyz":
		s.ready(ctx)
	case "/metrics":
		if s.cfg.Metrics == nil {
			fail(ctx, fasthttp.StatusNotFound, "metrics are off (--metrics off)")
			return
		}
		s.cfg.Metrics(ctx)
	default:
		switch {
		case strings.HasPrefix(path, "/api/"):
			s.api(ctx, strings.TrimPrefix(path, "/api/"))
		case s.cfg.Pprof != nil && strings.HasPrefix(path, "/debug/pprof/"):
			s.cfg.Pprof(ctx)
		case !page(ctx, path):
			fail(ctx, fasthttp.StatusNotFound, "there is nothing at this path: sink/console/API.md lists what is, and / is the console")
		}
	}
}

// handler answers one path of the API. c ends at its deadline.
type handler func(c context.Context, ctx *fasthttp.RequestCtx) (any, error)

// api answers a path below /api/.
func (s *Server) api(ctx *fasthttp.RequestCtx, path string) {
	limit, flush := maxReading, true
	var answer handler
	switch path {
	case "live":
		s.stream(ctx)
		return
	case "hello":
		answer, flush = func(context.Context, *fasthttp.RequestCtx) (any, error) { return s.hello(), nil }, false
	case "inflight":
		answer, flush = s.live(func() any { return s.cfg.Inflight() }, s.cfg.Inflight != nil), false
	case "status":
		answer, flush = s.live(func() any { return s.cfg.Status() }, s.cfg.Status != nil), false
	case "requests":
		answer = s.requests
	case "sum":
		answer = s.sum
	case "sessions":
		answer = s.sessions
	case "usage":
		answer, limit = s.usage, queryTimeout
	case "energy":
		answer = s.energy
	case "query":
		answer, limit = s.query, queryTimeout
	case "configs":
		answer = s.configs
	case "runs":
		answer, flush = s.runs, false
	case "compare":
		answer, flush, limit = s.compare, false, queryTimeout
	default:
		if id, ok := strings.CutPrefix(path, "requests/"); ok && id != "" {
			answer, flush = func(c context.Context, ctx *fasthttp.RequestCtx) (any, error) { return s.request(c, ctx, id) }, false
		} else if name, ok := strings.CutPrefix(path, "runs/"); ok && name != "" {
			answer, flush = func(c context.Context, _ *fasthttp.RequestCtx) (any, error) { return s.run(c, name) }, false
		} else {
			fail(ctx, fasthttp.StatusNotFound, "there is nothing at this path: sink/console/API.md lists what is")
			return
		}
	}
	if flush {
		s.catchUp()
	}
	c, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	v, err := answer(c, ctx)
	if err != nil {
		status, text := s.explain(err, limit)
		fail(ctx, status, text)
		return
	}
	s.reply(ctx, v)
}

// live is a handler for what only a serve has.
func (s *Server) live(answer func() any, there bool) handler {
	return func(context.Context, *fasthttp.RequestCtx) (any, error) {
		if !there {
			return nil, errRowsOnly
		}
		return answer(), nil
	}
}

var errRowsOnly = &failure{fasthttp.StatusNotFound, "there is no live traffic here: `wattline console` shows rows alone, serve shows requests in flight on its own console"}

// greeting is the answer of /api/hello.
type greeting struct {
	Live bool `json:"live"`
	Hello
	Engine           string    `json:"engine"`
	Now              time.Time `json:"now"`
	PricePerKWhMicro meter.Int `json:"price_per_kwh_micro"`
	GCO2PerKWhMilli  meter.Int `json:"gco2_per_kwh_milli"`
	Runs             bool      `json:"runs"`
	Filters          []string  `json:"filters"`
	Sorts            []string  `json:"sorts"`
	SumsBy           []string  `json:"sums_by"`
	UsageBy          []string  `json:"usage_by"`
}

func (s *Server) hello() greeting {
	h := greeting{
		Live: s.cfg.Live != nil, Hello: s.cfg.Hello, Now: time.Now().UTC(), Runs: s.cfg.Runs != nil,
		Filters: filterParams(), Sorts: queries.SortColumns(), SumsBy: queries.SumKeys(), UsageBy: queries.UsageKeys(),
	}
	if h.Routes == nil {
		h.Routes = []HelloRoute{}
	}
	if s.cfg.Engine != nil {
		h.Engine = strings.ToLower(s.cfg.Engine.Dialect.String())
	}
	if f := s.cfg.Hello.PricePerKWhMicro; f != nil {
		h.PricePerKWhMicro = f()
	}
	if f := s.cfg.Hello.GCO2PerKWhMilli; f != nil {
		h.GCO2PerKWhMilli = f()
	}
	return h
}

func (s *Server) runs(c context.Context, _ *fasthttp.RequestCtx) (any, error) {
	if s.cfg.Runs == nil {
		return nil, errNoRuns
	}
	return s.cfg.Runs.List(c)
}

func (s *Server) run(c context.Context, name string) (any, error) {
	if s.cfg.Runs == nil {
		return nil, errNoRuns
	}
	v, err := s.cfg.Runs.Read(c, name)
	if err == nil && v == nil {
		return nil, &failure{fasthttp.StatusNotFound, "no run has this name: /api/runs lists them"}
	}
	return v, err
}

// compare compares run b with run a, one pair at a time: two runs may take hundreds of MiB.
func (s *Server) compare(c context.Context, ctx *fasthttp.RequestCtx) (any, error) {
	if s.cfg.Runs == nil {
		return nil, errNoRuns
	}
	p, err := parseParams(ctx, "a", "b")
	if err != nil {
		return nil, err
	}
	select {
	case s.comparing <- struct{}{}:
		defer func() { <-s.comparing }()
	case <-c.Done():
		return nil, errCompareTime
	}
	v, err := s.cfg.Runs.Compare(c, p.text("a"), p.text("b"))
	refused, ok := errors.AsType[interface {
		error
		Incomparable() bool
	}](err)
	switch {
	case ok && refused.Incomparable():
		return nil, badRequest("%v", err)
	case c.Err() != nil:
		return nil, errCompareTime
	case err == nil && v == nil:
		return nil, &failure{fasthttp.StatusNotFound, "give a and b, the names of two runs: /api/runs lists them"}
	}
	return v, err
}

var errCompareTime = &failure{fasthttp.StatusGatewayTimeout, "the runs could not be compared in time (one pair is compared at a time): `wattline compare A B` has no limit"}

var errNoRuns = &failure{fasthttp.StatusNotFound, "no folder of runs is named: give --runs DIR, below which `wattline replay --out DIR/NAME` wrote"}

func (s *Server) ready(ctx *fasthttp.RequestCtx) {
	if s.cfg.Ready == nil {
		ctx.SetBodyString("ok\n")
		return
	}
	c, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.cfg.Ready(c); err != nil {
		fail(ctx, 503, err.Error())
		return
	}
	ctx.SetBodyString("ok\n")
}

const (
	maxCatchUp = 10 * time.Second // for rows that wait to be written
	maxReading = 10 * time.Second // for reading; separate, since rows can be read while none can be written
)

// catchUp waits for the rows that are on their way to the store and says whether any are late.
func (s *Server) catchUp() (late bool) {
	if s.cfg.Flush == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxCatchUp)
	defer cancel()
	err := s.cfg.Flush(ctx)
	if err != nil {
		s.cfg.Log.Warn("rows are late for the admin API", "error", err)
	}
	return err != nil
}

func (s *Server) reply(ctx *fasthttp.RequestCtx, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		fail(ctx, 500, err.Error())
		return
	}
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	b = append(b, '\n')
	if len(b) > minGzip && ctx.Request.Header.HasAcceptEncoding("gzip") {
		ctx.Response.Header.Set("Content-Encoding", "gzip")
		b = fasthttp.AppendGzipBytesLevel(nil, b, fasthttp.CompressBestSpeed)
	}
	ctx.Response.SetBodyRaw(b)
}

// minGzip is the least size of an answer that is compressed.
const minGzip = 1 << 10

// fail answers with one sentence: a person who opens the address gets it as text.
func fail(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	if bytes.Contains(ctx.Request.Header.Peek("Accept"), []byte("text/html")) {
		ctx.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString(text + "\n")
		return
	}
	ctx.SetContentType("application/json; charset=utf-8")
	b, err := json.Marshal(map[string]string{"error": text})
	if err != nil {
		return // a map of strings
	}
	ctx.SetBody(append(b, '\n'))
}
