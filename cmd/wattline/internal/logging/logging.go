// Package logging makes wattline's logger. It writes text or JSON, redacts secrets and limits repeated lines.
package logging

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// New returns a logger that writes JSON if format is "json", else text.
func New(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	var h slog.Handler = slog.NewTextHandler(w, opt)
	if format == "json" {
		h = slog.NewJSONHandler(w, opt)
	}
	return slog.New(limitedHandler{h, &limiter{seen: map[message]*window{}}})
}

// redact replaces the value of an attribute with the name of a secret. It is a second line of defence: wattline
// does not log secrets.
func redact(_ []string, a slog.Attr) slog.Attr {
	name := strings.ToLower(strings.ReplaceAll(a.Key, "-", "_"))
	if slices.ContainsFunc([]string{"authorization", "api_key", "password", "secret", "cookie", "dsn"}, func(s string) bool { return strings.Contains(name, s) }) {
		a.Value = slog.StringValue("[redacted]")
	}
	return a
}

// A message is written linesPerWindow times in a window. Further lines are counted, and the first line of the next
// window reports the count.
const (
	linesPerWindow = 5
	windowLength   = 30 * time.Second
	maxMessages    = 256 // tracked; wattline has fewer, because its messages are constants
)

// message identifies repeated lines; attributes do not count.
type message struct {
	level slog.Level
	text  string
}

// window counts the lines of one message.
type window struct {
	since               time.Time
	written, suppressed int
}

// limiter is shared by a handler and the handlers derived from it.
type limiter struct {
	mu   sync.Mutex // guards seen
	seen map[message]*window
}

// admit reports whether to write a line. suppressed is how many lines of the same message were left out before it;
// forgotten counts those of other messages; their windows are now dropped to make room.
func (l *limiter) admit(m message, now time.Time) (write bool, suppressed, forgotten int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.seen[m]
	if w == nil {
		if len(l.seen) >= maxMessages {
			for _, other := range l.seen {
				forgotten += other.suppressed
			}
			clear(l.seen)
		}
		w = &window{since: now}
		l.seen[m] = w
	}
	if now.Sub(w.since) >= windowLength {
		suppressed = w.suppressed
		*w = window{since: now}
	}
	if w.written >= linesPerWindow {
		w.suppressed++
		return false, 0, 0
	}
	w.written++
	return true, suppressed, forgotten
}

// limitedHandler is a slog.Handler that leaves out lines that repeat too often.
type limitedHandler struct {
	slog.Handler
	limiter *limiter
}

// Handle writes the record unless it repeats too often.
func (h limitedHandler) Handle(ctx context.Context, rec slog.Record) error {
	write, suppressed, forgotten := h.limiter.admit(message{rec.Level, rec.Message}, rec.Time)
	if !write {
		return nil
	}
	if suppressed > 0 || forgotten > 0 {
		rec = rec.Clone()
	}
	if suppressed > 0 {
		rec.AddAttrs(slog.Int("suppressed_before", suppressed))
	}
	if forgotten > 0 {
		rec.AddAttrs(slog.Int("other_lines_suppressed_before", forgotten))
	}
	return h.Handler.Handle(ctx, rec)
}

// WithAttrs returns a handler that writes attrs on every line.
func (h limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limitedHandler{h.Handler.WithAttrs(attrs), h.limiter}
}

// WithGroup returns a handler that puts further attributes into a group.
func (h limitedHandler) WithGroup(name string) slog.Handler {
	return limitedHandler{h.Handler.WithGroup(name), h.limiter}
}
