//go:build !linux

package llama

import "net"

// reservePort names a port that was free a moment ago. Start tries another if it is taken meanwhile.
func reservePort() (port int, release func(), err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	port = l.Addr().(*net.TCPAddr).Port
	return port, func() {}, l.Close()
}
