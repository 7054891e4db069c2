package proxies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wattline/replay/archive"
)

// Config of a run.
type Config struct {
	Executable string   // wattline's own
	RoleArgs   []string // before a role's name and its upstream
	Rounds     int
	Scale      float64 // of crowds and waits, as in Scenarios
	Scenarios  []Scenario
	Only       []string                      // names of contenders; empty: all
	Progress   func(format string, a ...any) // one line each; may be nil
	Peers      []Peer                        // measured beside the others
	UpstreamAt string                        // HOST:PORT of the upstream; "": a free port of the loopback interface
	Profiles   string                        // folder for CPU and heap profiles of the Go contenders in each window; "": none
}

// openFiles is how many files a process may have open.
func openFiles() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(l.Max, 1<<20))
}

// enough checks that the crowds fit: a hop has two connections for each.
func (c *Config) enough() error {
	for _, s := range c.Scenarios {
		if need := 2*s.Streams + 200; need > openFiles() {
			return fmt.Errorf("%s need %d open files and the limit is %d: raise it (ulimit -n) or leave this load out with --loads", s.Title, need, openFiles())
		}
	}
	return nil
}

func threads() int { return runtime.GOMAXPROCS(0) }

// Run measures every scenario with every contender, in as many rounds; each round goes through the
// contenders in another order, so that what drifts meets them all.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := errors.Join(cfg.enough(), cfg.checkPeers()); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wattline-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of the system's temporary folder
	list, missing := cfg.contenders(ctx)
	list = slices.DeleteFunc(list, func(c contender) bool { return len(cfg.Only) > 0 && !slices.Contains(cfg.Only, c.name) })
	names, versions := []string{}, map[string]string{}
	for _, c := range list {
		names = append(names, c.name)
		if c.version != "" && c.name != NginxAgain {
			versions[c.name] = c.version
		}
	}
	r := newReport(cfg.Rounds, cfg.Scenarios, names, versions, missing)
	r.Machine = machine()
	up, err := cfg.role(ctx, RoleUpstream, cmp.Or(cfg.UpstreamAt, freePort))
	if err != nil {
		return nil, err
	}
	defer up.stop()
	for i := range cfg.Peers {
		if err := cfg.Peers[i].await(ctx); err != nil {
			return nil, err
		}
	}
	for round := range cfg.Rounds {
		for _, s := range cfg.Scenarios {
			for i := range list {
				c := &list[turn(round, i, len(list))]
				if s.Idle && c.start == nil {
					continue // no process, no memory
				}
				cell, err := cfg.cell(ctx, round, &s, c, up, dir)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", c.name, s.Title, err)
				}
				r.add(s.Key, c.name, cell)
				cfg.progress("round %d, %s, %s: %s", round+1, s.Title, c.name, cell)
			}
		}
	}
	r.finish()
	return r, nil
}

func (c *Config) profilePath(s *Scenario, name, kind string) string {
	return filepath.Join(c.Profiles, s.Key+" "+name+"."+kind)
}

func (c *Config) progress(format string, a ...any) {
	if c.Progress != nil {
		c.Progress(format, a...)
	}
}

// turn is the index of the contender that is measured i-th in a round: each round begins with another, and every second
// one runs backwards.
func turn(round, i, n int) int {
	if round%2 == 1 {
		i = n - i
	}
	return (i + round*3) % n
}

// cell measures one contender in one scenario once, in a process that is started for it.
func (c *Config) cell(ctx context.Context, round int, s *Scenario, who *contender, up *process, dir string) (*Cell, error) {
	dir, err := os.MkdirTemp(dir, "cell-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of the run's temporary folder
	m := &measurement{cfg: c, scenario: s, up: up, addr: up.addr, name: who.name, after: who.after, prefix: who.prefix}
	if who.start != nil {
		if m.hop, err = who.start(ctx, up.addr, dir); err != nil {
			return nil, err
		}
		defer m.hop.stop()
		m.addr = m.hop.addr
	}
	if err := m.warm(ctx, round); err != nil {
		return nil, err
	}
	return m.run(ctx, round)
}

// measurement is a cell being measured.
type measurement struct {
	cfg      *Config
	scenario *Scenario
	name     string
	addr     string // where clients connect
	hop      *process
	up       *process
	after    time.Duration // see contender
	prefix   string        // see contender

	before, windowStart, windowEnd probe
	goroutinesBefore, goroutines   int
}

// probe holds the CPU and memory use of all processes of a cell at a moment.
type probe struct {
	hop, up, self usage
	at            time.Time
}

func (m *measurement) probe() (p probe, err error) {
	p.at = time.Now()
	if m.hop != nil {
		if p.hop, err = m.hop.usage(); err != nil {
			return p, err
		}
	}
	if p.up, err = m.up.usage(); err != nil {
		return p, err
	}
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return p, err
	}
	p.self.cpu = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	return p, nil
}

// warm sends a little of both kinds of traffic through, so that no cell begins with cold pools.
func (m *measurement) warm(ctx context.Context, round int) error {
	to, err := loopback(m.addr)
	if err != nil {
		return err
	}
	for _, l := range []load{
		{streams: 4, short: true, ramp: 1e6, window: 20e6},
		{streams: 4, gap: 2e6, ramp: 1e6, window: 20e6},
	} {
		l.to, l.host, l.prefix, l.seed, l.onWindow = to, m.addr, m.prefix, uint64(round), func(int64, int64) {}
		t, err := l.run(ctx)
		if err != nil {
			return err
		}
		if t.requests == 0 { // single failures are for the measurement to find
			return fmt.Errorf("it does not work: %v", t.why)
		}
	}
	m.cfg.wait(ctx, 150*time.Millisecond)
	return ctx.Err()
}

// run drives the scenario, and probes at both ends of its window.
func (m *measurement) run(ctx context.Context, round int) (*Cell, error) {
	to, err := loopback(m.addr)
	if err != nil {
		return nil, err
	}
	s := m.scenario
	if m.before, err = m.probe(); err != nil {
		return nil, err
	}
	if m.goroutinesBefore, err = m.countGoroutines(ctx); err != nil {
		return nil, err
	}
	probed := make(chan error, 1)
	l := load{
		to: to, host: m.addr, prefix: m.prefix, streams: s.Streams, gap: int64(s.Gap), quick: s.Quick, ramp: int64(s.Ramp), settle: int64(s.Settle), window: int64(s.Window),
		short: s.Short, seed: uint64(round) + 1,
		onWindow: func(from, end int64) { // called once; what it starts ends with the window or ctx
			go func() { probed <- m.window(ctx, from, end) }()
		},
	}
	t, err := l.run(ctx)
	if err = errors.Join(err, <-probed); err != nil {
		return nil, err
	}
	if s.Short {
		m.cfg.wait(ctx, m.after)
	}
	end, err := m.probe()
	if err != nil {
		return nil, err
	}
	return m.result(t, end), nil
}

// window probes at the window's start and end.
func (m *measurement) window(ctx context.Context, from, end int64) (err error) {
	c := newClock()
	pause(ctx, time.Duration(from-c.now()))
	if m.windowStart, err = m.probe(); err != nil {
		return err
	}
	if m.hop != nil && m.hop.admin != "" && m.cfg.Profiles != "" {
		profiled := make(chan error, 1)
		go func() { profiled <- m.profile(ctx) }() // ends with the window
		defer func() { err = errors.Join(err, <-profiled) }()
	}
	pause(ctx, time.Duration(end-c.now()-int64(min(m.scenario.Window/4, 50*time.Millisecond))))
	if m.goroutines, err = m.countGoroutines(ctx); err != nil {
		return err
	}
	pause(ctx, time.Duration(end-c.now()))
	m.windowEnd, err = m.probe()
	return err
}

// profile keeps what the contender does within the window.
func (m *measurement) profile(ctx context.Context) error {
	for kind, path := range map[string]string{
		"cpu":  fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(m.scenario.Window.Seconds()))),
		"heap": "/debug/pprof/heap?gc=1", "memory": "/debug/pprof/heap?debug=1",
	} {
		text, err := m.hop.get(ctx, path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(m.cfg.profilePath(m.scenario, m.name, kind), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// countGoroutines is nil where nothing can be asked. Only the idle scenario asks: an answer costs time that
// would be counted elsewhere.
func (m *measurement) countGoroutines(ctx context.Context) (int, error) {
	if m.hop == nil || !m.scenario.Idle {
		return -1, nil
	}
	return m.hop.goroutines(ctx)
}

// result makes the cell.
func (m *measurement) result(t *tally, end probe) *Cell {
	s := m.scenario
	c := &Cell{Failures: t.failures, Why: t.why, Requests: t.requests, Events: t.events}
	for _, f := range c.fields() {
		*f = Num(math.NaN())
	}
	slices.Sort(t.latency)
	slices.Sort(t.ttft)
	slices.Sort(t.rtt)
	samples, n := t.latency, len(t.latency)
	from, to := m.windowStart, m.windowEnd
	if s.Short {
		samples, n = t.rtt, t.requests
		from, to = m.before, end // what rows cost behind their request is part of it
		c.PerSecond = Num(float64(len(t.rtt)) / s.Window.Seconds())
	}
	c.P50, c.P90, c.P99 = Num(quantile(samples, 0.5)/1e3), Num(quantile(samples, 0.9)/1e3), Num(quantile(samples, 0.99)/1e3)
	c.TTFT = Num(quantile(t.ttft, 0.5) / 1e3)
	per := func(a, b usage) Num { return Num(float64(b.cpu-a.cpu) / 1e3 / float64(n)) }
	if !s.Idle {
		c.CPU, c.UpstreamCPU, c.LoadCPU = per(from.hop, to.hop), per(from.up, to.up), per(from.self, to.self)
	}
	if m.hop == nil {
		c.CPU = Num(math.NaN())
		return c
	}
	c.RSS = Num(float64(m.windowEnd.hop.rss) / (1 << 20))
	if s.Idle {
		c.PerStream = Num(float64(m.windowEnd.hop.rss-m.before.hop.rss) / 1024 / float64(s.Streams))
		if m.goroutinesBefore >= 0 {
			c.Goroutines = Num(float64(m.goroutines-m.goroutinesBefore) / float64(s.Streams))
		}
	}
	return c
}

// wait pauses for d, less at a smaller scale.
func (c *Config) wait(ctx context.Context, d time.Duration) {
	pause(ctx, time.Duration(float64(d)*min(1, c.Scale)))
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// machine describes the machine and the Go version.
func machine() string {
	h := archive.ThisHost()
	return fmt.Sprintf("%s, %d CPUs, Linux %s, %s", h.CPU, h.Cores, h.Kernel, runtime.Version())
}
