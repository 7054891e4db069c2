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
	"sync"
	"time"
)

// Why the upstream's processes are not known.
var (
	// ErrNobody: no process of this machine listens on the port.
	ErrNobody = errors.New("nothing on this machine listens there")
	// ErrHidden: one does, but its owner's files may not be read, or it lives in another container.
	ErrHidden = errors.New("who listens there cannot be seen: run wattline as the same user, or as root")
)

// Upstream returns the processes that listen on a TCP port of this machine, and their descendants
// (llama-swap and Ollama start the server that uses the card). A listener that only forwards, such as
// docker-proxy, counts as hidden.
func (h *Host) Upstream(port int) ([]int, error) {
	var l listeners
	return h.upstream(port, &l)
}

// listeners are the sockets that listen on a port, by the names under which processes hold them, and these
// processes.
type listeners struct {
	sockets map[string]bool
	owners  []int
}

// upstream is Upstream with a memory: while the same sockets listen and one of their owners lives, not every
// process's files are looked through again.
func (h *Host) upstream(port int, known *listeners) ([]int, error) {
	sockets := h.sockets(port)
	if len(sockets) == 0 {
		*known = listeners{}
		return nil, fmt.Errorf("host: port %d: %w", port, ErrNobody)
	}
	if !maps.Equal(sockets, known.sockets) || !slices.ContainsFunc(known.owners, h.Lives) {
		*known = listeners{sockets: sockets, owners: h.owners(sockets)}
	}
	if len(known.owners) == 0 {
		return nil, fmt.Errorf("host: port %d: %w", port, ErrHidden)
	}
	return h.family(known.owners), nil
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

// listeners adds the sockets that a table says to listen on a port, where the kernel cannot be asked. Behind
// thousands of streams the table has thousands of lines, so only what matters is taken from a line; a table
// that is missing, as tcp6 is in a kernel without IPv6, adds nothing.
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

// Family remembers the upstream's processes and looks them up again when that is due. It may be used
// by several goroutines.
type Family struct {
	host  *Host
	port  int
	every time.Duration

	// mu guards the rest.
	mu    sync.Mutex
	at    time.Time
	known listeners
	pids  []int
	err   error
}

// NewFamily remembers who listens on port. They are looked up when asked for, and again after every has passed.
func NewFamily(h *Host, port int, every time.Duration) *Family {
	return &Family{host: h, port: port, every: every}
}

// Renew returns the processes as they are now, or why they are not known: looked up again, unless the same sockets
// listen and all of them live. Only a descendant that has come since may be missing.
func (f *Family) Renew() ([]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := func(pid int) bool { return !f.host.Lives(pid) }
	now := time.Now()
	if f.err != nil || now.Sub(f.at) >= f.every || slices.ContainsFunc(f.pids, gone) || !maps.Equal(f.host.sockets(f.port), f.known.sockets) {
		f.refresh(now)
	}
	return f.pids, f.err
}

// refresh looks them up. The caller holds mu.
func (f *Family) refresh(now time.Time) {
	f.at = now
	f.pids, f.err = f.host.upstream(f.port, &f.known)
}

// PIDs returns the processes, or why they are not known.
func (f *Family) PIDs() ([]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.at) >= f.every {
		f.refresh(now)
	}
	return f.pids, f.err
}

// Has says whether a process is one of them. It suits gpu.Target.Ours.
func (f *Family) Has(pid int) bool {
	pids, err := f.PIDs()
	return err == nil && slices.Contains(pids, pid)
}
