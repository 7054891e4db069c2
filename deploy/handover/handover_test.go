//go:build unix

package handover

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const role = "HANDOVER_TEST_ROLE"

// TestMain is also the program that hands over: it answers every connection with its pid, and SIGUSR2
// makes it start a successor.
func TestMain(m *testing.M) {
	if r := os.Getenv(role); r != "" {
		if err := serve(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serve(addr string) error {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGUSR2)
	ls, err := Inherit()
	if err != nil {
		return err
	}
	if _, err := os.Stat(os.Getenv("HANDOVER_TEST_BROKEN")); err == nil && ls.Predecessor() {
		return errors.New("this successor is broken")
	}
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	ln, err := ls.Listen("default", network, addr)
	if err != nil {
		return err
	}
	if err := ls.Ready(); err != nil {
		return err
	}
	fmt.Println(ln.Addr(), os.Getpid())
	answered := make(chan struct{})
	go func() { // ends with the listener
		defer close(answered)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, os.Getpid())
			c.Close()
		}
	}()
	for range sig {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		_, err := ls.Successor(ctx)
		cancel()
		if err == nil {
			err = ln.Close()
			<-answered // a connection that was accepted is answered
			return err
		}
		fmt.Println("failed:", err)
	}
	return nil
}

// start runs the program and returns its lines.
func start(t *testing.T, addr string, environ ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), role+"="+addr), environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // its own group, the successor included
	return cmd, bufio.NewScanner(out)
}

func line(t *testing.T, sc *bufio.Scanner) string {
	t.Helper()
	if !sc.Scan() {
		t.Fatalf("the program said nothing more: %v", sc.Err())
	}
	return sc.Text()
}

func ask(network, addr string) (string, error) {
	c, err := net.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

// TestListenerFlags: what a child is given shares its flags with the listener. Were it made
// blocking, an accept could outlast Close, and with it the process.
func TestListenerFlags(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := file(ln)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("true")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	accepted := make(chan error, 1)
	go func() { // ends with Close
		for {
			c, err := ln.Accept()
			if err != nil {
				accepted <- err
				return
			}
			_ = c.Close()
		}
	}()
	if _, err := ask("tcp", ln.Addr().String()); err != nil { // so that the next accept asks the kernel at once
		t.Error(err)
	}
	if err := errors.Join(ln.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-accepted:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("an accept outlasts Close")
	}
}

// TestHandover: connections one after the other while the program is replaced three
// times; none is refused, and each process in turn answers.
func TestHandover(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			_, sc := start(t, addr)
			var at string
			var pid, asked int
			if _, err := fmt.Sscan(line(t, sc), &at, &pid); err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for range 3 {
				if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
					t.Fatal(err)
				}
				next := make(chan string, 1)
				go func() { sc.Scan(); next <- sc.Text() }()
				for done := false; !done; asked++ {
					who, err := ask(network, at)
					if err != nil || who == "" {
						t.Fatalf("connection %d during a handover: %q, %v", asked, who, err)
					}
					seen[who] = true
					select {
					case l := <-next:
						if _, err := fmt.Sscan(l, &at, &pid); err != nil {
							t.Fatalf("%q: %v", l, err)
						}
						done = true
					default:
					}
				}
			}
			if who, err := ask(network, at); err != nil || who == "" {
				t.Fatalf("after the last handover: %q, %v", who, err)
			}
			t.Logf("%d connections, answered by %d processes", asked, len(seen))
		})
	}
}

// TestBrokenSuccessor: it ends before it serves, and the predecessor goes on.
func TestBrokenSuccessor(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, sc := start(t, "127.0.0.1:0", "HANDOVER_TEST_BROKEN="+broken)
	at, _, _ := strings.Cut(line(t, sc), " ")
	for range 2 {
		if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		if l := line(t, sc); !strings.Contains(l, "ended before it served: exit status 1") {
			t.Errorf("the predecessor says %q", l)
		}
		if who, err := ask("tcp", at); err != nil || who != fmt.Sprint(cmd.Process.Pid) {
			t.Errorf("answered by %q, %v", who, err)
		}
	}
}

// TestSystemdSocket: the sockets of a unit come as LISTEN_FDS, with and without names.
func TestSystemdSocket(t *testing.T) {
	for _, name := range []string{"default", "wattline.socket"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		// The shell's exec keeps the pid that LISTEN_PID must name.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, exe)
		cmd.Env = append(os.Environ(), role+"=127.0.0.1:1", "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)
		cmd.ExtraFiles = []*os.File{f}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), ln.Close()); err != nil { // the program alone listens: if it ends, ask fails
			t.Fatal(err)
		}
		who, err := ask("tcp", ln.Addr().String())
		if err != nil || who != fmt.Sprint(cmd.Process.Pid) {
			t.Errorf("%s: answered by %q, %v\n%s", name, who, err, errs.String())
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestStaleSocketFile, and a live one is not.
func TestStaleSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix", path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("beside a live listener: %v", err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = old.Close()
	ln, err := listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
}
