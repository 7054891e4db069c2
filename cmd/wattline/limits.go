package main

import (
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"wattline/proxy"
)

// check refuses numbers that the data path would have to take for something else: the type of a flag lets them pass.
func (c *serveCmd) check() error {
	if c.Listen == "" {
		return usageError("--listen is empty: write it as HOST:PORT")
	}
	if c.Admin == "" {
		return usageError("--admin is empty: write it as HOST:PORT, or off")
	}
	for _, l := range []struct {
		flag        string
		value, from int64
	}{
		{"max-header-bytes", int64(c.MaxHeaderBytes), 1024}, {"max-body-bytes", c.MaxBodyBytes, 0},
		{"max-conns", int64(c.MaxConns), 1}, {"max-requests", int64(c.MaxRequests), 1},
	} {
		if l.value < l.from {
			return usageError("--%s is %d and must be at least %d", l.flag, l.value, l.from)
		}
	}
	for _, l := range []struct {
		flag  string
		value time.Duration
	}{
		{"keep-alive-idle", c.KeepAliveIdle}, {"header-idle", c.HeaderIdle}, {"body-idle", c.BodyIdle},
		{"write-idle", c.WriteIdle}, {"upstream-idle", c.UpstreamIdle},
	} {
		if l.value < time.Millisecond {
			return usageError("--%s is %v, and nobody can be as quick as that: every wait has a bound, so for a long one write 24h", l.flag, l.value)
		}
	}
	if c.StopTimeout < 0 {
		return usageError("--stop-timeout is %v and cannot be negative", c.StopTimeout)
	}
	if err := c.checkKeep(); err != nil {
		return err
	}
	return c.checkPrices()
}

// checkPrices is apart from check for SIGHUP, which reads the prices again and no limit.
func (c *serveCmd) checkPrices() error {
	for flag, v := range map[string]*float64{"price-per-kwh": c.PricePerKWh, "gco2-per-kwh": c.GCO2PerKWh} {
		if v != nil && !(math.Abs(*v) < 1e9) { // not a number is not below it
			return usageError("--%s is %v, which is no price or weight of a kWh", flag, *v)
		}
	}
	return nil
}

// leadsTo reports whether an upstream's address is that of a listener on this machine. Host names other than
// localhost are not looked up.
func leadsTo(up proxy.Upstream, ln net.Addr) bool {
	if path, ok := strings.CutPrefix(up.String(), "unix://"); ok {
		return ln.Network() == "unix" && ln.String() == path
	}
	at, err := netip.ParseAddrPort(ln.String())
	host, port, splitErr := net.SplitHostPort(up.Host())
	if err != nil || splitErr != nil || port != strconv.Itoa(int(at.Port())) {
		return false
	}
	own := at.Addr().Unmap()
	if host == "localhost" {
		return own.IsLoopback() || own.IsUnspecified()
	}
	to, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	to = to.Unmap()
	if to.IsUnspecified() { // dialled, it is the loopback
		return own.IsLoopback() || own.IsUnspecified()
	}
	return to == own || own.IsUnspecified() && (to.IsLoopback() || ofThisMachine(to))
}

// ofThisMachine reports whether an interface of this machine has the address.
func ofThisMachine(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ip {
			return true
		}
	}
	return false
}

// keptFiles are the descriptors that are left for what is no connection of a client's or to an upstream.
const keptFiles = 128

// connsOfARoute is --max-conns, or what this process may have open files for, two a connection: above it clients
// are told 503 instead of waiting for a descriptor.
func (c *serveCmd) connsOfARoute(a *app, routes int) int {
	files, ok := openFilesLimit()
	if !ok {
		return c.MaxConns
	}
	most := max(1, (files-keptFiles)/2/routes)
	if most >= c.MaxConns {
		return c.MaxConns
	}
	level := slog.LevelInfo
	var defaults proxy.Config
	if defaults.SetDefaults(); c.MaxConns == defaults.MaxConns { // nobody asked for so many
		level = slog.LevelDebug
	}
	a.log.Log(a.ctx, level, "the limit of open files holds fewer connections than --max-conns; raise it (ulimit -n) if they are needed",
		"open_files", files, "connections", most)
	return most
}
