package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"wattline/meter"
	"wattline/sink/store"
)

type requestsCmd struct {
	ID    string `arg:"" optional:"" help:"An id, or the beginning or end of one: show that request as a waterfall."`
	Store string `help:"The rows' file. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/wattline/wattline.db." placeholder:"FILE"`
	Limit int    `help:"How many of the latest requests to list." default:"20" placeholder:"N"`
	JSON  bool   `help:"One JSON object a line, keys as in the store." name:"json"`
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
	defer closing(r, &err)
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
	printRequests(a.stdout, recs)
	return nil
}

func (c *requestsCmd) one(a *app, r *store.Reader) error {
	rec, err := r.Find(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if rec == nil {
		return fmt.Errorf("no request in %s has an id that is, begins with or ends with %q: `wattline requests` lists them", r.Path(), c.ID)
	}
	if c.JSON {
		return writeJSONLines(a.stdout, []*meter.Record{rec})
	}
	return waterfall(a, r, rec)
}

// closing closes c and reports its error where there is no earlier one.
func closing(c io.Closer, err *error) {
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

// shortID is enough of a UUIDv7 to find it again: its end is the random part.
func shortID(id string) string { return id[max(0, len(id)-8):] }

func printRequests(w io.Writer, recs []*meter.Record) {
	t := newTable(w, "started", "id", "model", "path", "outcome", "in", "cached", "out", "queue", "ttft", "decode", "total", "energy")
	for _, r := range recs {
		t.AppendRow([]any{
			r.StartedAt.Local().Format("01-02 15:04:05.000"), shortID(r.ID), orAbsent(r.Model), orAbsent(r.Path), outcome(r),
			count(r.PromptTokens), count(r.CachedTokens), count(r.OutputTokens),
			ms(r.QueueUs), ms(r.TTFTUs), ms(r.DecodeUs), ms(r.DurationUs), energyOf(r),
		})
	}
	rightAligned(t, 6, 7, 8, 9, 10, 11, 12, 13)
	t.Render()
}

// outcome is ok, or what went wrong and with which status.
func outcome(r *meter.Record) string {
	if r.Outcome == meter.OK || !r.Status.Valid {
		return orAbsent(string(r.Outcome))
	}
	return fmt.Sprintf("%s %d", r.Outcome, r.Status.V)
}

// energyOf is a request's joules with their error, or why there are none.
func energyOf(r *meter.Record) string {
	if !r.GPUUj.Valid {
		if uj := r.EnergyUj(); uj.Valid {
			return inUnit(uj, 1e6, "J CPU")
		}
		return orAbsent(r.EnergyQuality)
	}
	text := inUnit(r.GPUUj, 1e6, "J")
	if r.GPUSigmaUj.Valid {
		text = inUnit(r.GPUUj, 1e6, "") + "± " + inUnit(r.GPUSigmaUj, 1e6, "J")
	}
	if strings.HasPrefix(r.EnergySource, "sim/") {
		text += " simulated"
	}
	return text
}
