package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"wattline/deploy/llama"
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

	// For tests:
	listen, admin string // "": the default addresses if they are free
	rowsOnly      bool   // no benchmark
}

//nolint:gochecknoglobals // a constant list
var syllables = [...]string{"ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"}

// demoRequest is a request that the demo sends.
type demoRequest struct {
	words       int // of the prompt; each is one token for the small model
	tokens      int // of the reply
	concurrency int // copies sent at the same time
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
	srv, err := c.startServer(a)
	if err != nil {
		return err
	}
	defer srv.Stop() //nolint:errcheck // it also ends with this process
	if c.Store == "" {
		c.Store = filepath.Join(filepath.Dir(a.storePath("")), "demo.db")
	}
	s, err := c.serve(a, srv.URL())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	serving := *a
	serving.ctx = ctx
	ended := make(chan error, 1)
	go func() { ended <- s.run(&serving) }() // ends with ctx; awaited below

	err = c.report(a, s)
	if err == nil && !c.rowsOnly {
		err = c.benchmark(a, s)
	}
	if err == nil && !c.Exit {
		c.printHints(a, s, srv.URL())
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

func (c *demoCmd) startServer(a *app) (*llama.Server, error) {
	bin, err := llama.Find(a.ctx, a.stderr)
	if err != nil {
		return nil, err
	}
	args := []string{"--no-webui", "-np", "4", "-c", "16384"}
	model := c.Model
	if model == "" {
		args = append(args, "--threads", "1") // with so small a model more threads only wait for each other
		if model, err = llama.TinyModel(a.ctx); err != nil {
			return nil, err
		}
		fmt.Fprintln(a.stdout, "The model is tiny and its weights are random, so its text and its speed mean nothing.")
		fmt.Fprintln(a.stdout, "Everything else is real. Use --model FILE for your own model.")
	}
	args = append(args, "-m", model, "--alias", strings.TrimSuffix(filepath.Base(model), ".gguf"))
	srv, err := llama.Start(a.ctx, bin, args...)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(a.stdout, "llama-server %s (%s) serves %s at %s\n", bin.Version, bin.Origin, filepath.Base(model), srv.URL())
	return srv, nil
}

// serve opens wattline in front of the server, on the default ports if they are free.
func (c *demoCmd) serve(a *app, upstream string) (*service, error) {
	if c.listen == "" {
		c.listen, c.admin = addrOrFreePort(defaultListen), addrOrFreePort(defaultAdmin)
	}
	cmd := &serveCmd{
		Upstream: upstream, Store: c.Store, Instance: "demo", Identify: "hash", StopTimeout: 5 * time.Second,
		Listen: c.listen, Admin: c.admin, energyFlags: energyFlags{GPU: "auto"},
	}
	withoutRoutes := *a
	withoutRoutes.routes = nil
	s, err := cmd.open(&withoutRoutes, nil)
	if err != nil {
		return nil, err
	}
	s.printStartup(a)
	return s, nil
}

// addrOrFreePort returns addr if it can be bound, else the same host with port 0.
func addrOrFreePort(addr string) string {
	ln, err := net.Listen("tcp", addr) //nolint:noctx // binding does not wait
	if err != nil {
		host, _, _ := strings.Cut(addr, ":")
		return host + ":0"
	}
	_ = ln.Close()
	return addr
}

// report sends the requests and prints their rows.
func (c *demoCmd) report(a *app, s *service) error {
	plan := []demoRequest{{20, 16, 1}, {20, 128, 1}, {300, 64, 1}, {1000, 64, 1}, {300, 128, 4}}
	var all []string
	fmt.Fprintf(a.stdout, "\nSending streamed chat requests through %s ...\n", s.routes[0].url())
	for _, r := range plan {
		ids, err := r.send(a.ctx, s.routes[0].url())
		if err != nil {
			return err
		}
		all = append(all, ids...)
	}
	if err := s.awaitRows(a.ctx, all); err != nil {
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

// awaitRows waits until the rows of these requests can be read. A row is stored a moment after the client has its reply.
func (s *service) awaitRows(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the rows of the requests did not reach the store in time"))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(ids) > 0 {
		if err := s.rows.queue.Flush(ctx); err != nil {
			return err
		}
		rec, err := s.rows.reader.Find(ctx, ids[0])
		if err != nil {
			return err
		}
		if rec != nil {
			ids = ids[1:]
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// demoBudget limits the quick benchmark. Cells beyond it are skipped and reported, except the first.
const demoBudget = 20 * time.Second

// benchmark runs the guide's quick benchmark and prints its report. A run that is INVALID, for example on a busy
// machine, does not fail the demo.
func (c *demoCmd) benchmark(a *app, s *service) error {
	dir := filepath.Join(filepath.Dir(c.Store), "demo-"+time.Now().UTC().Format("20060102T150405Z"))
	run := &replayRunCmd{
		Endpoint: s.routes[0].url(), replayAdminFlags: replayAdminFlags{Admin: s.adminURL()}, LoadTimeout: time.Minute,
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

// send sends the copies of the request and returns the ids of their rows.
func (r demoRequest) send(ctx context.Context, base string) ([]string, error) {
	ids, errs := make([]string, r.concurrency), make([]error, r.concurrency)
	var wg sync.WaitGroup
	for i := range r.concurrency {
		wg.Go(func() { ids[i], errs[i] = r.one(ctx, base, i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("a demo request failed: %w", err)
		}
	}
	return ids, nil
}

func (r demoRequest) one(ctx context.Context, base string, nth int) (id string, err error) {
	var words strings.Builder
	for i := range r.words { // one token each for the small model, about three for others
		k := i*7 + nth*13
		words.WriteString(" " + syllables[k%len(syllables)] + syllables[(k/3)%len(syllables)])
	}
	body, err := json.Marshal(map[string]any{
		"messages": []map[string]string{{"role": "user", "content": fmt.Sprintf("Request %d.%s", nth, words.String())}},
		"stream":   true, "max_tokens": r.tokens, "ignore_eos": true,
	})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "wattline-demo")
	req.Header.Set("X-Wattline-Echo", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, text)
	}
	return resp.Header.Get("X-Wattline-Id"), nil
}

// printHints prints the addresses and what to try.
func (c *demoCmd) printHints(a *app, s *service, upstream string) {
	admin := s.adminURL()
	fmt.Fprintf(a.stdout, `
wattline runs until Ctrl-C. Try in another terminal:
  curl %s/v1/chat/completions -d '{"messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":32}'
  curl %s/api/requests?limit=1        the rows as JSON; /api/inflight has the requests in flight
  wattline requests --store %s
  wattline usage --store %s --by agent
  wattline query --store %s "SELECT path, count(*), median(ttft_us) FROM requests GROUP BY path"
llama-server is at %s; point your own client at %s.
`, s.routes[0].url(), admin, c.Store, c.Store, c.Store, upstream, s.routes[0].url())
}
