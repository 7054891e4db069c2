package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"wattline/replay/twin"
	"wattline/sink/queries"
	"wattline/sink/store"
)

// traceCmd makes traces.
type traceCmd struct {
	Export traceExportCmd `cmd:"" help:"Write the traffic of a time without its texts: times, lengths, sessions, and what prompts share. replay --trace sends it again."`
}

type traceExportCmd struct {
	Store    string   `help:"SQLite file with the rows and fingerprints. Default: ${store}." placeholder:"FILE"`
	Since    string   `help:"How far back: 90m, 24h, 7d, today, or a date (2026-11-01)." default:"7d"`
	Until    string   `help:"Until when, written likewise. Default: now." placeholder:"TIME"`
	Out      string   `help:"File of the trace; gzipped if its name ends in .gz." required:"" placeholder:"FILE"`
	Format   string   `help:"Format: ${enum}. Mooncake's has lengths and blocks of 512 tokens only." enum:"wattline,mooncake" default:"wattline"`
	Upstream string   `help:"Only requests of this server, as its rows name it." placeholder:"URL"`
	Model    []string `help:"Only requests of this model, as its rows name it; several are names of one." placeholder:"NAME"`
}

// Run writes the trace.
func (c *traceExportCmd) Run(a *app) (err error) {
	defer a.endSoon()()
	now := time.Now()
	span := queries.Filter{To: now}
	if span.From, err = parseSince(c.Since, now); err == nil && c.Until != "" {
		span, err = queries.ParseSelector(c.Since+".."+c.Until, now)
	}
	if err != nil {
		return usageError("%w", err)
	}
	if info, err := os.Stat(filepath.Dir(c.Out)); err != nil || !info.IsDir() {
		return fmt.Errorf("--out %s cannot be written: its folder must exist", c.Out)
	}
	r, err := store.OpenReader(a.ctx, a.storePath(c.Store))
	if err != nil {
		return err
	}
	defer deferClose(r, &err)
	x := &twin.Exporter{Upstream: c.Upstream, Models: c.Model, MadeBy: "wattline " + version()}
	summary, err := x.WriteFile(a.ctx, r, span.From, span.To, c.Out, c.Format)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Path(), err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s\n", c.Out, summary)
	return err
}
