package serving

import (
	"net"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/pprofhandler"

	"wattline/meter"
	"wattline/proxy"
	"wattline/sink/console"
)

// AdminFlags say who may ask the admin listener.
type AdminFlags struct {
	AdminHosts        []string `help:"Host names by which the admin API may be addressed, besides addresses and names without a dot: gpu1.example.com, or *.example.com for all below it." placeholder:"NAME,..."`
	AdminPasswordFile string   `help:"File whose first line is the password of the admin API (HTTP basic, any user name); /healthz, /readyz and /metrics need none. With --tls-cert the admin API is then served over TLS. Default: the systemd credential admin-password." placeholder:"FILE"`
	Runs              string   `help:"Folder below which replay --out wrote runs, for the page Runs of the console." type:"existingdir" placeholder:"DIR"`
	AdminOpen         bool     `help:"Allow an --admin that other machines can reach without a password: who reaches it reads all rows."`
}

// guard reads who may ask.
func (f *AdminFlags) guard() (g console.Guard, err error) {
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
func (s *Service) listenAdmin() (err error) {
	c := s.cmd
	if c.Admin == "off" {
		return nil
	}
	guard, err := c.guard()
	if err != nil {
		return err
	}
	s.guarded = guard.Password != ""
	if s.adminLn, err = Listen(s.listeners, "admin", c.Admin, "--admin"); err != nil {
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
		s.host.Log.Warn("the admin password travels unencrypted: give --tls-cert and --tls-key, or let a proxy that speaks TLS ask for it", "admin", s.adminLn.Addr().String())
	}
	var profiles fasthttp.RequestHandler
	if c.Pprof {
		profiles = pprofhandler.PprofHandler
	}
	s.followLive()
	s.admin = console.New(console.Config{
		Rows: s.Rows.Reader, Engine: StoreEngine(s.Rows.Reader), Flush: s.Rows.Queue.Flush, Inflight: s.inflight, Ready: s.ready, Guard: guard,
		Status: s.status, Energy: s.energyAnswer, Hello: s.hello(), Live: s.Rows.live, Runs: s.host.Runs, Metrics: s.Rows.Telemetry.Page(), Pprof: profiles, Log: s.host.Log,
	})
	return nil
}

// hello says to the console who we are.
func (s *Service) hello() console.Hello {
	out := console.Hello{
		Version: s.host.Version, Instance: s.Rows.instance, Rows: s.Rows.Reader.Path(), DefaultRows: s.host.Usual, Currency: s.cmd.Currency,
		PricePerKWhMicro: func() meter.Int { return s.Rows.prices.Load().perKWh }, GCO2PerKWhMilli: func() meter.Int { return s.Rows.prices.Load().gco2PerKWh },
	}
	for _, r := range s.routes {
		out.Routes = append(out.Routes, console.HelloRoute{Route: r.Name, URL: r.url(), Upstream: r.Upstream})
	}
	return out
}

// AdminURL returns the address of the admin listener, which must not be off.
func (s *Service) AdminURL() string {
	if s.adminLn.Addr().Network() == "unix" {
		return "unix://" + s.adminLn.Addr().String()
	}
	return s.scheme + "://" + s.adminLn.Addr().String()
}

// adminListener is what the admin server accepts from.
func (s *Service) adminListener() net.Listener {
	ln := proxy.RetryListener(s.adminLn, s.host.Log)
	if s.scheme == "https" {
		ln = s.overTLS(ln)
	}
	return ln
}
