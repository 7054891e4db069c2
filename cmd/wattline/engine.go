package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/serving"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// engineFlags select the database to read: the store, or ClickHouse.
type engineFlags struct {
	Store                  string `help:"SQLite file with the rows. Default: ${store}." placeholder:"FILE"`
	Clickhouse             string `help:"Read from this ClickHouse instead of the store: clickhouse://USER@HOST/DATABASE or http://..." placeholder:"DSN"`
	ClickhousePasswordFile string `help:"File with the password. Default: ${clickhouse_password}." placeholder:"FILE"`
}

func (f *engineFlags) open(a *app, kctx *kong.Context) (*queries.Engine, error) {
	named := onCommandLine(kctx, "clickhouse")
	// The key clickhouse of the configuration file is for serve. Queries read the store unless the flag or the
	// environment names a ClickHouse.
	if _, env := os.LookupEnv("WATTLINE_CLICKHOUSE"); !named && (!env || onCommandLine(kctx, "store")) {
		r, err := store.OpenReader(a.ctx, a.storePath(f.Store))
		if err != nil {
			return nil, err
		}
		return serving.StoreEngine(r), nil
	}
	target, err := clickhouseTarget(kctx, f.Clickhouse, f.ClickhousePasswordFile)
	if err != nil {
		return nil, err
	}
	db := target.DB()
	return &queries.Engine{DB: db, Dialect: queries.ClickHouse, Where: target.String(), Explain: func(err error) error { return target.Explain("query", err) }, Closer: db.Close}, nil
}

// onCommandLine reports whether a flag is on the command line, not only in the environment or the configuration file.
func onCommandLine(kctx *kong.Context, flag string) bool {
	for _, p := range kctx.Path {
		if p.Flag != nil && p.Flag.Name == flag && !p.Resolved {
			return true
		}
	}
	return false
}

// errNotStopped is why a command that only reads ends when it is to be stopped.
var errNotStopped = errors.New("ended, not stopped: a stopped reader would keep the store's write-ahead log from being folded back; run it again")

// endSoon makes a signal end a command that only reads within a second, also where it waits for someone to read its output.
// Ctrl-Z ends it too. The result ends that.
func (a *app) endSoon() (stop func()) {
	before := a.ctx
	ctx, cancel := context.WithCancelCause(before)
	a.ctx = ctx
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, stopSignals()...)
	done := make(chan struct{})
	go func() {
		select {
		case <-stopped:
			cancel(errNotStopped)
		case <-ctx.Done():
		case <-done:
			return
		}
		select {
		case <-time.After(time.Second):
			fmt.Fprintln(a.stderr, "wattline:", context.Cause(ctx))
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(stopped)
		cancel(nil)
		close(done)
		a.ctx = before // the demo goes on after it has listed its requests
	}
}
