package proxy

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"wattline/proxy/rawconn"
)

// TestTCPKeepAlive: a client that vanishes without a FIN (a cable, a laptop that sleeps) is
// found by TCP's keep-alive, which every accepted connection has, also on a listener that was inherited.
func TestTCPKeepAlive(t *testing.T) {
	first := listen(t)
	file, err := first.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := net.FileListener(file)
	if err = errors.Join(err, file.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	for name, ln := range map[string]net.Listener{"own": listen(t), "inherited": inherited} {
		f := serveFront(t, ln, "http://127.0.0.1:1")
		dial(t, f.addr)
		eventually(t, func() bool { // it is counted before it is noted
			f.clientsMu.Lock()
			defer f.clientsMu.Unlock()
			return len(f.clients) == 1
		}, func() string { return "it is not accepted" })
		f.clientsMu.Lock()
		for c := range f.clients {
			raw, err := rawconn.Syscall(c.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var on, idle, every, times int
			_ = raw.Control(func(fd uintptr) {
				on, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
				idle, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
				every, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
				times, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
			})
			if on == 0 || idle+every*times > 180 {
				t.Errorf("%s: keep-alive %d, %d s and %d times %d s", name, on, idle, times, every)
			}
			t.Logf("%s: noticed after %d s", name, idle+every*times)
		}
		f.clientsMu.Unlock()
	}
}
