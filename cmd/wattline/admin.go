package main

import (
	"time"

	"wattline/sink/console"
)

// replayAdminFlags say where replay and check ask for rows and energy.
type replayAdminFlags struct {
	Admin             string `help:"Address of wattline's admin API. Default: the one in the endpoint's replies." placeholder:"URL"`
	AdminPasswordFile string `help:"File whose first line is the password of the admin API." placeholder:"FILE"`
}

// url is the admin API's URL, "" for the one in the replies; a configuration file or an environment that serve shares has
// serve's address.
func (c replayAdminFlags) url() string {
	if c.Admin == "" || c.Admin == "off" {
		return ""
	}
	return console.AdminURL(c.Admin, false)
}

// healthCmd is for probes of containers and service managers, where there is no curl.
type healthCmd struct {
	Admin             string        `help:"The --admin of the running serve, or a URL." default:"${admin}" placeholder:"ADDR"`
	Live              bool          `help:"Ask only whether wattline runs (/healthz), not whether its upstream answers too (/readyz)."`
	Timeout           time.Duration `help:"How long to wait for the answer." default:"4s"`
	TLSCert           string        `name:"tls-cert" hidden:"" help:"As for serve."`
	AdminPasswordFile string        `hidden:"" help:"As for serve: with both, the admin API is served over TLS."`
}

// Run prints ok, or fails with the reason.
func (c *healthCmd) Run(a *app) error {
	p := console.Probe{Admin: c.Admin, Path: "/readyz", Timeout: c.Timeout}
	if c.Live {
		p.Path = "/healthz"
	}
	switch {
	case c.Admin == "off":
		return usageError("--admin is off, so nothing can be asked: give serve an --admin, or probe the listener for clients")
	case c.Timeout <= 0:
		return usageError("--timeout is %v, but must be positive", c.Timeout)
	}
	password, err := console.ReadPassword(c.AdminPasswordFile)
	if err != nil {
		return usageError("%w", err)
	}
	p.TLS = c.TLSCert != "" && password != ""
	if err := p.Run(a.ctx); err != nil {
		return err
	}
	_, err = a.stdout.Write([]byte("ok\n"))
	return err
}
