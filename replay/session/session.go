// Package session runs a workload at a server: it asks the server what it is, fits the plan to it, sends the
// requests, and joins what wattline measured of them.
package session

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/trace"
)

// Config of a session. Endpoint, Agent, Spec, Say and Log are required.
type Config struct {
	Endpoint string
	Admin    string // wattline's admin listener; "": as the endpoint's replies name it
	// AdminPassword is asked for by an admin listener that has one.
	AdminPassword string
	APIKey        string
	TLS           *tls.Config // of the endpoint and of the admin listener; nil: the system's certificates
	Agent         string      // User-Agent of every request
	RunID         string      // of the run in wattline's rows; "": a new one. Sessions that run in turn share one
	LoadTimeout   time.Duration

	Spec    replay.Spec
	Dataset *replay.Dataset // the user's own requests, nil for generated prompts
	Trace   *trace.Trace    // a recorded workload, nil for any other
	// TraceOptions choose the part of Trace that is sent.
	TraceOptions trace.Options
	Stress       bool          // the concurrency depends on the server's slots, and a steady temperature ends a cell
	Budget       time.Duration // cells predicted to go beyond it are skipped; 0: none
	NoWarmup     bool
	Rest         time.Duration // how long a device may take to be back at rest between cells
	Objectives   []replay.Objective

	// Patience bounds how long an interrupted run waits for its rows; 0: as long as any other.
	Patience time.Duration

	Say      func(format string, args ...any) // one line for the user
	Progress io.Writer                        // draws one line over itself; nil: none
	Log      *slog.Logger
}

// SettingError is a setting that cannot be used, in contrast to a server that does not answer.
type SettingError struct{ Err error }

func (e *SettingError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *SettingError) Unwrap() error { return e.Err }

// Session is a server that has been asked what it is, and a plan for it.
type Session struct {
	Client *client.Client
	Admin  *client.Admin // nil: none found
	Server *replay.Server
	Plan   *replay.Plan

	cfg      Config
	maker    *prompt.Maker
	recorded *recorded // the trace that is sent; nil: none
	salts    int       // how often the trace's texts were made up
	runID    string
	upstream string // the server's address in wattline's rows; "" without wattline

	trialBudget time.Duration // of one trial of a run by Steps; 0: none

	asked    sync.Once
	flags    map[string]bool
	settings map[string]string
}

// Open asks the server, waiting while it loads its model, and compiles the plan for its context size.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	s := &Session{cfg: cfg, runID: cfg.RunID}
	if s.runID == "" {
		s.runID = NewRunID()
	}
	var err error
	s.Client, err = client.New(client.Config{Endpoint: cfg.Endpoint, APIKey: cfg.APIKey, Agent: cfg.Agent, RunID: s.runID, TLS: cfg.TLS, LoadTimeout: cfg.LoadTimeout})
	if err != nil {
		return nil, &SettingError{err}
	}
	s.Server, err = s.Client.Server(ctx, func() { cfg.Say("the server is loading its model; waiting") })
	if err != nil {
		return nil, err
	}
	spec := cfg.Spec
	if cfg.Stress && spec.Concurrency == 0 && spec.Rate == 0 {
		spec.Concurrency = replay.Stress(s.Server.Slots).Concurrency
	}
	if s.Plan, err = s.compile(ctx, spec); err != nil {
		return nil, err
	}
	for _, d := range s.Plan.Dropped {
		cfg.Say("not run: %s: %s", d.Cell, d.Reason)
	}
	return s, nil
}

// compile makes the plan for the server. The prompts of a dataset are counted by the server's tokenizer first.
func (s *Session) compile(ctx context.Context, spec replay.Spec) (*replay.Plan, error) {
	if s.cfg.Trace != nil {
		spec, err := spec.Complete(prompt.Tasks())
		if err != nil {
			return nil, &SettingError{err}
		}
		return s.compileTrace(ctx, spec)
	}
	d := s.cfg.Dataset
	once := spec.Requests == 0 && spec.Duration == 0
	spec, err := spec.Complete(prompt.Tasks())
	if err != nil {
		return nil, &SettingError{err}
	}
	if d == nil {
		return replay.Compile(spec, prompt.Corpus(), s.Server.ContextTokens)
	}
	s.cfg.Say("%s: counting the tokens of %d prompts", d.File, d.Records)
	for i := range d.Lines {
		r := &d.Lines[i]
		if r.PromptTokens, err = s.Client.CountMessages(ctx, r.Messages); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", d.File, r.Line, err)
		}
	}
	if fit := d.Fit(s.Server.ContextTokens, spec.OutputTokens[0]); once && fit > 0 {
		spec.Requests = fit // each once
	}
	return replay.CompileDataset(spec, d, s.Server.ContextTokens)
}

// Replan gives the session another load; its next run needs no warm-up where warm is true.
func (s *Session) Replan(ctx context.Context, spec replay.Spec, warm bool) (err error) {
	s.cfg.NoWarmup = warm
	s.Plan, err = s.compile(ctx, spec)
	return err
}

// Limit gives the session's next run a budget; 0: none.
func (s *Session) Limit(budget time.Duration) { s.cfg.Budget = budget }

// LimitTrial gives each trial of a run by Steps a budget; 0: none.
func (s *Session) LimitTrial(budget time.Duration) { s.trialBudget = budget }

// NewRunID names a run in wattline's rows.
func NewRunID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Close closes the connections.
func (s *Session) Close() {
	s.Client.Close()
	if s.Admin != nil {
		s.Admin.Close()
	}
}

// FindAdmin opens the admin listener, unless it is open. One that was named must be reachable; a llama-server without
// wattline has none.
func (s *Session) FindAdmin(ctx context.Context) error {
	if s.Admin != nil {
		return nil
	}
	address := s.cfg.Admin
	if address == "" {
		address = s.Client.Admin()
	}
	if address == "" {
		s.cfg.Say("no wattline in between, or none whose admin listener is reachable from here (--admin): only the client measures")
		return nil
	}
	password := s.cfg.AdminPassword
	if password != "" && s.cfg.Admin == "" && !client.SameHost(address, s.Client.Endpoint()) { // an endpoint could name any address
		s.cfg.Say("the password is not sent to the admin listener at %s, which is not on the endpoint's host: name it with --admin", address)
		password = ""
	}
	admin, err := client.NewAdmin(client.Config{Endpoint: address, Password: password, Agent: s.cfg.Agent, RunID: s.runID, TLS: s.cfg.TLS})
	if err != nil {
		return &SettingError{err}
	}
	if err := admin.Reachable(ctx); err != nil {
		if s.cfg.Admin != "" {
			return fmt.Errorf("--admin: %w", err)
		}
		s.cfg.Say("only the client measures: the admin listener: %v", err)
		return nil
	}
	s.Admin = admin
	return nil
}

// UsePassword opens the admin listener again where its password is another one now.
func (s *Session) UsePassword(ctx context.Context, password string) error {
	if s.Admin == nil && s.cfg.Admin == "" || s.Admin != nil && s.cfg.AdminPassword == password {
		return nil
	}
	if s.Admin != nil {
		s.Admin.Close()
		s.Admin = nil
	}
	s.cfg.AdminPassword = password
	return s.FindAdmin(ctx)
}

// Run runs the plan and asks wattline for its rows of it.
func (s *Session) Run(ctx context.Context) (*replay.Run, error) {
	cfg, w, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	run, err := load.Run(ctx, cfg)
	return s.finish(ctx, w, run, err)
}

// prepare finds the admin listener, if there is one, and begins to watch the device.
func (s *Session) prepare(ctx context.Context) (load.Config, *load.Watcher, error) {
	cfg := s.loadConfig()
	if err := s.FindAdmin(ctx); err != nil || s.Admin == nil {
		return cfg, nil, err
	}
	w := load.Watch(ctx, s.Admin)
	cfg.Watts = w.Watts
	cfg.Rest = func(ctx context.Context, after replay.Cell) (bool, error) { return w.WaitIdle(ctx, after, s.cfg.Rest) }
	if s.cfg.Stress {
		cfg.Enough = w.Steady
	}
	return cfg, w, nil
}

// finish joins the run with what wattline measured.
func (s *Session) finish(ctx context.Context, w *load.Watcher, run *replay.Run, err error) (*replay.Run, error) {
	var gauge []replay.GaugePoint
	if w != nil {
		gauge = w.Stop()
	}
	if err != nil {
		return nil, err
	}
	run.Server, run.Gauge, run.Objectives = s.Server, gauge, s.cfg.Objectives
	after := context.WithoutCancel(ctx) // what was measured is kept when the user interrupts
	if ctx.Err() != nil && s.cfg.Patience > 0 {
		var cancel context.CancelFunc
		after, cancel = context.WithTimeout(after, s.cfg.Patience)
		defer cancel()
	}
	if run.After, err = s.Client.Server(after, nil); err != nil {
		s.cfg.Say("after the run: %v", err)
	}
	if s.Admin != nil {
		s.join(after, run)
	}
	return run, nil
}

// loadConfig is the run without what the admin listener adds to it.
func (s *Session) loadConfig() load.Config {
	if s.maker == nil {
		s.maker = &prompt.Maker{Counter: s.Client}
	}
	cfg := load.Config{
		Plan: s.Plan, Sender: s.Client, Prompts: s.maker, NoWarmup: s.cfg.NoWarmup, Slots: s.Server.Slots, Budget: s.cfg.Budget, TrialBudget: s.trialBudget,
		Offset: func(n int) {
			s.maker.Offset += n
			if s.recorded != nil {
				s.recorded.blocks.Shift(n)
			}
			if s.Plan.Dataset != nil {
				s.Plan.Dataset.Shift(n)
			}
		},
		CPU: load.ProcessCPU, Say: s.cfg.Say, Progress: s.cfg.Progress,
	}
	if s.recorded != nil {
		cfg.Recording = s.recorded.loadRecording(s.Plan.Spec.Concurrency)
	}
	if cfg.Progress != nil {
		cfg.Say = func(format string, args ...any) { s.cfg.Say(load.ClearLine+format, args...) }
	}
	return cfg
}

// join asks the admin listener for the rows of a run's requests, and for the power of the devices.
func (s *Session) join(ctx context.Context, run *replay.Run) {
	const maxWait = 45 * time.Second // for energy to become final, and for the store
	if err := s.Admin.Join(ctx, run.Exchanges, maxWait); err != nil {
		s.cfg.Say("no in-line rows: %v", err)
		return
	}
	for _, e := range run.Exchanges {
		if e.InLine != nil {
			s.upstream = e.InLine.Upstream
		}
	}
	if s.upstream == "" {
		s.cfg.Say("the admin listener at %s has no row of this run: it is not that of %s", s.Admin.Address(), s.Client.Endpoint())
		return
	}
	var err error
	if run.OtherTraffic, err = s.Admin.OtherTraffic(ctx, run.StartedAt, run.EndedAt); err != nil {
		s.cfg.Say("other traffic is not checked: %v", err)
	} else {
		run.Joined = true
	}
	const margin = 10 * time.Second
	if run.Power, err = s.Admin.Energy(ctx, run.StartedAt.Add(-margin), run.EndedAt.Add(margin)); err != nil {
		s.cfg.Say("no power: %v", err)
	}
}

// ServerFlags asks the server's own program, once, which flags it knows, so that advice names none that
// it would refuse. Both are nil where the program is not found: on another host, or of another user.
func (s *Session) ServerFlags(ctx context.Context) (flags map[string]bool, settings map[string]string) {
	s.asked.Do(func() {
		address := s.Client.Host()
		if s.upstream != "" {
			address = strings.TrimPrefix(s.upstream, "http://")
		}
		f, err := client.ReadServerFlags(context.WithoutCancel(ctx), address)
		if errors.Is(err, client.ErrForeign) {
			s.cfg.Say("advice names no flags: %v", err)
		}
		if err != nil {
			s.cfg.Log.Debug("the server's flags are not known; advice will name none", "error", err)
			return
		}
		s.flags, s.settings = f.Known, f.Settings
	})
	return s.flags, s.settings
}
