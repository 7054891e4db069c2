package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/sink/queries"
	"wattline/sink/store"
)

type cacheCmd struct {
	engineFlags
	ID      string `arg:"" optional:"" help:"Explain the request with this id, or with an id that begins or ends so."`
	Session string `help:"Show the turns of this session: what was reused, computed and lost; last is the latest." placeholder:"ID"`
	Since   string `help:"How far back: 90m, 24h, 7d, today, or a date (2026-11-01)." default:"7d"`
}

// Run prints what lost caches cost, one session's turns, or one request's verdict.
func (c *cacheCmd) Run(a *app, kctx *kong.Context) (err error) {
	defer a.endSoon()()
	if c.ID != "" && c.Session != "" {
		return usageError("give a request's id or --session, not both")
	}
	if c.Session != "" {
		return c.session(a)
	}
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return err
	}
	e, err := c.open(a, kctx)
	if err != nil {
		return err
	}
	defer deferClose(e, &err)
	ctx, cancel := context.WithTimeout(a.ctx, usageTimeout)
	defer cancel()
	if c.ID != "" {
		rec, err := e.Find(ctx, c.ID)
		if err == nil && rec == nil {
			err = fmt.Errorf("no request in %s has the id %s: `wattline requests` lists them", e.Where, c.ID)
		}
		if err != nil {
			return e.Explain(err)
		}
		term.CacheRequest(a.stdout, rec)
		return nil
	}
	found, totals, err := queries.ReadCulprits(ctx, e, since)
	if err != nil {
		return e.Explain(err)
	}
	term.CacheCulprits(a.stdout, found, totals)
	return nil
}

// session prints the turns of a session, which are in the store.
func (c *cacheCmd) session(a *app) (err error) {
	path := a.storePath(c.Store)
	r, err := store.OpenReader(a.ctx, path)
	if err != nil {
		return err
	}
	defer deferClose(r, &err)
	key, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "identity.key")) //nolint:gosec // without it only stored names are found
	id := meter.Identify{Key: key}
	recs, err := r.Session(a.ctx, c.Session, id.HashSession(c.Session))
	if err != nil {
		return err
	}
	if len(recs) == 0 {
		return fmt.Errorf("no request in %s is of session %s: `wattline usage --by session` lists them", path, c.Session)
	}
	term.CacheSession(a.stdout, recs)
	return nil
}
