package discover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"wattline/meter"
)

// Host reads one machine's procfs. Read is for one goroutine at a time, the rest for any.
type Host struct {
	root string
	fs   procfs.FS
	busy float64 // CPU seconds of the machine at the last Read
	all  float64
}

// procRoot is where the kernel that runs shows its processes.
const procRoot = "/proc"

// New opens the procfs at root, "/proc" but for tests.
func New(root string) (*Host, error) {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return nil, fmt.Errorf("discover: %w", err)
	}
	return &Host{root: root, fs: fs}, nil
}

// Stats is the machine at a moment, and what some of its processes take. What could not be read is null.
type Stats struct {
	CPUPermille meter.Int `json:"cpu_permille"` // busy share of all processors since the Read before; null at the first
	RAMUsedB    meter.Int `json:"ram_used_b"`   // total less available
	RAMTotalB   meter.Int `json:"ram_total_b"`
	ProcRSSB    meter.Int `json:"proc_rss_b"`  // resident memory of the processes; shared pages count in each
	ProcCPUNs   meter.Int `json:"proc_cpu_ns"` // CPU time that the processes have used since they began
}

// Read returns the machine's state, and that of the processes pids together (those that still live).
func (h *Host) Read(pids []int) Stats {
	var s Stats
	if stat, err := h.fs.Stat(); err == nil {
		c := stat.CPUTotal
		busy := c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal
		all := busy + c.Idle + c.Iowait
		if h.all > 0 && all > h.all {
			s.CPUPermille = meter.Some(int64(1000*(busy-h.busy)/(all-h.all) + 0.5))
		}
		h.busy, h.all = busy, all
	}
	if m, err := h.fs.Meminfo(); err == nil && m.MemTotalBytes != nil {
		s.RAMTotalB = meter.Some(int64(*m.MemTotalBytes))
		if m.MemAvailableBytes != nil {
			s.RAMUsedB = meter.Some(int64(*m.MemTotalBytes - *m.MemAvailableBytes))
		}
	}
	for _, pid := range pids {
		p, err := h.fs.Proc(pid)
		if err != nil {
			continue
		}
		stat, err := p.Stat()
		if err != nil {
			continue
		}
		s.ProcRSSB = meter.Some(s.ProcRSSB.V + int64(stat.ResidentMemory()))
		s.ProcCPUNs = meter.Some(s.ProcCPUNs.V + int64(stat.CPUTime()*float64(time.Second)))
	}
	return s
}

// Resident is the memory that processes hold, those that still live together; shared pages count in each. It is
// null where none lives.
func (h *Host) Resident(pids []int) (bytes meter.Int) {
	for _, pid := range pids {
		text, err := os.ReadFile(filepath.Join(h.root, strconv.Itoa(pid), "statm"))
		if err != nil {
			continue
		}
		// size and resident set, in pages
		if f := strings.Fields(string(text)); len(f) > 1 {
			if pages, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				bytes = meter.Some(bytes.V + pages*int64(os.Getpagesize()))
			}
		}
	}
	return bytes
}

// CPUTime returns the CPU time in seconds that the processes pids and that all processes of the machine have
// used so far; false where the machine's is not known.
func (h *Host) CPUTime(pids []int) (theirs, all float64, ok bool) {
	stat, err := h.fs.Stat()
	if err != nil {
		return 0, 0, false
	}
	c := stat.CPUTotal
	for _, pid := range pids {
		if p, err := h.fs.Proc(pid); err == nil {
			if s, err := p.Stat(); err == nil {
				theirs += s.CPUTime()
			}
		}
	}
	return theirs, c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ, true
}

// descendants returns the processes pids and all that descend from them, ascending.
func (h *Host) descendants(pids []int) []int {
	procs, err := h.fs.AllProcs()
	if err != nil {
		return pids
	}
	children := map[int][]int{}
	for _, p := range procs {
		if stat, err := p.Stat(); err == nil {
			children[stat.PPID] = append(children[stat.PPID], p.PID)
		}
	}
	found := map[int]bool{}
	queue := slices.Clone(pids)
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		if found[pid] {
			continue
		}
		found[pid] = true
		queue = append(queue, children[pid]...)
	}
	out := make([]int, 0, len(found))
	for pid := range found {
		out = append(out, pid)
	}
	slices.Sort(out)
	return out
}
