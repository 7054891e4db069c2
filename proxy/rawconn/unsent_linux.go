package rawconn

import "golang.org/x/sys/unix"

// Unsent is the number of bytes in the kernel that the peer has not acknowledged (SIOCOUTQ), also under TLS, or -1.
func (c *Conn) Unsent() int {
	n := -1
	if sc := Syscall(c.net); sc != nil {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if q, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
					n = q
				}
			})
		}
	}
	return n
}
