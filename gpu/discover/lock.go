package discover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// ErrLocked means that another wattline on this machine holds the device's lock.
var ErrLocked = errors.New("another wattline on this machine measures this device too")

// AcquireAdvisoryLock tells other wattlines of this machine that a device is being measured, until the
// returned closer is closed or the process ends. Two may measure one device, but then its joules are
// counted twice. The lock is a socket in Linux's abstract namespace: it leaves nothing behind, and other
// network namespaces (containers) do not see it.
func AcquireAdvisoryLock(uuid string) (io.Closer, error) {
	l, err := net.Listen("unix", "@wattline-device-"+uuid) //nolint:noctx // binding does not wait
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("discover: %s: %w", uuid, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("discover: lock %s: %w", uuid, err)
	}
	return l, nil
}
