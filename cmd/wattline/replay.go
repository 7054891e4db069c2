package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"wattline/replay"
	"wattline/replay/archive"
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

	Full     bool   `help:"Run the full grid: three prompt sizes, three output sizes, two tasks." group:"Workload"`
	Stress   bool   `help:"Keep twice as many requests in flight as the server has slots, until the temperature is stable or --duration ends." group:"Workload"`
	Workload string `help:"Workload file (YAML or JSON), also --config-file. Flags override it." aliases:"config-file" type:"existingfile" placeholder:"FILE" group:"Workload"`
	session.TraceFlags
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
	Sweep        string         `help:"Run the workload at several loads: concurrency=1,2,4,8, or rate=auto, which searches the highest rate at which 95 % of the requests keep --goodput." group:"Workload" placeholder:"LOADS"`
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
}

// Run runs the workload, writes the files and prints the report.
func (c *replayRunCmd) Run(a *app) error {
	if c.Sweep != "" {
		return c.sweep(a)
	}
	s, _, err := c.open(a)
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
	err = errors.Join(err, s.Proof(run, l.Settings).Report(a.stdout, c.Out))
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
func (c *replayRunCmd) open(a *app) (*session.Session, session.Config, error) {
	cfg := session.Config{Budget: time.Duration(c.Budget), Rest: c.Rest}
	err := cfg.Use(&session.Workload{
		File: c.Workload, Full: c.Full, Stress: c.Stress, Dataset: c.Dataset, TraceFlags: c.TraceFlags, Tasks: c.Task, PromptSizes: c.PromptSizes,
		OutputTokens: c.OutputTokens, Goodput: c.Goodput, Override: replay.Spec{
			Cache: replay.Cache(c.Cache), Length: replay.Length(c.Length), Requests: c.Requests, Trials: c.Trials,
			Duration: c.Duration, Seed: c.Seed, Arrival: replay.Arrival(c.Arrival), Burstiness: c.Burstiness,
			Pause: c.Pause, Concurrency: c.Concurrency, Rate: c.Rate,
		},
	})
	if err == nil {
		out := c.Out
		if c.Sweep != "" {
			out = "" // checked by sweep
		}
		err = archive.CheckOutputs(out, c.JSONOut)
	}
	if err != nil {
		return nil, cfg, usageError("%w", err)
	}
	key, err := readKey(c.APIKeyFile)
	if err != nil {
		return nil, cfg, err
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return nil, cfg, usageError("%w", err)
	}
	cfg.Endpoint, cfg.Admin, cfg.AdminPassword, cfg.APIKey = c.Endpoint, c.url(), password, key
	cfg.Agent, cfg.LoadTimeout, cfg.Log = "wattline-replay/"+version(), c.LoadTimeout, a.log
	cfg.Say = func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", table.PrintableArgs(args)...) }
	if c.Quiet {
		cfg.Say = func(string, ...any) {}
	} else if isTerminal(a.stderr) {
		cfg.Progress = a.stderr
	}
	s, err := session.Open(a.ctx, cfg)
	if _, ok := errors.AsType[*session.SettingError](err); ok {
		return nil, cfg, &exitError{exitUsage, err}
	}
	return s, cfg, err
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
	return archive.ReplaceFile(c.JSONOut, text)
}

// defaultLoadTimeout is the default of --load-timeout.
const defaultLoadTimeout = 5 * time.Minute
