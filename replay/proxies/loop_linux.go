package proxies

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clock reads CLOCK_MONOTONIC, which all processes of a machine share, at the price of time.Now.
type clock struct {
	base   time.Time
	offset int64
}

func newClock() clock {
	c := clock{}
	best := int64(1) << 62
	for range 16 { // the tightest of some readings
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			continue
		}
		if took := int64(time.Since(before)); took < best {
			best, c.base, c.offset = took, before, ts.Nano()-took/2
		}
	}
	return c
}

func (c clock) now() int64 { return int64(time.Since(c.base)) + c.offset }

// poller is one epoll for one thread.
type poller struct {
	fd     int
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("proxies: epoll: %w", err)
	}
	return &poller{fd: fd}, nil
}

// watch sets what is awaited on fd; add says that it is new.
func (p *poller) watch(fd int, events uint32, add bool) error {
	op := unix.EPOLL_CTL_MOD
	if add {
		op = unix.EPOLL_CTL_ADD
	}
	return unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait waits for events, at most d nanoseconds (negative: for ever), to the nanosecond: epoll_wait's
// milliseconds would bunch what a schedule has spread.
func (p *poller) wait(d int64) ([]unix.EpollEvent, error) {
	var ts *unix.Timespec
	if d >= 0 {
		t := unix.NsecToTimespec(d)
		ts = &t
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), uintptr(unsafe.Pointer(ts)), 0, 0) //nolint:gosec // the call's own types
	switch errno {
	case 0:
		return p.events[:n], nil
	case unix.EINTR:
		return nil, nil
	case unix.ENOSYS:
		return nil, errors.New("proxies: epoll_pwait2 is missing: Linux 5.11 or newer is needed")
	default:
		return nil, fmt.Errorf("proxies: epoll: %w", errno)
	}
}

// sharpTimers lets the calling thread's sleeps end on time instead of 50 us late.
func sharpTimers() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }

// loopback parses an IPv4 HOST:PORT.
func loopback(addr string) (*unix.SockaddrInet4, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("proxies: %w", err)
	}
	sa := &unix.SockaddrInet4{Port: a.Port}
	copy(sa.Addr[:], a.IP.To4())
	return sa, nil
}

// dial begins a connection; it is writable when it stands.
func dial(to *unix.SockaddrInet4) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// freePort is an address of the loopback interface.
const freePort = "127.0.0.1:0"

// listen4 listens at an IPv4 HOST:PORT, and returns which that is.
func listen4(at string) (fd int, addr string, err error) {
	sa, err := loopback(at)
	if err != nil {
		return -1, "", err
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("proxies: listen: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // connections of a run before may still linger
	err = unix.Bind(fd, sa)
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	var got unix.Sockaddr
	if err == nil {
		got, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", fmt.Errorf("proxies: listen at %s: %w", at, err)
	}
	in, ok := got.(*unix.SockaddrInet4)
	if !ok {
		_ = unix.Close(fd)
		return -1, "", errors.New("proxies: listen: no IPv4 address")
	}
	return fd, netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)).String(), nil
}
