package main

import "time"

// benchCmd says what wattline costs on this machine.
type benchCmd struct {
	Upstream string `help:"Server to measure on, directly and through a wattline that is started for it." default:"http://127.0.0.1:8080" placeholder:"URL"`
	JSON     bool   `name:"json" help:"Print JSON."`

	Proxies  bool          `help:"Instead: compare with a Go TCP relay, httputil.ReverseProxy, nginx and HAProxy, where installed, in front of a timed upstream (Linux)." group:"Comparison of proxies"`
	Rounds   int           `help:"How often everything is measured, alternating." default:"5" group:"Comparison of proxies"`
	Window   time.Duration `help:"How long each measurement lasts." default:"1500ms" group:"Comparison of proxies"`
	Loads    []string      `help:"Only these: one, hundred, thousand, idle, short." placeholder:"LOAD" group:"Comparison of proxies"`
	Only     []string      `help:"Only these contenders, by the names of the report." placeholder:"NAME" group:"Comparison of proxies"`
	Scale    float64       `help:"Shrinks the crowds, for a try; 1 is the real thing." default:"1" group:"Comparison of proxies"`
	Profiles string        `help:"Keep CPU and heap profiles of the Go contenders in this folder; they cost a little." placeholder:"DIR" group:"Comparison of proxies"`
	Out      string        `help:"Keep bench.md and bench.json in this folder." placeholder:"DIR" group:"Comparison of proxies"`
}

// Run measures.
func (c *benchCmd) Run(a *app) error {
	if c.Proxies {
		return c.proxies(a)
	}
	return usageError("not yet")
}
