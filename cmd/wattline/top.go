package main

import (
	"os"
	"time"

	"golang.org/x/term"

	"wattline/cmd/wattline/internal/top"
	"wattline/sink/console"
)

// topCmd shows what a running serve does.
type topCmd struct {
	Admin             string `help:"The --admin of the running serve, or a URL." default:"${admin}" placeholder:"ADDR"`
	AdminPasswordFile string `help:"File whose first line is the password of the admin API." placeholder:"FILE"`
	TLSCert           string `name:"tls-cert" hidden:"" help:"As for serve: with a password, the admin API is then served over TLS."`
	JSON              bool   `help:"Print one JSON object a second instead of a screen." name:"json"`
	Count             int    `help:"End after so many seconds. 0: go on until q or Ctrl-C." default:"0" placeholder:"N"`
}

// Run follows the admin listener. On a terminal it draws the screen each second, elsewhere it prints a line.
func (c *topCmd) Run(a *app) error {
	switch {
	case c.Admin == "off":
		return usageError("--admin is off, so nothing can be followed: give serve an --admin")
	case c.Count < 0:
		return usageError("--count must be 0 or more, not %d", c.Count)
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return usageError("%w", err)
	}
	cfg := top.Config{Out: a.stdout, JSON: c.JSON, Count: c.Count, Source: console.Probe{
		Admin: c.Admin, TLS: c.TLSCert != "" && password != "", Password: password, CertFile: c.TLSCert, Timeout: 10 * time.Second,
	}}
	if out, ok := a.stdout.(*checkedWriter); ok && !c.JSON {
		if f, ok := out.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			cfg.Screen = f
		}
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		cfg.Keys = os.Stdin
	}
	return top.Run(a.ctx, cfg)
}
