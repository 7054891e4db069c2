package discover

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// ProcessTree is an upstream's processes: those that listen on its port, and their descendants. They are
// cached, and searched for again when that is due. It may be used by several goroutines.
type ProcessTree struct {
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

// NewProcessTree returns the tree of a port. Processes are searched for at the first question, and again
// once every has passed.
func NewProcessTree(h *Host, port int, every time.Duration) *ProcessTree {
	return &ProcessTree{host: h, port: port, every: every}
}

// Renew returns the processes as they are now, or why they are not known. It searches again unless the
// same sockets listen and all known processes are alive; a new descendant may be missing then.
func (t *ProcessTree) Renew() ([]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := func(pid int) bool { return !t.host.IsAlive(pid) }
	now := time.Now()
	if t.err != nil || now.Sub(t.at) >= t.every || slices.ContainsFunc(t.pids, gone) || !maps.Equal(t.host.sockets(t.port), t.known.sockets) {
		t.search(now)
	}
	return t.pids, t.err
}

// search finds them. The caller holds mu.
func (t *ProcessTree) search(now time.Time) {
	t.at = now
	t.pids, t.err = t.host.processes(t.port, &t.known)
}

// PIDs returns the processes, or why they are not known.
func (t *ProcessTree) PIDs() ([]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.at) >= t.every {
		t.search(now)
	}
	return t.pids, t.err
}

// Has reports whether a process belongs to the tree. It suits gpu.Target.IsUpstreamProcess.
func (t *ProcessTree) Has(pid int) bool {
	pids, err := t.PIDs()
	return err == nil && slices.Contains(pids, pid)
}
