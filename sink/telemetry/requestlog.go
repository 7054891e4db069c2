package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"

	"wattline/meter"
	"wattline/sink"
)

// requestLogger writes a line about a request: at level warn where something went wrong that the client's own
// reply may not show, at level debug about every request. Its goroutine, which Close ends, keeps a slow log from
// delaying requests.
type requestLogger struct {
	sink.NopObserver
	log     *slog.Logger
	rows    chan *meter.Record
	dropped atomic.Int64  // lines that found the queue full and are not yet reported
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the goroutine has ended
}

// maxWaitingLines is how many lines wait; beyond it they are dropped, and their number is logged.
const maxWaitingLines = 256

func openRequestLog(_ context.Context, cfg *Config) (Target, error) {
	return newRequestLogger(cfg.Log), nil
}

func newRequestLogger(log *slog.Logger) *requestLogger {
	l := &requestLogger{log: log, rows: make(chan *meter.Record, maxWaitingLines), quit: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *requestLogger) run() {
	defer close(l.done)
	for {
		select {
		case rec := <-l.rows:
			l.write(rec)
		case <-l.quit:
			for len(l.rows) > 0 {
				l.write(<-l.rows)
			}
			l.reportDropped()
			return
		}
	}
}

// write writes a line. Once no line waits, it reports those that were dropped.
func (l *requestLogger) write(rec *meter.Record) {
	level, message := severity(rec)
	l.log.LogAttrs(context.Background(), level, message, attributes(rec)...)
	if len(l.rows) == 0 {
		l.reportDropped()
	}
}

func (l *requestLogger) reportDropped() {
	if n := l.dropped.Swap(0); n > 0 {
		l.log.Warn("the log is slower than the requests: lines about requests were dropped; their rows are stored", "dropped", n)
	}
}

// Offered takes a finished row, of which only the energy may still change. It never blocks.
func (l *requestLogger) Offered(rec *meter.Record) {
	if level, _ := severity(rec); !l.log.Enabled(context.Background(), level) {
		return
	}
	select {
	case l.rows <- rec:
	default:
		l.dropped.Add(1)
	}
}

// Close writes the lines that wait. Rows offered afterwards are not written.
func (l *requestLogger) Close(context.Context) error {
	close(l.quit)
	<-l.done
	return nil
}

// severity is the level and the message of a request's line.
func severity(rec *meter.Record) (slog.Level, string) {
	switch {
	case rec.Outcome == meter.Truncated:
		return slog.LevelWarn, "the upstream broke off its reply"
	case rec.Outcome == meter.UpstreamError && !rec.TTFBUs.Valid:
		return slog.LevelWarn, "the upstream did not answer"
	case rec.Outcome == meter.OK && rec.Dialect != "" && rec.Error != "":
		return slog.LevelWarn, "a reply could not be metered"
	}
	return slog.LevelDebug, "request"
}

// attributes are a row's attributes in the log; the id leads to the rest (wattline requests ID). An upstream's own
// error message can quote the request, so only wattline's messages are written.
func attributes(rec *meter.Record) []slog.Attr {
	out := []slog.Attr{
		slog.String("id", rec.ID), slog.String("route", rec.Route), slog.String("method", rec.Method), slog.String("path", rec.Path),
		slog.String("outcome", string(rec.Outcome)),
	}
	if rec.Status.Valid {
		out = append(out, slog.Int64("status", rec.Status.V))
	}
	if rec.DurationUs.Valid {
		out = append(out, slog.Float64("duration_ms", float64(rec.DurationUs.V)/1e3))
	}
	if rec.TraceID != "" {
		out = append(out, slog.String("trace_id", rec.TraceID))
	}
	if rec.Error != "" && (rec.Outcome != meter.UpstreamError || !rec.TTFBUs.Valid) {
		out = append(out, slog.String("error", rec.Error))
	}
	return out
}
