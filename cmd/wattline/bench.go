package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"wattline/proxy"
	"wattline/replay/proxies"
)

// benchCmd says what wattline costs on this machine.
type benchCmd struct {
	Upstream    string        `help:"Address of your server. It is asked directly, and through a wattline that is started for it." default:"${upstream}" placeholder:"URL"`
	Concurrency []int         `help:"Streams at the same time." default:"1,4"`
	Requests    int           `help:"Requests of each client in one run." default:"1"`
	MaxTokens   int           `help:"Length of each reply." default:"64"`
	Model       string        `help:"Model to ask for, if the server has several." placeholder:"NAME"`
	GPU         string        `name:"gpu" help:"Whose power is read: ${enum}." enum:"${gpu_sources}" default:"auto"`
	Rounds      int           `help:"How often each way is measured, in turns. Default: 5 with --proxies, otherwise as often as --spend allows, at most 400."`
	Spend       time.Duration `help:"Longest time at each concurrency." default:"100s"`
	JSON        bool          `name:"json" help:"Print JSON."`

	Proxies  bool          `help:"Instead, compare wattline with a Go TCP relay, httputil.ReverseProxy, nginx and HAProxy (if installed) at an upstream with known latencies (Linux)." group:"Comparison of proxies"`
	Window   time.Duration `help:"How long each measurement lasts." default:"1500ms" group:"Comparison of proxies"`
	Loads    []string      `help:"Run only these loads: one, hundred, thousand, idle, short." placeholder:"LOAD" group:"Comparison of proxies"`
	Only     []string      `help:"Run only these proxies, by their names in the report." placeholder:"NAME" group:"Comparison of proxies"`
	Scale    float64       `help:"Scales the number of clients, for a quick try; 1 is the full load." default:"1" group:"Comparison of proxies"`
	Profiles string        `help:"Folder for CPU and heap profiles of the proxies written in Go. Profiling costs a little time." placeholder:"DIR" group:"Comparison of proxies"`
	Out      string        `help:"Folder for bench.md and bench.json." placeholder:"DIR" group:"Comparison of proxies"`
}

// Run measures.
func (c *benchCmd) Run(a *app) error {
	if c.Rounds == 0 {
		if c.Rounds = 400; c.Proxies {
			c.Rounds = 5
		}
	}
	if c.Rounds < 1 || c.Spend <= 0 {
		return usageError("--rounds %d, --spend %v: at least one round and some time are needed", c.Rounds, c.Spend)
	}
	if c.Proxies {
		if c.Scale <= 0 || c.Scale > 1 || c.Window <= 0 {
			return usageError("--scale must be above 0 and at most 1, --window above 0")
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

// compare measures the user's own upstream, directly and through a wattline with everything on.
func (c *benchCmd) compare(a *app) error {
	dir, err := os.MkdirTemp("", "wattline-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of the system's temporary folder
	f, err := c.front(a, dir)
	if err != nil {
		return err
	}
	defer f.stop()
	out, err := proxies.Compare(a.ctx, proxies.CompareConfig{
		Direct: c.Upstream, Proxied: f.url, Hold: holder(f.process), Concurrency: c.Concurrency, Rounds: c.Rounds, Spend: c.Spend, Requests: c.Requests, MaxTokens: c.MaxTokens, Model: c.Model,
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

var benchFront = regexp.MustCompile(`^wattline \S+: (http://\S+) -> `)

// front is a wattline of bench's own.
type front struct {
	url     string
	process *os.Process
	stop    func() // lets it go on, ends it and waits for it
}

// front starts a wattline whose store goes with dir.
func (c *benchCmd) front(a *app, dir string) (*front, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(a.ctx)
	cmd := exec.CommandContext(ctx, exe, "serve", "--upstream", c.Upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", //nolint:gosec // ourselves
		"--store", filepath.Join(dir, "bench.db"), "--gpu", c.GPU, "--config", os.DevNull)
	cmd.Args[0] = "wattline"
	cmd.Cancel = func() error {
		goOn(cmd.Process)
		return cmd.Process.Signal(os.Interrupt)
	}
	cmd.WaitDelay = 15 * time.Second
	said, ended, err := startTied(cmd)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("a wattline cannot be started: %w", err)
	}
	f := &front{process: cmd.Process}
	f.stop = func() {
		cancel()
		goOn(cmd.Process) // it may have been held again after cmd.Cancel
		<-ended
	}
	found, last := make(chan string, 1), ""
	go func() { // ends with the process
		defer close(found)
		defer said.Close() //nolint:errcheck // read from only
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			last = lines.Text()
			if m := benchFront.FindStringSubmatch(last); m != nil {
				found <- m[1]
			}
		}
	}()
	select {
	case url, ok := <-found:
		if ok {
			f.url = url
			return f, nil
		}
		f.stop()
		return nil, errors.New(last)
	case <-time.After(30 * time.Second):
		f.stop()
		return nil, errors.New("the wattline that was started does not say where it listens")
	}
}

// goOn lets a process that may be held go on.
func goOn(p *os.Process) {
	if hold := holder(p); hold != nil {
		_ = hold(false) // gone is as good
	}
}

// startTied starts a command that ends with this process, however this one ends (on Linux): a wattline that is held
// would stand there for ever. What it says on stderr can be read from said; ended is closed when it is gone.
func startTied(cmd *exec.Cmd) (said *os.File, ended <-chan struct{}, err error) {
	said, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = w
	dieWithParent(cmd)
	started, done := make(chan error, 1), make(chan struct{})
	go func() { // ends with the process
		defer close(done)
		runtime.LockOSThread() // the kernel takes the thread that forks for the parent
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = w.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is interrupted
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, errors.Join(err, said.Close())
	}
	return said, done, nil
}
