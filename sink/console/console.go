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
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"wattline/meter"
)

// Rows is the part of the store that the API reads.
type Rows interface {
	Latest(ctx context.Context, limit int) ([]*meter.Record, error)
	Find(ctx context.Context, id string) (*meter.Record, error)
}

// Config holds the sources of the API's answers. Every field but Metrics and Pprof is required.
type Config struct {
	Rows Rows
	// Flush makes rows that have ended visible to Rows; bounded by its context.
	Flush func(context.Context) error
	// Inflight lists the live requests as JSON-encodable objects.
	Inflight func() []any
	// Ready says whether listener and upstream work; nothing else makes a proxy unready.
	Ready func(context.Context) error
	// Status returns the losses and totals that /api/status shows.
	Status func() any
	// Energy returns the devices' energy between two moments.
	Energy func(ctx context.Context, from, to time.Time) (*Energy, error)
	// Metrics answers /metrics; nil: there is none.
	Metrics fasthttp.RequestHandler
	// Pprof answers /debug/pprof/; nil: there is none.
	Pprof fasthttp.RequestHandler
	// Guard says who may ask; its zero value lets everybody who reaches the listener.
	Guard Guard
	Log   *slog.Logger
}

// Server is the admin listener.
type Server struct {
	cfg  Config
	http *fasthttp.Server
}

// New makes a Server that is not listening yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
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

// Shutdown stops the listener and waits for open requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.ShutdownWithContext(ctx) }

// maxRows bounds one answer of /api/requests.
const maxRows = 10000

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
	case "/api/inflight":
		s.reply(ctx, s.cfg.Inflight())
	case "/api/status":
		s.reply(ctx, s.cfg.Status())
	case "/api/requests":
		s.requests(ctx)
	case "/api/energy":
		s.energy(ctx)
	case "/metrics":
		if s.cfg.Metrics == nil {
			fail(ctx, 404, "metrics are off (--metrics off)")
			return
		}
		s.cfg.Metrics(ctx)
	default:
		if s.cfg.Pprof != nil && bytes.HasPrefix(ctx.Path(), []byte("/debug/pprof/")) {
			s.cfg.Pprof(ctx)
			return
		}
		if id, ok := bytes.CutPrefix(ctx.Path(), []byte("/api/requests/")); ok && len(id) > 0 {
			s.request(ctx, string(id))
			return
		}
		if page(ctx, path) {
			return
		}
		fail(ctx, 404, "there is nothing at this path: sink/console/API.md lists what is, and / is the console")
	}
}

func (s *Server) ready(ctx *fasthttp.RequestCtx) {
	c, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.cfg.Ready(c); err != nil {
		fail(ctx, 503, err.Error())
		return
	}
	ctx.SetBodyString("ok\n")
}

// requests answers with the latest rows, newest first: ?limit=N (100), ?id=A&id=B for these alone.
func (s *Server) requests(ctx *fasthttp.RequestCtx) {
	args, err := url.ParseQuery(string(ctx.QueryArgs().QueryString()))
	if err != nil {
		fail(ctx, 400, "the query is malformed")
		return
	}
	s.catchUp()
	c, cancel := context.WithTimeout(context.Background(), maxReading)
	defer cancel()
	if ids := args["id"]; len(ids) > 0 {
		rows := make([]*meter.Record, 0, len(ids))
		for _, id := range ids {
			rec, err := s.cfg.Rows.Find(c, id)
			if err != nil {
				notFound(ctx, err)
				return
			}
			if rec != nil {
				rows = append(rows, rec)
			}
		}
		s.reply(ctx, rows)
		return
	}
	limit := 100
	if l := args.Get("limit"); l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 1 || limit > maxRows {
			fail(ctx, 400, fmt.Sprintf("limit must be a number from 1 to %d", maxRows))
			return
		}
	}
	rows, err := s.cfg.Rows.Latest(c, limit)
	if err != nil {
		fail(ctx, 500, err.Error())
		return
	}
	s.reply(ctx, rows)
}

func (s *Server) request(ctx *fasthttp.RequestCtx, id string) {
	rec, late, err := s.find(id)
	switch {
	case err != nil:
		notFound(ctx, err)
	case rec != nil:
		s.reply(ctx, rec)
	case late:
		fail(ctx, 503, "no stored request has this id, and rows are waiting to be stored: ask again later, /api/status says what keeps them")
	default:
		fail(ctx, 404, "no request has this id")
	}
}

// notFound answers a failed lookup: 400 where several rows match the id, else 500.
func notFound(ctx *fasthttp.RequestCtx, err error) {
	status := 500
	if a, ok := errors.AsType[interface {
		error
		Ambiguous() bool
	}](err); ok && a.Ambiguous() {
		status = 400
	}
	fail(ctx, status, err.Error())
}

// find looks a row up. A client that has just read the last byte of its reply may ask before the row is handed over, so a
// whole unknown id is looked up again for half a second, unless rows are late.
func (s *Server) find(id string) (rec *meter.Record, late bool, err error) {
	for try := 0; ; try++ {
		late = s.catchUp()
		ctx, cancel := context.WithTimeout(context.Background(), maxReading)
		rec, err = s.cfg.Rows.Find(ctx, id)
		cancel()
		if rec != nil || err != nil || late || try == 50 || len(id) < idLength {
			return rec, late, err
		}
		<-time.After(10 * time.Millisecond)
	}
}

// idLength is the length of a whole id.
const idLength = 36

const (
	maxCatchUp = 10 * time.Second // for rows that wait to be written
	maxReading = 10 * time.Second // for reading; separate, since rows can be read while none can be written
)

// catchUp waits for the rows that are on their way to the store and says whether any are late.
func (s *Server) catchUp() (late bool) {
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

func fail(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json; charset=utf-8")
	b, err := json.Marshal(map[string]string{"error": text})
	if err != nil {
		return // a map of strings
	}
	ctx.SetBody(append(b, '\n'))
}
