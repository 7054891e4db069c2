package proxies

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"wattline/gpu/discover"
)

// Peer is a proxy that the user has started, with its own configuration, before the run's upstream.
type Peer struct {
	Name   string
	Addr   string // HOST:PORT where it takes connections
	Prefix string // of the path, before /v1
}

// ParsePeers reads NAME=URL arguments.
func ParsePeers(args []string) ([]Peer, error) {
	taken := []string{Direct, Relay, Reverse, Nginx, NginxAgain, HAProxy, Wattline, WattlineOff}
	var out []Peer
	for _, a := range args {
		name, raw, ok := strings.Cut(a, "=")
		u, err := url.Parse(raw)
		switch {
		case !ok || name == "" || err != nil || u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "":
			return nil, fmt.Errorf("%q must be NAME=http://HOST:PORT, with a path if the proxy needs one before /v1", a)
		case slices.Contains(taken, name):
			return nil, fmt.Errorf("%q: the name %q is in the table already", a, name)
		}
		taken = append(taken, name)
		port := u.Port()
		if port == "" {
			port = "80"
		}
		out = append(out, Peer{Name: name, Addr: net.JoinHostPort(u.Hostname(), port), Prefix: strings.TrimSuffix(u.Path, "/")})
	}
	return out, nil
}

// process finds whose CPU time and memory are the peer's.
func (p *Peer) process() (*process, error) {
	host, err := discover.New("/proc")
	if err != nil {
		return nil, err
	}
	a, err := net.ResolveTCPAddr("tcp4", p.Addr)
	if err != nil {
		return nil, fmt.Errorf("proxies: %w", err)
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("%s is not on this machine, whose /proc has the CPU time and memory of proxies", p.Addr)
	}
	pids, err := host.Processes(a.Port)
	if err != nil {
		return nil, err
	}
	return &process{roots: pids, addr: p.Addr}, nil
}

// version is what the report says of it: the program that runs.
func (p *Peer) version() string {
	text := "http://" + p.Addr + p.Prefix + ", started by the user, one process for all rounds"
	if proc, err := p.process(); err == nil {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", proc.roots[0])); err == nil {
			text += ": " + strings.TrimSpace(string(name))
		}
	}
	return text
}

// contender of a peer. It has as long as wattline to finish what it does behind a request.
func (p *Peer) contender() contender {
	return contender{name: p.Name, version: p.version(), prefix: p.Prefix, after: afterRequest, start: func(context.Context, string, string) (*process, error) {
		return p.process()
	}}
}

// peerWait is how long a peer may take to notice that its upstream is there.
const peerWait = time.Minute

// await returns when a peer passes a request on, and an error if it does not within peerWait.
func (p *Peer) await(ctx context.Context) error {
	to, err := loopback(p.Addr)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(peerWait); ; {
		l := load{to: to, host: p.Addr, prefix: p.Prefix, streams: 1, short: true, ramp: 1e6, window: 1e6, onWindow: func(int64, int64) {}}
		t, err := l.run(ctx)
		switch {
		case err != nil:
			return err
		case t.requests > 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s does not pass requests on to the upstream: %v", p.Name, t.why)
		}
		pause(ctx, 250*time.Millisecond)
	}
}

// errNoUpstream: peers were named, but nothing that they could be pointed at.
var errNoUpstream = errors.New("the upstream's address must be set, so that your proxies can be pointed at it before the run")

func (c *Config) checkPeers() error {
	if len(c.Peers) > 0 && c.UpstreamAt == "" {
		return errNoUpstream
	}
	return nil
}
