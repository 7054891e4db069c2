package smi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"wattline/gpu"
)

// Config says how to run nvidia-smi.
type Config struct {
	Clock  gpu.Clock
	Path   string        // the program; "" means nvidia-smi in $PATH
	Period time.Duration // between lines; 0 means 100 ms
	Log    *slog.Logger  // nil: silent
}

// Source is a gpu.Source of the cards that nvidia-smi lists.
type Source struct {
	cfg Config

	// mu guards all below.
	mu     sync.Mutex
	query  query
	opened int                // devices
	cancel context.CancelFunc // ends the goroutine that keeps nvidia-smi running; nil: none runs
	done   chan struct{}      // closed by it
	lines  map[string]line    // the last one of each card, by UUID
	broken error              // why there is no process at the moment

	changed func() // called after every line and every end, without mu; only tests set it
}

// New makes a source; nothing runs before List or Open.
func New(cfg Config) *Source {
	if cfg.Path == "" {
		cfg.Path = "nvidia-smi"
	}
	if cfg.Period == 0 {
		cfg.Period = 100 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{cfg: cfg, query: newQuery(), lines: map[string]line{}, changed: func() {}}
}

// Name implements gpu.Source.
func (s *Source) Name() string { return "smi" }

// once runs nvidia-smi to its end.
func (s *Source) once(args ...string) (string, error) {
	const patience = 20 * time.Second // a driver that was not loaded takes some
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.cfg.Path, args...) //nolint:gosec // nvidia-smi, or what the user names
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("smi: %w: nvidia-smi is not on this machine; install the NVIDIA driver's utilities", gpu.ErrNone)
	case err != nil:
		return string(out), fmt.Errorf("smi: nvidia-smi: %w: %s", err, firstLine(string(out)))
	}
	return string(out), nil
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return first
}

// List implements gpu.Source. Fields that this nvidia-smi does not know are found out here.
func (s *Source) List() ([]gpu.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, err := s.ask()
	if err != nil {
		return nil, err
	}
	out := make([]gpu.Info, len(lines))
	for i, l := range lines {
		out[i] = s.info(l)
	}
	return out, nil
}

// ask runs the query once. The caller holds mu.
func (s *Source) ask() ([]line, error) {
	var out string
	for {
		var err error
		out, err = s.once(s.query.arg(), "--format=csv,noheader,nounits")
		if err == nil {
			break
		}
		if !s.query.reject(out) {
			return nil, err
		}
	}
	var lines []line
	for text := range strings.Lines(out) {
		if l, ok := s.query.parse(text, true); ok {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("smi: %w: nvidia-smi lists none: %s", gpu.ErrNone, firstLine(out))
	}
	return lines, nil
}

// info completes what a first line says about a card.
func (s *Source) info(l line) gpu.Info {
	in := l.info
	in.Unavailable = maps.Clone(s.query.unset)
	maps.Copy(in.Unavailable, l.missing)
	in.Unavailable["energy counter"] = "nvidia-smi does not show it; --gpu nvml does"
	in.Unavailable["power samples"] = "nvidia-smi does not show them; --gpu nvml does"
	in.Supported = gpu.MetricStatus | gpu.MetricProcesses
	in.Expected = map[gpu.Channel]gpu.ChannelSpec{}
	step := int64(max(s.cfg.Period, 100*time.Millisecond))
	if l.instant.Valid {
		in.Supported |= gpu.MetricPower
		in.Expected[gpu.ChannelInstant] = gpu.ChannelSpec{StepNs: step, WindowNs: 25e6, LagNs: 100e6}
	}
	if l.average.Valid {
		in.Supported |= gpu.MetricPower
		in.Expected[gpu.ChannelAverage] = gpu.ChannelSpec{StepNs: step, WindowNs: 1e9, LagNs: 600e6}
	}
	return in
}

// Open implements gpu.Source. The first device starts the process.
func (s *Source) Open(uuid string) (gpu.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, err := s.ask()
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		if l.info.UUID != uuid {
			continue
		}
		if s.cancel == nil {
			var ctx context.Context
			ctx, s.cancel = context.WithCancel(context.Background())
			s.done = make(chan struct{})
			s.broken = nil
			clear(s.lines)
			go s.keep(ctx, s.done)
		}
		s.opened++
		return &device{s: s, info: s.info(l)}, nil
	}
	return nil, fmt.Errorf("smi: %w: %s", gpu.ErrNone, uuid)
}

// release is called when a device is closed; the last one ends the process and waits for it.
func (s *Source) release() {
	s.mu.Lock()
	s.opened--
	if s.opened > 0 || s.cancel == nil {
		s.mu.Unlock()
		return
	}
	s.cancel()
	done := s.done
	s.cancel, s.done = nil, nil
	s.mu.Unlock()
	<-done
}

// Close implements gpu.Source.
func (s *Source) Close() error { return nil }

// keep keeps one nvidia-smi running. Open starts it, the last device's Close ends it and waits.
func (s *Source) keep(ctx context.Context, done chan struct{}) {
	defer close(done)
	const shortest, longest = time.Second, time.Minute
	backoff := shortest
	for {
		n, err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if n > 0 {
			backoff = shortest
		}
		s.mu.Lock()
		s.broken = err
		clear(s.lines)
		s.mu.Unlock()
		s.changed()
		s.cfg.Log.Warn("nvidia-smi has ended; it is started again", "err", err, "after", backoff)
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, longest)
	}
}

// follow runs nvidia-smi and takes its lines until it ends. It returns how many there were.
func (s *Source) follow(ctx context.Context) (n int, err error) {
	s.mu.Lock()
	q := s.query
	s.mu.Unlock()
	ms := strconv.FormatInt(s.cfg.Period.Milliseconds(), 10)
	cmd := exec.CommandContext(ctx, s.cfg.Path, q.arg(), "--format=csv,noheader,nounits", "-lms", ms) //nolint:gosec // likewise
	cmd.WaitDelay = time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &limited{w: &complaint, left: 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("smi: start nvidia-smi: %w", err)
	}
	lines := bufio.NewScanner(out)
	last := ""
	for lines.Scan() {
		at := s.cfg.Clock.Now()
		last = lines.Text()
		l, ok := q.parse(last, false)
		if !ok {
			continue
		}
		n++
		l.at = at
		s.mu.Lock()
		s.broken = nil
		s.lines[l.info.UUID] = l
		s.mu.Unlock()
		s.changed()
	}
	err = cmd.Wait()
	return n, fmt.Errorf("smi: nvidia-smi ended (%w) after %d lines, with %q: %w", err, n, firstLine(complaint.String()+"\n"+last), gpu.ErrLost)
}

// limited passes on so many bytes and swallows the rest.
type limited struct {
	w    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := p[:min(len(p), l.left)]
	l.left -= len(keep)
	l.w.Write(keep)
	return len(p), nil
}
