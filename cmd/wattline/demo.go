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

// demoCmd shows wattline's whole way on this machine. Its rows go to a store of their own.
type demoCmd struct {
	Model string `help:"A GGUF model of yours. Default: a 0.9 MB model with random weights." type:"existingfile" placeholder:"FILE"`
	Exit  bool   `help:"End after the report instead of staying up."`
	Store string `help:"SQLite file for the demo's rows. Default: demo.db beside the ordinary store." placeholder:"FILE"`

	// For tests:
	listen, admin string // "": the ordinary ones where they are free
	rowsOnly      bool   // without the benchmark
}

//nolint:gochecknoglobals // a constant list
var syllables = [...]string{"ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"}

// demoRequest is one of the demo's requests: about words tokens of prompt for the small model, and how
// many tokens are asked for.
type demoRequest struct {
	words, tokens int
	together      int // how many of it run at once
}

// Run starts a llama-server and wattline in front of it, sends a few requests and prints their rows, and
// drives the guide's quick benchmark through it.
func (c *demoCmd) Run(a *app) error {
	err := c.run(a)
	if err != nil && a.ctx.Err() != nil { // whatever that made fail
		return errors.New("interrupted")
	}
	return err
}

func (c *demoCmd) run(a *app) error {
	srv, err := c.startServer(a)
	if err != nil {
		return err
	}
	defer srv.Stop() //nolint:errcheck // it dies with this process in any case
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
		c.stay(a, s, srv.URL())
		select {
		case <-a.ctx.Done():
		case <-srv.Done():
			err = fmt.Errorf("the llama-server ended by itself; its last lines:\n%s", srv.Log())
		}
	}
	stop()
	if e := <-ended; err == nil {
		err = e
	}
	return err
}

func (c *demoCmd) startServer(a *app) (*llama.Server, error) {
	bin, err := llama.Find(a.ctx, llama.Options{Progress: a.stderr})
	if err != nil {
		return nil, err
	}
	args := []string{"--no-webui", "-np", "4", "-c", "16384"}
	model := c.Model
	if model == "" {
		args = append(args, "--threads", "1") // all that so small a model is good for, however busy the machine is
		if model, err = llama.TinyModel(a.ctx); err != nil {
			return nil, err
		}
		fmt.Fprintln(a.stdout, "The model is tiny and its weights are random: its text is gibberish and its speed means nothing.")
		fmt.Fprintln(a.stdout, "Everything around it is real. With --model FILE it is your own model.")
	}
	args = append(args, "--alias", strings.TrimSuffix(filepath.Base(model), ".gguf"))
	srv, err := llama.Start(a.ctx, bin, llama.Config{Model: model, Args: args})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(a.stdout, "llama-server %s (%s) serves %s at %s\n", bin.Version, bin.Origin, filepath.Base(model), srv.URL())
	return srv, nil
}

// serve opens wattline in front of the server, on its ordinary ports where they are free.
func (c *demoCmd) serve(a *app, upstream string) (*service, error) {
	if c.listen == "" {
		c.listen, c.admin = freeOr(defaultListen), freeOr(defaultAdmin)
	}
	cmd := &serveCmd{
		Upstream: upstream, Store: c.Store, Instance: "demo", Identify: "hash", StopTimeout: 5 * time.Second,
		Listen: c.listen, Admin: c.admin, energyFlags: energyFlags{GPU: "auto"},
	}
	plain := *a
	plain.routes = nil
	s, err := cmd.open(&plain, nil)
	if err != nil {
		return nil, err
	}
	s.announce(a)
	return s, nil
}

// freeOr is addr if it can be bound, else the same host with a port that the system chooses.
func freeOr(addr string) string {
	ln, err := net.Listen("tcp", addr) //nolint:noctx // binding does not wait
	if err != nil {
		host, _, _ := strings.Cut(addr, ":")
		return host + ":0"
	}
	_ = ln.Close()
	return addr
}

// report sends the requests and prints what wattline says of them.
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

// awaitRows waits until the rows of these requests can be read: a client has its last byte a moment before
// the row is handed over.
func (s *service) awaitRows(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the requests' rows did not reach the store"))
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

// demoBudget is what the quick benchmark may take; cells beyond it are skipped aloud, and the first never.
const demoBudget = 20 * time.Second

// benchmark is the guide's quick benchmark with its report. That a run on a busy machine is INVALID is
// said in the report and is no failure of the demo.
func (c *demoCmd) benchmark(a *app, s *service) error {
	dir := filepath.Join(filepath.Dir(c.Store), "demo-"+time.Now().UTC().Format("20060102T150405Z"))
	run := &replayRunCmd{
		Endpoint: s.routes[0].url(), Admin: "http://" + s.adminLn.Addr().String(), LoadTimeout: time.Minute,
		Requests: demoRequests, Budget: replay.Seconds(demoBudget), Rest: demoBudget, Out: dir,
	}
	fmt.Fprintf(a.stdout, "\nThe benchmarking guide's quick benchmark, measured by its own client and in line:\n")
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

// demoRequests are sent a cell.
const demoRequests = 2

// send runs the request, together times at once, and returns the ids of the rows.
func (r demoRequest) send(ctx context.Context, base string) ([]string, error) {
	ids, errs := make([]string, r.together), make([]error, r.together)
	var wg sync.WaitGroup
	for i := range r.together {
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

// stay says where everything is.
func (c *demoCmd) stay(a *app, s *service, upstream string) {
	admin := "http://" + s.adminLn.Addr().String()
	fmt.Fprintf(a.stdout, `
It stays up until Ctrl-C. Try, in another terminal:
  curl %s/v1/chat/completions -d '{"messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":32}'
  curl %s/api/requests?limit=1        the rows as JSON; /api/inflight shows what runs now
  wattline requests --store %s
  wattline usage --store %s --by agent
  wattline query --store %s "SELECT path, count(*), median(ttft_us) FROM requests GROUP BY path"
The llama-server behind it is %s; point your own client at %s.
`, s.routes[0].url(), admin, c.Store, c.Store, c.Store, upstream, s.routes[0].url())
}
