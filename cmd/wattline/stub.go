package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"wattline/proxy/stub"
)

// stubCmd is a hidden command: an upstream whose latencies are known, for tests and benchmarks. It
// measures nothing and is never a substitute for a real server in a published number.
type stubCmd struct {
	Listen       string        `help:"Address." default:"127.0.0.1:0" placeholder:"ADDR"`
	HeaderDelay  time.Duration `help:"Request to reply head." default:"5ms"`
	FirstToken   time.Duration `help:"Request to first token." default:"700ms"`
	PingInterval time.Duration `help:"Between comment pings before the first token; negative: none." default:"100ms"`
	TokenGap     time.Duration `help:"Between tokens." default:"20ms"`
	TokenJitter  time.Duration `help:"Evenly around the gap." default:"0s"`
	Slots        int           `help:"Requests answered at once." default:"4"`
	Tokens       int           `help:"Tokens where a request does not say." default:"16"`
	Context      int           `help:"Tokens a slot can hold." default:"131072"`
	Seed         uint64        `help:"Of words and jitter." default:"1"`
	Fault        string        `help:"Befalls every request." placeholder:"FAULT"`
}

// Run serves until the context ends. stdout's one line is the URL.
func (c *stubCmd) Run(a *app) error {
	fault, err := stub.ParseFault(c.Fault)
	if err != nil {
		return usageError("--fault: %w", err)
	}
	srv := stub.New(stub.Config{
		HeaderDelay: known(c.HeaderDelay), FirstToken: known(c.FirstToken), PingInterval: known(c.PingInterval),
		TokenGap: known(c.TokenGap), TokenJitter: c.TokenJitter, Slots: c.Slots, Tokens: c.Tokens, Context: c.Context,
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

// known makes an explicit zero one for the stub, whose own zero means its default.
func known(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
