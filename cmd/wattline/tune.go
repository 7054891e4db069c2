package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/deploy/llama"
	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/compare"
	"wattline/replay/compare/live"
	"wattline/replay/session"
	"wattline/replay/table"
	"wattline/replay/tune"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// tuneCmd searches the flags of a llama-server, and proves what it found.
type tuneCmd struct {
	Command  []string       `arg:"" name:"command" help:"The server and its flags: -- llama-server -m FILE ..."`
	For      string         `help:"What is made best: ${enum}." enum:"tokens-per-joule,tokens-per-second,ttft" default:"tokens-per-joule"`
	Workload string         `help:"What is sent: quick, full, or a workload file. Default: prompts of 1k tokens, replies of 128, two in flight." placeholder:"NAME|FILE"`
	Goodput  []string       `help:"Objectives that 95 % of the replies must keep, e.g. ttft:500,tpot:50." placeholder:"METRIC:MS,..."`
	Budget   replay.Seconds `help:"Time limit: 60 % for the search, the rest for the proof." default:"10m" placeholder:"TIME"`
	Margin   float64        `help:"Differences below it do not matter, in percent." default:"2" placeholder:"PERCENT"`
	Store    string         `help:"SQLite file with your own rows, for joules a token by power limit. Default: ${store}." placeholder:"FILE"`
	energyFlags
}

// searchShare is the part of the budget for the search.
const searchShare = 0.6

// Run searches, compares, and prints the command line to use.
func (c *tuneCmd) Run(a *app) error {
	cfg, err := c.session(a)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(c.Command[0])
	if err != nil {
		return usageError("%s is no program that can be run: write the server's command behind --, as in wattline tune -- llama-server -m FILE", c.Command[0])
	}
	given := tune.WithoutAddress(c.Command[1:])
	known, err := client.Help(a.ctx, path)
	if err != nil {
		return err
	}
	space := tune.Space(known, given)
	if len(space) == 0 {
		return fmt.Errorf("the --help of %s names none of the flags that are tried: is it a llama-server?", path)
	}
	srv, err := newTuned(a, c, path)
	if err != nil {
		return err
	}
	defer srv.close()
	cfg.Endpoint = "http://" + srv.listen
	say := func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", table.PrintableArgs(args)...) }
	began := time.Now()
	spec := cfg.Spec
	var first *replay.Plan // of the flags as given, which are tried first
	res, err := tune.Search(a.ctx, tune.Config{
		Space: space, Given: given, Goal: tune.Goal(c.For), Say: say, Deadline: began.Add(time.Duration(searchShare * float64(c.Budget))),
		Try: func(ctx context.Context, cand tune.Candidate, effort int) (tune.Score, error) {
			if err := srv.start(ctx, cand.Apply(given)); err != nil {
				return tune.Score{}, err
			}
			cfg := cfg
			cfg.Spec = spec
			cfg.Spec.Requests *= effort
			return c.try(ctx, cfg, &first)
		},
	})
	if len(res.Tried) > 0 {
		res.Terminal(a.stdout)
		for _, n := range res.Notes {
			fmt.Fprintf(table.Plain(a.stdout), "- %s\n", n)
		}
	}
	if err != nil {
		return err
	}
	return c.prove(a, srv, cfg, given, res, time.Duration(c.Budget)-time.Since(began), say)
}

// session is the workload's session, without an endpoint.
func (c *tuneCmd) session(a *app) (session.Config, error) {
	cfg := session.Config{Agent: "wattline-replay/" + version(), LoadTimeout: defaultLoadTimeout, Log: a.log, Rest: time.Minute}
	cfg.Say = func(format string, args ...any) { a.log.Debug("tune: " + fmt.Sprintf(format, args...)) }
	w := session.Named(c.Workload)
	if c.Workload == "" {
		w = &session.Workload{PromptSizes: []string{"1k"}, OutputTokens: []string{"128"}, Override: replay.Spec{Concurrency: 2, Requests: 4}}
	}
	w.Goodput = c.Goodput
	if err := cfg.Use(w); err != nil {
		return cfg, usageError("%w", err)
	}
	if cfg.Spec.Requests == 0 {
		cfg.Spec.Requests = max(3, 2*cfg.Spec.Concurrency)
	}
	cfg.Budget = 0
	return cfg, nil
}

// try measures the running server. It must serve every cell that the flags as given serve; their plan is kept in first.
func (c *tuneCmd) try(ctx context.Context, cfg session.Config, first **replay.Plan) (tune.Score, error) {
	s, err := session.Open(ctx, cfg)
	if err != nil {
		return tune.Score{}, err
	}
	defer s.Close()
	if *first == nil {
		*first = s.Plan
	}
	if err := tune.Serves(s.Plan, *first); err != nil {
		return tune.Score{}, err
	}
	run, err := s.Run(ctx)
	if err != nil {
		return tune.Score{}, err
	}
	for _, e := range run.Exchanges {
		if !e.OK() {
			return tune.Score{}, fmt.Errorf("a request failed: %s", e.Error)
		}
	}
	return tune.ScoreOf(run), nil
}

// prove compares the winner with the flags as given, interleaved; the server is started anew for each turn.
func (c *tuneCmd) prove(a *app, srv *tuned, cfg session.Config, given []string, res *tune.Result, left time.Duration, say func(string, ...any)) error {
	out := table.Plain(a.stdout)
	if res.Best == nil {
		return errors.New("no flags keep the objectives of --goodput; what was tried is above")
	}
	if len(res.Best.Candidate.Changes) == 0 {
		fmt.Fprintln(out, "\nNothing that was tried is better than the flags as given.")
		return c.powerLimits(a)
	}
	best := res.Best.Candidate.Apply(given)
	fmt.Fprintf(out, "\nComparing %s with the flags as given:\n", res.Best.Flags)
	l, err := live.Run(a.ctx, live.Config{
		Sides: [2]session.Config{cfg, cfg}, Labels: [2]string{"as given", res.Best.Flags}, Budget: max(left, time.Minute), Say: say,
		Options: compare.Options{Margin: c.Margin / 100},
		Switch: func(ctx context.Context, side int) error {
			return srv.start(ctx, [][]string{given, best}[side])
		},
	})
	if err != nil {
		return err
	}
	l.Compare.Terminal(a.stdout)
	if l.Failure != nil {
		return fmt.Errorf("%w; what was measured until then is above", l.Failure)
	}
	if l.Compare.Invalid {
		return &exitError{exitInvalid, errors.New("the comparison is INVALID, so nothing is recommended; the reasons are above")}
	}
	key := map[tune.Goal]string{tune.TokensPerJoule: "j_per_token", tune.TokensPerSecond: "e2e", tune.TTFT: "ttft"}[res.Goal]
	for _, m := range l.Compare.Metrics {
		switch {
		case m.Key != key:
		case m.Verdict == compare.Better:
			fmt.Fprintf(out, "\nUse (%s %s):\n\n  %s\n", m.Title, m.Effect.Range(), tune.Quote(append([]string{c.Command[0]}, res.Best.Candidate.Apply(c.Command[1:])...)))
		default:
			fmt.Fprintf(out, "\nKeep the flags as given: of %s, %s is %s (%s).\n", res.Best.Flags, m.Title, m.Verdict, m.Effect.Range())
		}
	}
	return c.powerLimits(a)
}

// powerLimits shows joules a token against the power limit, where the user's own rows have several of a model.
func (c *tuneCmd) powerLimits(a *app) (err error) {
	path := a.storePath(c.Store)
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // no rows, nothing to show
	}
	r, err := store.OpenReader(a.ctx, path)
	if err != nil {
		return err
	}
	e := storeEngine(r)
	defer deferClose(e, &err)
	list, err := queries.PowerLimits(a.ctx, e)
	if err != nil {
		return err
	}
	term.PowerLimits(a.stdout, list)
	return nil
}

// tuned is the server that is tried, behind a wattline that measures it. Both listen on addresses that stay the same.
type tuned struct {
	a             *app
	cmd           *tuneCmd
	bin           llama.Binary
	listen, admin string
	dir           string

	args  []string
	srv   *llama.Server
	stop  context.CancelFunc
	ended chan error
}

func newTuned(a *app, c *tuneCmd, path string) (*tuned, error) {
	t := &tuned{a: a, cmd: c, bin: llama.Binary{Path: path}}
	var err error
	for _, at := range []*string{&t.listen, &t.admin} {
		if *at, err = tune.FreeAddress(); err != nil {
			return nil, err
		}
	}
	t.dir, err = os.MkdirTemp("", "wattline-tune-")
	return t, err
}

// start makes the server run with these arguments. One that runs with them already goes on.
func (t *tuned) start(ctx context.Context, args []string) error {
	if t.srv != nil && strings.Join(args, "\x00") == strings.Join(t.args, "\x00") {
		select {
		case <-t.srv.Done():
		default:
			return nil
		}
	}
	t.end()
	srv, err := llama.Start(ctx, t.bin, args...)
	if err != nil {
		return err
	}
	t.srv, t.args = srv, args
	cmd := &serveCmd{
		Upstream: srv.URL(), Listen: t.listen, Admin: t.admin, Store: filepath.Join(t.dir, "wattline.db"), Instance: "tune", Identify: "hash", StopTimeout: time.Second,
		energyFlags: t.cmd.energyFlags,
	}
	quiet := *t.a
	quiet.routes = nil
	var serving context.Context
	serving, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	quiet.ctx = serving
	s, err := cmd.open(&quiet, nil)
	if err != nil {
		t.end()
		return err
	}
	t.ended = make(chan error, 1)
	go func() { t.ended <- s.run(&quiet) }() // ends with stop; awaited by end
	return nil
}

// end stops wattline and the server.
func (t *tuned) end() {
	if t.stop != nil {
		t.stop()
		if t.ended != nil {
			<-t.ended
		}
		t.stop, t.ended = nil, nil
	}
	if t.srv != nil {
		if err := t.srv.Stop(); err != nil {
			t.a.log.Warn("the server could not be stopped", "error", err)
		}
		t.srv = nil
	}
}

func (t *tuned) close() {
	t.end()
	_ = os.RemoveAll(t.dir)
}
