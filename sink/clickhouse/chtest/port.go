package chtest

import "testing"

// FreeAddr reserves a loopback address for the test: no other process gets it, the test may listen on it, and until then
// connections are refused. Without the reservation a connection of another test could take the port.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, release, err := reserve()
	if err != nil {
		t.Fatalf("chtest: no port can be reserved: %v", err)
	}
	t.Cleanup(release)
	return addr
}
