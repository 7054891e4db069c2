package discover

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's sock_diag(7) interface, of which only what lists the listeners of a port is used.
const (
	diagByFamily = 20      // SOCK_DIAG_BY_FAMILY
	stateListen  = 1 << 10 // TCP_LISTEN
)

// diagRequest is a nlmsghdr with an inet_diag_req_v2.
type diagRequest struct {
	header   unix.NlMsghdr
	family   uint8
	protocol uint8
	ext, pad uint8
	states   uint32
	port     [2]byte // of this end, big-endian
	other    [46]byte
}

// diagInode is where an inet_diag_msg has the socket's inode.
const diagInode = 68

// listening asks the kernel for the inodes of the sockets that listen on a TCP port. Other sockets, of which a
// busy proxy has thousands, cost nothing.
func listening(port int) (inodes []uint32, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("discover: sock_diag: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, fmt.Errorf("discover: sock_diag: %w", err)
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if inodes, err = listeningIn(fd, family, port, inodes); err != nil {
			return nil, fmt.Errorf("discover: sock_diag: %w", err)
		}
	}
	return inodes, nil
}

func listeningIn(fd int, family uint8, port int, inodes []uint32) ([]uint32, error) {
	q := diagRequest{family: family, protocol: unix.IPPROTO_TCP, states: stateListen}
	q.header = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(q)), Type: diagByFamily, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP}
	binary.BigEndian.PutUint16(q.port[:], uint16(port))
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&q)), unsafe.Sizeof(q)) //nolint:gosec // its bytes, as the kernel has them
	if err := unix.Sendto(fd, raw, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return inodes, nil
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				return nil, syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			case m.Header.Type == diagByFamily && len(m.Data) >= diagInode+4 && binary.BigEndian.Uint16(m.Data[4:]) == uint16(port):
				inodes = append(inodes, binary.NativeEndian.Uint32(m.Data[diagInode:]))
			}
		}
	}
}
