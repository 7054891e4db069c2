package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"wattline/cmd/wattline/internal/demo"
	"wattline/cmd/wattline/internal/serving"
	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/report"
)

// demoCmd starts a llama-server and wattline on this machine and shows the rows of a few requests. The demo has its own
// store.
type demoCmd struct {
	Model string `help:"GGUF model to serve. Default: a 0.9 MB model with random weights." type:"existingfile" placeholder:"FILE"`
	Exit  bool   `help:"Exit after the report instead of staying up."`
	Store string `help:"SQLite file for the demo's rows. Default: demo.db beside the ordinary store." placeholder:"FILE"`
	GPU   string `name:"gpu" help:"Source of power readings: ${enum}. Where auto finds no energy that can be read, a simulated GPU is used, and each line with joules says so." enum:"${gpu_sources}" default:"auto"`

	// For tests:
	listen, admin string // "": the default addresses if they are free
	rowsOnly      bool   // no benchmark
}

// Run starts a llama-server and wattline in front of it, sends a few requests, prints their rows, and runs the guide's
// quick benchmark.
func (c *demoCmd) Run(a *app) error {
	err := c.run(a)
	if err != nil && a.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

func (c *demoCmd) run(a *app) error {
	srv, err := demo.StartServer(a.ctx, a.stdout, a.stderr, c.Model)
	if err != nil {
		return err
	}
	defer srv.Stop() //nolint:errcheck // it also ends with this process
	if c.Store == "" {
		c.Store = filepath.Join(filepath.Dir(a.storePath("")), "demo.db")
	}
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	s, err := c.serve(ctx, a, srv.URL())
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }() // ends with ctx; awaited below

	err = c.report(a, s)
	if err == nil && !c.rowsOnly {
		err = c.benchmark(a, s)
	}
	if err == nil && !c.Exit {
		c.printHints(a, s, srv.URL())
		go demo.KeepOn(ctx, s.URL(), c.Model != "") // ends with ctx
		select {
		case <-a.ctx.Done():
		case <-srv.Done():
			err = fmt.Errorf("llama-server exited; its last lines:\n%s", srv.Log())
		}
	}
	stop()
	if e := <-ended; err == nil {
		err = e
	}
	return err
}

// serve opens wattline in front of the server, on the default ports if they are free.
func (c *demoCmd) serve(ctx context.Context, a *app, upstream string) (*serving.Service, error) {
	if c.listen == "" {
		c.listen, c.admin = demo.FreeAddress(defaultListen), demo.FreeAddress(defaultAdmin)
	}
	if chosen := c.GPU; chosen != demo.Simulated {
		if c.GPU = demo.PowerSource(chosen); c.GPU == demo.Simulated {
			fmt.Fprintln(a.stdout, "No energy can be read here (wattline gpu says why): the joules are those of a simulated GPU.")
		}
	}
	h := a.host(c.Store)
	h.Ctx, h.Routes = ctx, nil
	s, err := serving.Open(h, &serving.Flags{
		Upstream: upstream, Instance: "demo", Identify: "hash", StopTimeout: 5 * time.Second,
		Listen: c.listen, Admin: c.admin, EnergyFlags: serving.EnergyFlags{GPU: c.GPU},
	})
	if err != nil {
		return nil, err
	}
	s.PrintStartup()
	return s, nil
}

// report sends the requests and prints their rows.
func (c *demoCmd) report(a *app, s *serving.Service) error {
	fmt.Fprintf(a.stdout, "\nSending streamed chat requests through %s ...\n", s.URL())
	all, err := demo.Send(a.ctx, s.URL())
	if err != nil {
		return err
	}
	if err := demo.AwaitRows(a.ctx, s.Rows.Queue, s.Rows.Reader, all); err != nil {
		return err
	}
	total, last := len(all), all[len(all)-1]
	fmt.Fprintf(a.stdout, "\nwattline requests --store %s --limit %d\n\n", c.Store, total)
	if err := (&requestsCmd{Store: c.Store, Limit: total}).Run(a); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nwattline requests --store %s %s\n\n", c.Store, last)
	return (&requestsCmd{Store: c.Store, ID: last, Limit: 1}).Run(a)
}

// demoBudget limits the quick benchmark. Cells beyond it are skipped and reported, except the first.
const demoBudget = 20 * time.Second

// benchmark runs the guide's quick benchmark and prints its report. A run that is INVALID, for example on a busy
// machine, does not fail the demo.
func (c *demoCmd) benchmark(a *app, s *serving.Service) error {
	dir := filepath.Join(filepath.Dir(c.Store), "demo-"+time.Now().UTC().Format("20060102T150405Z"))
	run := &replayRunCmd{
		Endpoint: s.URL(), replayAdminFlags: replayAdminFlags{Admin: s.AdminURL()}, LoadTimeout: time.Minute,
		Requests: demoRequests, Budget: replay.Seconds(demoBudget), Rest: demoBudget, Out: dir,
	}
	fmt.Fprintf(a.stdout, "\nThe benchmarking guide's quick benchmark, measured by the client and by wattline:\n")
	fmt.Fprintf(a.stdout, "\nwattline replay --requests %d --budget %s --out %s\n\n", demoRequests, demoBudget, dir)
	if err := run.Run(a); err != nil {
		if e, ok := errors.AsType[*exitError](err); !ok || e.code != exitInvalid {
			return err
		}
	}
	ar, err := archive.Read(dir)
	if err != nil {
		return err
	}
	page := filepath.Join(dir, "report.html")
	if err := writePage(page, []report.LabelledRun{labelled(ar)}); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nThe same with charts: %s\n", page)
	return nil
}

// demoRequests is the number of requests per cell.
const demoRequests = 2

// printHints prints the addresses and what to try.
func (c *demoCmd) printHints(a *app, s *serving.Service, upstream string) {
	admin := s.AdminURL()
	fmt.Fprintf(a.stdout, `
wattline runs until Ctrl-C. Requests are sent slowly, so that there is something to see. Try in another terminal:
  wattline top --admin %s
  curl %s/v1/chat/completions -d '{"messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":32}'
  curl %s/api/requests?limit=1        the rows as JSON; /api/inflight has the requests in flight
  wattline requests --store %s
  wattline usage --store %s --by agent
  wattline query --store %s "SELECT path, count(*), median(ttft_us) FROM requests GROUP BY path"
llama-server is at %s; point your own client at %s.
The console, in a browser: %s/
`, admin, s.URL(), admin, c.Store, c.Store, c.Store, upstream, s.URL(), admin)
}
