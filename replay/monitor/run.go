package monitor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/session"
)

// DefaultInterval lies between two looks.
const DefaultInterval = 15 * time.Minute

// CanarySpec is the cell that a canary sends: three requests, so that its medians bear a slow one.
func CanarySpec() replay.Spec {
	return replay.Spec{Name: "canary", Cells: []replay.Cell{{Task: "coding", PromptTokens: 512, OutputTokens: 64}}, Requests: 3}
}

// Config of a monitor. Session, Interval, Emit and Say are required.
type Config struct {
	Session  session.Config // its Spec is CanarySpec's, or the user's
	Passive  bool           // no canaries: only the traffic that passes
	Interval time.Duration
	Duration time.Duration // 0: until the context ends
	Past     []Line        // of the log
	// Turn, if not nil, has room for one: who holds it sends a canary. Monitors whose servers may share a device share it.
	Turn chan struct{}
	// Password, if not nil, is the admin listener's just now, where it can change.
	Password func() string
	// Emit is called with each line, in order.
	Emit func(*Line) error
	// Status, if not nil, is told how the metrics stand after each look.
	Status func([]Status)
	Say    func(format string, args ...any)
}

// patience is how long a canary that was broken off waits for its rows: it must not hold up a stop.
const patience = time.Second

// monitor is a loop under way.
type monitor struct {
	Config
	s     *session.Session
	state *State
	last  time.Time // when the last look at traffic ended
	warm  bool

	mu    sync.Mutex        // guards names
	names map[string]string // of configurations
}

// Run looks every interval until the context or the duration ends.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Duration)
		defer cancel()
	}
	m := &monitor{Config: cfg, names: map[string]string{}, last: time.Now()}
	cfg.Session.Patience = patience
	s, err := session.Open(ctx, cfg.Session)
	if err != nil {
		return err
	}
	m.s = s
	defer s.Close()
	if err := s.FindAdmin(ctx); err != nil {
		return err
	}
	if cfg.Passive && s.Admin == nil {
		return errors.New("--passive looks at what passed a wattline, and this endpoint is none, or its admin listener is not reachable: give --admin, or leave --passive out")
	}
	m.state = NewState(m.kind(), cfg.Past, m.config)
	tick := time.NewTicker(cfg.Interval)
	defer tick.Stop()
	for {
		if err := m.look(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *monitor) kind() string {
	if m.Passive {
		return Traffic
	}
	return Canary
}

// look measures once and emits a line, unless it was interrupted.
func (m *monitor) look(ctx context.Context) error {
	l := &Line{At: time.Now().UTC(), Kind: m.kind()}
	var err error
	if m.Password != nil {
		err = m.s.UsePassword(ctx, m.Password())
	}
	if err != nil {
		l.Skipped = err.Error()
	} else if m.learnConfigs(ctx); m.Passive {
		m.traffic(ctx, l)
	} else if m.canary(ctx, l); l.Skipped == "" {
		l.score()
	}
	if ctx.Err() != nil {
		return nil
	}
	m.state.Take(l)
	if m.Status != nil {
		m.Status(m.state.Status())
	}
	return m.Emit(l)
}

// polls of the server by a canary.
const (
	quietPoll   = 5 * time.Second        // while it waits for a quiet moment
	companyPoll = 200 * time.Millisecond // while it runs
)

// canary sends the cell when nobody else has a request in flight, and gives way to whoever comes.
func (m *monitor) canary(ctx context.Context, l *Line) {
	deadline := l.At.Add(m.Interval / 2)
	if m.Turn != nil {
		select {
		case m.Turn <- struct{}{}:
			defer func() { <-m.Turn }()
		case <-ctx.Done():
			l.Skipped = "ended"
			return
		case <-time.After(time.Until(deadline)):
			l.Skipped = "canaries of other routes ran"
			return
		}
	}
	for {
		n, err := m.company(ctx)
		if err != nil {
			l.Skipped = err.Error()
			return
		}
		if n == 0 {
			break
		}
		if time.Now().Add(quietPoll).After(deadline) {
			l.Skipped = "others had requests in flight"
			return
		}
		select {
		case <-ctx.Done():
			l.Skipped = "ended"
			return
		case <-time.After(quietPoll):
		}
	}
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	gone := make(chan struct{})
	go func() { // ends with running
		defer close(gone)
		tick := time.NewTicker(companyPoll)
		defer tick.Stop()
		for {
			select {
			case <-running.Done():
				return
			case <-tick.C:
				n, err := m.company(running)
				if err != nil {
					cancel(err)
				} else if n > 1 {
					cancel(errGaveWay)
				}
			}
		}
	}()
	began := time.Now()
	if err := m.s.Replan(running, m.Session.Spec, m.warm); err != nil {
		l.Skipped = err.Error()
	}
	var run *replay.Run
	if l.Skipped == "" {
		var err error
		if run, err = m.s.Run(running); err != nil {
			l.Skipped = err.Error()
		}
	}
	why := context.Cause(running)
	cancel(nil)
	<-gone
	if why != nil {
		l.Skipped = why.Error()
	}
	l.CostS = replay.Some(time.Since(began).Seconds())
	if run != nil {
		l.fromRun(run)
		m.warm = true
		if l.Skipped == "" && l.Requests == 0 {
			l.Skipped = "no request was answered"
			for _, e := range run.Exchanges {
				l.Skipped = "no request was answered: " + e.Error
			}
		}
	}
	if m.warm && run == nil {
		m.warm = false // the server may have been started anew
	}
}

var errGaveWay = errors.New("gave way to a request of somebody else")

// company is how many requests are in flight; 0 without an admin listener, as nobody can tell.
func (m *monitor) company(ctx context.Context) (int, error) {
	if m.s.Admin == nil {
		return 0, nil
	}
	n, err := m.s.Admin.InFlight(ctx)
	if err != nil {
		return 0, fmt.Errorf("who else has requests in flight is not known: %w", err)
	}
	return n, nil
}

// fromRun fills a line in from a canary's run: the client's figures, and the rows' where there are some.
func (l *Line) fromRun(run *replay.Run) {
	var rows []*meter.Record
	var ttft, decode []float64
	joules := replay.Num{}
	for _, e := range append(run.Warmups, run.Exchanges...) {
		if e.InLine != nil {
			if v := replay.GPUJoules(e.InLine); v.Valid {
				joules = replay.Some(joules.V + v.V)
			}
		}
		if e.Warmup || !e.OK() {
			continue
		}
		l.Requests++
		if e.InLine != nil {
			rows = append(rows, e.InLine)
		}
		if e.TTFTUs.Valid {
			ttft = append(ttft, float64(e.TTFTUs.V)/1e3)
		}
		if v := e.DecodeTPS(); v.Valid {
			decode = append(decode, v.V)
		}
		l.Model = e.Model
	}
	l.fromRows(rows)
	l.TTFTMs, l.DecodeTPS, l.CostJ = replay.Median(ttft), replay.Median(decode), joules
	r := run.Results()
	l.Throttled = r.Device.ThrottledS
	if r.Device.MeanPowerW.Valid {
		l.Watts = r.Device.MeanPowerW
	}
	if r.Device.TempMaxC.Valid {
		l.TempC = r.Device.TempMaxC
	}
	if r.Device.VRAMBytes.Valid {
		l.VRAMGB = r.Device.VRAMBytes.Times(1e-9)
	}
	if run.Server != nil {
		l.Model = run.Server.Model
	}
	if run.After != nil {
		l.Build = run.After.Build
	}
}

// traffic looks at the rows of others that ended since the last look.
func (m *monitor) traffic(ctx context.Context, l *Line) {
	from := m.last
	rows, err := m.s.Admin.Recent(ctx, from)
	m.last = l.At
	switch {
	case err != nil:
		l.Skipped = err.Error()
		return
	case len(rows) == 0:
		l.Skipped = "nothing was asked"
		return
	}
	l.Requests = len(rows)
	l.fromRows(rows)
	m.state.scoreTraffic(l, rows)
	power, err := m.s.Admin.Energy(ctx, from, l.At)
	if err != nil {
		return
	}
	for _, s := range power.Samples {
		if s.ThrottledUs.Valid {
			l.Throttled = replay.Some(l.Throttled.V + float64(s.ThrottledUs.V)/1e6)
		}
	}
}

// learnConfigs remembers what the configurations are.
func (m *monitor) learnConfigs(ctx context.Context) {
	if m.s.Admin == nil {
		return
	}
	list, err := m.s.Admin.Configs(ctx)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, facts := range list {
		m.names[id] = facts
	}
}

// config is a configuration in one line.
func (m *monitor) config(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names[id]
}

// Text is the line for people.
func (l *Line) Text() string {
	b := &strings.Builder{}
	b.WriteString(l.At.Local().Format("2006-01-02 15:04:05"))
	if l.Skipped != "" {
		fmt.Fprintf(b, "  %s skipped: %s", l.Kind, l.Skipped)
		return b.String()
	}
	for _, f := range []struct {
		v      replay.Num
		format string
	}{
		{l.DecodeTPS, "  %.4g tokens/s"}, {l.JPerToken, "  %.3g J/token"}, {l.TTFTMs, "  TTFT %.4g ms"}, {l.Watts, "  %.0f W"}, {l.TempC, "  %.0f °C"}, {l.VRAMGB, "  %.2f GB"},
	} {
		if f.v.Valid {
			fmt.Fprintf(b, f.format, f.v.V)
		}
	}
	if l.Throttled.V > 0 {
		fmt.Fprintf(b, "  throttled %.1f s", l.Throttled.V)
	}
	if l.Kind == Traffic {
		fmt.Fprintf(b, "  (%d requests)", l.Requests)
	} else if l.CostS.Valid {
		fmt.Fprintf(b, "  (cost %.1f s", l.CostS.V)
		if l.CostJ.Valid {
			fmt.Fprintf(b, ", %.0f J", l.CostJ.V)
		}
		b.WriteString(")")
	}
	return b.String()
}

// Text is the alarm for people.
func (a *Alarm) Text() string {
	title := a.Metric
	for _, w := range watched {
		if w.key == a.Metric {
			title = w.title
		}
	}
	word := "better"
	if a.Worse {
		word = "worse"
	}
	with := "nothing that is recorded changed with it"
	if len(a.With) > 0 {
		with = "at the same time " + strings.Join(a.With, "; ")
	}
	return fmt.Sprintf("CHANGED: %s is %s by %.1f %% since %s; %s", title, word, abs(a.Percent), a.Since.Local().Format("2006-01-02 15:04:05"), with)
}

func abs(v float64) float64 { return max(v, -v) }
