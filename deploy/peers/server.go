package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The ways to llama-server, and the environment variables that this program sets for itself as a test's server.
const (
	direct  = "direct"
	through = "through"

	envWay      = "WATTLINE_PEERS_WAY"
	envLlama    = "WATTLINE_PEERS_LLAMA"
	envModel    = "WATTLINE_PEERS_MODEL"
	envWattline = "WATTLINE_PEERS_WATTLINE"
)

// server is llama-server for one test, called with its arguments.
func server(way string, args []string) int {
	args = withModel(args, os.Getenv(envModel))
	var err error
	if way == direct {
		err = syscall.Exec(os.Getenv(envLlama), append([]string{"llama-server"}, args...), os.Environ()) //nolint:gosec // the one that was found
	} else {
		err = behindWattline(args)
	}
	fmt.Fprintln(os.Stderr, "peers:", err)
	return 1
}

// modelFlags name a model to download, or forbid that; each but offline has a value.
var modelFlags = []string{"--model", "--model-url", "--model-draft", "--hf-repo", "--hf-file", "--mmproj-url"}

// withModel replaces the models of llama-server's arguments by one. A router (no model) stays one.
func withModel(args []string, model string) (out []string) {
	named, draft := false, false
	for i := 0; i < len(args); i++ {
		switch {
		case slices.Contains(modelFlags, args[i]) && i+1 < len(args):
			named, draft = named || args[i] != "--model-draft", draft || args[i] == "--model-draft"
			i++
		case args[i] == "--offline":
		default:
			out = append(out, args[i])
		}
	}
	if named {
		out = append(out, "--model", model)
	}
	if draft {
		out = append(out, "--model-draft", model)
	}
	if named && !slices.Contains(out, "--threads") {
		out = append(out, "--threads", "1") // several meet at a barrier for each matrix, which is slow on a busy machine
	}
	if named && slices.Contains(out, "--no-jinja") && !slices.ContainsFunc(out, isTemplate) {
		out = append(out, "--chat-template", "chatml") // the small model's own needs Jinja
	}
	return out
}

func isTemplate(arg string) bool { return strings.HasPrefix(arg, "--chat-template") }

// moved replaces the address in llama-server's arguments and returns the one that was there.
func moved(args []string, port int) (out []string, asked string) {
	out = slices.Clone(args)
	host, asks := "127.0.0.1", "8080"
	for i := 0; i+1 < len(out); i++ {
		switch out[i] {
		case "--host":
			host, out[i+1] = out[i+1], "127.0.0.1"
		case "--port":
			asks, out[i+1] = out[i+1], strconv.Itoa(port)
		}
	}
	return out, net.JoinHostPort(host, asks)
}

// behindWattline runs llama-server on another port and wattline where the test looks for it, until one of them ends or the
// test ends this process.
func behindWattline(args []string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // Pdeathsig counts the thread that starts a child for its parent
	args, asked := moved(args, port)
	dir, err := os.MkdirTemp("", "peer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	upstream := "http://127.0.0.1:" + strconv.Itoa(port)
	ended := make(chan error, 2)
	for _, argv := range [][]string{
		append([]string{os.Getenv(envLlama)}, args...),
		{os.Getenv(envWattline), "serve", "--listen", asked, "--upstream", upstream, "--admin", "off", "--gpu", "none", "--store", filepath.Join(dir, "wattline.db"), "--log-level", "error"},
	} {
		cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // ended below
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = endsWithParent()
		if err := cmd.Start(); err != nil {
			return err
		}
		defer cmd.Process.Kill() //nolint:errcheck // it may have ended
		go func() { ended <- cmd.Wait() }()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	select {
	case err := <-ended:
		return fmt.Errorf("a server has ended: %w", err)
	case sig := <-signals:
		return fmt.Errorf("asked to end: %v", sig)
	}
}
