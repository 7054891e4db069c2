// Command wattline stands in front of an LLM server and says what each request cost, in milliseconds
// and in joules. One file a subcommand; config.go is the one place where flags, the environment and the
// configuration file meet.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/logging"
)

// Exit codes of every command.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3 // the run happened, but its numbers must not be used
)

// cli is the command line: one field a subcommand, and the flags that all share.
type cli struct {
	Config    string `help:"YAML file; any flag is a key in it. Default: $XDG_CONFIG_HOME/wattline/config.yaml, then /etc/wattline/config.yaml." placeholder:"FILE"`
	LogFormat string `help:"How log lines are written: ${enum}." enum:"text,json" default:"text"`
	LogLevel  string `help:"Lowest level that is logged: ${enum}." enum:"debug,info,warn,error" default:"info"`

	Serve     serveCmd     `cmd:"" help:"Stand in front of a server and measure every request."`
	Demo      demoCmd      `cmd:"" help:"Show it all on this machine: a real llama-server, traffic, the rows."`
	Requests  requestsCmd  `cmd:"" help:"The latest requests, or the waterfall of one."`
	Replay    replayCmd    `cmd:"" help:"Drive a documented workload through it and report what came of it."`
	Check     checkCmd     `cmd:"" help:"Quick verification of an endpoint: one line a check, exit 1 if one fails."`
	Report    reportCmd    `cmd:"" help:"Tables and pages from what replay --out wrote."`
	Usage     usageCmd     `cmd:"" help:"Tokens, energy and cost by agent, session, model, user, label or day."`
	Query     queryCmd     `cmd:"" help:"Run SQL on the measured rows."`
	Export    exportCmd    `cmd:"" help:"Write the measured rows as CSV or JSON lines."`
	GPU       gpuCmd       `cmd:"" name:"gpu" help:"This machine's devices: power sources, periods, agreement, live readings."`
	Attribute attributeCmd `cmd:"" help:"Divide a recording's joules among its requests, offline."`
	DDL       ddlCmd       `cmd:"" name:"ddl" help:"Print, check or apply the schema of ClickHouse."`
	Bench     benchCmd     `cmd:"" help:"What wattline costs: proxied against direct on your own upstream, or beside other proxies."`
	Version   versionCmd   `cmd:"" help:"Print the version."`

	BenchRole benchRoleCmd `cmd:"" hidden:"" name:"bench-role" help:"A process of bench --proxies."`

	Stub stubCmd `cmd:"" hidden:"" help:"A llama-server-shaped upstream with known latencies, for tests."`
}

// app is what a subcommand's Run is given.
type app struct {
	ctx    context.Context // ends with the first SIGINT or SIGTERM
	stdout io.Writer       // results
	stderr io.Writer       // everything else
	log    *slog.Logger
	level  *slog.LevelVar // of log
	routes []route        // of the configuration file; only serve has them

	// parse reads the command line, the environment and the configuration file again.
	parse func() (*cli, error)
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError says that the command was called wrongly.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal, or one that nobody waits for, ends the process at once; not one that comes with the first, as
	// from a terminal and from what was started in it (timeout, make).
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program, for main and for tests. It prints an error as one sentence.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	code, err := dispatch(ctx, args, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "wattline: %v\n", err)
	}
	return code
}

// helpExit carries the exit code out of kong, which wants to end the process after printing help.
type helpExit int

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) (code int, err error) {
	defer func() {
		if p := recover(); p != nil {
			h, ok := p.(helpExit)
			if !ok {
				panic(p)
			}
			code, err = int(h), nil
		}
	}()
	if len(args) == 1 && args[0] == "--version" { // as everybody tries it
		args = []string{"version"}
	}
	out := &results{w: stdout}
	c, file, kctx, err := parse(args, out, stderr)
	if err != nil {
		return exitUsage, err
	}
	a := &app{ctx: ctx, stdout: out, stderr: stderr, level: new(slog.LevelVar), routes: file.routes}
	a.log = logging.New(stderr, c.LogFormat, a.level)
	a.level.Set(c.level())
	a.parse = func() (*cli, error) {
		again, _, _, err := parse(args, io.Discard, io.Discard)
		return again, err
	}
	if err := kctx.Run(a); err != nil {
		if e, ok := errors.AsType[*exitError](err); ok {
			return e.code, err
		}
		return exitFailed, err
	}
	if out.err != nil {
		return exitFailed, fmt.Errorf("not everything could be written to standard output: %w", out.err)
	}
	return exitOK, nil
}

// results is standard output. It remembers that a write failed, which those who print tables do not look
// for: a command whose results did not arrive has not succeeded.
type results struct {
	w   io.Writer
	err error // the first
}

// Write passes on.
func (r *results) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}

// parse reads the settings of one call.
func parse(args []string, stdout, stderr io.Writer) (*cli, *configFile, *kong.Context, error) {
	file, err := readConfig(args)
	if err != nil {
		return nil, nil, nil, err
	}
	c := &cli{}
	parser, err := kong.New(c,
		kong.Name("wattline"),
		kong.Description("What did this LLM request cost, in milliseconds and in joules?"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(helpExit(code)) }),
		kong.DefaultEnvars("WATTLINE"),
		flagDefaults(),
		kong.Resolvers(file),
	)
	if err != nil {
		return nil, nil, nil, err
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w (wattline --help lists the commands and their flags)", err)
	}
	return c, file, kctx, nil
}

// level is the level that --log-level names; kong has checked it.
func (c *cli) level() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return l
}
