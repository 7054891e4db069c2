// Package top shows in a terminal what a running serve does: who holds its slots, who waits, what its devices draw. It reads
// /api/live of the admin listener, as the console's page Live does.
package top

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"wattline/replay/table"
	"wattline/sink/console"
)

// Config says what is shown where.
type Config struct {
	Source console.Probe // of the admin listener; Path is not used
	Out    io.Writer
	Screen *os.File // a terminal, on which the whole screen is drawn; nil: Out gets a line a second
	Keys   *os.File // a terminal whose keys are read: q ends; nil: none
	JSON   bool     // lines are JSON objects
	Count  int      // end after so many lines or screens; 0: never

	// Patience is how long a successor of a server that has ended is waited for. Default: 10 s.
	Patience time.Duration
}

// every is how long a line or a screen stands.
const every = time.Second

// Run shows what the server does, until ctx ends, q is pressed, or the server has gone. The first two are no error.
func Run(ctx context.Context, cfg Config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan event, 64)
	if cfg.Patience <= 0 {
		cfg.Patience = patience
	}
	go follow(ctx, cfg.Source, cfg.Patience, events) // ends with ctx
	var keys <-chan struct{}
	if cfg.Screen != nil && cfg.Keys != nil {
		restore, err := term.MakeRaw(int(cfg.Keys.Fd()))
		if err != nil {
			return fmt.Errorf("the terminal's keys cannot be read: %w", err)
		}
		defer term.Restore(int(cfg.Keys.Fd()), restore) //nolint:errcheck // nothing can be done
		keys = readKeys(cfg.Keys)
	}
	o := output{Config: cfg}
	defer o.end()
	s, shown, lost := newState(), 0, ""
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-keys:
			return nil
		case e, ok := <-events:
			switch {
			case !ok:
				return nil
			case e.err != nil:
				return e.err
			case e.kind == lostEvent:
				lost = string(e.data)
				continue
			}
			lost = ""
			first := !s.ready
			if err := s.take(e.kind, e.data, time.Now()); err != nil {
				return fmt.Errorf("%s says of %s what cannot be read (another version of wattline?): %w", cfg.Source.Admin, e.kind, err)
			}
			if !s.ready || !first || shown > 0 {
				continue // the first is shown at once, the others each second
			}
		case <-tick.C:
			if !s.ready || lost != "" && cfg.Screen == nil {
				continue
			}
		}
		if err := o.show(s.view(time.Now()), lost); err != nil {
			return err
		}
		if shown++; shown == cfg.Count {
			return nil
		}
	}
}

// readKeys tells of the key that ends. Its goroutine reads until the process ends: a terminal's read cannot be ended.
func readKeys(from io.Reader) <-chan struct{} {
	quit := make(chan struct{})
	go func() {
		const ctrlC, ctrlD = 3, 4
		buf := make([]byte, 64)
		for {
			n, err := from.Read(buf)
			if err != nil || bytes.ContainsAny(buf[:n], string([]byte{'q', 'Q', ctrlC, ctrlD})) {
				close(quit)
				return
			}
		}
	}()
	return quit
}

// output writes lines or screens.
type output struct {
	Config
	open bool // the screen was cleared
}

// Control sequences of a terminal (ECMA-48, and xterm's second screen).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the second screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	endOfLine   = "\x1b[K\r\n"
	restOfPage  = "\x1b[J"
)

// show writes a view; lost: why it is an old one.
func (o *output) show(v *View, lost string) error {
	switch {
	case o.Screen != nil:
		return o.draw(v, lost)
	case o.JSON:
		e := json.NewEncoder(o.Out)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	_, err := io.WriteString(o.Out, table.Printable(v.line())+"\n")
	return err
}

func (o *output) draw(v *View, lost string) error {
	width, height, err := term.GetSize(int(o.Screen.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	var b strings.Builder
	if !o.open {
		b.WriteString(enterScreen)
		o.open = true
	}
	b.WriteString(home)
	lines := v.screen(o.Source.Admin, lost, width)
	if len(lines) > height {
		lines = append(lines[:height-1], "...")
	}
	b.WriteString(strings.Join(lines, endOfLine) + "\x1b[K" + restOfPage)
	_, err = io.WriteString(o.Screen, b.String())
	return err
}

func (o *output) end() {
	if o.open {
		_, _ = io.WriteString(o.Screen, leaveScreen)
	}
}
