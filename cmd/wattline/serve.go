package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"wattline/cmd/wattline/internal/configfile"
	"wattline/deploy/handover"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/replay/monitor"
	"wattline/sink/clickhouse"
	"wattline/sink/console"
)

// serveCmd runs the proxy.
type serveCmd struct {
	Upstream string `help:"Address of llama-server: http://HOST:PORT, https://HOST:PORT or unix:///PATH." default:"${upstream}" placeholder:"URL"`
	Listen   string `help:"Address to listen on for clients." default:"${listen}" placeholder:"ADDR"`
	Admin    string `help:"Address to listen on for the admin API, or off." default:"${admin}" placeholder:"ADDR"`
	Store    string `help:"SQLite file for the rows. Default: ${store}." placeholder:"FILE"`
	Instance string `help:"Name of this wattline in the rows. Default: the host name."`
	TLSCert  string `name:"tls-cert" help:"Certificate file (PEM); with it, clients connect over TLS." placeholder:"FILE"`
	TLSKey   string `name:"tls-key" help:"Private key file (PEM) of the certificate." placeholder:"FILE"`

	Identify       string            `help:"How user, session and client address are stored: ${enum}. hash uses a secret key of this installation. API keys are hashed, or with none left out." enum:"hash,plain,none" default:"hash"`
	SessionHeaders []string          `help:"Further request headers that name a session, and members of the body (body:metadata.chat); the first one present is used. They come before the known ones (${session_headers}), or replace them behind the word only." placeholder:"NAME,..."`
	Agents         map[string]string `help:"Names for clients: NAME=key:ID (column api_key_id), NAME=header:NAME=VALUE, NAME=address:NETWORK, NAME=user-agent:PREFIX or NAME=route:NAME." placeholder:"NAME=FACT;..."`
	Labels         map[string]string `help:"Labels for requests without an X-Wattline-Labels header: k=v;k=v." placeholder:"K=V"`
	PricePerKWh    *float64          `name:"price-per-kwh" help:"Price of one kWh, stored in each row. Default: none; no cost is shown."`
	GCO2PerKWh     *float64          `name:"gco2-per-kwh" help:"Grams of CO2e per kWh, stored in each row. Default: none."`
	Currency       string            `help:"Currency of the price, for display." default:"EUR"`

	Monitor         time.Duration `help:"Send a canary (three small requests) to each route this often while nobody else has a request in flight, and say when the server changed. 0: none." default:"0s"`
	Pprof           bool          `help:"Serve Go profiles of this process at /debug/pprof/ of the admin API."`
	StopTimeout     time.Duration `help:"How long running requests may continue after SIGTERM." default:"30s"`
	HandoverTimeout time.Duration `help:"How long they may continue in the old process after an upgrade (SIGUSR2). 0: until they end." default:"0s"`
	adminFlags
	energyFlags
	autopsyFlags
	retentionFlags
	telemetryFlags
	limitFlags
}

// limitFlags are the limits and idle timeouts of the data path. None of them limits the duration of a request.
type limitFlags struct {
	MaxHeaderBytes int           `help:"Largest request head; larger ones are answered with 431." default:"${max_header_bytes}" group:"Limits"`
	MaxBodyBytes   int64         `help:"Largest request body; larger ones are answered with 413. 0: no limit." default:"${max_body_bytes}" group:"Limits"`
	MaxConns       int           `help:"Maximum number of client connections; more are answered with 503. Each needs two open files." default:"${max_conns}" group:"Limits"`
	MaxRequests    int           `help:"Maximum number of requests in flight; more are answered with 503." default:"${max_requests}" group:"Limits"`
	KeepAliveIdle  time.Duration `help:"How long a client connection may be idle between requests." default:"${keep_alive_idle}" group:"Limits"`
	HeaderIdle     time.Duration `help:"Longest pause while a client sends a request head." default:"${header_idle}" group:"Limits"`
	BodyIdle       time.Duration `help:"Longest pause while a client sends a request body." default:"${body_idle}" group:"Limits"`
	WriteIdle      time.Duration `help:"How long a client may stop reading its reply." default:"${write_idle}" group:"Limits"`
	UpstreamIdle   time.Duration `help:"How long the upstream may send nothing (a long prompt on a CPU takes minutes)." default:"${upstream_idle}" group:"Limits"`
}

// Run serves until the context ends, then lets requests in flight finish.
func (c *serveCmd) Run(a *app, kctx *kong.Context) error {
	if err := a.rejectWithRoutes(kctx, "listen", "upstream", "labels"); err != nil {
		return err
	}
	if err := errors.Join(c.check(), c.checkMonitor()); err != nil {
		return err
	}
	target, err := c.target(kctx)
	if err != nil {
		return err
	}
	s, err := c.open(a, target)
	if err != nil {
		return err
	}
	s.printStartup(a)
	return s.run(a)
}

// service is a running serve: its routes, its rows, its energy measurement and its admin listener.
type service struct {
	cmd     *serveCmd
	routes  []*servedRoute
	admin   *console.Server
	adminLn net.Listener
	scheme  string // of the admin listener
	guarded bool   // the admin listener asks for a password
	rows    *rowSink
	energy  *energyPipeline
	ships   bool // rows go to ClickHouse too

	monitors monitors

	listeners *handover.Listeners
	cert      atomic.Pointer[tls.Certificate] // nil without TLS; SIGHUP replaces it
	successor int                             // the process that serves instead of this one; 0: none
}

// servedRoute is a route with its listener, proxy and clients.
type servedRoute struct {
	configfile.Route
	proxy  *proxy.Server
	client *llama.Client // for /health, /props and /slots of the upstream
	ln     net.Listener
	scheme string
}

// open checks the settings and acquires everything that can fail. On an error it releases what it has acquired.
func (c *serveCmd) open(a *app, ship *clickhouse.Target) (_ *service, err error) {
	routes, err := configfile.CheckRoutes(a.routes, configfile.Route{Name: "default", Listen: c.Listen, Upstream: c.Upstream, Labels: c.Labels})
	if err != nil {
		return nil, usageError("%w", err)
	}
	upstreams := make([]proxy.Upstream, len(routes))
	for i, r := range routes {
		if upstreams[i], err = proxy.ParseUpstream(r.Upstream); err != nil {
			return nil, usageError("%w", err)
		}
	}
	s := &service{cmd: c, monitors: monitors{status: map[string][]monitor.Status{}}}
	if err := s.loadCertificate(c); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.listeners, err = handover.Inherit(); err != nil {
		return nil, err
	}
	if s.rows, err = openRows(a, c, ship, s.listeners.Predecessor()); err != nil {
		return nil, err
	}
	for i, r := range routes { // before the admin listener, because systemd's sockets come in this order
		sr := &servedRoute{Route: r, scheme: "http", client: llama.NewClient(upstreams[i])}
		s.routes = append(s.routes, sr)
		if sr.ln, err = listen(s.listeners, r.Name, r.Listen, "--listen"); err != nil {
			return nil, err
		}
	}
	if err = s.listenAdmin(a); err != nil {
		return nil, err
	}
	if s.energy, err = startEnergy(a, c, s.routes, s.rows); err != nil {
		return nil, err
	}
	for i := range s.routes {
		if err = c.openRoute(a, s, i, upstreams[i]); err != nil {
			return nil, err
		}
	}
	s.ships = ship != nil
	s.rows.telemetry.SetSources(s.metricSources())
	return s, nil
}

// url returns the address for clients of the route.
func (r *servedRoute) url() string {
	if n := r.ln.Addr().Network(); n == "unix" {
		return "unix://" + r.ln.Addr().String()
	}
	return r.scheme + "://" + r.ln.Addr().String()
}

func (c *serveCmd) openRoute(a *app, s *service, index int, up proxy.Upstream) (err error) {
	r := s.routes[index]
	observer := s.energy.routes[index]
	cfg := proxy.Config{
		Name: r.Name, Instance: s.rows.instance, Upstream: up, Labels: r.Labels,
		MaxHeaderBytes: c.MaxHeaderBytes, MaxBodyBytes: c.MaxBodyBytes, MaxConns: c.connsPerRoute(a, len(s.routes)), MaxRequests: c.MaxRequests,
		KeepAliveIdle: c.KeepAliveIdle, HeaderIdle: c.HeaderIdle, BodyIdle: c.BodyIdle, WriteIdle: c.WriteIdle,
		UpstreamIdle: c.UpstreamIdle, Loads: r.client.Loads, Observer: observer, KeepGaps: c.gapsPerRequest(), Bodies: observer.autopsy.Bodies(), Identify: &s.rows.identify, Log: a.log,
	}
	if s.adminLn != nil {
		cfg.Admin = s.adminURL()
	}
	if up.IsListener(r.ln.Addr()) {
		return usageError("--upstream %s is wattline's own listener: give the address of the server", up)
	}
	if c.TLSCert != "" {
		r.scheme = "https"
		r.ln = s.overTLS(r.ln)
	}
	s.rows.telemetry.TraceRoute(&cfg, r.scheme)
	if r.proxy, err = proxy.New(cfg); err != nil {
		return err
	}
	observer.Synchronise(r.proxy.Clock())
	return nil
}

// overTLS serves the certificate of the flags, as SIGHUP last loaded it.
func (s *service) overTLS(ln net.Listener) net.Listener {
	return tls.NewListener(ln, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
		MinVersion:     tls.VersionTLS12, NextProtos: []string{"http/1.1", "http/1.0"},
	})
}

// listen binds an address, or takes over an inherited listener of that name.
func listen(from *handover.Listeners, name, addr, flag string) (net.Listener, error) {
	network, at := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		network, at = "unix", path
	}
	ln, err := from.Listen(name, network, at)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is in use by another process: stop it or choose another address", flag, addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s is not permitted for this user: choose a port above 1023", flag, addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s %s is not an address of this machine: choose one that it has, or 0.0.0.0", flag, addr)
	case network == "unix":
		return nil, fmt.Errorf("%s %s cannot be opened: its folder must exist and be writable for this user (%w)", flag, addr, err)
	default:
		return nil, usageError("%s %q is not an address to listen on: write it as HOST:PORT (%v)", flag, addr, err)
	}
}

// printStartup prints the addresses, the store and the power sources, before anything is served.
func (s *service) printStartup(a *app) {
	for _, r := range s.routes {
		state := ""
		ctx, cancel := context.WithTimeout(a.ctx, time.Second)
		if err := r.client.Ready(ctx); err != nil {
			state = " (" + err.Error() + ")"
		}
		cancel()
		fmt.Fprintf(a.stderr, "wattline %s: %s -> %s%s\n", version(), r.url(), r.Upstream, state)
	}
	admin := "off"
	if s.adminLn != nil {
		admin = s.adminURL()
	}
	fmt.Fprintf(a.stderr, "wattline: admin %s; rows in %s; energy: %s\n", admin, s.rows.store.Path(), s.energy.Summary())
	if s.adminLn != nil && s.adminLn.Addr().Network() != "unix" {
		fmt.Fprintf(a.stderr, "wattline: open the console at %s/\n", admin)
	}
	if to := s.rows.telemetry.Collector(); to != "" {
		fmt.Fprintf(a.stderr, "wattline: traces and metrics to %s\n", to)
	}
}

// run serves until the context ends, a listener fails, or a successor has taken over.
func (s *service) run(a *app) error {
	failed := make(chan error, len(s.routes)+1)
	for _, r := range s.routes {
		go func() { failed <- r.proxy.Serve(r.ln) }() // ends with Shutdown
	}
	if s.admin != nil {
		go func() { failed <- s.admin.Serve(s.adminListener(a)) }() // ends with Shutdown
	}
	// Before Ready: the process that it notifies may send a signal at once, and by default these signals kill.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, serveSignals()...)
	defer signal.Stop(signals)
	err := s.listeners.Ready()
	if err == nil {
		ctx, cancel := context.WithCancel(a.ctx)
		wait := s.monitor(ctx, a)
		defer wait() // behind stop: rows are written first, so that a further signal loses none
		err = s.handleSignals(a, failed, signals)
		cancel()
	}
	return errors.Join(err, s.stop(a))
}

// settleTime is how long a stop waits until the energy of the last requests is final.
const settleTime = 5 * time.Second

// stop lets requests in flight finish, and then writes every row. After a handover, the successor keeps the store and
// answers the admin listener meanwhile.
func (s *service) stop(a *app) error {
	ctx, abort := context.WithCancel(context.WithoutCancel(a.ctx))
	defer abort()
	go s.limitDrain(ctx, a, abort) // ends with ctx
	done := make(chan error, len(s.routes)+1)
	for _, r := range s.routes {
		go func() { // bounded by ctx
			if s.successor != 0 {
				done <- r.proxy.Retire(ctx, a.ctx) // SIGTERM ends a.ctx
			} else {
				done <- r.proxy.Shutdown(ctx)
			}
		}()
	}
	go func() { done <- s.yield(ctx) }()
	var err error
	for range cap(done) {
		if e := <-done; e != nil && !errors.Is(e, context.DeadlineExceeded) && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}
	last, cancelLast := context.WithTimeout(context.WithoutCancel(a.ctx), 10*time.Second)
	defer cancelLast()
	settling, cancelSettling := context.WithTimeout(last, settleTime)
	defer cancelSettling()
	err = errors.Join(err, s.energy.stop(settling))
	s.rows.autopsy.Stop(last)
	if s.admin != nil && s.successor == 0 {
		err = errors.Join(err, s.admin.Shutdown(last))
	}
	return errors.Join(err, s.rows.close(last))
}

// release gives back what open had acquired before it failed.
func (s *service) release() {
	for _, r := range s.routes {
		if r.ln != nil {
			_ = r.ln.Close()
		}
	}
	if s.adminLn != nil {
		_ = s.adminLn.Close()
	}
	if s.energy != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.energy.stop(ctx)
	}
	if s.rows != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.rows.close(ctx)
	}
}

// live is the number of requests in flight.
func (s *service) live() (n int) {
	for _, r := range s.routes {
		n += r.proxy.Live()
	}
	return n
}

func (s *service) inflight() []any {
	out := []any{}
	for _, r := range s.routes {
		for _, f := range r.proxy.Inflight() {
			out = append(out, f)
		}
	}
	return out
}

func (s *service) ready(ctx context.Context) error {
	for _, r := range s.routes {
		if err := r.client.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
