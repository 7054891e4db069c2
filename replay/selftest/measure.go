// Package selftest measures the client's own error, on an upstream with configured latencies.
package selftest

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"wattline/replay"
	"wattline/replay/client"
	"wattline/replay/load"
	"wattline/replay/prompt"
)

// Config of a self-test. All fields are required.
type Config struct {
	Expected    replay.Expected // configured latencies of the upstream
	Concurrency []int           // each is measured in a closed and in an open loop
	Tokens      int             // of each reply
	Agent       string

	// Upstream is the command of the stub without its flags for latencies. It is a process of its own, so that
	// its CPU time is not the client's.
	Upstream *exec.Cmd
}

// Run starts the upstream, measures it at each concurrency, and stops it.
func Run(ctx context.Context, cfg Config) ([]replay.Accuracy, error) {
	url, stop, err := cfg.start()
	if err != nil {
		return nil, fmt.Errorf("the upstream of the self-test: %w", err)
	}
	defer stop()
	var loads []replay.Accuracy
	for _, n := range cfg.Concurrency {
		for _, open := range []bool{false, true} {
			f, err := cfg.measure(ctx, url, n, open)
			if err != nil {
				return nil, err
			}
			loads = append(loads, f)
		}
	}
	return loads, nil
}

// start starts the upstream and reads its address, which is the first line of its output.
func (cfg *Config) start() (url string, stop func(), err error) {
	most := 1
	for _, n := range cfg.Concurrency {
		most = max(most, n)
	}
	cmd := cfg.Upstream
	cmd.Args = append(cmd.Args, "--header-delay=1ms", "--first-token="+cfg.Expected.FirstToken.String(),
		"--token-gap="+cfg.Expected.Gap.String(), "--ping-interval=-1s", fmt.Sprint("--slots=", 2*most))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("it did not print where it listens: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// measure runs one load: n requests in flight, or, in an open loop, the rate that keeps n in flight on average.
func (cfg *Config) measure(ctx context.Context, url string, n int, open bool) (replay.Accuracy, error) {
	cl, err := client.New(client.Config{Endpoint: url, Agent: cfg.Agent})
	if err != nil {
		return replay.Accuracy{}, err
	}
	defer cl.Close()
	server, err := cl.Server(ctx, nil)
	if err != nil {
		return replay.Accuracy{}, err
	}
	spec := replay.Spec{
		Name: "selftest", Cells: []replay.Cell{{Task: "coding", PromptTokens: 200, OutputTokens: cfg.Tokens}}, Requests: max(6, 2*n),
	}
	name := fmt.Sprintf("closed, %d in flight", n)
	if open {
		takes := cfg.Expected.FirstToken + time.Duration(cfg.Tokens-1)*cfg.Expected.Gap
		spec.Rate, spec.Arrival = float64(n)/takes.Seconds(), replay.Constant
		name = fmt.Sprintf("open, %.3g/s", spec.Rate)
	} else {
		spec.Concurrency = n
	}
	if spec, err = spec.Complete(prompt.Tasks()); err != nil {
		return replay.Accuracy{}, err
	}
	plan, err := replay.Compile(spec, prompt.Corpus(), server.ContextTokens)
	if err != nil {
		return replay.Accuracy{}, err
	}
	run, err := load.Run(ctx, load.Config{Plan: plan, Sender: cl, Prompts: &prompt.Maker{Counter: cl}, Slots: n, CPU: load.ProcessCPU, NoWarmup: true})
	if err != nil {
		return replay.Accuracy{}, err
	}
	if run.Interrupted {
		return replay.Accuracy{}, context.Canceled
	}
	return replay.AccuracyOf(name, run, cfg.Expected), nil
}
