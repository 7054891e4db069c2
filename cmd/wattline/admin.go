package main

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/pprofhandler"

	"wattline/meter"
	"wattline/proxy"
	"wattline/sink/console"
)

// adminFlags say who may ask the admin listener.
type adminFlags struct {
	AdminHosts        []string `help:"Host names by which the admin API may be addressed, besides addresses and names without a dot: gpu1.example.com, or *.example.com for all below it." placeholder:"NAME,..."`
	AdminPasswordFile string   `help:"File whose first line is the password of the admin API (HTTP basic, any user name); /healthz, /readyz and /metrics need none. With --tls-cert the admin API is then served over TLS. Default: the systemd credential admin-password." placeholder:"FILE"`
	Runs              string   `help:"Folder below which replay --out wrote runs, for the page Runs of the console." type:"existingdir" placeholder:"DIR"`
	AdminOpen         bool     `help:"Allow an --admin that other machines can reach without a password: who reaches it reads all rows."`
}

// guard reads who may ask.
func (f *adminFlags) guard() (g console.Guard, err error) {
	g.Hosts = f.AdminHosts
	if err := g.Check(); err != nil {
		return g, usageError("%w", err)
	}
	if g.Password, err = console.ReadPassword(f.AdminPasswordFile); err != nil {
		return g, usageError("%w", err)
	}
	return g, nil
}

// listenAdmin opens the admin listener, which must be the loopback's, a unix socket, have a password, or be said to be open.
func (s *service) listenAdmin(a *app) (err error) {
	c := s.cmd
	if c.Admin == "off" {
		return nil
	}
	guard, err := c.guard()
	if err != nil {
		return err
	}
	s.guarded = guard.Password != ""
	if s.adminLn, err = listen(s.listeners, "admin", c.Admin, "--admin"); err != nil {
		return err
	}
	reachable := console.Reachable(s.adminLn.Addr())
	if reachable && guard.Password == "" && !c.AdminOpen {
		return usageError("--admin %s can be reached from other machines, where anybody could read who asked what and when: "+
			"give --admin-password-file FILE, or --admin-open if only those can reach it who may", s.adminLn.Addr())
	}
	s.scheme = "http"
	if guard.Password != "" && c.TLSCert != "" {
		s.scheme = "https"
	} else if guard.Password != "" && reachable {
		a.log.Warn("the admin password travels unencrypted: give --tls-cert and --tls-key, or let a proxy that speaks TLS ask for it", "admin", s.adminLn.Addr().String())
	}
	var profiles fasthttp.RequestHandler
	if c.Pprof {
		profiles = pprofhandler.PprofHandler
	}
	s.followLive(a)
	s.admin = console.New(console.Config{
		Rows: s.rows.reader, Engine: storeEngine(s.rows.reader), Flush: s.rows.queue.Flush, Inflight: s.inflight, Ready: s.ready, Guard: guard,
		Status: s.status, Energy: s.energyAnswer, Hello: s.hello(), Live: s.rows.live, Runs: runsIn(c.Runs), Metrics: s.rows.telemetry.Page(), Pprof: profiles, Log: a.log,
	})
	return nil
}

// hello says to the console who we are.
func (s *service) hello() console.Hello {
	h := console.Hello{
		Version: version(), Instance: s.rows.instance, Rows: s.rows.reader.Path(), Currency: s.cmd.Currency,
		PricePerKWhMicro: func() meter.Int { return s.rows.prices.Load().perKWh }, GCO2PerKWhMilli: func() meter.Int { return s.rows.prices.Load().gco2PerKWh },
	}
	for _, r := range s.routes {
		h.Routes = append(h.Routes, console.HelloRoute{Route: r.Name, URL: r.url(), Upstream: r.Upstream})
	}
	return h
}

func (s *service) adminURL() string {
	if s.adminLn.Addr().Network() == "unix" {
		return "unix://" + s.adminLn.Addr().String()
	}
	return s.scheme + "://" + s.adminLn.Addr().String()
}

// adminListener is what the admin server accepts from.
func (s *service) adminListener(a *app) net.Listener {
	ln := proxy.RetryListener(s.adminLn, a.log)
	if s.scheme == "https" {
		ln = s.overTLS(ln)
	}
	return ln
}

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
