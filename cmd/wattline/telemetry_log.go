package main

import (
	"context"
	"log/slog"

	"wattline/meter"
)

// teller writes a line about a request: at level warn where something went wrong that the client's own
// reply may not tell, at level debug about every one. It has a goroutine, so that a log that is slow to
// take lines delays nobody; stop ends it.
type teller struct {
	log  *slog.Logger
	rows chan *meter.Record
	quit chan struct{} // closed by stop
	done chan struct{} // closed when the goroutine has ended
}

// tellerRoom is how many lines wait; beyond it they are left out, as repeats are.
const tellerRoom = 256

func newTeller(log *slog.Logger) *teller {
	t := &teller{log: log, rows: make(chan *meter.Record, tellerRoom), quit: make(chan struct{}), done: make(chan struct{})}
	go t.run()
	return t
}

func (t *teller) run() {
	defer close(t.done)
	for {
		select {
		case rec := <-t.rows:
			t.tell(rec)
		case <-t.quit:
			for len(t.rows) > 0 {
				t.tell(<-t.rows)
			}
			return
		}
	}
}

func (t *teller) tell(rec *meter.Record) {
	level, message := worth(rec)
	t.log.LogAttrs(context.Background(), level, message, described(rec)...)
}

// offer takes a finished row, which must not change any more but for its energy. It never blocks.
func (t *teller) offer(rec *meter.Record) {
	if level, _ := worth(rec); !t.log.Enabled(context.Background(), level) {
		return
	}
	select {
	case t.rows <- rec:
	default:
	}
}

// stop writes what waits; what is offered behind it is not written.
func (t *teller) stop() {
	close(t.quit)
	<-t.done
}

// worth is at which level a request is told of, and in what words.
func worth(rec *meter.Record) (slog.Level, string) {
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

// described are a row's attributes for the log: its id leads to the rest (wattline requests ID). What an
// upstream says of an error can quote the request, so only wattline's own words are written.
func described(rec *meter.Record) []slog.Attr {
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

// wordless writes what OpenTelemetry says of its own variables without their values, which it would cite:
// OTEL_EXPORTER_OTLP_HEADERS holds credentials, and a malformed one holds them too.
type wordless struct{ slog.Handler }

// Handle writes the message alone.
func (w wordless) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, "OpenTelemetry has trouble with a variable of its own (OTEL_...): correct it; what it holds is not shown, since it may be a secret", rec.PC)
	out.AddAttrs(slog.String("trouble", rec.Message))
	return w.Handler.Handle(ctx, out)
}

// WithAttrs leaves the attributes out.
func (w wordless) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup leaves the group out.
func (w wordless) WithGroup(string) slog.Handler { return w }
