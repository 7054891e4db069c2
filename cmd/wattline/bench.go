package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"wattline/proxy"
	"wattline/replay/proxies"
)

// benchCmd measures wattline's overhead on this machine.
type benchCmd struct {
	Upstream    string        `help:"Address of your server. Requests go to it directly, and through a wattline that bench starts." default:"${upstream}" placeholder:"URL"`
	Concurrency []int         `help:"Concurrent streams." default:"1,4"`
	Requests    int           `help:"Requests of each client in one round." default:"1"`
	MaxTokens   int           `help:"Tokens of each reply." default:"64"`
	Model       string        `help:"Model to request, if the server has several." placeholder:"NAME"`
	GPU         string        `name:"gpu" help:"Source of power readings: ${enum}." enum:"${gpu_sources}" default:"auto"`
	Rounds      int           `help:"Rounds; each measures every way once, in turns. Default: 5 with --proxies, otherwise as many as --spend allows, at most 400."`
	Spend       time.Duration `help:"Time limit for each concurrency." default:"100s"`
	JSON        bool          `name:"json" help:"Print JSON."`

	Proxies    bool          `help:"Instead, compare wattline with a Go TCP relay, httputil.ReverseProxy, nginx and HAProxy (if installed) at an upstream with known latencies (Linux)." group:"Comparison of proxies"`
	Window     time.Duration `help:"Duration of each measurement." default:"1500ms" group:"Comparison of proxies"`
	Loads      []string      `help:"Run only these loads: one, hundred, thousand, idle, short." placeholder:"LOAD" group:"Comparison of proxies"`
	Only       []string      `help:"Run only these proxies, by their names in the report." placeholder:"NAME" group:"Comparison of proxies"`
	Contender  []string      `help:"Measure also a proxy that you have started before --upstream-at." placeholder:"NAME=URL" group:"Comparison of proxies"`
	UpstreamAt string        `name:"upstream-at" help:"Address of the upstream with known latencies, for --contender. Default: a free port." placeholder:"HOST:PORT" group:"Comparison of proxies"`
	Scale      float64       `help:"Scales the number of clients, for a quick try; 1 is the full load." default:"1" group:"Comparison of proxies"`
	Profiles   string        `help:"Folder for CPU and heap profiles of the proxies written in Go. Profiling costs a little time." placeholder:"DIR" group:"Comparison of proxies"`
	Out        string        `help:"Folder for bench.md and bench.json." placeholder:"DIR" group:"Comparison of proxies"`
}

// Run measures and prints a report.
func (c *benchCmd) Run(a *app) error {
	if c.Rounds == 0 {
		if c.Rounds = 400; c.Proxies {
			c.Rounds = 5
		}
	}
	if c.Rounds < 1 || c.Spend <= 0 {
		return usageError("--rounds is %d and --spend %v: both must be above 0", c.Rounds, c.Spend)
	}
	if c.Proxies {
		if c.Scale <= 0 || c.Scale > 1 || c.Window <= 0 {
			return usageError("--scale must be above 0 and at most 1, and --window above 0")
		}
		return c.proxies(a)
	}
	if len(c.Concurrency) == 0 || slices.Min(c.Concurrency) < 1 || c.Requests < 1 || c.MaxTokens < 1 {
		return usageError("--concurrency, --requests and --max-tokens must be 1 or more")
	}
	if _, err := proxy.ParseUpstream(c.Upstream); err != nil {
		return usageError("--upstream: %w", err)
	}
	return c.compare(a)
}

// compare measures the user's own upstream, directly and through a wattline with all features on.
func (c *benchCmd) compare(a *app) error {
	dir, err := os.MkdirTemp("", "wattline-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	w, err := proxies.StartWattline(a.ctx, exe, "--upstream", c.Upstream, "--store", filepath.Join(dir, "bench.db"), "--gpu", c.GPU, "--config", os.DevNull)
	if err != nil {
		return err
	}
	defer w.Stop()
	out, err := proxies.Compare(a.ctx, proxies.CompareConfig{
		Direct: c.Upstream, Proxied: w.URL, Hold: w.Suspend, CPU: w.CPU, Concurrency: c.Concurrency, Rounds: c.Rounds, Spend: c.Spend, Requests: c.Requests, MaxTokens: c.MaxTokens, Model: c.Model,
		Progress: func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) },
	})
	if a.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	return out.Markdown(a.stdout)
}
