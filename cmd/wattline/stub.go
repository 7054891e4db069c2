package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"wattline/proxy/stub"
)

// stubCmd is a hidden command: an upstream with known latencies, for tests and benchmarks. Published figures come from
// real servers, never from it.
type stubCmd struct {
	Listen       string        `help:"Address to listen on." default:"127.0.0.1:0" placeholder:"ADDR"`
	HeaderDelay  time.Duration `help:"Time from the request to the reply head." default:"5ms"`
	FirstToken   time.Duration `help:"Time from the request to the first token." default:"700ms"`
	PingInterval time.Duration `help:"Time between comment pings before the first token; negative: none." default:"100ms"`
	TokenGap     time.Duration `help:"Time between tokens." default:"20ms"`
	TokenJitter  time.Duration `help:"Jitter of the gap, uniform." default:"0s"`
	Slots        int           `help:"Requests processed at the same time." default:"4"`
	Tokens       int           `help:"Tokens of a reply if the request sets no limit." default:"16"`
	Context      int           `help:"Context size of a slot in tokens." default:"131072"`
	Seed         uint64        `help:"Seed for words and jitter." default:"1"`
	Fault        string        `help:"Fault to apply to every request." placeholder:"FAULT"`
}

// Run prints its URL to stdout and serves until the context ends.
func (c *stubCmd) Run(a *app) error {
	fault, err := stub.ParseFault(c.Fault)
	if err != nil {
		return usageError("--fault: %w", err)
	}
	srv := stub.New(stub.Config{
		HeaderDelay: explicitZero(c.HeaderDelay), FirstToken: explicitZero(c.FirstToken), PingInterval: explicitZero(c.PingInterval),
		TokenGap: explicitZero(c.TokenGap), TokenJitter: c.TokenJitter, Slots: c.Slots, Tokens: c.Tokens, Context: c.Context,
		Seed: c.Seed, Fault: fault,
	})
	ln, err := net.Listen("tcp", c.Listen) //nolint:noctx // binding does not wait
	if err != nil {
		return err
	}
	stop := context.AfterFunc(a.ctx, func() { _ = srv.Close() })
	defer stop()
	if _, err := fmt.Fprintf(a.stdout, "http://%s\n", ln.Addr()); err != nil {
		return err
	}
	return srv.Serve(ln)
}

// explicitZero maps 0 to a negative duration, because the stub takes 0 for its default.
func explicitZero(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
