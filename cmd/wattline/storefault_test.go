//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mounted makes cmd run in its own mount namespace, after script, in which $DISK is dir. The test is skipped if this user
// may not mount.
func mounted(t *testing.T, cmd *exec.Cmd, dir, script string) *exec.Cmd {
	t.Helper()
	own := func(c *exec.Cmd) *exec.Cmd {
		c.Env = append(c.Env, "DISK="+dir)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		return c
	}
	script = "set -e; mount --make-rprivate /; " + script
	probe := exec.CommandContext(t.Context(), "bash", "-c", script)
	probe.Env = os.Environ()
	if out, err := own(probe).CombinedOutput(); err != nil {
		t.Skipf("no file system of its own can be mounted here: %v: %s", err, out)
	}
	inside := exec.Command("bash", append([]string{"-c", script + `; exec -a wattline "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)...)
	inside.Env = cmd.Env
	return own(inside)
}

// TestDiskFull: the store's disk becomes full. Every request is still answered, the log says what to do, and every row
// is stored once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := command(t, "serve", "--upstream", fastUpstream(t), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", filepath.Join(dir, "wattline.db"), "--gpu", "none")
	w := started(t, mounted(t, cmd, dir, `mount -t tmpfs -o size=6m tmpfs "$DISK"; head -c 5000000 /dev/zero > "$DISK/ballast"`))
	var ids []string
	for full := "the disk that holds " + w.store + " is full: free space there or point --store at another disk"; !strings.Contains(w.said(), full); {
		if ids = append(ids, w.answers(t, 10)...); len(ids) > 3000 {
			t.Fatal("3000 rows did not fill the disk")
		}
		<-time.After(10 * time.Millisecond) // rows are written after their replies
	}
	before := len(ids)
	ids = append(ids, w.answers(t, 100)...)
	if err := os.Remove(fmt.Sprintf("/proc/%d/root%s/ballast", w.cmd.Process.Pid, dir)); err != nil {
		t.Fatal(err)
	}
	w.awaitLog(t, "rows are being stored again")
	for _, id := range ids {
		w.row(t, id)
	}
	t.Logf("full after %d rows; %d requests were answered meanwhile; all %d rows are stored", before, len(ids)-before, len(ids))
	w.stop(t)
}

// TestDiskReadOnly: the disk of an existing store is read-only when wattline starts. It serves and logs the problem; rows
// are stored once the disk can be written.
func TestDiskReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"serve", "--upstream", fastUpstream(t), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", filepath.Join(dir, "wattline.db"), "--gpu", "none"}
	w := start(t, args...)
	ids := w.answers(t, 3)
	w.stop(t)

	w = started(t, mounted(t, command(t, args...), dir, `mount --bind "$DISK" "$DISK"; mount -o remount,ro,bind "$DISK"`))
	w.awaitLog(t, "cannot write "+w.store+": make the file and its folder writable for this user, or point --store elsewhere")
	ids = append(ids, w.answers(t, 50)...)
	w.row(t, ids[0]) // stored rows are shown while new ones wait
	if status, body := w.get(t, "/api/requests/"+ids[len(ids)-1]); status != http.StatusServiceUnavailable || !strings.Contains(body, "rows are waiting to be stored") {
		t.Errorf("a row that waits: %d %s", status, body)
	}
	out, err := exec.CommandContext(t.Context(), "nsenter", "--target", fmt.Sprint(w.cmd.Process.Pid), "--user", "--preserve-credentials", "--mount", "mount", "-o", "remount,rw,bind", dir).CombinedOutput()
	if err != nil {
		out, err = exec.CommandContext(t.Context(), "nsenter", "--target", fmt.Sprint(w.cmd.Process.Pid), "--mount", "mount", "-o", "remount,rw,bind", dir).CombinedOutput()
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.awaitLog(t, "rows are being stored again")
	for _, id := range ids {
		w.row(t, id)
	}
	w.stop(t)
	if n := len(w.stored(t, 100)); n != len(ids) {
		t.Errorf("%d of %d rows are stored", n, len(ids))
	}
}

// TestStoreDamaged: the store's file is damaged while wattline runs, and the next start moves it aside.
func TestStoreDamaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "wattline.db")
	w := serve(t, fastUpstream(t), "--store", path, "--gpu", "none")
	w.answers(t, 300)
	w.stop(t)
	w = serve(t, fastUpstream(t), "--store", path, "--gpu", "none")
	rot := exec.CommandContext(t.Context(), "dd", "if=/dev/urandom", "of="+path, "bs=4096", "seek=2", "count=60", "conv=notrunc")
	if out, err := rot.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	damaged := path + " is damaged or not a wattline store: move it and its -wal file aside and start again"
	for deadline := time.Now().Add(patience); !strings.Contains(w.said(), damaged); { // not every write touches a damaged page
		w.answers(t, 50)
		if time.Now().After(deadline) {
			t.Fatal("nothing is said of the damage")
		}
	}
	w.answers(t, 50)
	_ = w.cmd.Process.Kill()
	<-w.waited

	w = serve(t, fastUpstream(t), "--store", path, "--gpu", "none")
	w.awaitLog(t, "the store was damaged; it was moved aside and a new one begun")
	for _, id := range w.answers(t, 20) {
		w.row(t, id)
	}
	w.stop(t)
}
