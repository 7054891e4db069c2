package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"wattline/meter"
)

// gatedHandler is a log that takes no line before its gate is opened.
type gatedHandler struct {
	slog.Handler
	gate chan struct{}

	mu      sync.Mutex // guards what follows
	lines   int
	dropped int64
	level   map[string]slog.Level // of messages
}

func (h *gatedHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *gatedHandler) Handle(_ context.Context, rec slog.Record) error {
	<-h.gate
	h.mu.Lock()
	defer h.mu.Unlock()
	h.level[rec.Message] = rec.Level
	counted := false
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key == "dropped" {
			h.dropped += a.Value.Int64()
			counted = true
		}
		return true
	})
	if !counted {
		h.lines++
	}
	return nil
}

// Every line is written or counted as dropped, however slow the log is.
func TestDroppedLines(t *testing.T) {
	h := &gatedHandler{gate: make(chan struct{}), level: map[string]slog.Level{}}
	l := newRequestLogger(slog.New(h))
	const offered = 3 * maxWaitingLines
	for range offered {
		l.Offered(&meter.Record{Outcome: meter.OK})
	}
	if n := l.dropped.Load(); n < offered-maxWaitingLines-1 || n > offered-maxWaitingLines {
		t.Errorf("%d of %d lines are dropped, of which %d can wait and one be written", n, offered, maxWaitingLines)
	}
	close(h.gate)
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if h.dropped == 0 || int64(h.lines)+h.dropped != offered {
		t.Errorf("%d lines written, %d reported as dropped, of %d", h.lines, h.dropped, offered)
	}
}

func TestNothingIsReportedWhenEveryLineIsWritten(t *testing.T) {
	h := &gatedHandler{gate: make(chan struct{}), level: map[string]slog.Level{}}
	close(h.gate)
	l := newRequestLogger(slog.New(h))
	for range 10 {
		l.Offered(&meter.Record{Outcome: meter.OK})
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if h.lines != 10 || h.dropped != 0 || len(h.level) != 1 {
		t.Errorf("%d lines, %d dropped, messages %v", h.lines, h.dropped, h.level)
	}
}

func TestSeverity(t *testing.T) {
	for _, c := range []struct {
		rec   meter.Record
		level slog.Level
		text  string
	}{
		{meter.Record{Outcome: meter.OK}, slog.LevelDebug, "request"},
		{meter.Record{Outcome: meter.Truncated}, slog.LevelWarn, "the upstream broke off its reply"},
		{meter.Record{Outcome: meter.UpstreamError}, slog.LevelWarn, "the upstream did not answer"},
		{meter.Record{Outcome: meter.UpstreamError, TTFBUs: meter.Some(1)}, slog.LevelDebug, "request"},
		{meter.Record{Outcome: meter.OK, Dialect: "chat", Error: "no JSON"}, slog.LevelWarn, "a reply could not be metered"},
		{meter.Record{Outcome: meter.OK, Error: "no JSON"}, slog.LevelDebug, "request"},
	} {
		if level, text := severity(&c.rec); level != c.level || text != c.text {
			t.Errorf("%+v: %v %q", c.rec, level, text)
		}
	}
}

func TestUpstreamMessageNotLogged(t *testing.T) {
	has := func(rec *meter.Record) bool {
		for _, a := range attributes(rec) {
			if a.Key == "error" {
				return true
			}
		}
		return false
	}
	if has(&meter.Record{Outcome: meter.UpstreamError, TTFBUs: meter.Some(1), Error: "too long: dear diary"}) {
		t.Error("an upstream's message, which can quote the request, is logged")
	}
	if !has(&meter.Record{Outcome: meter.UpstreamError, Error: "connection refused"}) || !has(&meter.Record{Outcome: meter.Truncated, Error: "reset"}) {
		t.Error("a message of wattline is not logged")
	}
}
