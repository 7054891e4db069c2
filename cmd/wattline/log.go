package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// newLog writes lines for people, or JSON on request. Whoever logs passes it on; nothing is global.
func newLog(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	var h slog.Handler = slog.NewTextHandler(w, opt)
	if format == "json" {
		h = slog.NewJSONHandler(w, opt)
	}
	return slog.New(sparing{h, &repeats{seen: map[repeat]*burst{}}})
}

// redact is the last line of defence: an attribute whose name says that it is a secret is not written.
// Nothing in wattline logs one.
func redact(_ []string, a slog.Attr) slog.Attr {
	name := strings.ToLower(strings.ReplaceAll(a.Key, "-", "_"))
	if slices.ContainsFunc([]string{"authorization", "api_key", "password", "secret", "cookie", "dsn"}, func(s string) bool { return strings.Contains(name, s) }) {
		a.Value = slog.StringValue("[redacted]")
	}
	return a
}

// A line that repeats is written so often in a window; further ones are only counted, and the first line
// of the next window says how many there were.
const (
	repeatsWritten = 5
	repeatWindow   = 30 * time.Second
	repeatsKnown   = 256 // messages are constants of the program; this bounds those that are not
)

// repeat tells lines apart: attributes differ from one to the next, the message does not.
type repeat struct {
	level   slog.Level
	message string
}

// burst is what became of one message in its window.
type burst struct {
	since               time.Time
	written, suppressed int
}

// repeats is shared by a handler and those made of it.
type repeats struct {
	mu   sync.Mutex // guards seen
	seen map[repeat]*burst
}

// admit decides about a line, and says how many of its kind were suppressed before it.
func (r *repeats) admit(k repeat, now time.Time) (write bool, suppressed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.seen[k]
	if b == nil {
		if len(r.seen) >= repeatsKnown {
			clear(r.seen)
		}
		b = &burst{since: now}
		r.seen[k] = b
	}
	if now.Sub(b.since) >= repeatWindow {
		suppressed = b.suppressed
		*b = burst{since: now}
	}
	if b.written >= repeatsWritten {
		b.suppressed++
		return false, 0
	}
	b.written++
	return true, suppressed
}

// sparing is a slog.Handler that leaves out repeats.
type sparing struct {
	slog.Handler
	repeats *repeats
}

// Handle writes the record unless it repeats too often.
func (s sparing) Handle(ctx context.Context, rec slog.Record) error {
	write, suppressed := s.repeats.admit(repeat{rec.Level, rec.Message}, rec.Time)
	if !write {
		return nil
	}
	if suppressed > 0 {
		rec = rec.Clone()
		rec.AddAttrs(slog.Int("suppressed_before", suppressed))
	}
	return s.Handler.Handle(ctx, rec)
}

// WithAttrs returns a handler that writes attrs on every line.
func (s sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{s.Handler.WithAttrs(attrs), s.repeats}
}

// WithGroup returns a handler that puts further attributes into a group.
func (s sparing) WithGroup(name string) slog.Handler {
	return sparing{s.Handler.WithGroup(name), s.repeats}
}
