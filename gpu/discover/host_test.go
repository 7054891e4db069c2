package discover

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"

	"wattline/meter"
)

// golden unpacks the proc tree and adds the links that an archive cannot hold.
func golden(t *testing.T) string {
	t.Helper()
	ar, err := txtar.ParseFile("testdata/proc.txtar")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range ar.Files {
		path := filepath.Join(root, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(f.Name, "/fd/") {
			if err := os.Symlink(strings.TrimSpace(string(f.Data)), path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func open(t *testing.T, root string) *Host {
	t.Helper()
	h, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestProcesses: llama-swap listens; it, the server that it started and that one's child are ours.
func TestProcesses(t *testing.T) {
	h := open(t, golden(t))
	pids, err := h.Processes(8080)
	if err != nil || !slices.Equal(pids, []int{100, 200, 201}) {
		t.Errorf("port 8080: %v, %v", pids, err)
	}
	if pids, err := h.Processes(9090); !slices.Equal(pids, []int{300}) || err != nil {
		t.Errorf("port 9090, on IPv6: %v, %v", pids, err)
	}
	if _, err := h.Processes(8081); !errors.Is(err, ErrNoListener) {
		t.Errorf("a port that nobody listens on: %v", err)
	}
	if _, err := h.Processes(7070); !errors.Is(err, ErrHidden) {
		t.Errorf("a socket whose owner is not shown: %v", err)
	}
	if _, err := h.Processes(6060); !errors.Is(err, ErrHidden) {
		t.Errorf("a docker-proxy: %v", err)
	}
}

func TestStats(t *testing.T) {
	root := golden(t)
	h := open(t, root)
	s := h.Read([]int{200, 201, 99999})
	if s.CPUPermille.Valid {
		t.Errorf("the first look gave a CPU use of %d", s.CPUPermille.V)
	}
	page := int64(os.Getpagesize())
	if s.RAMTotalB != meter.Some(16_000_000<<10) || s.RAMUsedB != meter.Some(4_000_000<<10) || s.ProcRSSB != meter.Some(1100*page) || s.ProcCPUNs != meter.Some(35*1e9) {
		t.Errorf("%+v", s)
	}
	stat := "cpu  1250 0 250 9500 0 0 0 0 0 0\n"
	if err := os.WriteFile(filepath.Join(root, "stat"), []byte(stat), 0o600); err != nil {
		t.Fatal(err)
	}
	if s = h.Read(nil); s.CPUPermille != meter.Some(500) || s.ProcRSSB.Valid {
		t.Errorf("half busy: %+v", s)
	}
}

// TestReal: a port that this test listens on is this process's, on the machine's own procfs; so is one
// of its child.
func TestReal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(port)
	h := open(t, "/proc")
	pids, err := h.Processes(n)
	if err != nil || !slices.Contains(pids, os.Getpid()) || !slices.Contains(pids, child.Process.Pid) {
		t.Errorf("%v, %v; want %d and %d in it", pids, err, os.Getpid(), child.Process.Pid)
	}
	if s := h.Read(pids); !s.ProcRSSB.Valid || s.ProcRSSB.V < 1<<20 || !s.RAMTotalB.Valid {
		t.Errorf("%+v", s)
	}
	if mem := h.Resident(pids); !mem.Valid || mem.V < 1<<20 {
		t.Errorf("resident: %+v", mem)
	}
	if mem := h.Resident([]int{1 << 30}); mem.Valid {
		t.Errorf("of nobody: %+v", mem)
	}
}

// TestKernelListsTheSameListeners: the kernel's answer about a port equals its table, on both versions of
// IP, and a connection to it is no listener.
func TestKernelListsTheSameListeners(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		port := l.Addr().(*net.TCPAddr).Port
		h := open(t, "/proc")
		tables := map[string]bool{}
		h.listeners("tcp", port, tables)
		h.listeners("tcp6", port, tables)
		inodes, err := listening(port)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil || len(inodes) == 0 || len(inodes) != len(tables) || !tables[socketName(inodes[0])] {
			t.Errorf("%s: the kernel says %v (%v), its tables %v", addr, inodes, err, tables)
		}
	}
}

// TestProcessTree: processes are looked up again when it is due, not at every question.
func TestProcessTree(t *testing.T) {
	root := golden(t)
	h := open(t, root)
	synctest.Test(t, func(t *testing.T) {
		f := NewProcessTree(h, 8080, 10*time.Second)
		if !f.Has(200) || f.Has(300) {
			t.Error("200 is ours, 300 is not")
		}
		if err := os.RemoveAll(filepath.Join(root, "200")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if !f.Has(200) {
			t.Error("looked again after 9 s")
		}
		if pids, err := f.Renew(); err != nil || slices.Contains(pids, 200) {
			t.Errorf("200 is gone and still ours when asked for what is now: %v, %v", pids, err)
		}
		if err := os.RemoveAll(filepath.Join(root, "100")); err != nil {
			t.Fatal(err)
		}
		if time.Sleep(9 * time.Second); !f.Has(100) {
			t.Error("looked again after 9 s")
		}
		time.Sleep(time.Second)
		if f.Has(100) {
			t.Error("100 is gone and still ours after 10 s")
		}
	})
}

func TestAdvisoryLock(t *testing.T) {
	uuid := "test-" + strconv.Itoa(os.Getpid())
	first, err := AcquireAdvisoryLock(uuid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AcquireAdvisoryLock(uuid); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := AcquireAdvisoryLock(uuid)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestIsLocal(t *testing.T) {
	for name, want := range map[string]bool{"127.0.0.1": true, "::1": true, "localhost": true, "192.0.2.7": false} {
		if got, err := isLocal(t.Context(), name, net.DefaultResolver.LookupIPAddr); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
