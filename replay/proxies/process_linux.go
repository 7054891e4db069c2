package proxies

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a contender's, or the upstream's: a process with all its children.
type process struct {
	cmd    *exec.Cmd // nil: the user has started it
	roots  []int     // process ids; their descendants count too
	addr   string    // where it takes connections
	admin  string    // where /debug/pprof is; "" if it has none
	ended  chan struct{}
	stderr tailWriter
}

// tailWriter keeps the last of what a process says, for when it fails.
type tailWriter struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	w.text = w.text[max(0, len(w.text)-4096):]
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}

// start runs a command in a process group of its own. Its output goes through found, line by line, until
// that one knows where the process listens.
func start(ctx context.Context, found func(line string, p *process) bool, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), ended: make(chan struct{})} //nolint:gosec,noctx // ended by stop
	if found != nil {                                                           // our own executable; a test binary plays wattline under this name
		p.cmd.Args[0] = "wattline"
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("proxies: %s: %w", name, err)
	}
	p.roots = []int{p.cmd.Process.Pid}
	ready := make(chan struct{})
	go func() { // ends when the process and its children have closed their output
		defer r.Close() //nolint:errcheck // only read
		lines, open := bufio.NewScanner(r), true
		for lines.Scan() {
			_, _ = p.stderr.Write(append(lines.Bytes(), '\n'))
			if open && found != nil && found(lines.Text(), p) {
				open = false
				close(ready)
			}
		}
	}()
	go func() { // ends with the process
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	if found == nil {
		return p, nil
	}
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("proxies: %s ended: %s", filepath.Base(name), p.stderr.String())
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
	}
	p.stop()
	return nil, fmt.Errorf("proxies: %s does not say where it listens: %s", filepath.Base(name), p.stderr.String())
}

// stop ends the process group at once: nothing that it has is wanted. What the user has started goes on.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// usage holds the kernel's counts of a process and its children.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// CPU is the CPU time of a wattline that was started, and of its children, so far.
func (w *Started) CPU() (time.Duration, error) {
	u, err := (&process{roots: []int{w.process.Pid}}).usage()
	return u.cpu, err
}

// usage sums over the process and its descendants. The memory is that of those that live; the CPU time of one that has
// ended is in its parent's, once the parent has waited for it.
func (p *process) usage() (usage, error) {
	var u usage
	pids, err := family(p.roots)
	if err != nil {
		return u, err
	}
	alive := 0
	for _, pid := range pids {
		cpu, err1 := cpuTime(pid)
		rss, err2 := resident(pid)
		err := errors.Join(err1, err2)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return u, err
		}
		alive++
		u.cpu += cpu
		u.rss += rss
	}
	if alive == 0 {
		return u, errors.New("proxies: the proxy has ended")
	}
	return u, nil
}

// family lists processes and their descendants.
func family(roots []int) ([]int, error) {
	out := slices.Clone(roots)
	for i := 0; i < len(out); i++ {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", out[i]))
		if err != nil {
			return nil, err
		}
		for _, l := range lists {
			text, err := os.ReadFile(l) //nolint:gosec // of /proc
			if err != nil {
				continue // the thread has ended
			}
			for f := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(f); err == nil && !slices.Contains(out, pid) {
					out = append(out, pid)
				}
			}
		}
	}
	return out, nil
}

// userHz is the unit of times in /proc/PID/stat, the same on every Linux that Go runs on.
const userHz = 100

// cpuTime is user and system time, with that of children that were waited for. The scheduler's own count is in nanoseconds, but of live threads only:
// what is longer than it in the process's total, in hundredths of a second, belonged to threads that ended.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("proxies: CPU time: %w", err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 15 {
		return 0, errors.New("proxies: CPU time: /proc/PID/stat is too short")
	}
	var ticks [4]time.Duration // user, system, and the same of children that have ended
	for i := range ticks {
		n, err := strconv.ParseInt(f[11+i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("proxies: CPU time: %w", err)
		}
		ticks[i] = time.Duration(n) * time.Second / userHz
	}
	total, ended := ticks[0]+ticks[1], ticks[2]+ticks[3]
	if fine, ok := schedTime(pid); ok && fine > total {
		return fine + ended, nil
	}
	return total + ended, nil
}

// schedTime sums the threads' time on a CPU from schedstat, where the kernel keeps it.
func schedTime(pid int) (sum time.Duration, ok bool) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, false
	}
	for _, l := range lists {
		text, err := os.ReadFile(l) //nolint:gosec // of /proc
		if err != nil {
			return 0, false
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(ns)
	}
	return sum, sum > 0
}

// resident is VmRSS.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("proxies: memory: %w", err)
	}
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return 0, errors.New("proxies: memory: /proc/PID/statm is too short")
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("proxies: memory: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}

var goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)

// goroutines asks a Go contender how many it has; -1 if it has none to tell of.
func (p *process) goroutines(ctx context.Context) (int, error) {
	if p.admin == "" {
		return -1, nil
	}
	text, err := p.get(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return -1, err
	}
	m := goroutineTotal.FindSubmatch(text)
	if m == nil {
		return -1, fmt.Errorf("proxies: goroutines: %s says nothing of them", p.admin)
	}
	return strconv.Atoi(string(m[1]))
}

// get asks the contender's admin listener.
func (p *process) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("proxies: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("proxies: %s%s: %s", p.admin, path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
