package proxy

import (
	"net"
	"net/netip"
	"testing"
)

// TestIsListener: an upstream that is the listener itself is recognised by each of its addresses.
func TestIsListener(t *testing.T) {
	for _, c := range []struct {
		upstream, listener string
		own                bool
	}{
		{"http://127.0.0.1:80", "127.0.0.1:80", true}, {"https://127.0.0.1:80", "127.0.0.1:80", true}, {"http://localhost:80", "127.0.0.1:80", true},
		{"http://localhost", "[::]:80", true}, {"http://127.0.0.1:80", "[::]:80", true}, {"http://127.0.0.1:80", "0.0.0.0:80", true},
		{"http://0.0.0.0:80", "127.0.0.1:80", true}, {"http://[::1]:80", "[::1]:80", true}, {"http://127.0.0.2:80", "0.0.0.0:80", true},
		{"http://127.0.0.1:81", "127.0.0.1:80", false}, {"http://127.0.0.2:80", "127.0.0.1:80", false}, {"http://192.0.2.1:80", "0.0.0.0:80", false},
		{"http://example.org:80", "0.0.0.0:80", false}, {"http://localhost:80", "192.0.2.1:80", false}, {"http://[::1]:80", "127.0.0.1:80", false},
	} {
		up, err := ParseUpstream(c.upstream)
		if err != nil {
			t.Fatal(err)
		}
		if got := up.IsListener(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.listener))); got != c.own {
			t.Errorf("%s to a listener on %s: %v", c.upstream, c.listener, got)
		}
	}
	up, err := ParseUpstream("unix:///a/b")
	if err != nil {
		t.Fatal(err)
	}
	if !up.IsListener(&net.UnixAddr{Net: "unix", Name: "/a/b"}) || up.IsListener(&net.UnixAddr{Net: "unix", Name: "/a/c"}) {
		t.Error("a socket's path is ignored")
	}
}
