package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/selftest"
)

// selftestCmd measures the instrument.
type selftestCmd struct {
	Concurrency []int         `help:"Requests in flight; one line each." default:"1,32,256" placeholder:"N,..."`
	FirstToken  time.Duration `help:"What the upstream is told." default:"300ms"`
	Gap         time.Duration `help:"What the upstream is told." default:"50ms"`
	Tokens      int           `help:"Per reply." default:"16"`
	JSON        bool          `help:"One object a line."`
}

// Run starts an upstream with known latencies as a process of its own and measures it.
func (c *selftestCmd) Run(a *app) error {
	url, stop, err := c.upstream(a)
	if err != nil {
		return err
	}
	defer stop()
	var floors []selftest.Floor
	for _, n := range c.Concurrency {
		for _, open := range []bool{false, true} {
			f, err := c.measure(a, url, n, open)
			if err != nil {
				return err
			}
			floors = append(floors, f)
		}
	}
	if !c.JSON {
		return selftest.Print(a.stdout, floors, selftest.Told{FirstToken: c.FirstToken, Gap: c.Gap})
	}
	enc := json.NewEncoder(a.stdout)
	for _, f := range floors {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// upstream is this program as a stub: a process of its own, so that its CPU time is not the client's.
func (c *selftestCmd) upstream(a *app) (url string, stop func(), err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("this program does not know where it is: %w", err)
	}
	most := 1
	for _, n := range c.Concurrency {
		most = max(most, n)
	}
	cmd := exec.CommandContext(a.ctx, exe, "stub", "--header-delay=1ms", "--first-token="+c.FirstToken.String(), //nolint:gosec // itself
		"--token-gap="+c.Gap.String(), "--ping-interval=-1s", fmt.Sprint("--slots=", 2*most))
	cmd.Args[0] = os.Args[0]
	cmd.Stderr = a.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("the upstream: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("the upstream: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("the upstream did not say where it listens: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// measure runs one load: rounds times as many requests as are in flight, or, in an open loop, at the
// rate that keeps as many in flight on average.
func (c *selftestCmd) measure(a *app, url string, n int, open bool) (selftest.Floor, error) {
	cl, err := client.New(client.Config{Endpoint: url, Agent: "wattline-selftest/" + version()})
	if err != nil {
		return selftest.Floor{}, err
	}
	defer cl.Close()
	server, err := cl.Server(a.ctx, nil)
	if err != nil {
		return selftest.Floor{}, err
	}
	spec := replay.Spec{
		Name: "selftest", Cells: []replay.Cell{{Task: "coding", PromptTokens: 200, OutputTokens: c.Tokens}}, Requests: max(6, 2*n),
	}
	name := fmt.Sprintf("closed, %d in flight", n)
	if open {
		takes := c.FirstToken + time.Duration(c.Tokens-1)*c.Gap
		spec.Rate, spec.Arrival = float64(n)/takes.Seconds(), replay.Constant
		name = fmt.Sprintf("open, %.3g/s", spec.Rate)
	} else {
		spec.Concurrency = n
	}
	if spec, err = spec.Complete(prompt.Tasks()); err != nil {
		return selftest.Floor{}, err
	}
	plan, err := replay.Compile(spec, prompt.Corpus(), server.ContextTokens)
	if err != nil {
		return selftest.Floor{}, err
	}
	run, err := load.Run(a.ctx, load.Config{Plan: plan, Sender: cl, Prompts: &prompt.Maker{Counter: cl}, Slots: n, CPU: processCPU, NoWarmup: true})
	if err != nil {
		return selftest.Floor{}, err
	}
	if run.Interrupted {
		return selftest.Floor{}, context.Canceled
	}
	return selftest.FloorOf(name, run, selftest.Told{FirstToken: c.FirstToken, Gap: c.Gap}), nil
}
