package main

import (
	"fmt"
	"os"
	"path/filepath"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/sink/store"
)

type sessionCmd struct {
	ID       string `arg:"" help:"The session, as rows have it or as the client names it; last is the latest."`
	Store    string `help:"SQLite file with the rows. Default: ${store}." placeholder:"FILE"`
	Currency string `help:"Currency of the price that serve was given." placeholder:"NAME"`
}

// Run prints what a session used.
func (c *sessionCmd) Run(a *app) (err error) {
	defer a.endSoon()()
	path := a.storePath(c.Store)
	r, err := store.OpenReader(a.ctx, path)
	if err != nil {
		return err
	}
	defer deferClose(r, &err)
	key, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "identity.key")) //nolint:gosec // without it only stored names are found
	id := meter.Identify{Key: key}
	recs, err := r.Session(a.ctx, c.ID, id.HashSession(c.ID))
	if err != nil {
		return err
	}
	if len(recs) == 0 {
		return fmt.Errorf("no request in %s is of session %s: `wattline usage --by session` lists them", path, c.ID)
	}
	term.Session(a.stdout, recs, c.Currency)
	return nil
}
