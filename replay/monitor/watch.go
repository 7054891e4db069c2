package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"
)

// Watch runs a monitor and shows, keeps and reports what it saw. Agent, Log and Print are required.
type Watch struct {
	Agent string      // User-Agent of the canaries
	Out   string      // file to which each line is appended, and from which it learns; "": none
	Exec  string      // command of the shell for alarms; it gets the line as JSON on its standard input; "": none
	Print func(*Line) // called with each line
	Log   *slog.Logger
}

// Run looks until ctx ends. Of cfg's session it needs the addresses and how to log in; Emit is its own.
func (w *Watch) Run(ctx context.Context, cfg Config) error {
	var log *Log
	if w.Out != "" {
		var err error
		if log, cfg.Past, err = OpenLog(w.Out); err != nil {
			return err
		}
		defer log.Close() //nolint:errcheck // every line is synced
	}
	cfg.Session.Spec, cfg.Session.Agent, cfg.Session.Log = CanarySpec(), w.Agent, w.Log
	cfg.Session.Say = func(format string, args ...any) { w.Log.Debug("monitor: " + fmt.Sprintf(format, args...)) }
	cfg.Say = cfg.Session.Say
	cfg.Emit = func(l *Line) error {
		w.Print(l)
		if log != nil {
			if err := log.Append(l); err != nil {
				return err
			}
		}
		if len(l.Alarms) > 0 && w.Exec != "" {
			w.alarm(ctx, l)
		}
		return nil
	}
	return Run(ctx, cfg)
}

// execTimeout bounds the command of an alarm.
const execTimeout = time.Minute

func (w *Watch) alarm(ctx context.Context, l *Line) {
	text, err := json.Marshal(l)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", w.Exec) //nolint:gosec // the user's own command
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(text, '\n')), os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		w.Log.Warn("--exec failed", "error", err)
	}
}
