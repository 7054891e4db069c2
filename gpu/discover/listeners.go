package discover

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Why the upstream's processes are not known.
var (
	// ErrNoListener: no process of this machine listens on the port.
	ErrNoListener = errors.New("nothing on this machine listens there")
	// ErrHidden: one does, but its open files cannot be read, or it is in another container.
	ErrHidden = errors.New("the process that listens there cannot be seen: run wattline as the same user, or as root")
)

// Processes returns the processes that listen on a TCP port of this machine, and their descendants
// (llama-swap and Ollama start the server that uses the card). A listener that only forwards, such as
// docker-proxy, counts as hidden.
func (h *Host) Processes(port int) ([]int, error) {
	var l listeners
	return h.processes(port, &l)
}

// listeners are the sockets that listen on a port, by the names that their owners' file descriptors link
// to, and the owners' process numbers.
type listeners struct {
	sockets map[string]bool
	owners  []int
}

// processes is Processes with a cache: while the same sockets listen and one of their owners lives, the
// open files of all processes are not searched again.
func (h *Host) processes(port int, known *listeners) ([]int, error) {
	sockets := h.sockets(port)
	if len(sockets) == 0 {
		*known = listeners{}
		return nil, fmt.Errorf("discover: port %d: %w", port, ErrNoListener)
	}
	if !maps.Equal(sockets, known.sockets) || !slices.ContainsFunc(known.owners, h.IsAlive) {
		*known = listeners{sockets: sockets, owners: h.owners(sockets)}
	}
	if len(known.owners) == 0 {
		return nil, fmt.Errorf("discover: port %d: %w", port, ErrHidden)
	}
	return h.descendants(known.owners), nil
}

// sockets returns the sockets that listen on a port.
func (h *Host) sockets(port int) map[string]bool {
	found := map[string]bool{}
	if h.root == procRoot {
		if inodes, err := listening(port); err == nil {
			for _, i := range inodes {
				found[socketName(i)] = true
			}
			return found
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		h.listeners(table, port, found)
	}
	return found
}

func socketName[T string | uint32](inode T) string { return fmt.Sprintf("socket:[%v]", inode) }

// listeners adds the sockets that listen on a port according to a procfs table, for where sock_diag does not
// work. With thousands of streams the table has thousands of lines, so lines of other ports are not parsed.
// A missing table (tcp6 in a kernel without IPv6) adds nothing.
func (h *Host) listeners(table string, port int, inodes map[string]bool) {
	f, err := os.Open(filepath.Join(h.root, "net", table)) //nolint:gosec // of procfs
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // only read
	local := fmt.Appendf(nil, ":%04X ", port)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		const listening = "0A"
		if !bytes.Contains(lines.Bytes(), local) {
			continue
		}
		// sl, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode, ...
		if c := bytes.Fields(lines.Bytes()); len(c) > 9 && bytes.HasSuffix(c[1], local[:5]) && string(c[3]) == listening {
			inodes[socketName(string(c[9]))] = true
		}
	}
}

// owners returns the processes that hold one of the sockets open.
func (h *Host) owners(sockets map[string]bool) (pids []int) {
	procs, err := h.fs.AllProcs()
	if err != nil {
		return nil
	}
	for _, p := range procs {
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(targets, func(t string) bool { return sockets[t] }) {
			continue
		}
		if name, err := p.Comm(); err == nil && strings.HasPrefix(name, "docker-proxy") {
			continue
		}
		pids = append(pids, p.PID)
	}
	return pids
}
