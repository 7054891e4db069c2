package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/prompt"
	"wattline/replay/report"
	"wattline/replay/session"
	"wattline/replay/table"
	"wattline/sink/console"
)

// replayCmd is `wattline replay` and `wattline replay selftest`.
type replayCmd struct {
	Run      replayRunCmd `cmd:"" default:"withargs" help:"Run a benchmark workload and report its results (the default)."`
	Selftest selftestCmd  `cmd:"" help:"Measure the error of the client, at an upstream with known latencies."`
}

// replayRunCmd runs a workload at an endpoint and reports its results.
type replayRunCmd struct {
	Endpoint string `help:"Address of wattline, or of a llama-server." default:"${endpoint}" placeholder:"URL"`
	replayAdminFlags
	APIKeyFile  string        `help:"File with the API key of the server." type:"existingfile" placeholder:"FILE"`
	LoadTimeout time.Duration `help:"How long to wait for the server to load its model." default:"${load_timeout}"`

	Full         bool           `help:"Run the full grid: three prompt sizes, three output sizes, two tasks." group:"Workload"`
	Stress       bool           `help:"Keep twice as many requests in flight as the server has slots, until the temperature is stable or --duration ends." group:"Workload"`
	Workload     string         `help:"Workload file (YAML or JSON), also --config-file. Flags override it." aliases:"config-file" type:"existingfile" placeholder:"FILE" group:"Workload"`
	Dataset      string         `help:"File with your own prompts, one JSON object a line: prompt, messages or conversations, and max_tokens." type:"existingfile" placeholder:"FILE" group:"Workload"`
	Task         []string       `help:"Tasks to run: ${tasks}." placeholder:"NAME,..." group:"Workload"`
	PromptSizes  []string       `help:"Prompt sizes in tokens, e.g. 1k,10k,100k." placeholder:"N,..." group:"Workload"`
	OutputTokens []string       `help:"Output sizes in tokens." aliases:"max-output-tokens" placeholder:"N,..." group:"Workload"`
	Cache        string         `help:"Use of the prompt cache: cold (never), warm (always) or natural (not controlled)." placeholder:"MODE" group:"Workload"`
	Length       string         `help:"Length of replies: forced (exactly the output size) or natural (the model stops)." placeholder:"MODE" group:"Workload"`
	Requests     int            `help:"Requests per cell and trial. Default: 3, or twice the concurrency." group:"Workload" placeholder:"N"`
	Trials       int            `help:"Number of runs of the grid. With 5 or more, means have 95 % t intervals." group:"Workload" placeholder:"N"`
	Duration     replay.Seconds `help:"Total time of sending requests, divided among the cells (120, 2m)." group:"Workload" placeholder:"TIME"`
	Seed         uint64         `help:"Seed of prompts, order and arrival times." group:"Workload" placeholder:"N"`
	Concurrency  int            `help:"Closed loop: requests in flight." group:"Workload" placeholder:"N"`
	Rate         float64        `help:"Open loop: requests per second, whether or not earlier ones were answered." group:"Workload" placeholder:"R"`
	Arrival      string         `help:"Open loop, arrival times: poisson, constant or gamma." group:"Workload" placeholder:"KIND"`
	Burstiness   float64        `help:"With gamma arrivals: below 1 is more even than poisson, above 1 burstier." group:"Workload" placeholder:"B"`
	Pause        replay.Seconds `help:"Pause between cells." group:"Workload" placeholder:"TIME"`
	Budget       replay.Seconds `help:"Time limit of the run; cells predicted to exceed it are skipped and reported. Default: 10m for the quick grid, otherwise none." group:"Workload" placeholder:"TIME"`
	Rest         time.Duration  `help:"After prompts of 50k tokens or more, wait at most this long until the device is within 2 W of its idle power." default:"2m" group:"Workload"`

	Goodput      []string `help:"Objectives of a reply in milliseconds, e.g. ttft:500,tpot:50,latency:10000. The report counts the replies that met them." placeholder:"METRIC:MS,..." group:"Results"`
	GoodputShare float64  `help:"Share of the replies that must meet the objectives; with fewer the exit code is 4." default:"0.99" placeholder:"SHARE" group:"Results"`
	JSONOut      string   `help:"Write the results to this file, as one line of JSON." placeholder:"FILE" group:"Results"`
	Out          string   `help:"Write results.json, requests.jsonl, timeseries.csv and manifest.json to this folder." placeholder:"DIR" group:"Results"`
	Quiet        bool     `help:"Print the results only." group:"Results"`

	objectives []replay.Objective // of Goodput
	dataset    *replay.Dataset    // of Dataset, or of the workload file
}

// Run runs the workload, writes the files and prints the report.
func (c *replayRunCmd) Run(a *app) error {
	s, err := c.open(a)
	if err != nil {
		return err
	}
	defer s.Close()
	run, err := s.Run(a.ctx)
	if err != nil {
		return err
	}
	results := run.Results()
	l := report.LabelledRun{Label: "this run", Results: results, Run: run, Devices: run.Power.Devices}
	l.Flags, l.Settings = s.ServerFlags(a.ctx)
	err = c.write(&l) // before printing, because the terminal may be gone
	report.Terminal(a.stdout, l)
	if err != nil {
		return err
	}
	if run.Interrupted {
		return &exitError{exitFailed, errors.New("interrupted; the results so far are above")}
	}
	if !results.Valid {
		return &exitError{exitInvalid, errors.New("the run is INVALID; the reasons are above")}
	}
	if results.Goodput.Missed(c.GoodputShare) {
		return &exitError{exitMissed, fmt.Errorf("%d of %d replies met the objectives of --goodput; --goodput-share asks for %g of them", results.Goodput.Met, results.Goodput.Of, c.GoodputShare)}
	}
	return nil
}

// open connects to the server and makes the plan that the flags describe.
func (c *replayRunCmd) open(a *app) (*session.Session, error) {
	spec, err := c.spec()
	if err != nil {
		return nil, usageError("%w", err)
	}
	if err := c.checkOutputs(); err != nil {
		return nil, err
	}
	key, err := readKey(c.APIKeyFile)
	if err != nil {
		return nil, err
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return nil, usageError("%w", err)
	}
	cfg := session.Config{
		Endpoint: c.Endpoint, Admin: c.url(), AdminPassword: password, APIKey: key, Agent: "wattline-replay/" + version(), LoadTimeout: c.LoadTimeout,
		Spec: spec, Dataset: c.dataset, Stress: c.Stress, Budget: c.budget(spec.Name), Rest: c.Rest, Objectives: c.objectives,
		Say: func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", table.PrintableArgs(args)...) }, Log: a.log,
	}
	if c.Quiet {
		cfg.Say = func(string, ...any) {}
	} else if isTerminal(a.stderr) {
		cfg.Progress = a.stderr
	}
	s, err := session.Open(a.ctx, cfg)
	if _, ok := errors.AsType[*session.SettingError](err); ok {
		return nil, &exitError{exitUsage, err}
	}
	return s, err
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

// isTerminal reports whether w is a terminal, on which a progress line can be redrawn.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// budget is --budget, or by default 10 minutes for the quick grid and no limit for other workloads.
func (c *replayRunCmd) budget(workload string) time.Duration {
	if c.Budget == 0 && workload == "quick" {
		return 10 * time.Minute
	}
	return time.Duration(c.Budget)
}

// write writes the files of --out and --json-out.
func (c *replayRunCmd) write(l *report.LabelledRun) error {
	if c.Out != "" {
		m := archive.Manifest{Wattline: version(), Argv: os.Args, Host: archive.ThisHost(), ServerFlags: l.Flags, Settings: l.Settings}
		if err := archive.Write(c.Out, m, l.Run, l.Results); err != nil {
			return err
		}
	}
	if c.JSONOut == "" {
		return nil
	}
	text, err := l.Results.JSON()
	if err != nil {
		return err
	}
	return replaceFile(c.JSONOut, text)
}

// replaceFile replaces a file atomically.
func replaceFile(path string, text []byte) error {
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

// spec returns the workload that the file and the flags describe.
func (c *replayRunCmd) spec() (replay.Spec, error) {
	s := replay.Quick()
	custom := len(c.Task)+len(c.PromptSizes)+len(c.OutputTokens) > 0
	switch {
	case c.Workload != "":
		text, err := os.ReadFile(c.Workload)
		if err != nil {
			return s, fmt.Errorf("--workload cannot be read: %w", err)
		}
		if s, err = replay.ReadSpec(text); err != nil {
			return s, fmt.Errorf("--workload %s: %w", c.Workload, err)
		}
	case c.Full && c.Stress:
		return s, errors.New("--full and --stress exclude each other: give one of them")
	case c.Full:
		s = replay.Full()
	case c.Stress:
		s = replay.Stress(1)
	case c.Dataset != "":
		s = replay.Spec{Name: "dataset"}
	case custom:
		s = replay.Spec{Name: "custom"}
	}
	if err := c.readDataset(&s); err != nil {
		return s, err
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
	if c.objectives, err = replay.ParseObjectives(c.Goodput); err != nil {
		return s, fmt.Errorf("--goodput: %w", err)
	}
	c.override(&s)
	if c.Stress {
		if s.Rate == 0 {
			s.Concurrency = c.Concurrency // 0: twice the server's slots, which are not known yet
		}
		if s.Duration == 0 {
			s.Duration = replay.Seconds(defaultStress)
		}
	}
	_, err = s.Complete(prompt.Tasks()) // checks the workload before the server is asked
	return s, err
}

// readDataset reads the file of --dataset, or of the workload file's key dataset, which is relative to that file.
func (c *replayRunCmd) readDataset(s *replay.Spec) error {
	path := s.Dataset
	if c.Dataset != "" {
		if c.Full || len(c.Task)+len(c.PromptSizes) > 0 {
			return errors.New("--dataset has its own prompts: leave out --full, --task and --prompt-sizes")
		}
		s.Tasks, s.PromptSizes, s.Cells, s.Dataset = nil, nil, nil, c.Dataset
		path = c.Dataset
	} else if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(c.Workload), path)
	}
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("the dataset cannot be read: %w", err)
	}
	c.dataset, err = replay.ReadDataset(path, text)
	return err
}

// override replaces settings of the workload with flags that were given.
func (c *replayRunCmd) override(s *replay.Spec) {
	set(&s.Cache, replay.Cache(c.Cache))
	set(&s.Length, replay.Length(c.Length))
	set(&s.Requests, c.Requests)
	set(&s.Trials, c.Trials)
	set(&s.Duration, c.Duration)
	set(&s.Seed, c.Seed)
	set(&s.Arrival, replay.Arrival(c.Arrival))
	set(&s.Burstiness, c.Burstiness)
	set(&s.Pause, c.Pause)
	set(&s.Concurrency, c.Concurrency)
	set(&s.Rate, c.Rate)
}

// set overwrites *to with v unless v is zero.
func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// Defaults of flags.
const (
	defaultLoadTimeout = 5 * time.Minute // --load-timeout
	defaultStress      = 5 * time.Minute // --duration with --stress
)

// checkOutputs checks before the run that --out and --json-out can be written.
func (c *replayRunCmd) checkOutputs() error {
	if c.Out != "" {
		if err := archive.Free(c.Out); err != nil {
			return usageError("--out: %w", err)
		}
		parent := filepath.Clean(c.Out) // the nearest folder that exists
		for parent != filepath.Dir(parent) && !exists(parent) {
			parent = filepath.Dir(parent)
		}
		if err := checkWritable(parent); err != nil {
			return usageError("--out %s: %w", c.Out, err)
		}
	}
	if c.JSONOut == "" {
		return nil
	}
	dir := filepath.Dir(c.JSONOut)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usageError("--json-out %s: the folder %s does not exist", c.JSONOut, dir)
	}
	if info, err := os.Stat(c.JSONOut); err == nil && info.IsDir() {
		return usageError("--json-out %s is a folder: name a file", c.JSONOut)
	}
	if err := checkWritable(dir); err != nil {
		return usageError("--json-out %s: %w", c.JSONOut, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkWritable creates a folder in dir and removes it.
func checkWritable(dir string) error {
	probe, err := os.MkdirTemp(dir, ".wattline-")
	if err != nil {
		return fmt.Errorf("cannot write there: %w", err)
	}
	return os.Remove(probe)
}
