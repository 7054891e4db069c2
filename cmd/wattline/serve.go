package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/serving"
)

// serveCmd runs the proxy.
type serveCmd struct{ serving.Flags }

// Run serves until the context ends, then lets requests in flight finish.
func (c *serveCmd) Run(a *app, kctx *kong.Context) (err error) {
	if err := a.rejectWithRoutes(kctx, "listen", "upstream", "labels"); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	h := a.host(c.Store)
	h.Runs = runsIn(c.Runs)
	if c.Clickhouse != "" {
		if h.Ship, err = clickhouseTarget(kctx, c.Clickhouse, c.ClickhousePasswordFile); err != nil {
			return err
		}
	}
	s, err := serving.Open(h, &c.Flags)
	if err != nil {
		return err
	}
	s.PrintStartup()
	return s.Run()
}

// host is this process for a service with the rows in this file, "": the usual one.
func (a *app) host(store string) *serving.Host {
	return &serving.Host{
		Ctx: a.ctx, Stderr: a.stderr, Log: a.log, Version: version(), Store: a.storePath(store), Usual: store == "" && os.Getenv("STATE_DIRECTORY") == "", Routes: a.routes, Level: a.level,
		Reload: func() (*serving.Flags, slog.Level, error) {
			c, _, _, err := parse(a.args, io.Discard, io.Discard)
			if err != nil {
				return nil, 0, err
			}
			return &c.Serve.Flags, c.level(), nil
		},
	}
}
