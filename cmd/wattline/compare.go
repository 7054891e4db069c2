package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/compare"
	"wattline/replay/compare/live"
	"wattline/replay/session"
	"wattline/replay/table"
	"wattline/sink/console"
	"wattline/sink/queries"
)

// compareCmd tells whether B is better or worse than A.
type compareCmd struct {
	Sides []string `arg:"" optional:"" name:"side" help:"A and B: folders that replay --out wrote, or choices of stored rows: config:ID, label:KEY=VALUE, instance:NAME, SINCE..UNTIL (14d..7d), several joined by commas."`
	engineFlags

	A          string         `help:"Measure instead of reading: address of A." placeholder:"URL" group:"Measure two endpoints in turn"`
	B          string         `help:"And of B." placeholder:"URL" group:"Measure two endpoints in turn"`
	Workload   string         `help:"What is sent: quick, full, or a workload file." default:"quick" placeholder:"NAME|FILE" group:"Measure two endpoints in turn"`
	Budget     replay.Seconds `help:"Time limit. The session ends before it when every interval is narrow enough." default:"10m" placeholder:"TIME" group:"Measure two endpoints in turn"`
	Out        string         `help:"Keep both runs as folders a and b in this folder." placeholder:"DIR" group:"Measure two endpoints in turn"`
	APIKeyFile string         `help:"File with the API key of both servers." type:"existingfile" placeholder:"FILE" group:"Measure two endpoints in turn"`

	AdminPasswordFile string `help:"File with the password of both wattlines' admin listeners." placeholder:"FILE" group:"Measure two endpoints in turn"`

	Label  []string `help:"Names of A and B." placeholder:"NAME,NAME"`
	Margin float64  `help:"Differences below it do not matter, in percent." default:"2" placeholder:"PERCENT"`
	Metric []string `help:"Compare only: ${compare_metrics}. Default: all." placeholder:"NAME,..."`
	FailOn []string `help:"Exit with code 4 on these verdicts: worse, cannot-tell." placeholder:"VERDICT,..."`
	Format string   `help:"Format of the output: ${enum}." enum:"terminal,markdown,json" default:"terminal"`
	JSON   bool     `help:"The same as --format json." name:"json"`
	HTML   string   `help:"Also write a self-contained page with a forest plot to this file." placeholder:"FILE"`
}

// compareTimeout bounds reading the rows.
const (
	compareTimeout = time.Minute
	mostCompared   = 20000 // rows a side
)

// Run compares and prints.
func (c *compareCmd) Run(a *app, kctx *kong.Context) error {
	if err := c.check(); err != nil {
		return usageError("%w", err)
	}
	opt := compare.Options{Margin: c.Margin / 100, Metrics: c.Metric}
	var r *compare.Result
	var failure, err error
	if c.A != "" {
		r, failure, err = c.measure(a, opt)
	} else {
		r, err = c.read(a, kctx, opt)
	}
	if err != nil {
		return err
	}
	if r == nil {
		return failure
	}
	if err := c.print(a, r); err != nil {
		return errors.Join(failure, err)
	}
	switch {
	case failure != nil:
		return fmt.Errorf("%w; what was measured until then is above", failure)
	case r.Invalid:
		return &exitError{exitInvalid, errors.New("a run is INVALID; the reasons are above")}
	case c.fails(r):
		return &exitError{exitMissed, errors.New("a verdict of --fail-on was reached; it is above")}
	}
	return nil
}

func (c *compareCmd) check() error {
	if c.JSON {
		c.Format = "json"
	}
	for _, v := range c.FailOn {
		if v != "worse" && v != "cannot-tell" {
			return fmt.Errorf("--fail-on %s: it is worse or cannot-tell", v)
		}
	}
	if err := compare.CheckMetrics(c.Metric); err != nil {
		return fmt.Errorf("--metric: %w", err)
	}
	measuring := c.A != "" || c.B != ""
	switch {
	case measuring && (c.A == "" || c.B == "" || len(c.Sides) > 0):
		return errors.New("to measure, give --a URL and --b URL, and no folders or rows")
	case !measuring && len(c.Sides) != 2:
		return fmt.Errorf("two things are compared, not %d: name A and B, or measure with --a URL --b URL", len(c.Sides))
	case len(c.Label) != 0 && len(c.Label) != 2:
		return fmt.Errorf("A and B need two labels, not %d", len(c.Label))
	case !(c.Margin > 0 && c.Margin < 100):
		return fmt.Errorf("--margin is a number of percent above 0 and below 100")
	case c.Out != "":
		return errors.Join(archive.CheckOutputs(filepath.Join(c.Out, "a"), ""), archive.CheckOutputs(filepath.Join(c.Out, "b"), ""))
	}
	return nil
}

func (c *compareCmd) label(i int, otherwise string) string {
	if len(c.Label) == 2 {
		return c.Label[i]
	}
	return otherwise
}

// read compares folders, or stored rows.
func (c *compareCmd) read(a *app, kctx *kong.Context, opt compare.Options) (*compare.Result, error) {
	var sides [2]*compare.Side
	for i, arg := range c.Sides {
		if info, err := os.Stat(arg); err == nil && info.IsDir() {
			if sides[i], err = compare.FromFolder(c.label(i, filepath.Base(filepath.Clean(arg))), arg); err != nil {
				return nil, err
			}
			continue
		}
		side, err := c.rows(a, kctx, i, arg)
		if err != nil {
			return nil, err
		}
		sides[i] = side
	}
	return compare.Compare(sides[0], sides[1], opt)
}

// rows reads stored rows.
func (c *compareCmd) rows(a *app, kctx *kong.Context, i int, arg string) (side *compare.Side, err error) {
	f, err := queries.ParseSelector(arg, time.Now())
	if err != nil {
		return nil, usageError("%w", err)
	}
	e, err := c.open(a, kctx)
	if err != nil {
		return nil, err
	}
	defer deferClose(e, &err)
	ctx, cancel := context.WithTimeout(a.ctx, compareTimeout)
	defer cancel()
	rows, more, err := queries.Records(ctx, e, f, mostCompared)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s has no request of %s: `wattline usage` and `wattline requests` show what there is", e.Where, arg)
	}
	if more {
		fmt.Fprintf(a.stderr, "%s: only the newest %d requests are compared\n", table.Printable(arg), len(rows))
	}
	return compare.FromRows(c.label(i, arg), rows), nil
}

// measure compares two endpoints.
func (c *compareCmd) measure(a *app, opt compare.Options) (*compare.Result, error, error) {
	key, err := readKey(c.APIKeyFile)
	if err != nil {
		return nil, nil, err
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return nil, nil, usageError("%w", err)
	}
	cfg := live.Config{Budget: time.Duration(c.Budget), Options: opt}
	cfg.Say = func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", table.PrintableArgs(args)...) }
	for i, endpoint := range []string{c.A, c.B} {
		side := &cfg.Sides[i]
		if err := side.Use(session.Named(c.Workload)); err != nil {
			return nil, nil, usageError("%w", err)
		}
		side.Endpoint, side.APIKey, side.AdminPassword, side.Agent = endpoint, key, password, "wattline-replay/"+version()
		side.LoadTimeout, side.Rest, side.Log = defaultLoadTimeout, time.Minute, a.log
		name := string(rune('A' + i))
		side.Say = func(format string, args ...any) { a.log.Debug(name + ": " + fmt.Sprintf(format, args...)) }
		cfg.Labels[i] = c.label(i, endpoint)
	}
	res, err := live.Run(a.ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	for i, run := range res.Runs {
		if c.Out == "" || run == nil {
			continue
		}
		dir := filepath.Join(c.Out, string(rune('a'+i)))
		if err := archive.Write(dir, archive.Manifest{Wattline: version(), Argv: os.Args, Host: archive.ThisHost()}, run, run.Results()); err != nil {
			res.Failure = errors.Join(res.Failure, err) // it is printed all the same
			continue
		}
		fmt.Fprintf(a.stderr, "wrote %s\n", dir)
	}
	return res.Compare, res.Failure, nil
}

// print prints the comparison and writes the page.
func (c *compareCmd) print(a *app, r *compare.Result) (err error) {
	switch c.Format {
	case "json":
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	case "markdown":
		err = r.Markdown(a.stdout)
	default:
		r.Terminal(a.stdout)
	}
	if c.HTML == "" {
		return err
	}
	text, failed := r.Page()
	if failed == nil {
		failed = archive.ReplaceFile(c.HTML, text)
	}
	if failed == nil {
		fmt.Fprintf(a.stderr, "wrote %s\n", c.HTML)
	}
	return errors.Join(err, failed)
}

func (c *compareCmd) fails(r *compare.Result) bool {
	for _, v := range c.FailOn {
		if v == "worse" && r.Has(compare.Worse) || v == "cannot-tell" && (r.Has(compare.CannotTell) || r.Refusal != "" || len(c.Metric) > 0 && r.Has(compare.NotMeasured)) {
			return true
		}
	}
	return false
}
