package main

import (
	"encoding/json"
	"fmt"
	"io"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/sink/store"
)

type requestsCmd struct {
	ID    string `arg:"" optional:"" help:"Show the waterfall of the request with this id, or with an id that begins or ends so."`
	Store string `help:"SQLite file with the rows. Default: ${store}." placeholder:"FILE"`
	Limit int    `help:"How many requests to list." default:"20" placeholder:"N"`
	JSON  bool   `help:"Print one JSON object per line, with the columns of the store as keys." name:"json"`
}

// Run lists the latest requests, or shows one.
func (c *requestsCmd) Run(a *app) (err error) {
	if c.Limit < 1 {
		return usageError("--limit must be at least 1, not %d", c.Limit)
	}
	r, err := store.OpenReader(a.ctx, a.storePath(c.Store))
	if err != nil {
		return err
	}
	defer deferClose(r, &err)
	if c.ID != "" {
		return c.one(a, r)
	}
	recs, err := r.Latest(a.ctx, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSONLines(a.stdout, recs)
	}
	if len(recs) == 0 {
		_, err = fmt.Fprintf(a.stderr, "No request has been measured yet in %s.\n", r.Path())
		return err
	}
	term.Requests(a.stdout, recs)
	return nil
}

func (c *requestsCmd) one(a *app, r *store.Reader) error {
	rec, err := r.Find(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if rec == nil {
		return fmt.Errorf("no request in %s has an id that begins or ends with %q: `wattline requests` lists them", r.Path(), c.ID)
	}
	if c.JSON {
		return writeJSONLines(a.stdout, []*meter.Record{rec})
	}
	derived, err := r.Efficiency(a.ctx, rec.ID)
	if err != nil {
		return err
	}
	term.Waterfall(a.stdout, rec, derived)
	return nil
}

// deferClose closes c and sets *err to its error if there is no earlier one.
func deferClose(c io.Closer, err *error) {
	if closeErr := c.Close(); *err == nil {
		*err = closeErr
	}
}

func writeJSONLines(w io.Writer, recs []*meter.Record) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, rec := range recs {
		if err := enc.Encode(rec); err != nil {
			return err
		}
	}
	return nil
}
