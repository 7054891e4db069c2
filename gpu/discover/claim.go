package discover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// ErrClaimed: another wattline on this machine has claimed the device.
var ErrClaimed = errors.New("another wattline on this machine measures this device too")

// Claim tells other wattlines of this machine that a device is being measured, until the returned
// closer is closed or the process ends. Two may measure one device; but its joules are then told twice.
// The claim is a socket in Linux's abstract namespace: it leaves nothing behind, and does not reach
// into another container's network.
func Claim(uuid string) (io.Closer, error) {
	l, err := net.Listen("unix", "@wattline-device-"+uuid) //nolint:noctx // binding does not wait
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("host: %s: %w", uuid, ErrClaimed)
	}
	if err != nil {
		return nil, fmt.Errorf("host: claim %s: %w", uuid, err)
	}
	return l, nil
}

// IsLocal says whether a host name or address is this machine: a loopback address, or one of an
// interface of it. A name that cannot be resolved is not.
func IsLocal(name string) bool {
	ips := []net.IP{net.ParseIP(name)}
	if ips[0] == nil {
		var err error
		if ips, err = net.LookupIP(name); err != nil { //nolint:noctx // at start, once
			return false
		}
	}
	own, err := net.InterfaceAddrs()
	for _, ip := range ips {
		if ip.IsLoopback() || ip.IsUnspecified() {
			return true
		}
		if err != nil {
			continue
		}
		for _, a := range own {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
				return true
			}
		}
	}
	return false
}
