package host

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"
)

// Why the upstream's processes are not known.
var (
	// ErrNobody: no process of this machine listens on the port.
	ErrNobody = errors.New("nothing on this machine listens there")
	// ErrHidden: one does, but its owner's files may not be read, or it lives in another container.
	ErrHidden = errors.New("who listens there cannot be seen: run wattline as the same user, or as root")
)

const tcpListen = 0x0a

// Upstream returns the processes that listen on a TCP port of this machine, and their descendants
// (llama-swap and Ollama start the server that uses the card). A listener that only forwards, such as
// docker-proxy, counts as hidden.
func (h *Host) Upstream(port int) ([]int, error) {
	inodes := map[string]bool{}
	for _, table := range []func() (procfs.NetTCP, error){h.fs.NetTCP, h.fs.NetTCP6} {
		lines, err := table()
		if err != nil {
			continue // a kernel without IPv6 has no such table
		}
		for _, l := range lines {
			if l.St == tcpListen && int(l.LocalPort) == port {
				inodes["socket:["+strconv.FormatUint(l.Inode, 10)+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return nil, fmt.Errorf("host: port %d: %w", port, ErrNobody)
	}
	owners := h.owners(inodes)
	if len(owners) == 0 {
		return nil, fmt.Errorf("host: port %d: %w", port, ErrHidden)
	}
	return h.family(owners), nil
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
	mu   sync.Mutex
	at   time.Time
	pids []int
	err  error
}

// NewFamily looks up who listens on port now, and from then on when asked after every has passed.
func NewFamily(h *Host, port int, every time.Duration) *Family {
	f := &Family{host: h, port: port, every: every}
	f.refresh(time.Now())
	return f
}

// refresh looks them up. The caller holds mu or is alone.
func (f *Family) refresh(now time.Time) {
	f.at = now
	f.pids, f.err = f.host.Upstream(f.port)
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
