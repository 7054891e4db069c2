package client

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain: a copy of this test's binary with the name llama-server listens, and says its --help; then it leaves its
// environment in a file, so that a test knows that it was run.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "llama-server" {
		os.Exit(m.Run())
	}
	if os.Args[len(os.Args)-1] == "--help" {
		exe, _ := os.Executable()
		_ = os.WriteFile(filepath.Join(filepath.Dir(exe), "ran"), []byte(strings.Join(os.Environ(), "\n")), 0o600)
		fmt.Println("--flash-attn [on|off|auto]   set")
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// TestNoProgramOfAnotherUserIsRun: the listening program is run for its --help only while nobody but root and this user
// can have written it, and never with the environment of its process.
func TestNoProgramOfAnotherUserIsRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "llama-server")
	if err := os.WriteFile(program, text, 0o700); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), program, "--parallel", "4")
	server.Env = []string{"CANARY=of its process", "LD_PRELOAD=", "LD_LIBRARY_PATH=" + dir}
	in, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = server.Wait() }()
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)

	f, err := ReadServerFlags(t.Context(), address)
	if err != nil || !f.Known["--flash-attn"] || f.Settings["--parallel"] != "4" {
		t.Fatalf("one's own: %+v, %v", f, err)
	}
	ran := filepath.Join(dir, "ran")
	env, err := os.ReadFile(ran)
	if want := "PATH=/usr/bin:/bin\nLC_ALL=C\nLD_LIBRARY_PATH=" + dir; err != nil || string(env) != want {
		t.Errorf("it was run with %q, want %q (%v)", env, want, err)
	}
	modes := map[string]func() error{
		"a folder that others write": func() error { return os.Chmod(dir, 0o777) }, //nolint:gosec // that is the point
		"a file that others write":   func() error { return os.Chmod(program, 0o702) },
		"a file of another group":    func() error { return errors.Join(os.Chmod(program, 0o720), os.Chown(program, -1, 12345)) },
		"a file of another user":     func() error { return os.Chown(program, 12345, -1) },
		"a folder of another user":   func() error { return os.Chown(dir, 12345, -1) },
	}
	for name, change := range modes {
		if err := change(); err != nil {
			if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
				continue // only root can give files away
			}
			t.Fatal(err)
		}
		_ = os.Remove(ran)
		if f, err := ReadServerFlags(t.Context(), address); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%s: it was run", name)
		}
		if os.Geteuid() == 0 {
			if err := errors.Join(os.Chown(dir, 0, 0), os.Chown(program, 0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Chmod(dir, 0o700), os.Chmod(program, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHelpCommand: of the dynamic loader's arguments only paths that are trusted are taken over, and a stranger's are not.
func TestHelpCommand(t *testing.T) {
	for _, c := range []struct {
		p    serverProcess
		want error
	}{
		{serverProcess{path: "/bin/sh", loader: []string{"--library-path", "/usr/lib:/usr", "/bin/cat"}}, nil},
		{serverProcess{path: "/bin/sh", loader: []string{"--preload", "/usr/lib/x.so", "/bin/cat"}}, ErrForeign},
		{serverProcess{path: "/bin/sh", loader: []string{"/bin/sh", "-c", "llama-server"}}, ErrForeign},
		{serverProcess{path: "/bin/sh", loader: []string{"llama-server"}}, ErrForeign},
		{serverProcess{path: "/bin/sh", env: []string{"LD_LIBRARY_PATH=lib"}}, ErrForeign},
		{serverProcess{path: "/bin/sh", env: []string{"LD_LIBRARY_PATH=/usr/lib:"}}, nil},
		{serverProcess{path: "/no/such/llama-server (deleted)"}, ErrNoProgram},
	} {
		if args, env, err := c.p.helpCommand(1000); !errors.Is(err, c.want) || err == nil && (args[len(args)-1] != "--help" || len(env) < 2) {
			t.Errorf("%+v: %q %q %v", c.p, args, env, err)
		}
	}
	mine := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trusted(mine, os.Geteuid()); err != nil {
		t.Error(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(mine, link); err != nil {
		t.Fatal(err)
	}
	if err := trusted(link, os.Geteuid()); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(filepath.Dir(mine), 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if err := trusted(link, os.Geteuid()); err == nil {
		t.Error("a link into a folder that everybody writes is trusted")
	}
}
