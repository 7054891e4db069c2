package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/serving"
	"wattline/deploy/handover"
	"wattline/replay/archive"
	"wattline/replay/compare"
	"wattline/replay/report/html"
	"wattline/sink/console"
)

// consoleCmd shows rows in a browser without a running serve.
type consoleCmd struct {
	engineFlags
	Listen            string   `help:"Address to listen on for the browser." default:"${console}" placeholder:"ADDR"`
	Runs              string   `help:"Folder below which replay --out wrote runs, for the page Runs." type:"existingdir" placeholder:"DIR"`
	Currency          string   `help:"Currency of the price that serve was given, for display." default:"EUR"`
	AdminHosts        []string `help:"Further host names by which the console may be reached." placeholder:"NAME,..."`
	AdminPasswordFile string   `help:"File with the password that the console asks for; needed on an address that others can reach." placeholder:"FILE"`
	AdminOpen         bool     `help:"Serve without a password on an address that others can reach."`
}

// Run serves the console until a signal.
func (c *consoleCmd) Run(a *app, kctx *kong.Context) (err error) {
	e, err := c.open(a, kctx)
	if err != nil {
		return err
	}
	defer deferClose(e, &err)
	if err := e.Check(a.ctx); err != nil {
		return err
	}
	guard := console.Guard{Hosts: c.AdminHosts}
	if err := guard.Check(); err != nil {
		return usageError("%w", err)
	}
	if guard.Password, err = console.ReadPassword(c.AdminPasswordFile); err != nil {
		return usageError("%w", err)
	}
	from, err := handover.Inherit()
	if err != nil {
		return err
	}
	ln, err := serving.Listen(from, "console", c.Listen, "--listen")
	if err != nil {
		return err
	}
	if console.Reachable(ln.Addr()) && guard.Password == "" && !c.AdminOpen {
		return errors.Join(usageError("--listen %s can be reached from other machines, where anybody could read who asked what and when: "+
			"give --admin-password-file FILE, or --admin-open if only those can reach it who may", ln.Addr()), ln.Close())
	}
	s := console.New(console.Config{
		Rows: e, Engine: e, Guard: guard, Log: a.log, Runs: runsIn(c.Runs),
		Hello: console.Hello{Version: version(), Rows: e.Where, DefaultRows: c.Store+c.Clickhouse == "", Currency: c.Currency},
	})
	fmt.Fprintf(a.stderr, "wattline: console http://%s of the rows in %s; Ctrl-C ends it\n", ln.Addr(), e.Where)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // ends with Shutdown
	select {
	case err = <-served:
		return err
	case <-a.ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// runsIn are the runs below a folder; nil without one.
func runsIn(dir string) console.Runs {
	if dir == "" {
		return nil
	}
	return archive.Runs{Dir: dir, Charts: func(a *archive.Archive) any { return html.ChartsOf(labelled(a)) }, Judge: judgeRuns}
}

// judgeRuns compares run b with run a, for the page Runs.
func judgeRuns(a, b *archive.Archive) (any, error) {
	r, err := compare.Compare(compare.FromRun(filepath.Base(a.Dir), a.Run), compare.FromRun(filepath.Base(b.Dir), b.Run), compare.Options{})
	if err != nil {
		return nil, err
	}
	return r.View(), nil
}
