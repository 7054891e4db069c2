package serving

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"wattline/replay/monitor"
	"wattline/replay/session"
	"wattline/sink/metrics"
)

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
func (c *Flags) checkMonitor() error {
	switch {
	case c.Monitor < 0:
		return usageError("--monitor is a time above 0")
	case c.Monitor > 0 && c.Admin == "off":
		return usageError("--monitor asks the admin API who else has requests in flight, and --admin is off")
	}
	return nil
}

// monitor runs the canaries of --monitor until ctx ends; the result waits for them. Each route has a log beside the store.
func (s *Service) monitor(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	if s.cmd.Monitor <= 0 {
		return wg.Wait
	}
	log, turn := s.host.Log, make(chan struct{}, 1)
	for _, r := range s.routes {
		if s.admin == nil || !strings.HasPrefix(r.url(), "http") {
			log.Warn("--monitor: this route cannot be monitored", "route", r.Name)
			continue
		}
		w := &monitor.Watch{
			Out: filepath.Join(filepath.Dir(s.Rows.store.Path()), "monitor-"+r.Name+".jsonl"), Agent: "wattline-replay/" + s.host.Version, Log: log,
			Print: func(l *monitor.Line) {
				for i := range l.Alarms {
					log.Warn(l.Alarms[i].Text(), "route", r.Name)
				}
				log.Debug(l.Text(), "route", r.Name)
			},
		}
		cfg := monitor.Config{
			Interval: s.cmd.Monitor, Session: session.Config{Endpoint: r.url(), Admin: s.AdminURL(), LoadTimeout: s.cmd.Monitor},
			Password: s.admin.Password, Turn: turn,
			Status: func(list []monitor.Status) {
				s.monitors.mu.Lock()
				defer s.monitors.mu.Unlock()
				s.monitors.status[r.Name] = list
			},
		}
		wg.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				cfg.Session.AdminPassword = s.admin.Password()
				if err := w.Run(ctx, cfg); err != nil && ctx.Err() == nil {
					log.Warn("--monitor: looking again at the next interval", "route", r.Name, "error", err)
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
