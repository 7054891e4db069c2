package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/report"
)

// replayCmd drives a workload at an endpoint and reports what came of it.
type replayCmd struct {
	Endpoint    string        `help:"Where the requests go: wattline, or a llama-server directly." default:"http://127.0.0.1:11433" placeholder:"URL"`
	Admin       string        `help:"wattline's admin listener. Default: learnt from the proxy." placeholder:"URL"`
	APIKeyFile  string        `help:"File with the API key that the server wants." type:"existingfile" placeholder:"FILE"`
	LoadTimeout time.Duration `help:"How long a server that loads its model is waited for." default:"5m"`

	Full         bool           `help:"The whole grid: three prompt sizes, three output sizes, two tasks." group:"Workload"`
	Stress       bool           `help:"Twice as many requests in flight as slots, until the temperature is steady or --duration." group:"Workload"`
	ConfigFile   string         `help:"Workload in YAML or JSON; flags win over it." type:"existingfile" placeholder:"FILE" group:"Workload"`
	Task         []string       `help:"Tasks." placeholder:"NAME,..." group:"Workload"`
	PromptSizes  []string       `help:"Prompt sizes in tokens, e.g. 1k,10k,100k." placeholder:"N,..." group:"Workload"`
	OutputTokens []string       `help:"Output sizes in tokens." aliases:"max-output-tokens" placeholder:"N,..." group:"Workload"`
	Cache        string         `help:"cold: nothing is reused; warm: everything is; natural: as it comes." placeholder:"MODE" group:"Workload"`
	Length       string         `help:"forced: exactly the output size; natural: the model ends by itself." placeholder:"MODE" group:"Workload"`
	Requests     int            `help:"Requests per cell and trial. Default: 3, or twice the concurrency." group:"Workload" placeholder:"N"`
	Trials       int            `help:"How often the whole grid is run; from 5 on, means get t intervals." group:"Workload" placeholder:"N"`
	Duration     replay.Seconds `help:"Time to fill with requests, shared by all cells (120, 2m)." group:"Workload" placeholder:"TIME"`
	Seed         uint64         `help:"Of texts, order and arrivals." group:"Workload" placeholder:"N"`
	Concurrency  int            `help:"Closed loop: requests in flight." group:"Workload" placeholder:"N"`
	Rate         float64        `help:"Open loop: requests a second, sent whether or not earlier ones were answered." group:"Workload" placeholder:"R"`
	Arrival      string         `help:"Open loop: poisson, constant or gamma." group:"Workload" placeholder:"KIND"`
	Burstiness   float64        `help:"Of gamma: below 1 more even than poisson, above 1 burstier." group:"Workload" placeholder:"B"`
	Pause        replay.Seconds `help:"Between cells." group:"Workload" placeholder:"TIME"`
	Budget       replay.Seconds `help:"Cells predicted to go beyond it are skipped, aloud. Default: 10m for the quick grid, else none." group:"Workload" placeholder:"TIME"`

	JSONOut string `help:"Results as one line of JSON." placeholder:"FILE" group:"Results"`
	Quiet   bool   `help:"No progress." group:"Results"`
}

// Run does everything in the order in which a user would want to hear of trouble.
func (c *replayCmd) Run(a *app) error {
	s, err := c.session(a)
	if err != nil {
		return err
	}
	defer s.close()
	run, err := s.run(a)
	if err != nil {
		return err
	}
	results := run.Results()
	if err := c.write(a, results); err != nil {
		return err
	}
	report.Terminal(a.stdout, results)
	if !results.Valid {
		return &exitError{exitInvalid, errors.New("the run is INVALID; its reasons are above")}
	}
	return nil
}

// write leaves what was asked for on disk, each file whole or not at all.
func (c *replayCmd) write(_ *app, r *replay.Results) error {
	if c.JSONOut == "" {
		return nil
	}
	text, err := r.JSON()
	if err != nil {
		return err
	}
	return writeWhole(c.JSONOut, text)
}

// writeWhole replaces a file in one step.
func writeWhole(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// replaySession is a server that has been asked, and a plan for it.
type replaySession struct {
	cmd    *replayCmd
	client *client.Client
	admin  *client.Admin // nil: there is none
	runID  string
	server *replay.Server
	plan   *replay.Plan
}

func (c *replayCmd) session(a *app) (*replaySession, error) {
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

// spec is the workload that file and flags describe.
func (c *replayCmd) spec() (replay.Spec, error) {
	s := replay.Quick()
	custom := len(c.Task)+len(c.PromptSizes)+len(c.OutputTokens) > 0
	switch {
	case c.ConfigFile != "":
		text, err := os.ReadFile(c.ConfigFile)
		if err != nil {
			return s, fmt.Errorf("--config-file cannot be read: %w", err)
		}
		if s, err = replay.ReadSpec(text); err != nil {
			return s, fmt.Errorf("--config-file %s: %w", c.ConfigFile, err)
		}
	case c.Full && c.Stress:
		return s, errors.New("--full and --stress are two workloads: give one of them")
	case c.Full:
		s = replay.Full()
	case c.Stress:
		s = replay.Stress(1)
	case custom:
		s = replay.Spec{Name: "custom"}
	}
	var err error
	if len(c.Task) > 0 {
		s.Tasks, s.Cells = c.Task, nil
	}
	if len(c.PromptSizes) > 0 {
		s.Cells = nil
		if s.PromptSizes, err = replay.ParseSizes(c.PromptSizes); err != nil {
			return s, fmt.Errorf("--prompt-sizes: %w", err)
		}
	}
	if len(c.OutputTokens) > 0 {
		s.Cells = nil
		if s.OutputTokens, err = replay.ParseSizes(c.OutputTokens); err != nil {
			return s, fmt.Errorf("--output-tokens: %w", err)
		}
	}
	c.override(&s)
	_, err = s.Complete(prompt.Tasks()) // what can be refused before the server is asked
	return s, err
}

// override puts flags that were given over the workload.
func (c *replayCmd) override(s *replay.Spec) {
	set(&s.Cache, replay.Cache(c.Cache))
	set(&s.Length, replay.Length(c.Length))
	set(&s.Requests, c.Requests)
	set(&s.Trials, c.Trials)
	set(&s.Duration, c.Duration)
	set(&s.Seed, c.Seed)
	set(&s.Arrival, replay.Arrival(c.Arrival))
	set(&s.Burstiness, c.Burstiness)
	set(&s.Pause, c.Pause)
	if c.Concurrency != 0 {
		s.Concurrency = c.Concurrency
	}
	if c.Rate != 0 {
		s.Rate = c.Rate
	}
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// stress completes the stress workload, which depends on the server's slots.
func (c *replayCmd) stress(s replay.Spec, slots int) replay.Spec {
	if c.Concurrency == 0 && s.Rate == 0 {
		s.Concurrency = replay.Stress(slots).Concurrency
	}
	if s.Duration == 0 {
		s.Duration = replay.Seconds(defaultStress)
	}
	return s
}

const defaultStress = 5 * time.Minute

// outputs refuses places that cannot be written, before anything is run.
func (c *replayCmd) outputs() error {
	if c.JSONOut == "" {
		return nil
	}
	dir := filepath.Dir(c.JSONOut)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usageError("--json-out %s: there is no folder %s", c.JSONOut, dir)
	}
	return nil
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
func (c *replayCmd) budget(name string) time.Duration {
	if c.Budget == 0 && name == "quick" {
		return 10 * time.Minute
	}
	return time.Duration(c.Budget)
}

// run runs the plan and asks wattline for what it saw of it.
func (s *replaySession) run(a *app) (*replay.Run, error) {
	maker := &prompt.Maker{Counter: s.client}
	clear := "" // the progress line, before another line is written
	watched := !s.cmd.Quiet && isTerminal(a.stderr)
	if watched {
		clear = "\r\x1b[K"
	}
	cfg := load.Config{
		Plan: s.plan, Sender: s.client, Prompts: maker, Slots: s.server.Slots, Budget: s.cmd.budget(s.plan.Spec.Name),
		Offset: func(n int) { maker.Offset += n },
		Say:    func(format string, args ...any) { fmt.Fprintf(a.stderr, clear+format+"\n", args...) },
	}
	if watched {
		cfg.Progress = a.stderr
	}
	run, err := load.Run(a.ctx, cfg)
	if err != nil {
		return nil, err
	}
	run.Server = s.server
	after := context.WithoutCancel(a.ctx) // what was measured is kept when the user has had enough
	if run.After, err = s.client.Server(after, nil); err != nil {
		fmt.Fprintf(a.stderr, "after the run: %v\n", err)
	}
	s.join(after, a, run)
	return run, nil
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

// join asks the admin listener for the rows that were measured in line, if there is one.
func (s *replaySession) join(ctx context.Context, a *app, run *replay.Run) {
	address := s.cmd.Admin
	for _, e := range run.Exchanges {
		if address == "" {
			address = e.Admin
		}
	}
	if address == "" {
		return
	}
	admin, err := client.NewAdmin(address, "wattline-replay/"+version(), s.runID)
	if err != nil {
		fmt.Fprintf(a.stderr, "no in-line rows: %v\n", err)
		return
	}
	s.admin = admin
	const patience = 45 * time.Second // settle_max and what the store takes
	if err := admin.Join(ctx, run.Exchanges, patience); err != nil {
		fmt.Fprintf(a.stderr, "no in-line rows: %v\n", err)
		return
	}
	run.Joined = true
	if run.Foreign, err = admin.Foreign(ctx, run.StartedAt, run.EndedAt); err != nil {
		run.Joined = false
		fmt.Fprintf(a.stderr, "foreign traffic is not checked: %v\n", err)
	}
	const before = 10 * time.Second
	if run.Power, err = admin.Energy(ctx, run.StartedAt.Add(-before), run.EndedAt.Add(before)); err != nil {
		fmt.Fprintf(a.stderr, "no power: %v\n", err)
	}
}
