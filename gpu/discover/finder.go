package discover

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds the DNS lookup of an upstream's host name.
	lookupTimeout = 2 * time.Second

	// searchEvery is how often an upstream's processes are searched for again.
	searchEvery = 10 * time.Second
)

// Finder finds upstreams' processes on this machine. All callers that ask for the same upstream get the
// same ProcessTree, so a route costs one search and one DNS lookup. It may be used by
// several goroutines.
type Finder struct {
	host    *Host
	resolve func(context.Context, string) ([]net.IPAddr, error)

	mu     sync.Mutex // guards the rest; not held during a lookup
	found  map[string]*search
	byPort map[int]*ProcessTree
}

// Upstream holds what is known about where an upstream runs.
type Upstream struct {
	Local     bool         // on this machine
	Processes *ProcessTree // nil where they cannot be known: elsewhere, or behind a Unix socket
}

// search is one upstream's lookup. mu is held while it runs: other callers wait for it.
type search struct {
	mu       sync.Mutex
	done     bool // it has succeeded
	at       time.Time
	upstream Upstream
}

// NewFinder returns a Finder that reads processes from h.
func NewFinder(h *Host) *Finder {
	return &Finder{host: h, resolve: net.DefaultResolver.LookupIPAddr, found: map[string]*search{}, byPort: map[int]*ProcessTree{}}
}

// Host returns the machine where processes are searched.
func (f *Finder) Host() *Host { return f.host }

// Upstream returns where the upstream at a URL runs. It waits at most lookupTimeout for DNS. A name
// that could not be resolved counts as elsewhere, and is resolved again no sooner than searchEvery later.
func (f *Finder) Upstream(ctx context.Context, rawURL string) Upstream {
	f.mu.Lock()
	s := f.found[rawURL]
	if s == nil {
		s = &search{}
		f.found[rawURL] = s
	}
	f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || !s.at.IsZero() && time.Since(s.at) < searchEvery {
		return s.upstream
	}
	s.upstream, s.done = f.locate(ctx, rawURL)
	s.at = time.Now()
	return s.upstream
}

// locate finds where a URL leads to; ok is false where its name could not be resolved.
func (f *Finder) locate(ctx context.Context, rawURL string) (up Upstream, ok bool) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return Upstream{}, true
	}
	if u.Scheme == "unix" {
		return Upstream{Local: true}, true
	}
	local, err := isLocal(ctx, u.Hostname(), f.resolve)
	if err != nil || !local {
		return Upstream{}, err == nil
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return Upstream{Local: true}, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byPort[port] == nil { // two routes may lead to one server
		f.byPort[port] = NewProcessTree(f.host, port, searchEvery)
	}
	return Upstream{Local: true, Processes: f.byPort[port]}, true
}

// isLocal reports whether a host name or address is this machine: a loopback address, or an address of
// one of its interfaces. It waits at most lookupTimeout for DNS.
func isLocal(ctx context.Context, name string, resolve func(context.Context, string) ([]net.IPAddr, error)) (bool, error) {
	ips := []net.IPAddr{{IP: net.ParseIP(name)}}
	if ips[0].IP == nil {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		var err error
		if ips, err = resolve(ctx, name); err != nil {
			return false, err
		}
	}
	own, err := net.InterfaceAddrs()
	for _, ip := range ips {
		if ip.IP.IsLoopback() || ip.IP.IsUnspecified() {
			return true, nil
		}
		if err != nil {
			continue
		}
		for _, a := range own {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip.IP) {
				return true, nil
			}
		}
	}
	return false, nil
}
