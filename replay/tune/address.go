package tune

import "net"

// FreeAddress is a loopback address that was free a moment ago.
func FreeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}
