//go:build unix

package handover

import "golang.org/x/sys/unix"

// duplicate makes a second descriptor, closed when a program is started that does not ask for it.
func duplicate(fd uintptr) (int, error) { return unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }
