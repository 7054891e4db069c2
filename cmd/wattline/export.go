package main

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/replay/table"
	"wattline/sink/store"
)

type exportCmd struct {
	Store  string `help:"SQLite file with the rows. Default: ${store}." placeholder:"FILE"`
	Format string `help:"Format of the rows: ${enum}." enum:"csv,jsonl" default:"csv"`
	Since  string `help:"How far back: 90m, 24h, 7d, or a date (2026-11-01). Default: all rows."`
}

// Run writes every request, oldest first, to standard output.
func (c *exportCmd) Run(a *app) (err error) {
	defer a.endSoon()()
	var since time.Time
	if c.Since != "" {
		if since, err = parseSince(c.Since, time.Now()); err != nil {
			return err
		}
	}
	r, err := store.OpenReader(a.ctx, a.storePath(c.Store))
	if err != nil {
		return err
	}
	defer deferClose(r, &err)
	if c.Format == "csv" {
		return exportCSV(a, r, since)
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return r.Each(a.ctx, since, func(rec *meter.Record) error { return enc.Encode(rec) })
}

// exportCSV writes CSV (RFC 4180) with a header line. Null is an empty field; labels and lists are JSON; a text that
// begins like a formula gets an apostrophe, and characters that a terminal would obey are written as \x1b.
func exportCSV(a *app, r *store.Reader, since time.Time) error {
	w := csv.NewWriter(io.Writer(a.stdout))
	fields := make([]string, len(meter.Columns()))
	for i, c := range meter.Columns() {
		fields[i] = c.Name
	}
	if err := w.Write(fields); err != nil {
		return err
	}
	err := r.Each(a.ctx, since, func(rec *meter.Record) error {
		for i, c := range meter.Columns() {
			v, err := store.FieldText(c.Ptr(rec))
			if err != nil {
				return err
			}
			fields[i] = table.PrintableLines(term.SpreadsheetText(v))
		}
		return w.Write(fields)
	})
	w.Flush()
	if err != nil {
		return err
	}
	return w.Error()
}
