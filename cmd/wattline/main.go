// Command wattline is a reverse proxy in front of llama-server that reports what each request cost, in milliseconds
// and in joules. Each subcommand has a file; config.go merges flags, the environment and the configuration file.
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
	_ "time/tzdata" // a machine or an image may have no time zones

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/configfile"
	"wattline/cmd/wattline/internal/logging"
	"wattline/cmd/wattline/internal/serving"
	"wattline/replay/table"
)

// Exit codes of every command.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3 // the run finished, but its numbers must not be used
	exitMissed  = 4 // the run is valid, and missed its objectives
)

// cli is the table of subcommands, and the flags that all of them share.
type cli struct {
	Config    string `help:"Configuration file (YAML); any flag is a key in it. Default: $XDG_CONFIG_HOME/wattline/config.yaml, then /etc/wattline/config.yaml." placeholder:"FILE"`
	LogFormat string `help:"Format of log lines: ${enum}." enum:"text,json" default:"text"`
	LogLevel  string `help:"Lowest level to log: ${enum}." enum:"debug,info,warn,error" default:"info"`

	Serve     serveCmd     `cmd:"" help:"Run the proxy in front of a server and measure every request."`
	Demo      demoCmd      `cmd:"" help:"Try it on this machine: a real llama-server, some requests, their rows, a benchmark."`
	Cache     cacheCmd     `cmd:"" help:"Show why prompts were computed again: whose fault it was, what it cost, what to do."`
	Session   sessionCmd   `cmd:"" help:"Show what a session used: turns, tokens, joules, money."`
	Top       topCmd       `cmd:"" help:"Show live what a running serve does: who holds the slots, who waits, what draws the power."`
	Requests  requestsCmd  `cmd:"" help:"List the latest requests, or show the waterfall of one."`
	Replay    replayCmd    `cmd:"" help:"Run a benchmark workload and report its results."`
	Check     checkCmd     `cmd:"" help:"Check quickly that an endpoint works: one line for each check, exit code 1 if one fails."`
	Report    reportCmd    `cmd:"" help:"Print tables of folders that replay --out wrote, or write a page with charts."`
	Compare   compareCmd   `cmd:"" help:"Tell whether B is better or worse than A: two runs, stored rows, or two endpoints measured in turn."`
	Monitor   monitorCmd   `cmd:"" help:"Look at a server again and again, and say when and with what it changed."`
	Tune      tuneCmd      `cmd:"" help:"Search the flags with which a llama-server gives most tokens per joule, and prove what was found: tune -- llama-server ARGS."`
	Usage     usageCmd     `cmd:"" help:"Show tokens, energy and cost by agent, session, model, user, label or day."`
	Console   consoleCmd   `cmd:"" help:"Show the rows of a store or of ClickHouse in a browser; serve has the same console, live, on its --admin."`
	Query     queryCmd     `cmd:"" help:"Run an SQL query on the measured rows."`
	Export    exportCmd    `cmd:"" help:"Write the rows of all requests as CSV or JSON lines."`
	Trace     traceCmd     `cmd:"" help:"Make traces: workloads without texts, that replay --trace sends."`
	GPU       gpuCmd       `cmd:"" name:"gpu" help:"Show the devices whose power can be read here, how well, and their live readings."`
	Attribute attributeCmd `cmd:"" help:"Divide the joules of a recording among its requests, offline."`
	DDL       ddlCmd       `cmd:"" name:"ddl" help:"Print, verify or apply the ClickHouse schema."`
	Bench     benchCmd     `cmd:"" help:"Measure wattline's overhead: through it against direct, or compared with other proxies."`
	Health    healthCmd    `cmd:"" help:"Ask a running serve whether it works, for probes: prints ok, or the reason with exit code 1."`
	Init      initCmd      `cmd:"" help:"Write a first configuration file, and with --systemd a unit for this user."`

	Completion completionCmd `cmd:"" help:"Print the script by which bash, zsh or fish completes wattline's command line."`
	Complete   completeCmd   `cmd:"" hidden:"" help:"Answer that script."`

	Version versionCmd `cmd:"" help:"Print the version."`

	BenchRole benchRoleCmd `cmd:"" hidden:"" name:"bench-role" help:"One process of bench --proxies."`

	Stub stubCmd `cmd:"" hidden:"" help:"An upstream like llama-server with known latencies, for tests."`
}

// app is the argument of each subcommand's Run.
type app struct {
	ctx    context.Context // ends with the first SIGINT or SIGTERM
	stdout io.Writer       // results
	stderr io.Writer       // everything else
	log    *slog.Logger
	level  *slog.LevelVar     // of log
	routes []configfile.Route // from the configuration file, for serve
	args   []string           // of the command line
}

// exitError is an error that sets the exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError reports wrong arguments or settings.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal, a later one kills the process. Copies of the first within a second do not: a terminal and
	// a parent such as timeout or make may both send it.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program, for main and for tests. It prints an error as one line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	code, err := dispatch(ctx, args, stdout, stderr)
	if err != nil {
		fmt.Fprintf(table.Plain(stderr), "wattline: %v\n", err)
	}
	return code
}

// helpExit carries an exit code out of kong, which calls Exit after printing help.
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
	if len(args) == 1 && args[0] == "--version" { // the usual flag
		args = []string{"version"}
	}
	out := &checkedWriter{w: stdout}
	c, file, kctx, err := parse(args, out, stderr)
	if err != nil {
		return exitUsage, err
	}
	a := &app{ctx: ctx, stdout: out, stderr: stderr, level: new(slog.LevelVar), routes: file.Routes, args: args}
	a.log = logging.New(stderr, c.LogFormat, a.level)
	a.level.Set(c.level())
	if err := kctx.Run(a); err != nil {
		if e, ok := errors.AsType[*exitError](err); ok {
			return e.code, err
		}
		if _, ok := errors.AsType[serving.UsageError](err); ok {
			return exitUsage, err
		}
		return exitFailed, err
	}
	if out.err != nil {
		return exitFailed, fmt.Errorf("standard output is incomplete: %w", out.err)
	}
	return exitOK, nil
}

// checkedWriter remembers the first write error of standard output, because code that prints tables ignores it. A
// command fails if its output was not written.
type checkedWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (r *checkedWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}

// parse reads the settings from the arguments, the environment and the configuration file.
func parse(args []string, stdout, stderr io.Writer) (*cli, *configfile.File, *kong.Context, error) {
	file, err := configfile.Read(args)
	if err != nil {
		return nil, nil, nil, err
	}
	c := &cli{}
	parser, err := kong.New(c,
		kong.Name("wattline"),
		kong.Description("A reverse proxy for llama-server that reports what each request cost, in milliseconds and in joules."),
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

// level returns the level of --log-level, which kong has validated.
func (c *cli) level() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return l
}
