package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/sink/store"
)

type requestsCmd struct {
	ID         string        `arg:"" optional:"" help:"Show the waterfall of the request with this id, or with an id that begins or ends so."`
	Store      string        `help:"SQLite file with the rows. Default: ${store}." placeholder:"FILE"`
	Limit      int           `help:"How many requests to list." default:"20" placeholder:"N"`
	Since      string        `help:"List only requests that started since: 90m, 24h, 7d, or a date (2026-11-01)."`
	Agent      string        `help:"List only requests of this client." placeholder:"NAME"`
	Session    string        `help:"List only requests of this session." placeholder:"ID"`
	Model      string        `help:"List only requests to this model." placeholder:"NAME"`
	Outcome    string        `help:"List only requests that ended so: ${outcomes}."`
	SlowerThan time.Duration `help:"List only requests that took longer, such as 10s." placeholder:"DURATION"`
	WorseThan  float64       `help:"List only requests whose joules have a standard error above this percentage, such as 10, and those below resolution." placeholder:"PERCENT"`
	All        bool          `help:"List housekeeping (health, models, counting tokens) and replay's own requests too, as --json and --agent do."`
	Follow     bool          `help:"Go on to list requests when they are complete, their energy included, until interrupted." short:"f"`
	JSON       bool          `help:"Print one JSON object per line, with the columns of the store as keys." name:"json"`
}

// outcomes are the values of --outcome.
func outcomes() []string {
	return []string{string(meter.OK), string(meter.Cancelled), string(meter.Truncated), string(meter.UpstreamError), string(meter.Rejected)}
}

// Run lists the latest requests, or shows one.
func (c *requestsCmd) Run(a *app) (err error) {
	defer a.endSoon()()
	filter, err := c.filter()
	if err != nil {
		return err
	}
	r, err := store.OpenReader(a.ctx, a.storePath(c.Store))
	if err != nil {
		return err
	}
	defer deferClose(r, &err)
	if c.ID != "" {
		return c.one(a, r)
	}
	if c.Follow {
		return c.follow(a, r, filter)
	}
	recs, err := r.List(a.ctx, filter, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSONLines(a.stdout, recs)
	}
	if len(recs) == 0 {
		if filter != (store.Filter{Work: filter.Work}) {
			_, err = fmt.Fprintf(a.stderr, "No request in %s is of that kind.\n", r.Path())
			return err
		}
		_, err = fmt.Fprintf(a.stderr, "No request has been measured yet in %s (--all lists housekeeping and replay's own too).\n", r.Path())
		return err
	}
	term.Requests(a.stdout, recs)
	return nil
}

// filter reads the flags.
func (c *requestsCmd) filter() (f store.Filter, err error) {
	f = store.Filter{Work: !c.All && !c.JSON && c.ID == "" && c.Agent == "", Agent: c.Agent, Session: c.Session, Model: c.Model, Outcome: meter.Outcome(c.Outcome), SlowerThan: c.SlowerThan, WorseThan: c.WorseThan / 100}
	switch {
	case c.Limit < 1:
		return f, usageError("--limit must be at least 1, not %d", c.Limit)
	case c.SlowerThan < 0:
		return f, usageError("--slower-than must be a duration such as 10s, not %v", c.SlowerThan)
	case c.WorseThan < 0 || math.IsNaN(c.WorseThan):
		return f, usageError("--worse-than must be a percentage such as 10, not %g", c.WorseThan)
	case c.Outcome != "" && !slices.Contains(outcomes(), c.Outcome):
		return f, usageError("--outcome must be one of %s, not %q", strings.Join(outcomes(), ", "), c.Outcome)
	case c.ID != "" && (c.Follow || c.All || f != store.Filter{} || c.Since != ""):
		return f, usageError("give either a request's id or flags that choose requests")
	}
	if c.Since != "" {
		f.Since, err = parseSince(c.Since, time.Now())
	}
	return f, err
}

// followInterval is the time between two looks at the store.
const followInterval = 500 * time.Millisecond

// follow lists the last requests, oldest first, and then each that becomes final, until a signal. Each look is a short read.
func (c *requestsCmd) follow(a *app, r *store.Reader, f store.Filter) error {
	recs, next, err := r.Tail(a.ctx, f, c.Limit)
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for header := true; ; {
		if err != nil {
			if a.ctx.Err() != nil {
				return nil
			}
			return err
		}
		if c.JSON {
			err = writeJSONLines(a.stdout, recs)
		} else if len(recs) > 0 {
			term.FollowRequests(a.stdout, recs, header)
			header = false
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-a.ctx.Done():
			return nil
		}
		recs, next, err = r.Follow(a.ctx, f, next)
	}
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
	why, err := r.Why(a.ctx, rec)
	if err != nil {
		return err
	}
	term.Waterfall(a.stdout, rec, derived, why)
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
