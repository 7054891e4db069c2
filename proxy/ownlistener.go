package proxy

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// IsListener reports whether the address is that of a listener on this machine. Host names other than
// localhost are not resolved.
func (u Upstream) IsListener(ln net.Addr) bool {
	if path, ok := strings.CutPrefix(u.String(), "unix://"); ok {
		return ln.Network() == "unix" && ln.String() == path
	}
	at, err := netip.ParseAddrPort(ln.String())
	host, port, splitErr := net.SplitHostPort(u.Host())
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
	if to.IsUnspecified() { // dialling it reaches the loopback
		return own.IsLoopback() || own.IsUnspecified()
	}
	return to == own || own.IsUnspecified() && (to.IsLoopback() || isLocalAddress(to))
}

// isLocalAddress reports whether an interface of this machine has the address.
func isLocalAddress(ip netip.Addr) bool {
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
