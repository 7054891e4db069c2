package serving

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

	"wattline/cmd/wattline/internal/configfile"
	"wattline/deploy/handover"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/replay/monitor"
	"wattline/sink/console"
)

// Service is a running serve: its routes, its rows, its energy measurement and its admin listener.
type Service struct {
	Rows *Rows

	host    *Host
	cmd     *Flags
	routes  []*servedRoute
	admin   *console.Server
	adminLn net.Listener
	scheme  string // of the admin listener
	guarded bool   // the admin listener asks for a password
	energy  *energyPipeline

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

// Open acquires everything that can fail. On an error it releases what it has acquired. Limits that are zero are the data
// path's own.
func Open(h *Host, c *Flags) (_ *Service, err error) {
	routes, err := configfile.CheckRoutes(h.Routes, configfile.Route{Name: "default", Listen: c.Listen, Upstream: c.Upstream, Labels: c.Labels})
	if err != nil {
		return nil, usageError("%w", err)
	}
	upstreams := make([]proxy.Upstream, len(routes))
	for i, r := range routes {
		if upstreams[i], err = proxy.ParseUpstream(r.Upstream); err != nil {
			return nil, usageError("%w", err)
		}
	}
	s := &Service{host: h, cmd: c, monitors: monitors{status: map[string][]monitor.Status{}}}
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
	if s.Rows, err = openRows(h, c, s.listeners.Predecessor()); err != nil {
		return nil, err
	}
	for i, r := range routes { // before the admin listener, because systemd's sockets come in this order
		sr := &servedRoute{Route: r, scheme: "http", client: llama.NewClient(upstreams[i])}
		s.routes = append(s.routes, sr)
		if sr.ln, err = Listen(s.listeners, r.Name, r.Listen, "--listen"); err != nil {
			return nil, err
		}
	}
	if err = s.listenAdmin(); err != nil {
		return nil, err
	}
	if s.energy, err = startEnergy(h, c, s.routes, s.Rows); err != nil {
		return nil, err
	}
	for i := range s.routes {
		if err = s.openRoute(i, upstreams[i]); err != nil {
			return nil, err
		}
	}
	s.Rows.Telemetry.SetSources(s.metricSources())
	return s, nil
}

// URL returns the address for clients of the first route.
func (s *Service) URL() string { return s.routes[0].url() }

// url returns the address for clients of the route.
func (r *servedRoute) url() string {
	if n := r.ln.Addr().Network(); n == "unix" {
		return "unix://" + r.ln.Addr().String()
	}
	return r.scheme + "://" + r.ln.Addr().String()
}

func (s *Service) openRoute(index int, up proxy.Upstream) (err error) {
	c, r := s.cmd, s.routes[index]
	observer := s.energy.routes[index]
	cfg := proxy.Config{
		Name: r.Name, Instance: s.Rows.instance, Upstream: up, Labels: r.Labels,
		MaxHeaderBytes: c.MaxHeaderBytes, MaxBodyBytes: c.MaxBodyBytes, MaxConns: c.connsPerRoute(s.host, len(s.routes)), MaxRequests: c.MaxRequests,
		KeepAliveIdle: c.KeepAliveIdle, HeaderIdle: c.HeaderIdle, BodyIdle: c.BodyIdle, WriteIdle: c.WriteIdle,
		UpstreamIdle: c.UpstreamIdle, Loads: r.client.Loads, Observer: observer, KeepGaps: c.gapsPerRequest(), Bodies: observer.autopsy.Bodies(), Identify: &s.Rows.identify, Log: s.host.Log,
	}
	if s.adminLn != nil {
		cfg.Admin = s.AdminURL()
	}
	if up.IsListener(r.ln.Addr()) {
		return usageError("--upstream %s is wattline's own listener: give the address of the server", up)
	}
	if c.TLSCert != "" {
		r.scheme = "https"
		r.ln = s.overTLS(r.ln)
	}
	s.Rows.Telemetry.TraceRoute(&cfg, r.scheme)
	if r.proxy, err = proxy.New(cfg); err != nil {
		return err
	}
	observer.Synchronise(r.proxy.Clock())
	return nil
}

// overTLS serves the certificate of the flags, as SIGHUP last loaded it.
func (s *Service) overTLS(ln net.Listener) net.Listener {
	return tls.NewListener(ln, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
		MinVersion:     tls.VersionTLS12, NextProtos: []string{"http/1.1", "http/1.0"},
	})
}

// Listen binds an address, or takes over an inherited listener of that name.
func Listen(from *handover.Listeners, name, addr, flag string) (net.Listener, error) {
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

// PrintStartup prints the addresses, the store and the power sources, before anything is served.
func (s *Service) PrintStartup() {
	for _, r := range s.routes {
		state := ""
		ctx, cancel := context.WithTimeout(s.host.Ctx, time.Second)
		if err := r.client.Ready(ctx); err != nil {
			state = " (" + err.Error() + ")"
		}
		cancel()
		fmt.Fprintf(s.host.Stderr, "wattline %s: %s -> %s%s\n", s.host.Version, r.url(), r.Upstream, state)
	}
	admin := "off"
	if s.adminLn != nil {
		admin = s.AdminURL()
	}
	fmt.Fprintf(s.host.Stderr, "wattline: admin %s; rows in %s; energy: %s\n", admin, s.Rows.store.Path(), s.energy.Summary())
	if s.adminLn != nil && s.adminLn.Addr().Network() != "unix" {
		fmt.Fprintf(s.host.Stderr, "wattline: open the console at %s/\n", admin)
	}
	if to := s.Rows.Telemetry.Collector(); to != "" {
		fmt.Fprintf(s.host.Stderr, "wattline: traces and metrics to %s\n", to)
	}
}

// Run serves until the context ends, a listener fails, or a successor has taken over.
func (s *Service) Run() error {
	failed := make(chan error, len(s.routes)+1)
	for _, r := range s.routes {
		go func() { failed <- r.proxy.Serve(r.ln) }() // ends with Shutdown
	}
	if s.admin != nil {
		go func() { failed <- s.admin.Serve(s.adminListener()) }() // ends with Shutdown
	}
	// Before Ready: the process that it notifies may send a signal at once, and by default these signals kill.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, serveSignals()...)
	defer signal.Stop(signals)
	err := s.listeners.Ready()
	if err == nil {
		ctx, cancel := context.WithCancel(s.host.Ctx)
		wait := s.monitor(ctx)
		defer wait() // behind stop: rows are written first, so that a further signal loses none
		err = s.handleSignals(failed, signals)
		cancel()
	}
	return errors.Join(err, s.stop())
}

// settleTime is how long a stop waits until the energy of the last requests is final.
const settleTime = 5 * time.Second

// stop lets requests in flight finish, and then writes every row. After a handover, the successor keeps the store and
// answers the admin listener meanwhile.
func (s *Service) stop() error {
	ctx, abort := context.WithCancel(context.WithoutCancel(s.host.Ctx))
	defer abort()
	go s.limitDrain(ctx, abort) // ends with ctx
	done := make(chan error, len(s.routes)+1)
	for _, r := range s.routes {
		go func() { // bounded by ctx
			if s.successor != 0 {
				done <- r.proxy.Retire(ctx, s.host.Ctx) // SIGTERM ends Ctx
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
	last, cancelLast := context.WithTimeout(context.WithoutCancel(s.host.Ctx), 10*time.Second)
	defer cancelLast()
	settling, cancelSettling := context.WithTimeout(last, settleTime)
	defer cancelSettling()
	err = errors.Join(err, s.energy.stop(settling))
	s.Rows.autopsy.Stop(last)
	if s.admin != nil && s.successor == 0 {
		err = errors.Join(err, s.admin.Shutdown(last))
	}
	return errors.Join(err, s.Rows.close(last))
}

// release gives back what open had acquired before it failed.
func (s *Service) release() {
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
	if s.Rows != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Rows.close(ctx)
	}
}

// live is the number of requests in flight.
func (s *Service) live() (n int) {
	for _, r := range s.routes {
		n += r.proxy.Live()
	}
	return n
}

func (s *Service) inflight() []any {
	out := []any{}
	for _, r := range s.routes {
		for _, f := range r.proxy.Inflight() {
			out = append(out, f)
		}
	}
	return out
}

func (s *Service) ready(ctx context.Context) error {
	for _, r := range s.routes {
		if err := r.client.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
