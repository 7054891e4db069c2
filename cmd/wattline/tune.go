package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"wattline/cmd/wattline/internal/serving"
	"wattline/cmd/wattline/internal/term"
	"wattline/replay"
	"wattline/replay/client"
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
	Budget   replay.Seconds `help:"Time limit: 40 to 60 % for the search, the rest for the proof." default:"10m" placeholder:"TIME"`
	Margin   float64        `help:"Differences below it do not matter, in percent." default:"2" placeholder:"PERCENT"`
	Store    string         `help:"SQLite file with your own rows, for joules a token by power limit. Default: ${store}." placeholder:"FILE"`
	serving.EnergyFlags
}

// Run searches, compares, and prints the command line to use.
func (c *tuneCmd) Run(a *app) error {
	if c.Budget <= 0 {
		return usageError("--budget must be above 0, e.g. 10m")
	}
	if !(c.Margin > 0 && c.Margin < 100) {
		return usageError("--margin %v must be above 0 and below 100 %%", c.Margin)
	}
	cfg, err := c.session(a)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(c.Command[0])
	if err != nil {
		return usageError("%s is no program that can be run: write the server's command behind --, as in wattline tune -- llama-server -m FILE", c.Command[0])
	}
	known, err := client.Help(a.ctx, path)
	if err != nil {
		return err
	}
	srv, err := serving.NewChanging(*a.host(""), path, c.EnergyFlags)
	if err != nil {
		return err
	}
	defer srv.Close()
	cfg.Endpoint = srv.URL()
	run := &tune.Run{
		Session: cfg, Command: c.Command, Known: known, Start: srv.Start, Goal: tune.Goal(c.For), Budget: time.Duration(c.Budget), Margin: c.Margin / 100,
		Out: a.stdout, Say: func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", table.PrintableArgs(args)...) },
	}
	if err := run.Do(a.ctx); errors.Is(err, tune.ErrInvalid) {
		return &exitError{exitInvalid, err}
	} else if err != nil {
		return err
	}
	return c.powerLimits(a)
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
	e := serving.StoreEngine(r)
	defer deferClose(e, &err)
	list, err := queries.PowerLimits(a.ctx, e)
	if err != nil {
		return err
	}
	term.PowerLimits(a.stdout, list)
	return nil
}
