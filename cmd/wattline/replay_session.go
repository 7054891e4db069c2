package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/serverflags"
	"wattline/replay/watch"
)

// replaySession is a server that has been asked, and a plan for it.
type replaySession struct {
	cmd    *replayRunCmd
	client *client.Client
	admin  *client.Admin // nil: there is none
	runID  string
	server *replay.Server
	plan   *replay.Plan

	upstream string // as the rows name it; "" without wattline
	asked    sync.Once
	flags    map[string]bool
	settings map[string]string
}

func (c *replayRunCmd) session(a *app) (*replaySession, error) {
	spec, err := c.spec()
	if err != nil {
		return nil, usageError("%w", err)
	}
	if err := c.outputs(); err != nil {
		return nil, err
	}
	s := &replaySession{cmd: c, runID: newRunID()}
	key, err := readKey(c.APIKeyFile)
	if err != nil {
		return nil, err
	}
	agent := "wattline-replay/" + version()
	s.client, err = client.New(client.Config{Endpoint: c.Endpoint, APIKey: key, Agent: agent, RunID: s.runID, LoadTimeout: c.LoadTimeout})
	if err != nil {
		return nil, usageError("%w", err)
	}
	s.server, err = s.client.Server(a.ctx, func() { fmt.Fprintln(a.stderr, "the server is loading its model; waiting") })
	if err != nil {
		return nil, err
	}
	if c.Stress {
		spec = c.stress(spec, s.server.Slots)
	}
	if spec, err = spec.Complete(prompt.Tasks()); err != nil {
		return nil, usageError("%w", err)
	}
	if s.plan, err = replay.Compile(spec, prompt.Corpus(), s.server.ContextTokens); err != nil {
		return nil, err
	}
	for _, d := range s.plan.Dropped {
		fmt.Fprintf(a.stderr, "not run: %s: %s\n", d.Cell, d.Reason)
	}
	return s, nil
}

func readKey(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user names it
	if err != nil {
		return "", fmt.Errorf("--api-key-file cannot be read: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func newRunID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (s *replaySession) close() {
	s.client.Close()
	if s.admin != nil {
		s.admin.Close()
	}
}

// budget is the quick grid's unless it was given.
func (c *replayRunCmd) budget(name string) time.Duration {
	if c.Budget == 0 && name == "quick" {
		return 10 * time.Minute
	}
	return time.Duration(c.Budget)
}

// run runs the plan and asks wattline for what it saw of it.
func (s *replaySession) run(a *app) (*replay.Run, error) {
	if err := s.findAdmin(a); err != nil {
		return nil, err
	}
	cfg := s.loadConfig(a)
	var w *watch.Watcher
	if s.admin != nil {
		w = watch.Start(a.ctx, s.admin)
		cfg.Watts = w.Watts
		cfg.Rest = func(ctx context.Context, after replay.Cell) (bool, error) { return w.Rest(ctx, after, s.cmd.Rest) }
		if s.cmd.Stress {
			cfg.Enough = w.Steady
		}
	}
	run, err := load.Run(a.ctx, cfg)
	var gauge []replay.GaugePoint
	if w != nil {
		gauge = w.Stop()
	}
	if err != nil {
		return nil, err
	}
	run.Server, run.Gauge, run.Objectives = s.server, gauge, s.cmd.objectives
	after := context.WithoutCancel(a.ctx) // what was measured is kept when the user has had enough
	if run.After, err = s.client.Server(after, nil); err != nil {
		fmt.Fprintf(a.stderr, "after the run: %v\n", err)
	}
	if s.admin != nil {
		s.join(after, a, run)
	}
	return run, nil
}

// loadConfig is the run without what the admin listener adds to it.
func (s *replaySession) loadConfig(a *app) load.Config {
	maker := &prompt.Maker{Counter: s.client}
	cfg := load.Config{
		Plan: s.plan, Sender: s.client, Prompts: maker, Slots: s.server.Slots, Budget: s.cmd.budget(s.plan.Spec.Name),
		Offset: func(n int) { maker.Offset += n }, CPU: processCPU,
		Say: func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) },
	}
	if !s.cmd.Quiet && isTerminal(a.stderr) {
		cfg.Progress = a.stderr
		cfg.Say = func(format string, args ...any) { fmt.Fprintf(a.stderr, load.ClearLine+format+"\n", args...) }
	}
	return cfg
}

// findAdmin opens the admin listener: the one that was named, which must be there, or the one that the
// endpoint's replies name. A llama-server without wattline has none.
func (s *replaySession) findAdmin(a *app) error {
	address := s.cmd.Admin
	if address == "" {
		address = s.client.Admin()
	}
	if address == "" {
		fmt.Fprintln(a.stderr, "no wattline in between, or none whose admin listener is reachable from here (--admin): only the client measures")
		return nil
	}
	admin, err := client.NewAdmin(address, "wattline-replay/"+version(), s.runID)
	if err != nil {
		return usageError("%w", err)
	}
	if err := admin.Reachable(a.ctx); err != nil {
		if s.cmd.Admin != "" {
			return fmt.Errorf("--admin: %w", err)
		}
		fmt.Fprintf(a.stderr, "only the client measures: the admin listener: %v\n", err)
		return nil
	}
	s.admin = admin
	return nil
}

// isTerminal reports whether somebody can watch a line that is drawn over itself.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// join asks the admin listener for the rows that were measured in line and for what the devices drew.
func (s *replaySession) join(ctx context.Context, a *app, run *replay.Run) {
	const patience = 45 * time.Second // how long a row's energy may take to settle, and the store
	if err := s.admin.Join(ctx, run.Exchanges, patience); err != nil {
		fmt.Fprintf(a.stderr, "no in-line rows: %v\n", err)
		return
	}
	for _, e := range run.Exchanges {
		if e.InLine != nil {
			s.upstream = e.InLine.Upstream
		}
	}
	if s.upstream == "" {
		fmt.Fprintf(a.stderr, "the admin listener at %s has no row of this run: it is not that of %s\n", s.admin.Address(), s.client.Endpoint())
		return
	}
	var err error
	if run.Foreign, err = s.admin.Foreign(ctx, run.StartedAt, run.EndedAt); err != nil {
		fmt.Fprintf(a.stderr, "foreign traffic is not checked: %v\n", err)
	} else {
		run.Joined = true
	}
	const around = 10 * time.Second
	if run.Power, err = s.admin.Energy(ctx, run.StartedAt.Add(-around), run.EndedAt.Add(around)); err != nil {
		fmt.Fprintf(a.stderr, "no power: %v\n", err)
	}
}

// serverFlags asks the server's own program, once, which flags it knows, so that advice names none that
// it would refuse. Its address is the endpoint's, or what the rows name as the upstream. Both are nil
// where the program is not found: on another host, of another user.
func (s *replaySession) serverFlags(a *app) (flags map[string]bool, settings map[string]string) {
	s.asked.Do(func() {
		address := s.client.Host()
		if s.upstream != "" {
			address = strings.TrimPrefix(s.upstream, "http://")
		}
		f, err := serverflags.Of(context.WithoutCancel(a.ctx), address)
		if err != nil {
			a.log.Debug("the server's flags are not known; advice will name none", "error", err)
			return
		}
		s.flags, s.settings = f.Flags, f.Settings
	})
	return s.flags, s.settings
}
