package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"wattline/replay"
	"wattline/replay/monitor"
	"wattline/replay/session"
	"wattline/replay/table"
	"wattline/sink/console"
	"wattline/sink/metrics"
)

// monitorCmd looks at a server again and again.
type monitorCmd struct {
	Endpoint string `help:"Address of wattline, or of a llama-server." default:"${endpoint}" placeholder:"URL"`
	Port     int    `help:"The same for a port of this machine, as in the guide." placeholder:"PORT"`
	replayAdminFlags
	APIKeyFile string `help:"File with the API key of the server." type:"existingfile" placeholder:"FILE"`

	Interval replay.Seconds `help:"Time between two looks." default:"15m" placeholder:"TIME"`
	Duration replay.Seconds `help:"How long to look. Default: until it is interrupted." placeholder:"TIME"`
	Passive  bool           `help:"Send nothing: look at the traffic that passes wattline."`
	Out      string         `help:"Append each look to this file as a line of JSON, and learn from those that it has." placeholder:"FILE"`
	Exec     string         `help:"Run this command of the shell when something changed; it gets the line as JSON on its standard input." placeholder:"CMD"`
	JSON     bool           `help:"Print lines of JSON." name:"json"`
}

// Run looks until it is interrupted.
func (c *monitorCmd) Run(a *app) error {
	if c.Interval <= 0 {
		return usageError("--interval is a time above 0")
	}
	if c.Port != 0 {
		c.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", c.Port)
	}
	key, err := readKey(c.APIKeyFile)
	if err != nil {
		return err
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return usageError("%w", err)
	}
	w := &watch{a: a, exec: c.Exec, print: func(l *monitor.Line) {
		if c.JSON {
			text, _ := json.Marshal(l)
			fmt.Fprintf(a.stdout, "%s\n", text)
			return
		}
		out := table.Plain(a.stdout)
		fmt.Fprintln(out, l.Text())
		for i := range l.Alarms {
			fmt.Fprintln(out, l.Alarms[i].Text())
		}
	}}
	cfg := monitor.Config{
		Passive: c.Passive, Interval: time.Duration(c.Interval), Duration: time.Duration(c.Duration),
		Session: session.Config{Endpoint: c.Endpoint, Admin: c.url(), AdminPassword: password, APIKey: key, LoadTimeout: defaultLoadTimeout},
	}
	return w.run(a.ctx, cfg, c.Out)
}

// watch runs a monitor, for monitor and for serve.
type watch struct {
	a     *app
	exec  string
	print func(*monitor.Line)
}

// run looks until ctx ends; out is the log's file, "": none.
func (w *watch) run(ctx context.Context, cfg monitor.Config, out string) error {
	var log *monitor.Log
	if out != "" {
		var err error
		if log, cfg.Past, err = monitor.OpenLog(out); err != nil {
			return err
		}
		defer log.Close() //nolint:errcheck // every line is synced
	}
	cfg.Session.Spec, cfg.Session.Agent, cfg.Session.Log = monitor.CanarySpec(), "wattline-replay/"+version(), w.a.log
	cfg.Session.Say = func(format string, args ...any) { w.a.log.Debug("monitor: " + fmt.Sprintf(format, args...)) }
	cfg.Say = cfg.Session.Say
	cfg.Emit = func(l *monitor.Line) error {
		w.print(l)
		if log != nil {
			if err := log.Append(l); err != nil {
				return err
			}
		}
		if len(l.Alarms) > 0 && w.exec != "" {
			w.alarm(ctx, l)
		}
		return nil
	}
	return monitor.Run(ctx, cfg)
}

// monitors are those that run inside serve, one a route.
type monitors struct {
	mu     sync.Mutex // guards status
	status map[string][]monitor.Status
}

// metrics are the gauges.
func (m *monitors) metrics() (out []metrics.Monitored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for route, list := range m.status {
		for _, st := range list {
			out = append(out, metrics.Monitored{Route: route, Metric: st.Metric, Ratio: st.Ratio.V, Known: st.Ratio.Valid, Alarms: st.Alarms})
		}
	}
	return out
}

// checkMonitor returns an error for a --monitor that cannot work.
func (c *serveCmd) checkMonitor() error {
	switch {
	case c.Monitor < 0:
		return usageError("--monitor is a time above 0")
	case c.Monitor > 0 && c.Admin == "off":
		return usageError("--monitor asks the admin API who else has requests in flight, and --admin is off")
	}
	return nil
}

// monitor runs the canaries of --monitor until ctx ends; the result waits for them. Each route has a log beside the store.
func (s *service) monitor(ctx context.Context, a *app) (wait func()) {
	var wg sync.WaitGroup
	if s.cmd.Monitor <= 0 {
		return wg.Wait
	}
	for _, r := range s.routes {
		if s.admin == nil || !strings.HasPrefix(r.url(), "http") {
			a.log.Warn("--monitor: this route cannot be monitored", "route", r.Name)
			continue
		}
		file := filepath.Join(filepath.Dir(s.rows.store.Path()), "monitor-"+r.Name+".jsonl")
		w := &watch{a: a, print: func(l *monitor.Line) {
			for i := range l.Alarms {
				a.log.Warn(l.Alarms[i].Text(), "route", r.Name)
			}
			a.log.Debug(l.Text(), "route", r.Name)
		}}
		cfg := monitor.Config{
			Interval: s.cmd.Monitor, Session: session.Config{Endpoint: r.url(), Admin: s.adminURL(), LoadTimeout: s.cmd.Monitor},
			Password: s.admin.Password,
			Status: func(list []monitor.Status) {
				s.monitors.mu.Lock()
				defer s.monitors.mu.Unlock()
				s.monitors.status[r.Name] = list
			},
		}
		wg.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				cfg.Session.AdminPassword = s.admin.Password()
				if err := w.run(ctx, cfg, file); err != nil && ctx.Err() == nil {
					a.log.Warn("--monitor: looking again at the next interval", "route", r.Name, "error", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(s.cmd.Monitor):
				}
			}
		})
	}
	return wg.Wait
}

// execTimeout bounds the command of --exec.
const execTimeout = time.Minute

func (w *watch) alarm(ctx context.Context, l *monitor.Line) {
	text, err := json.Marshal(l)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", w.exec) //nolint:gosec // the user's own command
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(text, '\n')), os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		w.a.log.Warn("--exec failed", "error", err)
	}
}
