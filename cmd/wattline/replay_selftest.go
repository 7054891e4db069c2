package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"wattline/replay"
	"wattline/replay/selftest"
)

// selftestCmd measures the error of replay's client.
type selftestCmd struct {
	Concurrency []int         `help:"Requests in flight; each number is measured in a closed and in an open loop." default:"1,32,256" placeholder:"N,..."`
	FirstToken  time.Duration `help:"Time from the request to the upstream's first token." default:"300ms"`
	Gap         time.Duration `help:"Time between tokens of the upstream." default:"50ms"`
	Tokens      int           `help:"Tokens of each reply." default:"16"`
	JSON        bool          `help:"Print one JSON object per line."`
}

// Run measures an upstream with known latencies: this program, started as "wattline stub".
func (c *selftestCmd) Run(a *app) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("the path of this program is unknown: %w", err)
	}
	stub := exec.CommandContext(a.ctx, exe, "stub") //nolint:gosec // its own executable
	stub.Args[0], stub.Stderr = os.Args[0], a.stderr
	want := replay.Expected{FirstToken: c.FirstToken, Gap: c.Gap}
	loads, err := selftest.Run(a.ctx, selftest.Config{
		Expected: want, Concurrency: c.Concurrency, Tokens: c.Tokens, Agent: "wattline-selftest/" + version(), Upstream: stub,
	})
	if err != nil {
		return err
	}
	if !c.JSON {
		return selftest.Print(a.stdout, loads, want)
	}
	enc := json.NewEncoder(a.stdout)
	for _, f := range loads {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}
