package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wattline/sink"
)

// childrenOfLinux are the parts that are limited or stripped of their rights as only Linux can.
func childrenOfLinux() map[string]func(path string) error {
	return map[string]func(path string) error{"full limit": childFullLimit, "full disk": childFullDisk, "unprivileged": childUnprivileged}
}

// childFullLimit is childFull with a limit on how large files may grow: no privilege is needed.
func childFullLimit(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	limit := func(size uint64) error {
		return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: old.Max})
	}
	return childFull(path, func() error { return limit(512 << 10) }, func() error { return limit(old.Cur) })
}

// childFullDisk is childFull on a small tmpfs of its own; it runs in a mount namespace of its own.
func childFullDisk(path string) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", filepath.Dir(path), "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	free := func() error { return unix.Mount("tmpfs", filepath.Dir(path), "tmpfs", unix.MS_REMOUNT, "size=64m") }
	return childFull(path, func() error { return nil }, free)
}

// childFull offers rows to a store on a too small disk until some have been refused, frees the disk, and
// reports.
func childFull(path string, fill, free func() error) error {
	s, err := Open(context.Background(), Config{Path: path, Log: quiet()})
	if err != nil {
		return err
	}
	q := sink.New(sink.Config{Store: s, Log: quiet()})
	if err := fill(); err != nil {
		return err
	}
	start := time.Now()
	for i := range 6000 {
		q.Offer(request(i))
	}
	fmt.Println("offered in", time.Since(start))
	for refused := false; !refused; refused = q.Stats().LastError != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		err := q.Flush(ctx)
		cancel()
		if err == nil {
			return errors.New("the disk took everything")
		}
	}
	fmt.Println("while full:", q.Stats().LastError)
	if err := free(); err != nil {
		return err
	}
	if err := q.Stop(context.Background()); err != nil {
		return err
	}
	n := 0
	err = s.reads.QueryRowContext(context.Background(), "SELECT count(*) FROM requests").Scan(&n)
	fmt.Printf("in the end: %d rows, %+v, %v\n", n, q.Stats().Requests, err)
	return s.Close()
}

func TestFullDiskLosesNothing(t *testing.T) {
	for part, want := range map[string]string{
		"full limit": "the disk refused to read or write",
		"full disk":  "is full: free space there",
	} {
		t.Run(part, func(t *testing.T) {
			path := t.TempDir() + "/wattline.db"
			cmd := childCommand(t, part, path)
			if part == "full disk" {
				cmd.SysProcAttr = ownMounts()
			}
			out, err := cmd.Output()
			if part == "full disk" && errors.Is(err, syscall.EPERM) {
				t.Log("no namespaces here: the size limit alone stands for a full disk")
				return
			}
			must(t, err)
			for _, want := range []string{"while full: store: ", want, "in the end: 6000 rows", "Dropped:0 Written:6000 Lost:0}, <nil>"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in what the child said:\n%s", want, out)
				}
			}
		})
	}
}

// ownMounts lets a child mount file systems that no other process sees.
func ownMounts() *syscall.SysProcAttr {
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}

// childUnprivileged opens a store and a reader as a user that owns no file.
func childUnprivileged(path string) error {
	if os.Getuid() == 0 {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	if s, err := Open(context.Background(), Config{Path: path, Log: quiet()}); err != nil {
		fmt.Println("writer:", err)
	} else {
		fmt.Println("writer:", s.Close())
	}
	r, err := OpenReader(context.Background(), path)
	if err != nil {
		return err
	}
	recs, err := r.Latest(context.Background(), 10)
	fmt.Println("reader:", len(recs), err)
	return r.Close()
}

func TestReadOnlyFolder(t *testing.T) {
	dir, err := os.MkdirTemp("", "store")
	must(t, err)
	t.Cleanup(func() {
		must(t, os.Chmod(dir, 0o700))
		must(t, os.RemoveAll(dir))
	})
	s := reopen(t, dir+"/wattline.db")
	must(t, s.Write(t.Context(), &sink.Rows{Requests: requests(0, 3)}))
	must(t, s.Close())
	must(t, os.Chmod(s.Path(), 0o444))
	must(t, os.Chmod(dir, 0o555))
	_, out := child(t, "unprivileged", s.Path())
	var text strings.Builder
	for out.Scan() {
		fmt.Fprintln(&text, out.Text())
	}
	for _, want := range []string{"writer: store: cannot write " + s.Path() + ": make the file and its folder writable", "reader: 3 <nil>"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in what the child said:\n%s", want, text.String())
		}
	}
}
